"""Receipts and kept events under bad timing: failures in parts, forks, callbacks that raise."""

import os
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from producer import Producer
from producer.config import load
from producer.dispatch.contract import Dispatcher, NotDispatched
from producer.dispatch.log import LogDispatcher
from producer.errors import BufferFull, FlushFailed, LogError, LogFull
from producer.log.contract import LogWriter, NewRecord, OnDone
from producer.receipts import Accounts, Receipt, Status
from producer.sending import Sending
from producer.unsent import Unsent
from tests.support.sendings import sending
from tests.support.waiting import wait_for

FULL = LogFull("full")


class HeldWriter(LogWriter):
    """Takes `room` calls, then refuses; the test settles what was taken."""

    blocked_s = 0.0
    buffered_bytes = 0

    def __init__(self) -> None:
        self.room = 1_000
        self.taken: list[OnDone] = []

    def append(self, records: Sequence[NewRecord], on_done: OnDone) -> None:
        assert records
        if self.room <= len(self.taken):
            raise BufferFull("no room")
        self.taken.append(on_done)

    def partitions(self) -> int:
        return 1

    def flush(self, timeout_s: float) -> bool:
        return timeout_s > 0

    def close(self, timeout_s: float) -> None:
        assert timeout_s >= 0


class Closed(Dispatcher):
    """Takes nothing until it is opened; then it keeps what it got, and waits for `go` if there is one."""

    name = "closed"

    def __init__(self) -> None:
        self.open = False
        self.got: list[str] = []
        self.entered, self.go = threading.Event(), threading.Event()
        self.go.set()

    def dispatch(self, sendings: Sequence[Sending]) -> None:
        self.entered.set()
        assert self.go.wait(10.0)
        if not self.open:
            raise NotDispatched(sendings) from FULL
        self.got += [one.receipt.event_id for one in sendings]


def _dispatcher(writer: LogWriter) -> LogDispatcher:
    return LogDispatcher(load({"log": "sqlite:///unused.db"}, {}).settings, writer)


def _two_slices(accounts: Accounts) -> tuple[list[Sending], Receipt]:
    """A sending to two hosts whose records do not fit into one slice of a flush, and another one."""
    receipt = Receipt("e1", ("x", "y"), accounts)
    first = sending(receipt, "https://a.example/", "https://b.example/", body=b"x" * 800_000)
    other = sending(Receipt("e2", ("z",), accounts), "https://a.example/", body=b"z" * 800_000)
    for buffered in (first, other):
        buffered.receipt.buffered()
    return [first, other], receipt


def test_a_failure_stands_although_another_part_is_handed_over_behind_it() -> None:
    class Failing(HeldWriter):
        def append(self, records: Sequence[NewRecord], on_done: OnDone) -> None:
            super().append(records, on_done)
            on_done(FULL if len(self.taken) == 1 else None)

    writer = Failing()
    sendings, receipt = _two_slices(Accounts())
    _dispatcher(writer).dispatch(sendings)
    assert len(writer.taken) == 2
    assert receipt.status is Status.FAILED
    with pytest.raises(LogFull):
        receipt.wait(0.1)


def test_a_failure_is_told_although_another_part_waits_in_the_buffer() -> None:
    # Given a flush of which the second part found no room
    told: list[str] = []
    accounts = Accounts(on_error=lambda receipt, _: told.append(receipt.event_id))
    writer = HeldWriter()
    writer.room = 1
    dispatcher = _dispatcher(writer)
    sendings, receipt = _two_slices(accounts)
    unsent = Unsent(dispatcher)
    with pytest.raises(FlushFailed):
        unsent.dispatch(sendings)
    assert receipt.status is Status.BUFFERED

    # When the log refuses the first part, and takes the second one later
    writer.taken[0](FULL)
    writer.room = 2
    unsent.dispatch(())
    writer.taken[1](None)

    # Then the receipt has failed, and somebody heard of it
    assert told[0] == "e1"
    with pytest.raises(LogFull):
        receipt.wait(0.1)


def test_every_receipt_hears_of_a_failure_although_on_error_raises() -> None:
    def on_error(receipt: Receipt, error: LogError) -> None:
        raise ValueError(receipt, error)

    accounts = Accounts(on_error)
    writer = HeldWriter()
    receipts = [Receipt(name, (name,), accounts) for name in ("a", "b")]
    for receipt in receipts:
        receipt.buffered()
    _dispatcher(writer).dispatch([sending(r, "https://a.example/") for r in receipts])
    for on_done in writer.taken:
        on_done(FULL)
    assert [receipt.status for receipt in receipts] == [Status.FAILED, Status.FAILED]


def test_what_was_sent_twice_is_acknowledged() -> None:
    # Given a sending that the log took, but whose flush was interrupted, so that it is sent again
    receipt = Receipt("e1", ("x",), Accounts())
    receipt.buffered()
    receipt.handed_over()
    receipt.buffered()
    receipt.acknowledged(1)
    receipt.handed_over()
    receipt.acknowledged(1)
    receipt.wait(0.1)


def _fork(child: Callable[[], bool]) -> int:
    """Exit code of a forked child that calls `child`: 0 if it says True."""
    pid = os.fork()
    if not pid:
        try:
            os._exit(0 if child() else 1)
        except BaseException:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def _flushed(producer: Producer) -> bool:
    try:
        return producer.flush(5.0)
    except FlushFailed:
        return False


def _sending(name: str) -> Sending:
    return sending(Receipt(name, (name,), Accounts()), "https://a.example/")


def test_a_forked_child_does_not_send_what_its_parent_kept() -> None:
    dispatcher = Closed()
    unsent = Unsent(dispatcher)
    with pytest.raises(FlushFailed):
        unsent.dispatch([_sending("parent")])
    dispatcher.open = True

    def child() -> bool:
        unsent.dispatch([_sending("child")])
        return dispatcher.got == ["child"]

    assert _fork(child) == 0
    unsent.dispatch(())
    assert dispatcher.got == ["parent"]


def test_a_child_forked_during_a_flush_can_flush() -> None:
    # Given a thread that is in the middle of a flush
    dispatcher = Closed()
    dispatcher.open = True
    dispatcher.go.clear()
    unsent = Unsent(dispatcher)
    flushing = threading.Thread(target=unsent.dispatch, args=([_sending("parent")],))
    flushing.start()
    assert dispatcher.entered.wait(10.0)

    def child() -> bool:
        dispatcher.go = threading.Event()
        dispatcher.go.set()
        own = threading.Thread(target=unsent.dispatch, args=([_sending("child")],), daemon=True)
        own.start()
        own.join(5.0)
        return dispatcher.got == ["child"]

    # When it forks, then the child does not wait for a lock that nobody holds there
    try:
        assert _fork(child) == 0
    finally:
        dispatcher.go.set()
        flushing.join()


def test_what_failed_flushes_keep_is_bounded(tmp_path: Path) -> None:
    producer = Producer(
        log=f"sqlite:///{tmp_path}/missing/log.db",
        subscribers={"*": "https://a.example/"},
        max_buffered_bytes=1_000_000,
    )
    refused = 0
    for _ in range(10):
        try:
            with producer.buffer_events():
                producer.send("order.created", "x" * 300_000)
        except BufferFull:
            refused += 1
        except FlushFailed:
            pass
    assert refused == 7
    assert producer.stats().buffered_bytes <= 1_000_000

    # And what was taken leaves once there is a log
    (tmp_path / "missing").mkdir()
    wait_for(lambda: _flushed(producer), what="the log to be tried again")
    producer.close()
    assert producer.stats().acknowledged == producer.stats().sent == 3
