"""The process ``thorn-worker``: patch first, then everything else. The only place that patches."""

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
    hub = gevent.get_hub()
    # Ctrl-C ends a command; the hub would print it as a greenlet's error first.
    hub.NOT_ERROR = (*hub.NOT_ERROR, KeyboardInterrupt)
    from thorn_worker.cli.app import execute

    return execute(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
