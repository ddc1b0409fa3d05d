"""kafka-python's log lines, so that a broker that is away for a night doesn't fill a disk.

It writes about three lines for each failed attempt to connect, several times a second.
"""

import logging
import time
from typing import Final

#: A line from the same place in kafka-python's code appears at most this often.
INTERVAL_S: Final = 30.0

#: Their debug lines hold what goes to the broker, passwords too.
_TELL_ALL: Final = frozenset({"kafka.protocol.parser", "kafka.net.connection", "kafka.admin.client"})


class Quiet(logging.Filter):
    """Lets a line of each place in the code through once per `INTERVAL_S`; the next tells how many were not.

    There is no lock: a race lets one more line through, while a lock that another thread holds at a fork
    would stop the child's log for ever.
    """

    def __init__(self) -> None:
        super().__init__()
        self._spoken: dict[tuple[str, int], tuple[float, int]] = {}

    def __repr__(self) -> str:
        return f"<Quiet {len(self._spoken)} places>"

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line may go on. Debug lines are wanted in full, except where they may tell secrets."""
        if record.levelno <= logging.DEBUG:
            return record.name not in _TELL_ALL
        place = record.pathname, record.lineno
        now = time.monotonic()
        spoke_at, held_back = self._spoken.get(place, (now - INTERVAL_S, 0))
        if now - spoke_at < INTERVAL_S:
            self._spoken[place] = spoke_at, held_back + 1
            return False
        self._spoken[place] = now, 0
        if held_back:
            record.msg, record.args = f"{record.getMessage()} ({held_back} more like it not shown since)", ()
        if record.exc_info and isinstance(record.exc_info[1], OSError):
            # A lost connection is everyday life; kafka-python adds the stack of its own code.
            record.exc_info = record.exc_text = None
        return True


def quiet_client_logs() -> None:
    """Limit the lines of all loggers of kafka-python, once; levels and handlers stay as they were set.

    Imports kafka-python: only loggers that exist can be given a filter, and one on their parent sees none
    of their lines.
    """
    import kafka  # noqa: F401

    known = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "kafka"]
    loggers = [logging.getLogger(name) for name in known]
    present = [one for logger in loggers for one in logger.filters if isinstance(one, Quiet)]
    quiet = present[0] if present else Quiet()
    for logger in loggers:
        logger.addFilter(quiet)  # a second time it does nothing
