"""Waiting for conditions instead of sleeping by the clock. Works in threads, and in greenlets where `time` is
patched.
"""

import time
from collections.abc import Callable
from typing import Final

_POLL_S: Final = 0.005


def wait_for(
    condition: Callable[[], object], timeout_s: float = 10.0, *, what: str, poll_s: float = _POLL_S
) -> None:
    """Return as soon as `condition()` is true; raise AssertionError naming `what` if it isn't within
    `timeout_s`. poll_s: for conditions that are dear to ask.
    """
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= give_up_at:
            raise AssertionError(f"waited {timeout_s:g} s in vain for: {what}")
        time.sleep(poll_s)
