"""What every `LogWriter` must do. A log's own test module subclasses `WriterContract` and gives it a
`WriterWorld`."""

import os
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager

import pytest

from producer.errors import BufferFull, LogError, LogFull, LogUnusable, NotAcknowledged
from producer.log.buffer import BufferLimits
from producer.log.contract import LogWriter, NewRecord
from tests.support.waiting import wait_for

#: (partition, offset, key, value) as stored.
Stored = tuple[int, int, str, bytes]


class WriterWorld(ABC):
    """One empty log and the means to watch and disturb it."""

    @abstractmethod
    def writer(self, limits: BufferLimits) -> LogWriter:
        """A writer of the log; closed by the world."""

    @abstractmethod
    def stored(self) -> list[Stored]:
        """What the log holds, by partition and offset, as a reader would see it."""

    @abstractmethod
    def unavailable(self) -> AbstractContextManager[None]:
        """While it lasts, writes are neither acknowledged nor refused."""

    @abstractmethod
    def full(self) -> AbstractContextManager[None]:
        """While it lasts, the log has no room for bounded records. Skips the test where logs are never
        full."""

    @abstractmethod
    def close(self) -> None:
        """Close what was opened."""


class Outcomes:
    """Collects what `on_done` was told."""

    def __init__(self) -> None:
        self.told: list[LogError | None] = []

    def __call__(self, error: LogError | None) -> None:
        self.told.append(error)

    def wait(self, count: int = 1) -> list[LogError | None]:
        wait_for(
            lambda: len(self.told) >= count, timeout_s=15.0, what=f"{count} calls of on_done, got {self.told}"
        )
        return self.told


def record(value: bytes, key: str = "https://a.example:443", *, bounded: bool = True) -> NewRecord:
    return NewRecord(key, value, bounded=bounded)


class WriterContract:
    @pytest.fixture
    def world(self) -> Iterator[WriterWorld]:
        raise NotImplementedError

    def test_appended_records_are_stored_in_order_and_acknowledged_once(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits()), Outcomes()

        writer.append([record(b"1"), record(b"2")], done)
        writer.append([record(b"3")], done)

        assert writer.flush(10.0)
        assert done.told == [None, None]
        assert [value for _p, _o, _k, value in world.stored()] == [b"1", b"2", b"3"]

    def test_one_key_stays_in_one_partition_and_offsets_are_dense(self, world: WriterWorld) -> None:
        writer = world.writer(BufferLimits())
        for number in range(40):
            writer.append([record(b"%d" % number, key=f"https://h{number % 7}.example:443")], Outcomes())
        assert writer.flush(10.0)

        stored = world.stored()
        assert len({(key, partition) for partition, _o, key, _v in stored}) == 7
        for wanted in {partition for partition, *_rest in stored}:
            offsets = [offset for partition, offset, *_rest in stored if partition == wanted]
            assert offsets == list(range(len(offsets)))

    def test_an_explicit_partition_wins_over_the_key(self, world: WriterWorld) -> None:
        writer = world.writer(BufferLimits())
        last = writer.partitions() - 1

        writer.append([NewRecord("anything", b"c", partition=last, bounded=False)], Outcomes())

        assert writer.flush(10.0)
        assert world.stored() == [(last, 0, "anything", b"c")]

    def test_a_call_for_which_there_is_no_room_is_refused_whole_and_in_time(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits(max_buffered_bytes=200, max_block_s=0.2)), Outcomes()
        writer.partitions()
        with world.unavailable():
            writer.append([record(b"x" * 100)], done)
            began = time.monotonic()

            with pytest.raises(BufferFull, match="max_buffered_bytes is 200"):
                writer.append([record(b"y" * 50), record(b"z" * 50)], done)

            assert 0.15 <= time.monotonic() - began < 2.0
            assert writer.blocked_s >= 0.15
        assert writer.flush(15.0)
        assert done.told == [None]
        assert [value for *_rest, value in world.stored()] == [b"x" * 100]

    def test_a_caller_that_waits_for_room_gets_it(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits(max_buffered_bytes=200, max_block_s=20.0)), Outcomes()
        writer.partitions()
        with world.unavailable():
            writer.append([record(b"x" * 150)], done)
            late = threading.Thread(target=writer.append, args=([record(b"y" * 150)], done))
            late.start()
        late.join(20.0)
        assert done.wait(2) == [None, None]

    def test_a_call_larger_than_the_buffer_is_taken_alone(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits(max_buffered_bytes=100)), Outcomes()
        writer.append([record(b"x" * 1000)], done)
        assert done.wait() == [None]
        assert writer.buffered_bytes == 0

    def test_flush_says_false_when_time_ran_out_and_nothing_is_lost(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits()), Outcomes()
        writer.partitions()
        with world.unavailable():
            writer.append([record(b"1")], done)
            assert not writer.flush(0.05)
            assert done.told == []
            assert writer.buffered_bytes > 0
            writer.append([record(b"2")], done)
        assert writer.flush(15.0)
        assert [value for *_rest, value in world.stored()] == [b"1", b"2"]

    def test_records_past_their_deadline_fail_as_not_acknowledged(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits(deadline_s=0.1)), Outcomes()
        writer.partitions()
        with world.unavailable():
            writer.append([record(b"1")], done)
            (error,) = done.wait()
        assert isinstance(error, NotAcknowledged)
        assert writer.buffered_bytes == 0

    def test_close_fails_what_it_could_not_write_and_takes_no_more(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits()), Outcomes()
        writer.partitions()
        with world.unavailable():
            writer.append([record(b"1")], done)
            writer.close(0.05)
            assert [type(error) for error in done.told] == [NotAcknowledged]
        with pytest.raises(LogUnusable, match="closed"):
            writer.append([record(b"2")], done)
        writer.close(0.05)

    def test_close_flushes_first(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits(linger_s=5.0)), Outcomes()
        writer.append([record(b"1")], done)
        writer.close(10.0)
        assert done.told == [None]
        assert len(world.stored()) == 1

    def test_a_full_log_refuses_only_bounded_records(self, world: WriterWorld) -> None:
        writer = world.writer(BufferLimits())
        bounded, free, later = Outcomes(), Outcomes(), Outcomes()
        with world.full():
            writer.append([record(b"event")], bounded)
            writer.append([record(b"command", bounded=False)], free)
            assert isinstance(bounded.wait()[0], LogFull)
            assert free.wait() == [None]
            with pytest.raises(LogFull):
                writer.append([record(b"event 2")], bounded)
            writer.append([record(b"command 2", bounded=False)], free)
            assert free.wait(2) == [None, None]

        wait_for(lambda: self._accepts(writer, later), timeout_s=10.0, what="the log to take events again")
        assert writer.flush(10.0)
        assert [value for *_rest, value in world.stored()][:2] == [b"command", b"command 2"]

    @staticmethod
    def _accepts(writer: LogWriter, done: Outcomes) -> bool:
        try:
            writer.append([record(b"event 3")], done)
        except LogFull:
            return False
        return writer.flush(5.0) and done.told[-1] is None

    def test_a_forked_child_starts_empty_and_the_parent_keeps_its_records(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits()), Outcomes()
        writer.append([record(b"before")], Outcomes())
        assert writer.flush(10.0)
        with world.unavailable():
            writer.append([record(b"parent")], done)

            child = os.fork()
            if child == 0:
                os._exit(0 if writer.buffered_bytes == 0 and not done.told else 1)

            assert os.waitpid(child, 0)[1] == 0
        assert done.wait() == [None]
        assert writer.flush(15.0)
        assert [value for *_rest, value in world.stored()] == [b"before", b"parent"]

    def test_parent_and_forked_child_both_write(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits()), Outcomes()
        writer.append([record(b"before")], done)
        assert writer.flush(10.0)

        child = os.fork()
        if child == 0:
            mine = Outcomes()
            writer.append([record(b"child")], mine)
            flushed = writer.flush(10.0)
            os._exit(0 if flushed and mine.told == [None] and len(done.told) == 1 else 1)
        writer.append([record(b"parent")], done)
        assert writer.flush(10.0)

        assert os.waitpid(child, 0)[1] == 0
        assert {value for *_rest, value in world.stored()} == {b"before", b"parent", b"child"}

    def test_on_done_may_append_and_a_raising_one_harms_nobody(self, world: WriterWorld) -> None:
        writer, second = world.writer(BufferLimits()), Outcomes()

        def append_again(error: LogError | None) -> None:
            writer.append([record(b"2")], second)
            raise ValueError("a defect of the caller")

        writer.append([record(b"1")], append_again)
        assert second.wait() == [None]

    def test_many_threads_append_at_once(self, world: WriterWorld) -> None:
        writer, done = world.writer(BufferLimits()), Outcomes()

        def append_some(name: int) -> None:
            for number in range(50):
                writer.append([record(b"%d/%d" % (name, number))], done)

        threads = [threading.Thread(target=append_some, args=(name,)) for name in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert writer.flush(10.0)
        assert done.told == [None] * 200
        values = [value for *_rest, value in world.stored()]
        for name in range(4):  # each thread's own order is kept
            mine = [value for value in values if value.startswith(b"%d/" % name)]
            assert mine == [b"%d/%d" % (name, number) for number in range(50)]
