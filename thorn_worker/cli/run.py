"""``thorn-worker run``: the worker itself."""

import click

from thorn_worker import logs
from thorn_worker.cli.common import Common, warn, with_common
from thorn_worker.config import check_for_run, raise_file_limit


@click.command()
@with_common
def run(common: Common) -> int:
    """Deliver until told to stop. SIGTERM or Ctrl-C drains; a second one ends at once."""
    loaded = common.load()
    settings = loaded.settings
    logs.set_up("debug" if common.verbose else settings.log_level, settings.log_format)
    warn(loaded)
    check_for_run(settings)
    raise_file_limit(settings.max_in_flight)

    from thorn_worker.worker import run_worker  # refused settings are told before all of this is loaded

    return run_worker(settings)
