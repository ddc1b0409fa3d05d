"""What every `LogReader` must do. A log's own test module subclasses `ReaderContract` and gives it a
`ReaderWorld`."""

import os
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence

import pytest

from thorn_worker.log.contract import Assignment, CommitRequest, LogReader, RawRecord
from thorn_worker.store.contract import Store

#: The world's logs have so many partitions.
PARTITIONS = 4


class ReaderWorld(ABC):
    """One empty log with `PARTITIONS` partitions, and workers that share it."""

    #: How long a rebalance may take.
    patience_s: float = 10.0

    @abstractmethod
    def append(self, partition: int, *values: bytes) -> None:
        """Append durably."""

    @abstractmethod
    def member(self) -> tuple[LogReader, Store]:
        """A new worker's two halves, not yet open; closed by the world if the test does not."""

    @abstractmethod
    def program(self) -> list[str]:
        """Command of a separate worker process: `tests/support/sqlite_member.py` says what it prints."""

    @abstractmethod
    def outlast_lease(self) -> None:
        """Wait until a member that was not polled meanwhile counts as dead."""

    @abstractmethod
    def stored_offsets(self, partition: int) -> list[int]:
        """Offsets of the records that the log still holds."""

    @abstractmethod
    def close(self) -> None:
        """Close what was opened."""


class Worker:
    """A reader that polls when the test says so, and remembers what it was told."""

    def __init__(self, reader: LogReader, store: Store) -> None:
        self.reader, self.store = reader, store
        self.owned: dict[int, Assignment] = {}
        self.records: list[RawRecord] = []
        self.events: list[tuple[str, tuple[int, ...]]] = []
        self.commit_when_revoked = False

    def start(self) -> "Worker":
        self.info = self.reader.open()
        self.reader.join(self)
        return self

    def assigned(self, assignments: Sequence[Assignment]) -> None:
        self._note("assigned", assignments)
        self.owned.update({assignment.partition: assignment for assignment in assignments})

    def revoked(self, assignments: Sequence[Assignment]) -> None:
        self._note("revoked", assignments)
        if self.commit_when_revoked:
            self.commit()
        for assignment in assignments:
            del self.owned[assignment.partition]

    def lost(self, assignments: Sequence[Assignment]) -> None:
        self._note("lost", assignments)
        for assignment in assignments:
            del self.owned[assignment.partition]

    def _note(self, what: str, assignments: Sequence[Assignment]) -> None:
        self.events.append((what, tuple(sorted(assignment.partition for assignment in assignments))))

    def poll(self, timeout_s: float = 0.02) -> list[RawRecord]:
        records = self.reader.poll(timeout_s)
        self.records.extend(records)
        return records

    def offsets(self, partition: int) -> list[int]:
        return [record.offset for record in self.records if record.partition == partition]

    def commit(self, metadata: str = "") -> dict[int, bool]:
        """Commit everything read of what is owned."""
        requests = []
        for partition, assignment in self.owned.items():
            offsets = [
                r.offset + 1 for r in self.records if r.partition == partition and r.epoch == assignment.epoch
            ]
            offset = max(offsets, default=assignment.committed)
            requests.append(CommitRequest(partition, assignment.epoch, offset, metadata))
        return dict(self.reader.commit(requests))


def until(condition: str, world: ReaderWorld, *workers: Worker, holds: Callable[[], object]) -> None:
    """Poll all `workers` in turn until `holds()`."""
    give_up_at = time.monotonic() + world.patience_s
    while not holds():
        assert time.monotonic() < give_up_at, (
            f"waited {world.patience_s:g} s in vain for {condition}: "
            + repr([(worker.events, worker.owned) for worker in workers])
        )
        for worker in workers:
            worker.poll()


def owns_all(*workers: Worker) -> bool:
    owned = [partition for worker in workers for partition in worker.owned]
    assert len(owned) == len(set(owned)), f"a partition is owned twice: {[w.owned for w in workers]}"
    return len(owned) == PARTITIONS


class ReaderContract:
    @pytest.fixture
    def world(self) -> Iterator[ReaderWorld]:
        raise NotImplementedError

    @pytest.fixture
    def worker(self, world: ReaderWorld) -> Worker:
        """A lone worker that owns everything."""
        worker = Worker(*world.member()).start()
        until("all partitions", world, worker, holds=lambda: owns_all(worker))
        return worker

    def test_open_tells_what_the_log_is_and_joins_nothing(self, world: ReaderWorld) -> None:
        reader, _store = world.member()
        info = reader.open()
        assert info.partitions == PARTITIONS
        assert info.topic_id
        assert reader.poll(0.0) == []

    def test_a_lone_worker_is_given_every_partition_from_its_start(self, worker: Worker) -> None:
        assert sorted(worker.owned) == list(range(PARTITIONS))
        assert {(a.committed, a.metadata) for a in worker.owned.values()} == {(0, "")}

    def test_records_come_in_offset_order_and_once(self, world: ReaderWorld, worker: Worker) -> None:
        world.append(0, b"a", b"b")
        world.append(1, b"c")
        until("3 records", world, worker, holds=lambda: len(worker.records) == 3)
        world.append(0, b"d")
        until("4 records", world, worker, holds=lambda: len(worker.records) == 4)

        for _ in range(5):
            assert worker.poll() == []
        assert worker.offsets(0) == [0, 1, 2]
        first = next(record for record in worker.records if record.partition == 1)
        assert (first.value, first.offset, first.epoch) == (b"c", 0, worker.owned[1].epoch)
        assert first.appended_at > 1_600_000_000

    def test_a_hot_partition_starves_no_other(self, world: ReaderWorld, worker: Worker) -> None:
        world.append(0, *[os.urandom(500) for _ in range(1500)])  # fairness may be counted in bytes
        world.append(1, b"y")
        until("the lone record of partition 1", world, worker, holds=lambda: worker.offsets(1) == [0])
        assert len(worker.offsets(0)) < 1500
        until("all of partition 0", world, worker, holds=lambda: len(worker.offsets(0)) == 1500)
        assert worker.offsets(0) == list(range(1500))

    def test_a_paused_partition_is_silent_and_goes_on_where_it_was(
        self, world: ReaderWorld, worker: Worker
    ) -> None:
        world.append(0, b"1")
        until("the first record", world, worker, holds=lambda: worker.offsets(0) == [0])
        worker.reader.pause(0)
        world.append(0, b"2")
        world.append(1, b"other")
        until("the other partition", world, worker, holds=lambda: worker.offsets(1) == [0])
        for _ in range(3):
            worker.poll()
        assert worker.offsets(0) == [0]

        worker.reader.resume(0)
        until("the second record", world, worker, holds=lambda: worker.offsets(0) == [0, 1])

    def test_end_offsets_count_what_was_appended(self, world: ReaderWorld, worker: Worker) -> None:
        world.append(2, b"1", b"2")
        assert worker.reader.end_offsets([1, 2]) == {1: 0, 2: 2}

    def test_a_commit_is_found_by_the_next_owner(self, world: ReaderWorld, worker: Worker) -> None:
        world.append(0, b"1", b"2", b"3")
        until("3 records", world, worker, holds=lambda: len(worker.records) == 3)
        epoch = worker.owned[0].epoch

        assert worker.reader.commit([CommitRequest(0, epoch, 2, "note")]) == {0: True}
        worker.reader.close()

        heir = Worker(*world.member()).start()
        until("all partitions", world, heir, holds=lambda: owns_all(heir))
        assert (heir.owned[0].committed, heir.owned[0].metadata) == (2, "note")
        assert heir.owned[0].epoch > epoch
        until("the rest", world, heir, holds=lambda: heir.offsets(0) == [2])

    def test_uncommitted_records_come_again_in_a_new_epoch(self, world: ReaderWorld, worker: Worker) -> None:
        world.append(0, b"1")
        until("the record", world, worker, holds=lambda: worker.offsets(0) == [0])
        worker.reader.close()

        heir = Worker(*world.member()).start()
        until("the record again", world, heir, holds=lambda: heir.offsets(0) == [0])

    def test_close_revokes_first_and_commits_in_there_count(self, world: ReaderWorld, worker: Worker) -> None:
        world.append(0, b"1", b"2")
        until("2 records", world, worker, holds=lambda: len(worker.records) == 2)
        worker.commit_when_revoked = True
        worker.reader.close()
        assert worker.events[-1] == ("revoked", tuple(range(PARTITIONS)))

        heir = Worker(*world.member()).start()
        until("all partitions", world, heir, holds=lambda: owns_all(heir))
        assert heir.owned[0].committed == 2

    def test_two_workers_share_and_revoke_before_they_move(self, world: ReaderWorld, worker: Worker) -> None:
        world.append(0, b"1")
        world.append(3, b"1")
        until("2 records", world, worker, holds=lambda: len(worker.records) == 2)
        worker.commit_when_revoked = True

        second = Worker(*world.member()).start()
        until(
            "two each",
            world,
            worker,
            second,
            holds=lambda: owns_all(worker, second) and len(worker.owned) == len(second.owned) == 2,
        )

        moved = tuple(sorted(second.owned))
        assert ("revoked", moved) in worker.events
        assert all(what != "lost" for what, _partitions in worker.events)
        for _ in range(5):
            worker.poll()
            second.poll()
        assert second.records == []  # what was committed while being revoked is not read again

    def test_what_a_closed_worker_leaves_is_taken_at_once(self, world: ReaderWorld, worker: Worker) -> None:
        second = Worker(*world.member()).start()
        until("two each", world, worker, second, holds=lambda: len(worker.owned) == len(second.owned) == 2)
        second.reader.close()
        until("all partitions", world, worker, holds=lambda: owns_all(worker))

    def test_a_stale_epoch_commits_nothing_and_is_told_so(self, world: ReaderWorld, worker: Worker) -> None:
        world.append(0, b"1", b"2")
        until("2 records", world, worker, holds=lambda: len(worker.records) == 2)
        world.outlast_lease()  # the first worker is frozen
        thief = Worker(*world.member()).start()
        until("all partitions", world, thief, holds=lambda: len(thief.owned) == PARTITIONS)

        assert set(worker.commit().values()) == {False}

        until("the loss", world, worker, holds=lambda: ("lost", tuple(range(PARTITIONS))) in worker.events)
        until("the records again", world, thief, holds=lambda: thief.offsets(0) == [0, 1])

    def test_a_worker_that_slept_past_its_lease_reads_nothing_stale(
        self, world: ReaderWorld, worker: Worker
    ) -> None:
        world.outlast_lease()
        thief = Worker(*world.member()).start()
        until("all partitions", world, thief, holds=lambda: len(thief.owned) == PARTITIONS)
        world.append(0, b"new")

        until("the loss", world, worker, holds=lambda: bool(worker.events) and worker.events[-1][0] == "lost")

        assert worker.records == []

    def test_a_killed_workers_partitions_are_taken_over(self, world: ReaderWorld) -> None:
        world.append(0, b"1")
        with subprocess.Popen(
            [sys.executable, *world.program()], stdout=subprocess.PIPE, text=True
        ) as process:
            try:
                assert process.stdout is not None
                lines = iter(process.stdout.readline, "")
                assert any(line.startswith("stored") for line in lines)

                heir = Worker(*world.member()).start()
                for _ in range(3):
                    heir.poll()
            finally:
                process.send_signal(signal.SIGKILL)
                process.wait()

            until("all partitions", world, heir, holds=lambda: owns_all(heir))
            # The process had written a row for the record, and its callback had run: the row is there.
            restored = heir.store.restore(0, heir.owned[0].epoch, heir.owned[0].committed)
            assert (restored.rows, restored.lives) == (1, frozenset({(0, 0)}))

    def test_completed_records_leave_the_log_and_offsets_go_on(
        self, world: ReaderWorld, worker: Worker
    ) -> None:
        world.append(0, *[b"x"] * 1200)
        until("all records", world, worker, holds=lambda: len(worker.records) == 1200)
        assert worker.commit()[0]
        until("an empty log", world, worker, holds=lambda: world.stored_offsets(0) == [])

        world.append(0, b"next")

        until("the next record", world, worker, holds=lambda: worker.offsets(0)[-1] == 1200)
