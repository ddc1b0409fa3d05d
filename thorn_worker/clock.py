"""Time for the worker: steady under clock steps.

`now` reads like Unix time but advances with the machine's boot clock, so that a stepped wall clock (NTP, an
operator, a resumed VM) neither fires an hour of retries at once nor holds them back. Only what a receiver
compares with its own clock (``webhook-timestamp``, a Retry-After date) uses the wall clock.
"""

import time
from collections.abc import Callable
from typing import Final

#: Counts suspended time too, unlike CLOCK_MONOTONIC; other systems than Linux have only the latter.
_BOOT_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)


def boot_time() -> float:
    """Seconds since boot."""
    return time.clock_gettime(_BOOT_CLOCK)


class Clock:
    """Unix time as it was when the process started, plus what has really passed since.

    Started at wall 1,000 and boot 50; at boot 60 `now` is 1,010, whatever the wall clock says by then.
    """

    def __init__(self, wall: Callable[[], float] = time.time, boot: Callable[[], float] = boot_time) -> None:
        self.wall: Final = wall
        self.steady: Final = boot
        self._offset: Final = wall() - boot()

    def now(self) -> float:
        """Unix seconds, without steps."""
        return self._offset + self.steady()
