"""A real worker with a fault in it, and a watchdog that is quick to bite.

python -m tests.support.faulty_worker FAULT, with settings in the environment. Faults: none, spins, polls (its
reader's poll never returns), forgets (its lanes give nothing to start).
"""

import sys
from typing import Final, NoReturn

#: The watchdog's limit here, instead of a minute, and how often it looks.
LIMIT_S: Final = 3.0
CHECK_S: Final = 0.1


def main(fault: str) -> int:
    """Run it; the exit code."""
    from gevent import monkey

    monkey.patch_all()
    import gevent

    from producer.config import load
    from thorn_worker import logs
    from thorn_worker.log.contract import Consent
    from thorn_worker.watchdog import Watchdog
    from thorn_worker.worker import Worker

    def spins_for_ever() -> NoReturn:
        while True:
            pass

    def poll_that_never_returns(timeout_s: float) -> NoReturn:
        while True:
            gevent.sleep(3600)

    logs.set_up("info", "text")
    worker = Worker(load(strict_environment=True).settings, Consent())
    worker.watchdog = Watchdog(worker.pulse, LIMIT_S, CHECK_S)
    parts = worker._parts
    if fault == "spins":
        gevent.spawn_later(1.0, spins_for_ever)
    elif fault == "polls":
        parts.reader.poll = poll_that_never_returns  # type: ignore[method-assign]
    elif fault == "forgets":
        parts.lanes.start = lambda: None  # type: ignore[method-assign]
    else:
        assert fault == "none", fault
    return worker.run()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
