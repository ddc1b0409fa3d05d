"""``thorn-worker run``: the worker itself."""

import errno
from typing import NoReturn

import click

from producer.config import Settings
from producer.errors import ConfigurationError
from thorn_worker import logs
from thorn_worker.cli.common import Common, warn, with_common
from thorn_worker.config import check_for_run, raise_file_limit
from thorn_worker.log.contract import Consent

#: The last port that there is.
_LAST_PORT = 65535


@click.command()
@with_common
@click.option(
    "--processes",
    metavar="N",
    type=click.IntRange(min=1),
    default=1,
    help="Run N workers and start those again that die; worker i (from 0) has the admin port + i.",
)
@click.option("--create-topics", is_flag=True, help="Kafka: make the topics that are missing.")
@click.option(
    "--accept-new-log",
    is_flag=True,
    help="Read a log that is another than the one last worked on, from its first record.",
)
@click.option(
    "--accept-lost-state",
    is_flag=True,
    help="Go on although the deliveries that waited in the store are gone.",
)
def run(
    common: Common, *, processes: int, create_topics: bool, accept_new_log: bool, accept_lost_state: bool
) -> int:
    """Deliver until told to stop. SIGTERM or Ctrl-C drains; a second one ends at once."""
    loaded = common.load()
    settings = loaded.settings
    logs.set_up("debug" if common.verbose else settings.log_level, settings.log_format)
    warn(loaded)
    check_for_run(settings)
    raise_file_limit(settings.max_in_flight)
    consent = Consent(create_topics, accept_new_log, accept_lost_state)
    if processes > 1:
        _supervise(common, settings, consent, processes)

    from thorn_worker.worker import run_worker  # refused settings are told before all of this is loaded

    return run_worker(settings, consent)


def _supervise(common: Common, settings: Settings, consent: Consent, processes: int) -> NoReturn:
    """Become the parent of so many workers. Each of them gets all that this command was told."""
    from thorn_worker.supervisor import Plan, become, this_program

    _check_ports(settings.admin, processes)
    options = {"--settings": common.settings_file, "--log": common.log}
    flags = {
        "--create-topics": consent.create_topics,
        "--accept-new-log": consent.new_log,
        "--accept-lost-state": consent.lost_state,
    }
    plan = Plan(
        processes=processes,
        command=(
            *(*this_program(), "run"),
            *(word for name, value in options.items() if value is not None for word in (name, value)),
            *(("--verbose",) if common.verbose else ()),
        ),
        consent=tuple(name for name, given in flags.items() if given),
        admin=settings.admin,
        worker_id=settings.worker_id,
        drain_timeout_s=settings.drain_timeout_s,
    )
    become(plan, "debug" if common.verbose else settings.log_level, settings.log_format)


def _check_ports(admin: tuple[str, int], processes: int) -> None:
    """All in one sentence, before there are children that would say it each for itself."""
    from thorn_worker.listener import open_listener

    host, first = admin
    last = first + processes - 1
    needed = f"--processes {processes} needs the admin ports {first} to {last} of {host}, but"
    if first and last > _LAST_PORT:
        raise ConfigurationError(f"{needed} {_LAST_PORT} is the last one: set THORN_ADMIN to a lower port")
    for port in range(first, last + 1) if first else ():
        try:
            open_listener(host, port).close()
        except OSError as error:
            reason = error.strerror or error
            if error.errno == errno.EADDRINUSE:
                reason = "it is in use by another process"
            raise ConfigurationError(
                f"{needed} {port} can't be had ({reason}): free it, or set THORN_ADMIN to another port"
            ) from error
