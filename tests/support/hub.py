"""Waiting inside one gevent hub, without patches."""

import time
from collections.abc import Callable

import gevent


def wait_on_hub(condition: Callable[[], object], timeout_s: float = 10.0, *, what: str) -> None:
    """Let other greenlets run until `condition()` is true; AssertionError that names `what` after
    `timeout_s`."""
    give_up_at = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= give_up_at:
            raise AssertionError(f"waited {timeout_s:g} s in vain for {what}")
        gevent.sleep(0.005)
