"""``thorn-worker``: the group of commands, and what a user sees when one of them fails."""

import errno
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
from thorn_worker.cli.topics import topics

#: Exit codes that scripts may rely on; 0 is done. click has the first two itself.
FAILED: Final = 1
USAGE: Final = 2
REFUSED: Final = 3
NO_LOG: Final = 4
#: How a system refuses what a program writes.
_UNWRITABLE: Final = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EBADF, errno.EPIPE, errno.ECONNRESET}
)
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


for command in (run, send, listen, pending, endpoints, dead, doctor, topics, demo):
    cli.add_command(command)


def execute(arguments: Sequence[str]) -> int:
    """Run one command line. Returns the exit code; a user's mistake is one sentence on stderr."""
    try:
        result = cli.main(args=list(arguments), prog_name="thorn-worker", standalone_mode=False)
        if sys.stdout is not None:  # None: it was closed before Python started, so nothing was printed
            sys.stdout.flush()
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        return INTERRUPTED
    except ThornError as error:  # before OSError: NotAcknowledged is a TimeoutError too
        click.echo(f"thorn-worker: {error}", err=True)
        return exit_code(error)
    except OSError as error:
        if error.errno not in _UNWRITABLE or error.filename is not None:
            raise
        _drop_output()
        if not isinstance(error, BrokenPipeError):  # then the reader of a list has seen enough
            reason = error.strerror or error
            click.echo(f"thorn-worker: the output can't be written ({reason}): check where it goes", err=True)
        return FAILED
    return result if isinstance(result, int) else 0


def _drop_output() -> None:
    """Send what stdout still holds nowhere: Python would complain once more while flushing at exit."""
    if sys.stdout is not None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def exit_code(error: ThornError) -> int:
    """Which exit code an error has: who must act decides."""
    if isinstance(error, ConfigurationError):
        return REFUSED
    if isinstance(error, EventError):
        return USAGE
    if isinstance(error, LogUnusable | LogUnavailable):
        return NO_LOG
    return FAILED
