"""``buffer_events``: collect the sends of one thread, greenlet or task, and dispatch them together.

The outermost block owns the buffer; inner blocks delegate to it. Leaving the outermost block flushes, also
when the block raised. ``flush()`` at any depth flushes all of it.
"""

import os
import sys
import threading
import time
from collections.abc import Callable
from contextvars import ContextVar, Token
from dataclasses import dataclass, field
from types import TracebackType
from typing import Final

from producer.errors import BufferFull, InvalidEvent
from producer.sending import Sending


def current_execution() -> tuple[object, ...]:
    """What runs now: process, thread, greenlet, task. Children of each kind inherit context variables, so a
    buffer also remembers whose it is: one request's block must never capture what another one sends.
    """
    parts: list[object] = [os.getpid(), threading.get_ident()]
    if (greenlet := sys.modules.get("greenlet")) is not None:
        parts.append(greenlet.getcurrent())
    if (asyncio := sys.modules.get("asyncio")) is not None and asyncio._get_running_loop() is not None:
        parts.append(asyncio.current_task())
    return tuple(parts)


@dataclass(slots=True)
class Buffered:
    """What an outermost block has collected. `owner`: see `current_execution`."""

    owner: tuple[object, ...]
    max_bytes: int
    sendings: list[Sending] = field(default_factory=list)
    size_bytes: int = 0

    def add(self, sending: Sending, kept_bytes: int = 0) -> None:
        """Append one sending. Raises `BufferFull` when the buffer would hold more than ``max_buffered_bytes``
        together with the `kept_bytes` of earlier failed flushes.
        """
        size_bytes = sending.size_bytes
        held_bytes = self.size_bytes + kept_bytes
        if held_bytes and held_bytes + size_bytes > self.max_bytes:
            raise BufferFull(
                f"buffer_events holds {held_bytes} bytes and {size_bytes} more pass max_buffered_bytes "
                f"({self.max_bytes}): call flush() or maybe_flush() inside the block"
            )
        self.sendings.append(sending)
        self.size_bytes += size_bytes
        sending.receipt.buffered()

    def take(self) -> list[Sending]:
        """Everything collected so far, leaving the buffer empty."""
        taken, self.sendings, self.size_bytes = self.sendings, [], 0
        return taken


class BufferSlot:
    """The place where a producer keeps the open buffer of each thread, greenlet and task."""

    def __init__(self) -> None:
        self._variable: Final[ContextVar[Buffered | None]] = ContextVar("thorn_buffer", default=None)

    def current(self) -> Buffered | None:
        """The buffer that is open here, None outside of any block."""
        buffered = self._variable.get()
        if buffered is None or buffered.owner != current_execution():
            return None
        return buffered

    def open(self, buffered: Buffered) -> Token[Buffered | None]:
        """Make `buffered` the one that is open here."""
        return self._variable.set(buffered)

    def close(self, token: Token[Buffered | None]) -> None:
        """Undo `open`."""
        self._variable.reset(token)


class BufferContext:
    """What ``with buffer_events(...) as buffer`` binds.

    flush_freq: `maybe_flush` flushes at every such call (counted in calls, not events). flush_timeout: … and
    when that many seconds passed since the last flush (or since the block began). Each works alone; with
    neither, `maybe_flush` never flushes.
    """

    def __init__(
        self,
        slot: BufferSlot,
        flush: Callable[[Buffered], None],
        max_bytes: int,
        flush_freq: int | None = None,
        flush_timeout: float | None = None,
    ) -> None:
        if flush_freq is not None and flush_freq < 1:
            raise InvalidEvent(
                f"flush_freq {flush_freq!r} must be at least 1 call: leave it out to flush only at the end"
            )
        if flush_timeout is not None and flush_timeout < 0:
            raise InvalidEvent(f"flush_timeout {flush_timeout!r} must be at least 0 seconds")
        self._slot = slot
        self._flush = flush
        self._max_bytes = max_bytes
        self._flush_freq = flush_freq
        self._flush_timeout = flush_timeout
        self._token: Token[Buffered | None] | None = None
        self._calls = 0
        self._flushed_at = time.monotonic()

    def __enter__(self) -> "BufferContext":
        if self._slot.current() is None:
            self._token = self._slot.open(Buffered(current_execution(), self._max_bytes))
        self._flushed_at = time.monotonic()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._token is None:  # an inner block: the outermost one flushes
            return
        try:
            self.flush()
        except Exception as failure:
            if error is None:
                raise
            error.add_note(f"and the buffered events were not all sent: {failure}")
        finally:
            self._slot.close(self._token)
            self._token = None

    def flush(self) -> None:
        """Dispatch everything that this and all enclosing blocks collected.

        Raises `producer.FlushFailed`: what was not sent is kept, in order, and goes first at the next flush
        or send.
        """
        self._flushed_at = time.monotonic()
        buffered = self._slot.current()
        if buffered is not None:
            self._flush(buffered)

    def maybe_flush(self) -> bool:
        """Count this call and flush if it is time to; True if it flushed.

        With ``flush_freq=3`` the calls 3, 6, 9 … flush, whatever `flush_timeout` did in between.
        """
        self._calls += 1
        by_count = self._flush_freq is not None and self._calls % self._flush_freq == 0
        by_time = (
            self._flush_timeout is not None and time.monotonic() - self._flushed_at > self._flush_timeout
        )
        if by_count or by_time:
            self.flush()
        return by_count or by_time
