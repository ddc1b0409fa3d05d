"""What a `WriteBuffer` holds: limits, calls, and the state that a forked child must not share."""

import logging
import os
import threading
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from producer.errors import LogError, LogUnusable
from producer.log.contract import NewRecord, OnDone

#: A log that said no is asked again at most this often.
RECHECK_S: Final = 1.0
#: One line of trouble per this many seconds.
WARN_EVERY_S: Final = 30.0

_log = logging.getLogger("thorn.producer")


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferLimits:
    """How much a writer holds and how long it is patient.

    linger_s: how long the first record of a write waits for company.
    deadline_s: from `append` on; a record not durable by then fails with `NotAcknowledged`.
    """

    max_buffered_bytes: int = 32 * 1024 * 1024
    max_block_s: float = 1.0
    linger_s: float = 0.005
    deadline_s: float = 60.0


@dataclass(slots=True, eq=False)
class Call:
    """One `append`: taken whole, settled whole.

    deadline: on the monotonic clock. number: counts calls from 1.
    """

    records: Sequence[NewRecord]
    on_done: OnDone
    size: int
    bounded: bool
    deadline: float
    number: int = 0
    settled: bool = False


@dataclass(slots=True, eq=False)
class Refusal:
    """The log said no: what `append` raises, to whom, and when one call may find out whether it still
    holds."""

    error: LogError
    bounded_only: bool
    retry_at: float


@dataclass(slots=True, eq=False)
class State:
    """One process's buffer. Fields are read and written under `lock`.

    queue: calls that the sender has not taken. writing: those that it is at. unsettled: all that `append`
    took and whose callers were not told, in order, perhaps with settled ones among them. taken: number of the
    last call that `append` took. news: something happened that the sender should see to, though no call came.
    gave_up: `close` ran out of time and settled what was left.
    """

    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    #: Held while the log itself is used.
    using_log: threading.Lock = field(default_factory=threading.Lock)
    queue: deque[Call] = field(default_factory=deque)
    writing: list[Call] = field(default_factory=list)
    unsettled: deque[Call] = field(default_factory=deque)
    sender: threading.Thread | None = None
    refusal: Refusal | None = None
    idle: bool = False
    news: bool = False
    closing: bool = False
    gave_up: bool = False
    flushing: int = 0
    bytes: int = 0
    taken: int = 0
    blocked_s: float = 0.0
    warned_at: float = float("-inf")
    #: Threads that are inside a callback: what such a thread waits for might never come.
    telling: set[int] = field(default_factory=set)
    #: Told to the sender: there is work. Told to everybody else: there is room, or something finished.
    work: threading.Condition = field(init=False)
    room: threading.Condition = field(init=False)

    def __post_init__(self) -> None:
        self.work = threading.Condition(self.lock)
        self.room = threading.Condition(self.lock)

    def is_settled(self, number: int) -> bool:
        """Whether every call up to this one is. Under `lock`."""
        return not self.unsettled or self.unsettled[0].number > number

    def check_accepting(self, call: Call) -> None:
        """Raise what `append` has to raise before it takes anything. Under `lock`."""
        if self.closing:
            raise LogUnusable("the log writer is closed and takes no more records: make a new Producer")
        refusal = self.refusal
        if refusal is None or (refusal.bounded_only and not call.bounded):
            return
        if time.monotonic() < refusal.retry_at:
            raise type(refusal.error)(str(refusal.error)) from refusal.error
        refusal.retry_at = time.monotonic() + RECHECK_S  # this call finds out, the others hear the old answer

    def refuse(self, error: LogError, *, bounded_only: bool) -> None:
        """Let the next calls of `append` raise `error`."""
        self.warn("the log refuses records: %s", error)
        with self.lock:
            self.refusal = Refusal(error, bounded_only, time.monotonic() + RECHECK_S)

    def refuse_no_more(self, written: Sequence[Call]) -> None:
        """A full log that takes unbounded records is still full: only a bounded one proves that there is
        room."""
        if self.refusal is None:
            return
        with self.lock:
            if self.refusal is not None and (
                not self.refusal.bounded_only or any(call.bounded for call in written)
            ):
                self.refusal = None

    def pause(self, pause_s: float, error: LogError) -> None:
        """Wait before the next try, unless `close` has given up."""
        self.warn("the log does not take records, trying again: %s", error)
        until = time.monotonic() + pause_s
        with self.lock:
            while not self.gave_up and (remaining := until - time.monotonic()) > 0:
                self.work.wait(remaining)

    def warn(self, message: str, error: LogError) -> None:
        """Log a trouble, unless there was one lately."""
        now = time.monotonic()
        if now - self.warned_at >= WARN_EVERY_S:
            self.warned_at = now
            _log.warning(message, error)

    def settle(self, calls: Sequence[Call], error: LogError | None) -> None:
        """Free the room of `calls`, then tell their callers; a call that was settled before is left alone."""
        with self.lock:
            fresh = [call for call in calls if not call.settled]
            for call in fresh:
                call.settled = True
                self.bytes -= call.size
            while self.unsettled and self.unsettled[0].settled:
                self.unsettled.popleft()
            self.room.notify_all()
        me = threading.get_ident()
        self.telling.add(me)
        try:
            for call in fresh:
                tell(call, error)
        finally:
            self.telling.discard(me)


def tell(call: Call, error: LogError | None) -> None:
    """Call back; what is raised there is the caller's own defect and must not stop the sender."""
    try:
        call.on_done(error)
    except Exception:
        _log.exception("the callback of an append raised")
