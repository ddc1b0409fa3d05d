"""The partitions that this worker owns: assigned, restored, paused, committed, given away."""

import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Final

import gevent

from producer.errors import LogError
from thorn_worker.dispatcher import Dispatcher
from thorn_worker.log.contract import Assignment, CommitRequest, LogInfo, LogReader
from thorn_worker.logs import RateLimited
from thorn_worker.offsets import WINDOW_OFFSETS, Progress, Tracker, decode
from thorn_worker.store.contract import Store
from thorn_worker.tally import Tally
from thorn_worker.work import WINDOW_BYTES, DueHosts, Home

#: A partition that is revoked waits this long for what is in flight.
REVOKE_WAIT_S: Final = 3.0

#: A restore that failed is tried again after this long.
RESTORE_AGAIN_S: Final = 1.0

_POLL_S: Final = 0.01

_logger = logging.getLogger("thorn_worker.partitions")


class Partitions:
    """Listens to the reader (`thorn_worker.log.contract.AssignmentListener`) and keeps one `Home` per
    partition owned.

    restored: called with a home whose deliveries may start now.
    """

    def __init__(
        self,
        reader: LogReader,
        store: Store,
        dispatcher: Dispatcher,
        info: LogInfo,
        tally: Tally,
        restored: Callable[[Home], None],
    ) -> None:
        self._reader = reader
        self._store = store
        self._dispatcher = dispatcher
        self._info = info
        self._tally = tally
        self._restored = restored
        self._complaints = RateLimited(_logger)
        self._homes: dict[int, Home] = {}
        self._left: dict[int, Tracker] = {}
        self._stopped = False
        self.revoke_wait_s = REVOKE_WAIT_S

    def __len__(self) -> int:
        return len(self._homes)

    def all(self) -> list[Home]:
        """Every home owned now."""
        return list(self._homes.values())

    def of(self, partition: int, epoch: int) -> Home | None:
        """The home of a partition, if it is still ours in that epoch."""
        home = self._homes.get(partition)
        return home if home is not None and home.epoch == epoch else None

    # -- changes, told by the reader ---------------------------------------------------------------

    def assigned(self, assignments: Sequence[Assignment]) -> None:
        """Ours from now on; read only once restored."""
        for assignment in assignments:
            partition = assignment.partition
            home = Home(
                partition=partition,
                epoch=assignment.epoch,
                topic_id=self._info.topic_id,
                tracker=Tracker(assignment.committed, self._done_before(assignment)),
                committed=assignment.committed,
                committed_metadata=assignment.metadata,
            )
            self._homes[partition] = home
            self._reader.pause(partition)
            if assignment.trouble is None:
                gevent.spawn(self._restore, home)
            else:  # it stays as if it were being restored: nothing is read, delivered or committed
                home.trouble = assignment.trouble
                _logger.critical("partition %d stands: %s", partition, assignment.trouble)
        self._tally.rebalanced("assigned")
        _logger.info("assigned partitions %s", _names(assignments))

    def revoked(self, assignments: Sequence[Assignment]) -> None:
        """About to move: finish what is in flight (for a while), make its outcomes durable, commit, let
        go.
        """
        leaving = [home for one in assignments if (home := self.of(one.partition, one.epoch)) is not None]
        for home in leaving:
            self._reader.pause(home.partition)
            self._dispatcher.let_go(home)
        with gevent.Timeout(self.revoke_wait_s, False):
            while any(home.works for home in leaving):
                gevent.sleep(_POLL_S)
        releasing = [
            (home, gevent.spawn(self._store.release, home.partition, home.epoch)) for home in leaving
        ]
        # All at once: a log that hangs makes a stop a few seconds longer, not a few seconds per partition.
        for home, release in releasing:
            if not release.get() and not home.restoring:
                _logger.warning(
                    "partition %d leaves with writes unfinished: their deliveries may be repeated",
                    home.partition,
                )
        self.commit(leaving)
        for home in leaving:
            self._forget(home)
        self._tally.rebalanced("revoked")
        _logger.info("revoked partitions %s", _names(assignments))

    def lost(self, assignments: Sequence[Assignment]) -> None:
        """Gone already: nothing that finishes from now on counts."""
        gone = [home for one in assignments if (home := self.of(one.partition, one.epoch)) is not None]
        for home in gone:
            self._forget(home)
        gevent.joinall([gevent.spawn(self._store.release, home.partition, home.epoch) for home in gone])
        self._tally.rebalanced("lost")
        _logger.warning("lost partitions %s: another worker owns them now", _names(assignments))

    def _forget(self, home: Home) -> None:
        if self._homes.get(home.partition) is not home:  # let go twice: a rebalance met our own end
            return
        self._dispatcher.forget(home)
        del self._homes[home.partition]
        self._left[home.partition] = home.tracker

    def _done_before(self, assignment: Assignment) -> Progress:
        """What is done above the committed offset: the commit says it, and this process remembers what it did
        itself in an earlier epoch and could not commit any more.
        """
        progress = decode(assignment.metadata)
        left = self._left.pop(assignment.partition, None)
        return progress if left is None else _joined(progress, left, assignment.committed)

    def _restore(self, home: Home) -> None:
        began = self._tally.steady()
        while home.alive:
            try:
                found = self._store.restore(home.partition, home.epoch, home.committed)
                break
            except LogError as error:
                if home.leaving:  # it was released meanwhile
                    return
                home.trouble = str(error)
                self._complaints.error(
                    "restore", "partitions can't be restored and are tried again: %s", error
                )
                gevent.sleep(RESTORE_AGAIN_S)
        if not home.alive:
            return
        home.stored, home.endpoints = found.lives, dict(found.endpoints)
        home.due, home.unresolved = DueHosts(found.hosts), set(found.unresolved)
        home.restoring = False
        self._tally.restored(self._tally.steady() - began)
        self._restored(home)
        if not self._stopped:
            self._reader.resume(home.partition)
        if found.rows:
            _logger.info("partition %d restored: %d deliveries wait in the store", home.partition, found.rows)

    def stop_reading(self) -> None:
        """Read nothing more, of any partition, now or later."""
        self._stopped = True
        for home in self._homes.values():
            self._reader.pause(home.partition)

    # -- the window --------------------------------------------------------------------------------

    def pause_full(self, home: Home) -> None:
        """Stop reading a partition whose window is full."""
        if not home.paused and home.full(self._share_bytes()):
            home.paused = True
            self._reader.pause(home.partition)

    def resume_roomy(self) -> None:
        """Read on where half of the window is free again."""
        share_bytes = self._share_bytes()
        for home in self._homes.values():
            if home.paused and not self._stopped and not home.leaving and home.roomy(share_bytes):
                home.paused = False
                self._reader.resume(home.partition)

    def _share_bytes(self) -> float:
        return WINDOW_BYTES / max(1, len(self._homes))

    # -- commits -----------------------------------------------------------------------------------

    def commit(self, homes: Iterable[Home]) -> None:
        """Make the progress of these homes durable, where there is any; waits for the log."""
        requests: list[tuple[Home, CommitRequest]] = []
        for home in homes:
            if home.restoring:  # nothing of it is done; and what its last owner said must stand as it is
                continue
            metadata = home.tracker.progress(self._info.topic_id, self._info.state_id).encode()
            watermark = home.tracker.watermark
            if (watermark, metadata) != (home.committed, home.committed_metadata):
                requests.append((home, CommitRequest(home.partition, home.epoch, watermark, metadata)))
        if not requests:
            return
        began = self._tally.steady()
        stored = self._reader.commit([request for _, request in requests])
        results = [stored.get(home.partition, False) for home, _ in requests]
        self._tally.committed(results, self._tally.steady() - began)
        for (home, request), kept in zip(requests, results, strict=True):
            if kept:
                home.committed, home.committed_metadata = request.offset, request.metadata


def _joined(progress: Progress, left: Tracker, committed: int) -> Progress:
    """`progress`, told from `committed` on, and what the tracker of an earlier epoch saw done.

    Committed 7 and a tracker with watermark 9 that has 10 complete: 7, 8 and 10 are done, bits 0, 1 and 3.
    """
    own = left.progress()
    shift = left.watermark - committed
    complete = own.complete << shift | (1 << shift) - 1 if shift >= 0 else own.complete >> -shift
    partial = dict(progress.partial)
    for index, mask in own.partial.items():
        if index + shift >= 0:
            partial[index + shift] = partial.get(index + shift, 0) | mask
    return Progress(
        progress.topic_id,
        progress.state_id,
        (progress.complete | complete) & ((1 << WINDOW_OFFSETS) - 1),
        partial,
    )


def _names(assignments: Sequence[Assignment]) -> str:
    return ", ".join(str(assignment.partition) for assignment in assignments) or "none"
