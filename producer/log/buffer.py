"""The bounded buffer in front of every log, and the one thread that empties it."""

import logging
import os
import threading
import time
from abc import abstractmethod
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from producer.errors import BufferFull, LogError, LogFull, LogUnavailable, LogUnusable, NotAcknowledged
from producer.log.buffer_state import BufferLimits, Call, Refusal, State
from producer.log.contract import LogWriter, NewRecord, OnDone
from producer.log.process import follow_forks, run_blocking

__all__ = ["BufferLimits", "WriteBuffer"]

_log = logging.getLogger("thorn.producer")

#: One write takes at most this much, so that a long queue is acknowledged piece by piece.
WRITE_BYTES: Final = 8 * 1024 * 1024
WRITE_RECORDS: Final = 5_000
#: A log that said no is asked again at most this often.
RECHECK_S: Final = 1.0
#: First and longest pause between two tries of a write that may succeed later.
FIRST_PAUSE_S: Final = 0.02
LONGEST_PAUSE_S: Final = 1.0
#: One line of trouble per this many seconds.
WARN_EVERY_S: Final = 30.0


class WriteBuffer(LogWriter):
    """A `LogWriter` that buffers; a subclass says how records become durable (`_write`).

    A call larger than the whole buffer is taken once the buffer is empty, alone. A call with any bounded
    record counts as bounded. Where gevent has patched threads, the sender is a greenlet and the log is used
    from gevent's own thread pool.
    """

    def __init__(self, limits: BufferLimits) -> None:
        self._limits = limits
        self._state = State()
        follow_forks(self)

    @abstractmethod
    def _open(self) -> None:
        """Open the log unless it is open; blocks, raises `LogError`."""

    @abstractmethod
    def _write(self, records: Sequence[NewRecord]) -> None:
        """Make all of `records` durable in this order, or none; blocks, raises `LogError`.

        Retriable errors are tried again until the records' deadline, but `LogFull` fails the bounded calls at
        once and the others are written without them. An error that is not retriable fails them all.
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
            _check_accepting(state, call)
        if state.taken == 0:
            self._open_first(state)
        with state.lock:
            self._wait_for_room(state, call)
            state.taken += 1
            call.number = state.taken
            state.queue.append(call)
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
                while state.finished < last:
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
            left = [call for call in (*state.writing, *state.queue) if not call.settled]
            state.queue.clear()
            state.finished = state.taken
            state.work.notify()
            state.room.notify_all()
            sender = state.sender
        _settle(
            state, left, NotAcknowledged(f"the log was closed and did not acknowledge within {timeout_s:g} s")
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
            self.open()
        except LogUnusable as error:
            _refuse(state, error, bounded_only=False)
            raise
        except (LogUnavailable, LogFull) as error:
            _log.info("the log can't be opened yet, its records wait in the buffer: %s", error)

    def _wait_for_room(self, state: State, call: Call) -> None:
        limit = self._limits.max_buffered_bytes
        if not state.bytes or state.bytes + call.size <= limit:
            return
        began = time.monotonic()
        # The sender's own callbacks must not wait for the sender.
        patience_s = 0.0 if state.sender is threading.current_thread() else self._limits.max_block_s
        try:
            while state.bytes and state.bytes + call.size > limit:
                remaining = began + patience_s - time.monotonic()
                if remaining <= 0:
                    raise BufferFull(
                        f"{state.bytes} bytes wait for the log, max_buffered_bytes is {limit}, and no room "
                        f"for {call.size} more came within {patience_s:g} s: send slower or check the log"
                    )
                state.room.wait(remaining)
                _check_accepting(state, call)
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
            while calls := self._take(state):
                self._deliver(state, calls)
                with state.lock:
                    state.writing = []
                    state.finished = max(state.finished, calls[-1].number)
                    state.room.notify_all()
            self._use_log(self._close)
        finally:
            with state.lock:  # only a killed greenlet leaves calls here: the next sender begins with them
                state.queue.extendleft(call for call in reversed(state.writing) if not call.settled)
                state.writing = []
                state.idle = False
                state.sender = None

    def _take(self, state: State) -> list[Call]:
        """The next calls to write, once the first has waited `linger_s` for company; empty once closed."""
        with state.lock:
            self._wait_for_calls(state)
            size = count = 0
            while state.queue and (not count or (size < WRITE_BYTES and count < WRITE_RECORDS)):
                call = state.queue.popleft()
                state.writing.append(call)
                size += call.size
                count += max(len(call.records), 1)
            return state.writing

    def _wait_for_calls(self, state: State) -> None:
        while not state.queue:
            if state.closing:
                return
            state.idle = True
            state.work.wait()
            state.idle = False
        arrived = state.queue[0].deadline - self._limits.deadline_s
        until = arrived + self._limits.linger_s
        while state.bytes < WRITE_BYTES and not state.flushing and not state.closing:
            if not state.work.wait(max(until - time.monotonic(), 0.0)):
                return

    def _deliver(self, state: State, calls: list[Call]) -> None:
        """Write `calls`, again and again if need be; every one is settled on return."""
        pause_s = FIRST_PAUSE_S
        while left := self._still_wanted(state, calls):
            try:
                records = [record for call in left for record in call.records]
                if records:
                    self._use_log(partial(self._write, records))
            except LogFull as error:
                bounded = [call for call in left if call.bounded]
                _refuse(state, error, bounded_only=bool(bounded))
                _settle(state, bounded or left, error)
            except LogError as error:
                if error.retriable:
                    _pause(state, pause_s, error)
                    pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
                else:
                    _refuse(state, error, bounded_only=False)
                    _settle(state, left, error)
            except Exception as error:
                _log.exception("writing to the log raised what it should not")
                failure = LogUnusable(f"writing to the log raised {error!r}: this is a defect, report it")
                failure.__cause__ = error
                _settle(state, left, failure)
            else:
                _refuse_no_more(state, left)
                _settle(state, left, None)

    def _still_wanted(self, state: State, calls: list[Call]) -> list[Call]:
        now = time.monotonic()
        late = [call for call in calls if not call.settled and call.deadline < now]
        if late:
            limit = self._limits.deadline_s
            _settle(state, late, NotAcknowledged(f"the log did not acknowledge within {limit:g} s"))
        return [call for call in calls if not call.settled]

    def _use_log(self, work: Callable[[], None]) -> None:
        with self._state.using_log:
            run_blocking(work)


def _check_accepting(state: State, call: Call) -> None:
    if state.closing:
        raise LogUnusable("the log writer is closed and takes no more records: make a new Producer")
    refusal = state.refusal
    if refusal is None or (refusal.bounded_only and not call.bounded):
        return
    if time.monotonic() < refusal.retry_at:
        raise type(refusal.error)(str(refusal.error)) from refusal.error
    refusal.retry_at = time.monotonic() + RECHECK_S  # this call finds out, the others hear the old answer


def _refuse(state: State, error: LogError, *, bounded_only: bool) -> None:
    _warn(state, "the log refuses records: %s", error)
    with state.lock:
        state.refusal = Refusal(error, bounded_only, time.monotonic() + RECHECK_S)


def _refuse_no_more(state: State, written: Sequence[Call]) -> None:
    """A full log that takes unbounded records is still full: only a bounded one proves that there is room."""
    with state.lock:
        if state.refusal is not None and (
            not state.refusal.bounded_only or any(call.bounded for call in written)
        ):
            state.refusal = None


def _pause(state: State, pause_s: float, error: LogError) -> None:
    _warn(state, "the log does not take records, trying again: %s", error)
    until = time.monotonic() + pause_s
    with state.lock:
        while not state.gave_up and (remaining := until - time.monotonic()) > 0:
            state.work.wait(remaining)


def _warn(state: State, message: str, error: LogError) -> None:
    now = time.monotonic()
    if now - state.warned_at >= WARN_EVERY_S:
        state.warned_at = now
        _log.warning(message, error)


def _settle(state: State, calls: Sequence[Call], error: LogError | None) -> None:
    """Free the room of `calls`, then tell their callers; a call that was settled before is left alone."""
    with state.lock:
        fresh = [call for call in calls if not call.settled]
        for call in fresh:
            call.settled = True
            state.bytes -= call.size
        state.room.notify_all()
    for call in fresh:
        try:
            call.on_done(error)
        except Exception:
            _log.exception("the callback of an append raised")
