"""``thorn-worker``: the group of commands, and what a user sees when one of them fails."""

import os
import sys
from collections.abc import Sequence
from typing import Final

import click

from producer.errors import ConfigurationError, EventError, LogUnavailable, LogUnusable, ThornError
from thorn_worker import __version__
from thorn_worker.cli.dead import dead
from thorn_worker.cli.demo import demo
from thorn_worker.cli.doctor import doctor
from thorn_worker.cli.endpoints import endpoints
from thorn_worker.cli.listen import listen
from thorn_worker.cli.pending import pending
from thorn_worker.cli.run import run
from thorn_worker.cli.send import send

#: Exit codes that scripts may rely on; 0 is done. click has the first two itself.
FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
NO_LOG: Final = 4
#: Ended by Ctrl-C, as shells have it: 128 + SIGINT.
INTERRUPTED: Final = 130


class BareMeansRun(click.Group):
    """``thorn-worker`` and ``thorn-worker --log …`` mean ``thorn-worker run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Put ``run`` ahead of options that are not the group's own."""
        if not args or (args[0].startswith("-") and args[0] not in ("--help", "-h", "--version")):
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(
    cls=BareMeansRun, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110}
)
@click.version_option(__version__, prog_name="thorn-worker")
def cli() -> None:
    """Deliver webhooks: read the log, post to subscribers, keep what must be tried again.

    Without a command, `run`. Settings come from options, then THORN_* environment variables, then the TOML
    file that --settings or THORN_SETTINGS names.
    """


for command in (run, send, listen, pending, endpoints, dead, doctor, demo):
    cli.add_command(command)


def execute(arguments: Sequence[str]) -> int:
    """Run one command line. Returns the exit code; a user's mistake is one sentence on stderr."""
    try:
        result = cli.main(args=list(arguments), prog_name="thorn-worker", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except BrokenPipeError:
        # The reader of a list has seen enough. Python would complain once more while flushing at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    except ThornError as error:
        click.echo(f"thorn-worker: {error}", err=True)
        return exit_code(error)
    return result if isinstance(result, int) else 0


def exit_code(error: ThornError) -> int:
    """Which exit code an error has: who must act decides."""
    if isinstance(error, ConfigurationError):
        return REFUSED
    if isinstance(error, EventError):
        return USAGE
    if isinstance(error, LogUnusable | LogUnavailable):
        return NO_LOG
    return FAILED
