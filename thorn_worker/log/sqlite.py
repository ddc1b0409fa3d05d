"""The SQLite log's reading half. See `thorn_worker.log.journal` for the threads, `leases` for the
ownership."""

import sqlite3
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import gevent
from gevent.event import Event

from producer.errors import LogError
from thorn_worker.log import fetching, leases
from thorn_worker.log.contract import (
    Assignment,
    AssignmentListener,
    CommitRequest,
    LogInfo,
    LogReader,
    RawRecord,
)
from thorn_worker.log.fetching import Fetched, Want
from thorn_worker.log.journal import Journal
from thorn_worker.log.leases import Beat, LeaseTiming
from thorn_worker.log.ops import Op

#: Pause between looks at the file while records come, and once none came for `BUSY_FOR_S`.
BUSY_PAUSE_S: Final = 0.01
IDLE_PAUSE_S: Final = 0.05
BUSY_FOR_S: Final = 1.0
#: A partition that became free is asked for at once, but not more often than this.
EARLY_BEAT_S: Final = 0.1
#: How long `commit` waits for the file before it says that it could not tell.
COMMIT_WAIT_S: Final = 5.0
#: How long `close` waits for the last writes.
CLOSE_WAIT_S: Final = 5.0


@dataclass(slots=True)
class _Holding:
    """A partition of ours. position: next offset to read."""

    assignment: Assignment
    position: int
    paused: bool = False


class _BeatOp:
    """A heartbeat on its way through the journal."""

    def __init__(self, me: str, timing: LeaseTiming, tell: Callable[[Beat | None], None]) -> None:
        self._me, self._timing, self._tell = me, timing, tell
        self._beat: Beat | None = None

    def change(self, connection: sqlite3.Connection) -> None:
        self._beat = leases.beat(connection, self._me, self._timing)

    def settled(self, done: bool) -> None:
        self._tell(self._beat if done else None)


class _CommitOp:
    """A watermark on its way through the journal. stored: None until known."""

    def __init__(self, request: CommitRequest, journal: Journal, finished: Event) -> None:
        self._request, self._journal, self._finished = request, journal, finished
        self._more = False
        self.stored: bool | None = None

    def change(self, connection: sqlite3.Connection) -> None:
        self._more = fetching.commit(connection, self._request)

    def settled(self, done: bool) -> None:
        self.stored = done
        if done and self._more:
            self._journal.prune_later(self._request.partition, self._request.offset)
        self._finished.set()


class SqliteReader(LogReader):
    """Shares the partitions of one file with the other workers of this machine.

    `open` opens the journal that the store uses too; `close` closes it.
    """

    def __init__(self, journal: Journal, timing: LeaseTiming | None = None) -> None:
        self._journal = journal
        self._timing = timing or LeaseTiming()
        self._listener: AssignmentListener | None = None
        self._holdings: dict[int, _Holding] = {}
        self._seen: int | None = None
        self._changed = True
        self._turn = 0
        self._read_at = float("-inf")
        self._beat: Beat | None = None
        self._beating = False
        self._beat_due_at = float("-inf")
        self._beat_sent_at = float("-inf")
        self._asked_at = 0.0
        self._confirmed_until = float("-inf")
        self._wake = Event()
        journal.on_fenced = self._on_fenced

    def __repr__(self) -> str:
        return f"<SqliteReader of {self._journal!r} owning {sorted(self._holdings)}>"

    def open(self) -> LogInfo:
        return self._journal.open()

    def join(self, listener: AssignmentListener) -> None:
        self._listener = listener

    def poll(self, timeout_s: float) -> list[RawRecord]:
        until = time.monotonic() + timeout_s
        while True:
            self._keep_membership()
            records = self._next_records()
            now = time.monotonic()
            if records:
                self._read_at = now
                return records
            if now >= until:
                return []
            pause_s = BUSY_PAUSE_S if now - self._read_at < BUSY_FOR_S else IDLE_PAUSE_S
            self._wake.clear()
            self._wake.wait(min(pause_s, until - now))

    def pause(self, partition: int) -> None:
        holding = self._holdings.get(partition)
        if holding is not None:
            holding.paused = True

    def resume(self, partition: int) -> None:
        holding = self._holdings.get(partition)
        if holding is not None and holding.paused:
            holding.paused = False
            self._look_again()

    def commit(self, requests: Sequence[CommitRequest]) -> Mapping[int, bool]:
        waiting = []
        for request in requests:
            finished = Event()
            op = _CommitOp(request, self._journal, finished)
            self._journal.submit(Op((request.partition, request.epoch), op.change, op.settled))
            waiting.append((request.partition, op, finished))
        gevent.wait([finished for _partition, _op, finished in waiting], timeout=COMMIT_WAIT_S)
        return {partition: op.stored is True for partition, op, _finished in waiting}

    def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        ends = self._journal.read(fetching.end_offsets)
        return {partition: ends[partition] for partition in partitions}

    def confirmed(self) -> bool:
        return self._timing.clock() < self._confirmed_until

    @property
    def errors(self) -> int:
        return self._journal.errors

    @property
    def trouble(self) -> str | None:
        return self._journal.trouble

    @property
    def lost_records(self) -> int:
        return 0  # only completed records are ever deleted

    def close(self) -> None:
        if self._holdings and self._listener is not None:
            self._listener.revoked([holding.assignment for holding in self._holdings.values()])
        self._holdings.clear()
        if self._listener is not None:
            self._listener = None
            self._journal.submit(Op(None, partial(leases.leave, me=self._journal.me), _nothing))
        self._journal.close(CLOSE_WAIT_S)

    def _next_records(self) -> list[RawRecord]:
        wants = [
            Want(partition, holding.assignment.epoch, holding.position)
            for partition, holding in self._holdings.items()
            if not holding.paused
        ]
        if wants:  # each begins in turn, so that the order of partitions favours none
            self._turn = (self._turn + 1) % len(wants)
            wants = wants[self._turn :] + wants[: self._turn]
        seen, self._changed = None if self._changed else self._seen, False
        try:
            fetched = self._journal.read(partial(fetching.fetch, me=self._journal.me, wants=wants, seen=seen))
        except LogError:
            self._changed = True  # counted and logged by the journal; the next look tries again
            return []
        return self._accept(fetched) if fetched is not None else []

    def _accept(self, fetched: Fetched) -> list[RawRecord]:
        """Move the positions; records of what was paused or lost meanwhile are left for later."""
        self._seen = fetched.version
        self._changed = self._changed or fetched.more
        if fetched.moved:
            self._beat_soon(0.0)
        if fetched.free:
            self._beat_soon(EARLY_BEAT_S)
        accepted = []
        for record in fetched.records:
            holding = self._holdings.get(record.partition)
            if holding is None or holding.paused or holding.assignment.epoch != record.epoch:
                continue
            holding.position = record.offset + 1
            accepted.append(record)
        return accepted

    def _keep_membership(self) -> None:
        """Follow the last heartbeat and send the next one when it is due."""
        if self._listener is None:
            return
        beat, self._beat = self._beat, None
        if beat is not None:
            self._confirmed_until = self._asked_at + self._timing.ttl_s
            self._follow(beat, self._listener)
        now = time.monotonic()
        if not self._beating and now >= self._beat_due_at:
            self._beating = True
            self._beat_sent_at = now
            self._asked_at = self._timing.clock()
            self._beat_due_at = now + self._timing.beat_s
            op = _BeatOp(self._journal.me, self._timing, self._on_beat)
            self._journal.submit(Op(None, op.change, op.settled))

    def _follow(self, beat: Beat, listener: AssignmentListener) -> None:
        """Tell the listener what a heartbeat changed: first what is gone, then what is to go, then what is
        new."""
        gone = [
            self._holdings.pop(partition).assignment
            for partition, holding in list(self._holdings.items())
            if beat.held.get(partition) != holding.assignment.epoch
        ]
        if gone:
            listener.lost(gone)
        giving = [
            self._holdings[partition].assignment for partition in beat.give if partition in self._holdings
        ]
        if giving:
            listener.revoked(giving)
            for assignment in giving:
                self._holdings.pop(assignment.partition, None)
            epochs = {assignment.partition: assignment.epoch for assignment in giving}
            change = partial(leases.release, me=self._journal.me, held=epochs)
            self._journal.submit(Op(None, change, _nothing))
        self._hand_back_strays(beat)
        for assignment in beat.gained:
            self._holdings[assignment.partition] = _Holding(assignment, assignment.committed)
        if beat.gained:
            listener.assigned(beat.gained)
        self._look_again()

    def _hand_back_strays(self, beat: Beat) -> None:
        """Partitions that stand as ours in the file while we know nothing of them: the commit that gained
        them was reported as failed. Nobody else takes them while we live: let them go, to gain them anew.
        """
        known = self._holdings.keys() | {assignment.partition for assignment in beat.gained} | set(beat.give)
        strays = {partition: epoch for partition, epoch in beat.held.items() if partition not in known}
        if strays:
            change = partial(leases.release, me=self._journal.me, held=strays)
            self._journal.submit(Op(None, change, _nothing))

    def _look_again(self) -> None:
        self._changed = True
        self._wake.set()

    def _beat_soon(self, spacing_s: float) -> None:
        """Bring the next heartbeat forward, to `spacing_s` after the last one at the earliest."""
        self._beat_due_at = min(self._beat_due_at, self._beat_sent_at + spacing_s)

    def _on_beat(self, beat: Beat | None) -> None:
        self._beating = False
        if beat is not None:
            self._beat = beat
            self._wake.set()

    def _on_fenced(self, partition: int, epoch: int) -> None:
        holding = self._holdings.get(partition)
        if holding is not None and holding.assignment.epoch == epoch:
            self._beat_soon(0.0)
            self._wake.set()


def _nothing(done: bool) -> None:
    """Nobody waits for this change."""
