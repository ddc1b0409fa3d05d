"""What failed flushes kept: in order, and ahead of everything sent later."""

import os
import threading
from collections.abc import Sequence

from producer.dispatch.contract import Dispatcher, NotDispatched
from producer.errors import FlushFailed
from producer.sending import Sending


class Unsent:
    """Dispatches sendings behind those that an earlier flush could not hand over, and keeps what fails again.

    A forked child starts empty: what the parent kept is the parent's to send.
    """

    def __init__(self, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._reset()

    def _reset(self) -> None:
        self._pid = os.getpid()
        self._lock = threading.Lock()
        self._kept: list[Sending] = []
        self._size_bytes = 0

    def __bool__(self) -> bool:
        self._start_afresh_in_child()
        return bool(self._kept)

    def _start_afresh_in_child(self) -> None:
        if self._pid != os.getpid():
            self._reset()

    @property
    def size_bytes(self) -> int:
        """Bytes of the bodies kept."""
        return self._size_bytes if self else 0

    def dispatch(self, sendings: Sequence[Sending]) -> None:
        """Hand over what was kept, then `sendings`.

        Raises `FlushFailed` saying how many deliveries are kept now.
        """
        if not self and not sendings:
            return
        with self._lock:
            waiting = [*self._kept, *sendings]
            try:
                self._dispatcher.dispatch(waiting)
            except NotDispatched as failure:
                self._keep(failure.unsent)
                kept = sum(len(sending.ids) for sending in failure.unsent)
                raise FlushFailed(
                    f"{kept} deliveries could not be handed over and are kept for the next flush or send: "
                    f"{failure.__cause__}",
                    kept,
                ) from failure.__cause__
            except (
                BaseException
            ):  # Ctrl-C, or a foreign dispatcher broke its contract: rather repeat than lose
                self._keep(waiting)
                raise
            self._kept, self._size_bytes = [], 0

    def _keep(self, sendings: Sequence[Sending]) -> None:
        self._kept = list(sendings)
        self._size_bytes = sum(sending.size_bytes for sending in sendings)
        for sending in sendings:
            sending.receipt.buffered()
