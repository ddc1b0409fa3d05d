"""The bounded buffer in front of every log, and the one thread that empties it."""

import logging
import os
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from typing import Final

from producer.errors import BufferFull, LogError, LogFull, LogUnavailable, LogUnusable, NotAcknowledged
from producer.log.buffer_state import RECHECK_S, BufferLimits, Call, State
from producer.log.contract import LogWriter, NewRecord, OnDone
from producer.log.process import end_inherited, follow_forks

__all__ = ["BufferLimits", "WriteBuffer"]

_log = logging.getLogger("thorn.producer")

#: One write takes at most this much, so that a long queue is acknowledged piece by piece.
WRITE_BYTES: Final = 8 * 1024 * 1024
WRITE_RECORDS: Final = 5_000
#: First and longest pause between two tries of a write that may succeed later.
FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 1.0
#: While calls are unsettled that the sender is not at, it sees to them this often.
TEND_S: Final = 0.25


class WriteBuffer(LogWriter):
    """A `LogWriter` that buffers; a subclass says how records become durable (`_send`).

    A call larger than the whole buffer is taken once the buffer is empty, alone. A call with any bounded
    record counts as bounded. Where gevent has patched threads, the sender is a greenlet.
    """

    def __init__(self, limits: BufferLimits) -> None:
        self._limits = limits
        self._state = State()
        follow_forks(self)

    @abstractmethod
    def _open(self) -> None:
        """Open the log unless it is open; blocks, raises `LogError`."""

    @abstractmethod
    def _send(self, state: State, calls: Sequence[Call]) -> None:
        """Hand `calls` to the log in this order; it blocks as it must, and raises `LogError`.

        Each call is to be settled once all of its records are durable: by this method, or later by `_tend`.
        After a retriable error all are handed over again until their deadline, but `LogFull` fails the
        bounded calls at once and the others go without them. An error that is not retriable fails them all.
        """

    @abstractmethod
    def _close(self) -> None:
        """Release the log; a later use opens it again."""

    @abstractmethod
    def _forget(self) -> None:
        """In a forked child: drop the parent's handles without closing them."""

    def append(self, records: Sequence[NewRecord], on_done: OnDone) -> None:
        call = Call(
            records=tuple(records),
            on_done=on_done,
            size=sum(len(record.key) + len(record.value) for record in records),
            bounded=any(record.bounded for record in records),
            deadline=time.monotonic() + self._limits.deadline_s,
        )
        state = self._own_state()
        with state.lock:
            state.check_accepting(call)
        if state.taken == 0:
            self._open_first(state)
        with state.lock:
            self._wait_for_room(state, call)
            state.taken += 1
            call.number = state.taken
            state.queue.append(call)
            state.unsettled.append(call)
            state.bytes += call.size
            self._start_sender(state)
            if state.idle or state.bytes >= WRITE_BYTES:
                state.work.notify()

    def flush(self, timeout_s: float) -> bool:
        state = self._own_state()
        deadline = time.monotonic() + timeout_s
        with state.lock:
            last = state.taken
            state.flushing += 1
            state.work.notify()
            try:
                while not state.is_settled(last):
                    remaining = deadline - time.monotonic()
                    if remaining <= 0:
                        return False
                    state.room.wait(remaining)
                return True
            finally:
                state.flushing -= 1

    def close(self, timeout_s: float) -> None:
        state = self._own_state()
        flushed = self.flush(timeout_s)
        with state.lock:
            state.closing = True
            state.gave_up = not flushed
            left = [call for call in state.unsettled if not call.settled]
            state.queue.clear()
            state.work.notify()
            sender = state.sender
        state.settle(
            left, NotAcknowledged(f"the log was closed and did not acknowledge within {timeout_s:g} s")
        )
        if sender is None:
            self._use_log(self._close)
        elif sender is not threading.current_thread():
            sender.join(max(timeout_s, RECHECK_S))

    @property
    def buffered_bytes(self) -> int:
        return self._own_state().bytes

    @property
    def blocked_s(self) -> float:
        return self._own_state().blocked_s

    def open(self) -> None:
        """Open the log now; raises `LogError`."""
        self._own_state()
        self._use_log(self._open)

    def lock_in_use(self) -> threading.Lock:
        return self._state.using_log

    def start_afresh(self) -> None:
        if self._state.sender is not None:
            end_inherited(self._state.sender)
        self._state = State()
        self._forget()

    def _own_state(self) -> State:
        """This process's state. The fork hook has renewed it already, unless the fork bypassed Python."""
        if self._state.pid != os.getpid():
            self.start_afresh()
        return self._state

    def _open_first(self, state: State) -> None:
        """So that the first `append` says at once that there is no log to write to."""
        try:
            self._open_for_append()
        except LogUnusable as error:
            state.refuse(error, bounded_only=False)
            raise
        except (LogUnavailable, LogFull) as error:
            _log.info("the log can't be opened yet, its records wait in the buffer: %s", error)

    def _open_for_append(self) -> None:
        """Open the log in the first caller's time; raises `LogError`."""
        self.open()

    def _wait_for_room(self, state: State, call: Call) -> None:
        limit = self._limits.max_buffered_bytes
        if not state.bytes or state.bytes + call.size <= limit:
            return
        began = time.monotonic()
        # A callback must not wait for what is freed by its own thread.
        patience_s = 0.0 if threading.get_ident() in state.telling else self._limits.max_block_s
        try:
            while state.bytes and state.bytes + call.size > limit:
                remaining = began + patience_s - time.monotonic()
                if remaining <= 0:
                    raise BufferFull(
                        f"{state.bytes} bytes wait for the log, max_buffered_bytes is {limit}, and no room "
                        f"for {call.size} more came within {patience_s:g} s: send slower or check the log"
                    )
                state.room.wait(remaining)
                state.check_accepting(call)
        finally:
            state.blocked_s += time.monotonic() - began

    def _start_sender(self, state: State) -> None:
        if state.sender is None:
            state.sender = threading.Thread(
                target=self._send_until_closed, args=(state,), name="thorn-log-sender", daemon=True
            )
            state.sender.start()

    def _send_until_closed(self, state: State) -> None:
        try:
            while True:
                calls = self._take(state)
                if calls:
                    self._deliver(state, calls)
                self._tend(state)
                with state.lock:
                    state.writing = []
                    if state.closing and not state.queue and (state.gave_up or not state.unsettled):
                        break
            self._use_log(self._close)
        finally:
            with state.lock:  # only a killed greenlet leaves calls here: the next sender begins with them
                state.queue.extendleft(call for call in reversed(state.writing) if not call.settled)
                state.writing = []
                state.idle = False
                state.sender = None

    def _take(self, state: State) -> list[Call]:
        """The next calls to write, once the first has waited `linger_s` for company; empty if there is other
        news, or it is time to see to what was taken before."""
        with state.lock:
            self._wait_for_calls(state)
            state.news = False
            size = count = 0
            while state.queue and (not count or (size < WRITE_BYTES and count < WRITE_RECORDS)):
                call = state.queue.popleft()
                state.writing.append(call)
                size += call.size
                count += max(len(call.records), 1)
            return state.writing

    def _wait_for_calls(self, state: State) -> None:
        if not state.queue and not state.closing and not state.news:
            state.idle = True
            state.work.wait(TEND_S if state.unsettled else None)
            state.idle = False
        if not state.queue:
            return
        arrived = state.queue[0].deadline - self._limits.deadline_s
        until = arrived + self._limits.linger_s
        while state.bytes < WRITE_BYTES and not state.flushing and not state.closing:
            if not state.work.wait(max(until - time.monotonic(), 0.0)):
                return

    def _deliver(self, state: State, calls: Sequence[Call]) -> None:
        """Hand `calls` to the log, again and again if need be; those that can't be are settled on return."""
        pause_s = FIRST_PAUSE_S
        while left := self._still_wanted(state, calls):
            try:
                self._send(state, left)
                return
            except LogFull as error:
                bounded = [call for call in left if call.bounded]
                state.refuse(error, bounded_only=bool(bounded))
                state.settle(bounded or left, error)
            except LogError as error:
                if error.retriable:
                    state.pause(pause_s, error)
                    pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                    self._tend(state)
                else:
                    state.refuse(error, bounded_only=False)
                    state.settle(left, error)
            except Exception as error:
                _log.exception("writing to the log raised what it should not")
                failure = LogUnusable(f"writing to the log raised {error!r}: this is a defect, report it")
                failure.__cause__ = error
                state.settle(left, failure)

    def _tend(self, state: State) -> None:
        """See to what was taken and is not settled: after every write, and about every `TEND_S` while there
        is such a call. For logs that acknowledge later."""

    def _still_wanted(self, state: State, calls: Sequence[Call]) -> list[Call]:
        now = time.monotonic()
        late = [call for call in calls if not call.settled and call.deadline < now]
        if late:
            limit = self._limits.deadline_s
            state.settle(late, NotAcknowledged(f"the log did not acknowledge within {limit:g} s"))
        return [call for call in calls if not call.settled]

    def _use_log(self, work: Callable[[], None]) -> None:
        with self._state.using_log:
            work()
