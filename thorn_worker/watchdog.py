"""The watchdog: ends a process that only looks alive, so that whoever supervises it starts it again.

It is a native thread, since a greenlet can't see a hub that never runs. It looks once a second whether three
counts that hub code keeps go on. If one of them stands, it writes the stacks of all threads and greenlets to
stderr and ends the process with `EXIT_CODE`. What was in flight is repeated by the next process; nothing is
lost.

What stands by design (a restore, a full window, a log that is away or not confirmed, trouble of this machine,
a drain) goes on counting: ``/readyz`` tells of it, and no process has to die for it.

Code that never gives the interpreter's lock back (a regular expression that explodes, a C extension) holds
this thread too. Such a process answers no ``/healthz``: that is what a liveness probe is for.
"""

import gc
import os
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from types import FrameType
from typing import Any, Final

from gevent import monkey
from greenlet import greenlet

#: A count that stands for this long ends the process.
LIMIT_S: Final = 60.0
#: The watchdog looks this often.
CHECK_S: Final = 1.0
#: Hub code counts this often.
BEAT_S: Final = 1.0
#: The stacks must be written within this time: the reader of our stderr may be what everything waits for.
TELL_S: Final = 5.0
#: EX_SOFTWARE of sysexits.h: an error of our own, not of settings, log or machine.
EXIT_CODE: Final = 70

_STDERR: Final = 2

# The patched ones would give this thread a hub of its own.
_start_thread: Final[Any] = monkey.get_original("_thread", "start_new_thread")
_new_lock: Final[Any] = monkey.get_original("_thread", "allocate_lock")
_this_thread: Final[Any] = monkey.get_original("_thread", "get_ident")


class Pulse:
    """What hub code counts, and the watchdog reads.

    turns: the hub ran a greenlet. polls: the reader's `poll` is about to be called, so the call before has
    returned. moves: work was started, or there was none that could be. idle: nothing is read or started, by
    design: the log is not open yet, or the worker drains.

    started: how many works were started so far. startable: something could start now.
    """

    __slots__ = ("_seen", "_startable", "_started", "idle", "moves", "polls", "turns")

    def __init__(self, started: Callable[[], int], startable: Callable[[], bool]) -> None:
        self._started = started
        self._startable = startable
        self._seen = -1
        self.idle = True
        self.turns = self.polls = self.moves = 0

    def beat(self) -> None:
        """Call on the hub every `BEAT_S`. `startable` is asked only if nothing was started since."""
        self.turns += 1
        started = self._started()
        if self.idle:
            self.polls += 1
            self.moves += 1
        elif started != self._seen or not self._startable():
            self.moves += 1
        self._seen = started

    def __repr__(self) -> str:
        return f"Pulse({self.turns} turns, {self.polls} polls, {self.moves} moves)"


class Judge:
    """How long each count has stood. Pure: counts and seconds are given.

    While the hub stands the other two say nothing: their code could not run.
    """

    def __init__(self, limit_s: float) -> None:
        self._limit_s = limit_s
        self._seen = (-1, -1, -1)
        self._hub_stood_s = self._poll_stood_s = self._start_stood_s = 0.0

    def look(self, counts: tuple[int, int, int], ran_s: float) -> str | None:
        """Why the process should end, if it should.

        counts: turns, polls, moves. ran_s: since the last look. With a limit of 60 s and looks 1 s apart, a
        count seen to change at one look and never again is told at the sixtieth look after it.
        """
        turned, polled, moved = (now != seen for now, seen in zip(counts, self._seen, strict=True))
        self._hub_stood_s += ran_s
        if turned:
            # Looks may be closer than beats; but of a hub that is back from a stall only a beat counts.
            turning_s, self._hub_stood_s = min(self._hub_stood_s, 2 * BEAT_S), 0.0
            self._poll_stood_s = 0.0 if polled else self._poll_stood_s + turning_s
            self._start_stood_s = 0.0 if moved else self._start_stood_s + turning_s
            self._seen = counts
        for stood_s, what in (
            (self._hub_stood_s, "the event loop has not turned"),
            (self._poll_stood_s, "the log's reader has not come back from poll"),
            (self._start_stood_s, "a delivery could start and none was started"),
        ):
            if stood_s >= self._limit_s:
                return f"{what} for {stood_s:.0f} s"
        return None


class Watchdog:
    """Watches a `Pulse` from a native thread, from `start` to `stop`.

    Only time in which this thread itself ran counts: a process that was stopped and continued, or a machine
    that slept or was short of CPU, has not stalled.
    """

    def __init__(self, pulse: Pulse, limit_s: float = LIMIT_S, check_s: float = CHECK_S) -> None:
        self._pulse = pulse
        self._limit_s = limit_s
        self._check_s = check_s
        self._running = _new_lock()
        self._hub_thread = 0

    def start(self) -> None:
        """Begin to watch. Call on the hub's thread, once."""
        self._hub_thread = _this_thread()
        self._running.acquire()
        _start_thread(self._watch, ())

    def stop(self) -> None:
        """Stop watching; returns at once."""
        self._running.release()

    def _watch(self) -> None:
        judge, pulse = Judge(self._limit_s), self._pulse
        before = time.monotonic()
        while not self._running.acquire(True, self._check_s):
            now = time.monotonic()
            # Later than twice the time asked for: we were stopped ourselves, and so was the hub.
            ran_s = min(now - before, 2 * self._check_s)
            before = now
            cause = judge.look((pulse.turns, pulse.polls, pulse.moves), ran_s)
            if cause is not None:
                self._end(cause)

    def _end(self, cause: str) -> None:
        told = _new_lock()
        told.acquire()
        _start_thread(self._tell, (cause, told))
        told.acquire(True, TELL_S)
        os._exit(EXIT_CODE)

    def _tell(self, cause: str, told: Any) -> None:
        try:
            self._write(
                f"thorn-worker: {cause}: the process ends with exit code {EXIT_CODE}, to be started again\n"
            )
            self._write(stacks(self._hub_thread))
        finally:
            told.release()

    @staticmethod
    def _write(text: str) -> None:
        """Past `logging` and `sys.stderr`, whose locks the hub may hold."""
        left = memoryview(text.encode("utf-8", "replace"))
        while left:
            left = left[os.write(_STDERR, left) :]

    def __repr__(self) -> str:
        return f"Watchdog({self._pulse!r}, {self._limit_s:g} s)"


def stacks(hub_thread: int) -> str:
    """Where every other thread, and every greenlet that waits, stands. Equal stacks are written once.

    What the hub runs just now is the stack of its thread.
    """
    threads: Counter[str] = Counter()
    parts = []
    for ident, frame in sys._current_frames().items():
        if ident == hub_thread:
            parts.append(f"--- the event loop's thread\n{_stack(frame)}")
        elif ident != _this_thread():
            threads[_stack(frame)] += 1
    gc.unfreeze()  # what was frozen after the start is otherwise not listed: the worker's own loops
    greenlets = Counter(
        _stack(one.gr_frame)
        for one in gc.get_objects()
        if isinstance(one, greenlet) and one.gr_frame is not None
    )
    parts += [f"--- {count} other threads\n{stack}" for stack, count in threads.most_common()]
    parts += [f"--- {count} greenlets\n{stack}" for stack, count in greenlets.most_common()]
    return "".join(parts)


def _stack(frame: FrameType) -> str:
    return "".join(traceback.format_stack(frame))
