"""One process's way to one SQLite file: a writing thread that commits in groups, and a reading thread.

The hub never calls SQLite. Writes queue up as `Op`s; a greenlet hands all that are queued to the writing
thread, which applies them in one transaction, and then tells each one, on the hub and in order, what became
of it. An op of a partition whose epoch is no longer ours is left out of the transaction.
"""

import logging
import os
import sqlite3
import time
from abc import ABC, abstractmethod
from collections import deque
from collections.abc import Callable, Sequence
from functools import partial
from itertools import islice
from typing import Final, TypeVar

import gevent
from gevent.event import Event
from gevent.threadpool import ThreadPool

from producer.errors import LogError, LogUnusable
from producer.log.sqlite_schema import explained, same_file, transaction
from thorn_worker.log.housekeeping import Housekeeping
from thorn_worker.log.ops import Change, DefectiveOp, Op, apply_group

_log = logging.getLogger("thorn.worker")

T = TypeVar("T")

#: Most ops of one transaction, so that others get their turn at the file.
GROUP_OPS: Final = 2_000
#: Callbacks that run before other greenlets get their turn.
TELL_AT_ONCE: Final = 100
#: First and longest pause before a failed transaction is tried again.
FIRST_PAUSE_S: Final = 0.05
LONGEST_PAUSE_S: Final = 1.0
#: One line of trouble per this many seconds.
WARN_EVERY_S: Final = 30.0
#: With nothing to write for this long, the file is tidied.
IDLE_S: Final = 1.0


class GroupCommit(ABC):
    """Owns both connections of a process to its file; subclasses say which file, and how it is opened.

    errors: transactions and reads that failed. trouble: why the last transaction failed, None when it did
    not. me: this process's name where ops are fenced. what: the file's name in log lines.
    """

    def __init__(self, path: str, me: str, what: str) -> None:
        self.path: Final = os.path.abspath(path)
        self.me: Final = me
        self.errors = 0
        self.trouble: str | None = None
        self.on_fenced: Callable[[int, int], None] = _nobody_asks
        self._what = what
        self._opened: os.stat_result | None = None
        self._writing: sqlite3.Connection | None = None
        self._reading: sqlite3.Connection | None = None
        self._writer = ThreadPool(1)
        self._reader = ThreadPool(1)
        self._queue: deque[Op] = deque()
        self._wake = Event()
        self._housekeeping = Housekeeping(self.path)
        self._greenlet: gevent.Greenlet[[], None] | None = None
        self._closing = False
        self._warned_at = float("-inf")

    def __repr__(self) -> str:
        kind = type(self).__name__
        return f"<{kind} {self.path} as {self.me} queued={len(self._queue)} trouble={self.trouble!r}>"

    @abstractmethod
    def _connect(self, *, first: bool) -> sqlite3.Connection:
        """A connection to the file, on one of the two threads; the `first` may make it. Raises `LogError`."""

    def _give_up(self, connection: sqlite3.Connection | None, error: LogUnusable) -> None:  # noqa: ARG002
        """Close a connection that met damage, on its thread; the next use opens a new one and checks the file
        again.
        """
        if connection is not None:
            connection.close()

    @property
    def queued(self) -> int:
        """Ops that wait for a transaction."""
        return len(self._queue)

    def submit(self, op: Op) -> None:
        """Queue a change; returns at once. After `close` nothing is taken: the op is settled as not done."""
        if self._closing:
            op.settled(False)
            return
        self._queue.append(op)
        self._wake.set()

    def read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        """Run `work` on the reading thread; waits.

        It sees every change that was settled. Raises `LogError`.
        """
        try:
            return _in(self._reader, partial(self._read, work))
        except LogError as error:
            self.errors += 1
            self._warn(error)
            raise

    def close(self, timeout_s: float) -> None:
        """Make durable what is queued, for at most `timeout_s`, then release both threads.

        What could not be written is settled as not done.
        """
        self._closing = True
        self._wake.set()
        if self._greenlet is not None:
            self._greenlet.join(timeout_s)
            self._greenlet.kill()
        while self._queue:
            _tell(self._queue.popleft(), False)
        for pool in (self._writer, self._reader):
            pool.join()
        _in(self._writer, self._close_both)
        for pool in (self._writer, self._reader):
            pool.kill()

    def _start(self) -> None:
        """Make the first connection and begin to commit; waits. Raises `LogError`."""
        _in(self._writer, self._open_first)
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while self._queue or not self._closing:
            if self._queue:
                self._commit()
            elif not self._tidy():
                self._wake.clear()
                self._wake.wait(IDLE_S)

    def _commit(self) -> None:
        """One group, until it is durable.

        The ops stay in the queue until then, so that nothing can lose them.
        """
        pause_s = FIRST_PAUSE_S
        while True:
            group = list(islice(self._queue, GROUP_OPS))
            try:
                kept = _in(self._writer, partial(self._apply, group))
                break
            except DefectiveOp as defect:
                # It would fail for ever, in front of everybody else. Its caller never hears of it, so what it
                # was to make durable stays incomplete, and is seen to stand.
                _log.critical("a write to %s can't be made: a defect, report it", self._what, exc_info=defect)
                self.errors += 1
                self._queue.remove(defect.op)
            except LogError as error:
                self.errors += 1
                self.trouble = str(error)
                self._warn(error)
                gevent.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
        self.trouble = None
        for number, (op, done) in enumerate(zip(group, kept, strict=True), 1):
            self._queue.popleft()
            if not done and op.fence is not None:
                self.on_fenced(*op.fence)
            _tell(op, done)
            if number % TELL_AT_ONCE == 0:
                gevent.sleep(0)

    def _tidy(self) -> bool:
        """One piece of housekeeping; False if none is due."""
        chore = self._housekeeping.next(time.monotonic())
        if chore is None:
            return False
        try:
            _in(self._writer, partial(self._do_chore, chore))
        except LogError as error:
            self.errors += 1
            self._warn(error)
            return False
        return True

    def _warn(self, error: LogError) -> None:
        now = time.monotonic()
        if now - self._warned_at >= WARN_EVERY_S:
            self._warned_at = now
            _log.warning("%s does not work just now, trying again: %s", self._what, error)

    # What follows runs on the two threads.

    def _open_first(self) -> None:
        self._writing = self._connect(first=True)
        self._opened = os.stat(self.path)

    def _close_both(self) -> None:
        for connection in (self._writing, self._reading):
            if connection is not None:
                connection.close()
        self._writing = self._reading = None

    def _apply(self, group: Sequence[Op]) -> list[bool]:
        connection = self._writing_connection()
        try:
            with explained(self.path), transaction(connection):
                return apply_group(connection, self.me, group)
        except LogUnusable as error:
            self._give_up(self._writing, error)
            self._writing = None
            raise

    def _do_chore(self, chore: Change) -> None:
        connection = self._writing_connection()
        with explained(self.path):
            chore(connection)

    def _writing_connection(self) -> sqlite3.Connection:
        if self._opened is None or not same_file(self.path, self._opened):
            raise LogUnusable(
                f"{self.path} was deleted or replaced while in use: nothing is delivered from it any more, "
                "put it back or restart the worker"
            )
        if self._writing is None:
            self._writing = self._connect(first=False)
        return self._writing

    def _read(self, work: Callable[[sqlite3.Connection], T]) -> T:
        try:
            with explained(self.path):
                if self._reading is None:
                    self._reading = self._connect(first=False)
                    self._reading.execute("PRAGMA query_only = ON")
                return work(self._reading)
        except LogUnusable as error:
            self._give_up(self._reading, error)
            self._reading = None
            raise


def _tell(op: Op, done: bool) -> None:
    try:
        op.settled(done)
    except Exception:
        _log.exception("the callback of a write to the store raised")


def _nobody_asks(partition: int, epoch: int) -> None:
    """Stands in until a reader listens."""


def _in(pool: ThreadPool, work: Callable[[], T]) -> T:
    """The result of `work`, run on the pool's thread.

    Errors travel as values: gevent would print them as well.
    """

    def guarded() -> tuple[T | None, BaseException | None]:
        try:
            return work(), None
        except BaseException as error:
            return None, error

    result, error = pool.spawn(guarded).get()
    if error is not None:
        raise error
    value: T = result
    return value
