"""buffer_events: what the guide says, per thread, greenlet and task, and through failures."""

import asyncio
import contextvars
import os
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from producer import (
    BufferFull,
    FlushFailed,
    InvalidEvent,
    LogUnavailable,
    NotAcknowledged,
    NotFlushed,
    Producer,
    Status,
)
from producer.log.contract import LogWriter, NewRecord, OnDone
from producer.model import Batch
from producer.wire import decode

HOOK = "https://example.com/hooks"


class StoppingWriter(LogWriter):
    """A log writer of this test: keeps records in memory, acknowledges at once, and can be told to refuse."""

    def __init__(self) -> None:
        self.records: list[NewRecord] = []
        self.refuse_after: int | None = None
        self.calls = 0

    def append(self, records: Sequence[NewRecord], on_done: OnDone) -> None:
        self.calls += 1
        if self.refuse_after is not None and len(self.records) + len(records) > self.refuse_after:
            raise LogUnavailable("the log is away: try again")
        self.records += records
        on_done(None)

    def partitions(self) -> int:
        return 12

    def flush(self, timeout_s: float) -> bool:
        return True

    def close(self, timeout_s: float) -> None:
        self.calls = 0

    @property
    def buffered_bytes(self) -> int:
        return 0

    @property
    def blocked_s(self) -> float:
        return 0.0

    def names(self) -> list[str]:
        """Names of all events appended, in order."""
        batches = (decode(record.value) for record in self.records)
        return [
            delivery.event for batch in batches if isinstance(batch, Batch) for delivery in batch.deliveries
        ]


@pytest.fixture
def writer() -> StoppingWriter:
    return StoppingWriter()


@pytest.fixture
def service(tmp_path: Path, writer: StoppingWriter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Producer]:
    monkeypatch.setattr("producer.dispatch.log.open_writer", lambda settings: writer)
    with Producer(log=f"sqlite:///{tmp_path}/thorn.db", subscribers={"*": HOOK}) as producer:
        yield producer


def test_events_wait_until_the_block_ends(service: Producer, writer: StoppingWriter) -> None:
    with service.buffer_events():
        receipts = [service.send("a"), service.send("b")]
        assert writer.names() == []
        assert [receipt.status for receipt in receipts] == [Status.BUFFERED] * 2

    assert writer.names() == ["a", "b"]
    assert [receipt.status for receipt in receipts] == [Status.ACKNOWLEDGED] * 2


def test_a_hundred_events_to_one_host_are_ten_records(service: Producer, writer: StoppingWriter) -> None:
    with service.buffer_events():
        for number in range(100):
            service.send("order.created", {"number": number})

    assert len(writer.records) == 10
    assert {record.key for record in writer.records} == {"https://example.com:443"}


def test_the_chunk_size_can_be_set_and_hosts_never_share_a_record(
    tmp_path: Path, writer: StoppingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("producer.dispatch.log.open_writer", lambda settings: writer)
    urls = ["https://a.example/x", "https://b.example/x", "https://a.example/y"]
    with Producer(log=f"sqlite:///{tmp_path}/t.db", chunk_size=4, subscribers={"*": urls}) as service:
        with service.buffer_events():
            for _ in range(6):
                service.send("a")

    hosts = [record.key for record in writer.records]
    assert hosts == ["https://a.example:443"] * 3 + ["https://b.example:443"] * 2


def test_the_block_flushes_also_when_it_raises(service: Producer, writer: StoppingWriter) -> None:
    with pytest.raises(ZeroDivisionError), service.buffer_events():
        service.send("a")
        _ = 1 / 0

    assert writer.names() == ["a"]


def test_an_inner_block_leaves_its_events_to_the_outermost(service: Producer, writer: StoppingWriter) -> None:
    with service.buffer_events():
        service.send("A")
        with service.buffer_events():
            service.send("B")
        assert writer.names() == []
        service.send("C")

    assert writer.names() == ["A", "B", "C"]


def test_a_manual_flush_at_any_depth_flushes_all_contexts(service: Producer, writer: StoppingWriter) -> None:
    with service.buffer_events():
        service.send("A")
        with service.buffer_events() as inner:
            service.send("B")
            inner.flush()
            assert writer.names() == ["A", "B"]
        service.send("C")

    assert writer.names() == ["A", "B", "C"]


def test_flush_of_the_producer_flushes_the_open_block(service: Producer, writer: StoppingWriter) -> None:
    with service.buffer_events():
        service.send("A")
        assert service.flush(1.0)
        assert writer.names() == ["A"]


def test_flush_freq_counts_calls_and_works_alone(service: Producer, writer: StoppingWriter) -> None:
    flushed = []
    with service.buffer_events(flush_freq=3) as buffer:
        for call in range(1, 8):
            service.send("x")
            service.send("y")
            buffer.maybe_flush()
            flushed.append(len(writer.names()))
            assert call

    assert flushed == [0, 0, 6, 6, 6, 12, 12]
    assert len(writer.names()) == 14


def test_flush_timeout_works_alone(service: Producer, writer: StoppingWriter) -> None:
    with service.buffer_events(flush_timeout=0.05) as buffer:
        service.send("a")
        assert not buffer.maybe_flush()
        time.sleep(0.06)
        assert buffer.maybe_flush()
        assert writer.names() == ["a"]
        service.send("b")
        assert not buffer.maybe_flush()


def test_maybe_flush_without_arguments_only_waits_for_the_end(
    service: Producer, writer: StoppingWriter
) -> None:
    with service.buffer_events() as buffer:
        service.send("a")
        assert not any(buffer.maybe_flush() for _ in range(1000))

    assert writer.names() == ["a"]


@pytest.mark.parametrize("bad", [{"flush_freq": 0}, {"flush_timeout": -1.0}])
def test_arguments_that_make_no_sense_are_refused(service: Producer, bad: dict[str, float]) -> None:
    with pytest.raises(InvalidEvent):
        service.buffer_events(**bad)  # type: ignore[arg-type]


def test_another_thread_is_not_captured(service: Producer, writer: StoppingWriter) -> None:
    context = contextvars.copy_context()
    with service.buffer_events():
        service.send("mine")
        inside = contextvars.copy_context()
        for run in (context.run, inside.run):  # even if the thread inherits this block's context
            thread = threading.Thread(target=run, args=(service.send, "theirs"))
            thread.start()
            thread.join()
        assert writer.names() == ["theirs", "theirs"]

    assert writer.names() == ["theirs", "theirs", "mine"]


def test_another_task_is_not_captured(service: Producer, writer: StoppingWriter) -> None:
    async def other() -> None:
        service.send("theirs")

    async def request() -> None:
        with service.buffer_events():
            service.send("mine")
            await asyncio.create_task(other())
            assert writer.names() == ["theirs"]

    asyncio.run(request())

    assert writer.names() == ["theirs", "mine"]


def test_waiting_inside_the_block_is_refused_at_once(service: Producer) -> None:
    with service.buffer_events(), pytest.raises(NotFlushed):
        service.send("a").wait(timeout_s=60)


def test_a_failing_flush_keeps_what_was_not_sent_and_says_so(
    service: Producer, writer: StoppingWriter
) -> None:
    body = "x" * 60_000  # ten of them make a slice of their own
    receipts = []
    writer.refuse_after = 3
    with pytest.raises(FlushFailed, match="the log is away") as raised, service.buffer_events():
        for number in range(60):
            receipts.append(service.send("a", {"number": number, "body": body}))

    kept = raised.value.kept
    assert 0 < kept < 60
    assert [receipt.status for receipt in receipts].count(Status.BUFFERED) == kept
    with pytest.raises(NotFlushed):
        receipts[-1].wait(1)

    writer.refuse_after = None
    service.send("later")
    assert writer.names() == ["a"] * 60 + ["later"]
    assert {receipt.status for receipt in receipts} == {Status.ACKNOWLEDGED}


def test_what_a_failed_flush_kept_stays_ahead_of_later_sends(
    service: Producer, writer: StoppingWriter
) -> None:
    writer.refuse_after = 0
    with pytest.raises(FlushFailed), service.buffer_events():
        service.send("first")
    with pytest.raises(FlushFailed):
        service.send("second")
    assert service.stats().buffered_bytes > 0

    writer.refuse_after = None
    assert service.flush(1.0)
    assert writer.names() == ["first"]


def test_a_block_that_raises_keeps_its_own_exception_when_the_flush_fails_too(
    service: Producer, writer: StoppingWriter
) -> None:
    writer.refuse_after = 0
    with pytest.raises(ZeroDivisionError) as raised, service.buffer_events():
        service.send("a")
        _ = 1 / 0

    assert "not all sent" in "".join(raised.value.__notes__)
    writer.refuse_after = None
    service.flush(1.0)
    assert writer.names() == ["a"]


def test_a_buffer_is_bounded(tmp_path: Path, writer: StoppingWriter, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.dispatch.log.open_writer", lambda settings: writer)
    with Producer(
        log=f"sqlite:///{tmp_path}/t.db", max_buffered_bytes=1_000_000, subscribers={"*": HOOK}
    ) as service:
        with service.buffer_events():
            service.send("a", "x" * 600_000)
            with pytest.raises(BufferFull, match="max_buffered_bytes"):
                service.send("b", "x" * 600_000)

    assert writer.names() == ["a"]


def test_a_forked_child_does_not_send_what_its_parent_buffered(
    service: Producer, writer: StoppingWriter
) -> None:
    read_end, write_end = os.pipe()
    with service.buffer_events():
        service.send("parents")
        pid = os.fork()
        if pid == 0:
            service.send("childs")
            service.flush(1.0)
            os.write(write_end, ",".join(writer.names()).encode())
            os._exit(0)
        os.waitpid(pid, 0)

    assert os.read(read_end, 100) == b"childs"
    assert writer.names() == ["parents"]
    os.close(read_end)
    os.close(write_end)


def test_a_receipt_that_is_never_acknowledged_says_what_to_do(
    service: Producer, writer: StoppingWriter, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writer, "append", lambda records, on_done: None)

    with pytest.raises(NotAcknowledged, match="send it again with the same event_id"):
        service.send("a").wait(timeout_s=0.01)
