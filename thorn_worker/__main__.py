"""The process ``thorn-worker``: patch first, then everything else. The only place that patches.

The parent of ``run --processes N`` needs no patches: see `thorn_worker.supervisor`.
"""

import signal
import sys
from typing import Final

#: Threads of gevent's own pool, made as they are needed: every look-up of a name that may run at once
#: (`thorn_worker.http.resolver`: 32, and 96 that are overdue) waits in one.
THREADS: Final = 128

#: A native thread that decodes rows gives the interpreter back to the event loop within this many seconds.
SWITCH_INTERVAL_S: Final = 0.001

#: Ended by Ctrl-C before `thorn_worker.cli.app`, which has the other exit codes, could be loaded.
INTERRUPTED: Final = 130


def main() -> int:
    """Run the command line and return its exit code. The console script calls this."""
    try:
        if sys.argv[1:2] == ["supervise"]:
            from thorn_worker import supervisor

            return supervisor.main(sys.argv[2:])
        return _patched()
    except KeyboardInterrupt:  # while modules load; a command that runs ends by itself
        return INTERRUPTED


def _patched() -> int:
    import gevent

    # Both must happen before the hub exists and before anything takes an unpatched lock or socket, so nothing
    # of ours is imported above.
    gevent.config.threadpool_size = THREADS
    from gevent import monkey

    monkey.patch_all()
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    _interrupt_the_command()
    from thorn_worker.cli.app import execute

    return execute(sys.argv[1:])


def _interrupt_the_command() -> None:
    """Let Ctrl-C end the command, whichever greenlet happens to run.

    Raised where it arrives, it could end a greenlet of a client library, and the command would wait for that
    one for ever.
    """
    import gevent

    hub, command = gevent.get_hub(), gevent.getcurrent()
    # The hub would print it as a greenlet's error first.
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)

    def interrupt(_number: int, _frame: object) -> None:
        if gevent.getcurrent() is command:
            raise KeyboardInterrupt
        hub.loop.run_callback_threadsafe(command.throw, KeyboardInterrupt)

    if (
        signal.getsignal(signal.SIGINT) is signal.default_int_handler
    ):  # a background job inherits an ignored one
        signal.signal(signal.SIGINT, interrupt)


if __name__ == "__main__":
    sys.exit(main())
