"""The buffer in front of every log, over a log in memory that fails when told to."""

import gc
import logging
import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence

import pytest

from producer.errors import LogError, LogFull, LogUnavailable, LogUnusable
from producer.log import buffer, buffer_state
from producer.log.buffer import BufferLimits
from producer.log.contract import NewRecord
from producer.log.group_writer import GroupWriter
from tests.contract.writer import Outcomes, record
from tests.support.waiting import wait_for


class MemoryLog(GroupWriter):
    """Writes to a list. `failures` are raised first, one per write; `gate` holds every write."""

    def __init__(self, limits: BufferLimits | None = None) -> None:
        super().__init__(limits or BufferLimits(linger_s=0.0))
        self.writes: list[list[bytes]] = []
        self.failures: list[BaseException] = []
        self.opening: list[LogError] = []
        self.gate = threading.Event()
        self.gate.set()
        self.opened = self.closed = 0
        self.forgotten = False

    def partitions(self) -> int:
        return 1

    def _open(self) -> None:
        self.opened += 1
        if self.opening:
            raise self.opening.pop(0)

    def _write(self, records: Sequence[NewRecord]) -> None:
        self.gate.wait(20.0)
        if self.failures:
            raise self.failures.pop(0)
        self.writes.append([one.value for one in records])

    def _close(self) -> None:
        self.closed += 1

    def _forget(self) -> None:
        self.forgotten = True

    @property
    def values(self) -> list[bytes]:
        return [value for write in self.writes for value in write]


@pytest.fixture
def log() -> Iterator[MemoryLog]:
    log = MemoryLog()
    yield log
    log.gate.set()
    log.close(5.0)


@pytest.fixture
def quick_recheck(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(buffer_state, "RECHECK_S", 0.05)


def test_what_failed_to_leave_stays_ahead_of_what_came_later(log: MemoryLog) -> None:
    done = Outcomes()
    log.failures = [LogUnavailable("away")] * 3
    for value in (b"1", b"2", b"3"):
        log.append([record(value)], done)
    assert done.wait(3) == [None, None, None]
    assert log.values == [b"1", b"2", b"3"]


def test_calls_that_wait_while_a_write_runs_leave_together(log: MemoryLog) -> None:
    done = Outcomes()
    log.gate.clear()
    log.append([record(b"0")], done)
    wait_for(lambda: not log._state.queue, what="the first write to begin")
    for number in range(1, 5):
        log.append([record(b"%d" % number)], done)
    log.gate.set()
    assert done.wait(5) == [None] * 5
    assert log.writes == [[b"0"], [b"1", b"2", b"3", b"4"]]


def test_lingering_gathers_calls_and_flush_ends_it() -> None:
    log, done = MemoryLog(BufferLimits(linger_s=30.0)), Outcomes()
    log.append([record(b"1")], done)
    log.append([record(b"2")], done)
    assert log.flush(5.0)
    assert log.writes == [[b"1", b"2"]]
    log.close(5.0)


def test_a_write_takes_a_bounded_piece_of_a_long_queue(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(buffer, "WRITE_RECORDS", 2)
    log.gate.clear()
    for number in range(5):
        log.append([record(b"%d" % number)], Outcomes())
    log.gate.set()
    assert log.flush(5.0)
    assert log.values == [b"0", b"1", b"2", b"3", b"4"]
    assert max(len(write) for write in log.writes) <= 2


def test_an_empty_call_is_done_without_a_write(log: MemoryLog) -> None:
    done = Outcomes()
    log.append([], done)
    assert done.wait() == [None]
    assert log.writes == []


def test_a_log_that_can_not_be_opened_is_said_at_once_and_asked_again_later(
    log: MemoryLog, quick_recheck: None
) -> None:
    log.opening = [LogUnusable("no folder")]
    with pytest.raises(LogUnusable, match="no folder"):
        log.append([record(b"1")], Outcomes())
    with pytest.raises(LogUnusable, match="no folder"):
        log.append([record(b"1")], Outcomes())
    assert log.opened == 1  # the second answer was remembered

    wait_for(lambda: accepts(log), what="the log to be asked again")
    assert log.values == [b"again"]


def accepts(log: MemoryLog) -> bool:
    try:
        log.append([record(b"again")], Outcomes())
    except LogError:
        return False
    return log.flush(5.0)


def test_a_log_that_does_not_answer_yet_buffers(log: MemoryLog) -> None:
    done = Outcomes()
    log.opening = [LogUnavailable("busy")]
    log.append([record(b"1")], done)
    assert done.wait() == [None]


def test_a_lasting_failure_fails_what_is_being_written_and_refuses_the_next(
    log: MemoryLog, quick_recheck: None
) -> None:
    done = Outcomes()
    failure = LogUnusable("damaged")
    log.failures = [failure]
    log.append([record(b"1")], done)
    assert done.wait() == [failure]
    with pytest.raises(LogUnusable, match="damaged"):
        log.append([record(b"2")], done)
    wait_for(lambda: accepts(log), what="the log to be asked again")
    assert done.told == [failure]


def test_of_a_full_logs_callers_only_one_at_a_time_finds_out(log: MemoryLog) -> None:
    done = Outcomes()
    log.failures = [LogFull("full")]
    log.append([record(b"1")], done)
    done.wait()
    refusal = log._state.refusal
    assert refusal is not None
    refusal.retry_at = 0.0
    log.gate.clear()
    log.append([record(b"probe")], done)
    with pytest.raises(LogFull):
        log.append([record(b"2")], done)
    log.gate.set()
    assert log.flush(5.0)
    log.append([record(b"3")], done)
    assert log.flush(5.0)
    assert log.values == [b"probe", b"3"]


def test_a_defect_in_the_log_fails_the_records_and_not_the_sender(
    log: MemoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    done = Outcomes()
    log.failures = [ZeroDivisionError("oops")]
    log.append([record(b"1")], done)
    assert "ZeroDivisionError" in str(done.wait()[0])
    assert "raised what it should not" in caplog.text
    log.append([record(b"2")], done)
    assert done.wait(2)[1] is None


def test_an_outage_is_told_once_and_not_at_every_try(
    log: MemoryLog, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    done = Outcomes()
    log.failures = [LogUnavailable("away")] * 4
    log.append([record(b"1")], done)
    done.wait()
    assert caplog.text.count("away") == 1


def test_the_log_is_opened_once_and_released_by_close(log: MemoryLog) -> None:
    for _ in range(3):
        log.append([record(b"1")], Outcomes())
    log.close(5.0)
    assert (log.opened, log.closed) == (1, 1)
    assert log.flush(0.0)


def test_a_callback_of_the_sender_never_waits_for_the_sender() -> None:
    log = MemoryLog(BufferLimits(max_buffered_bytes=60, max_block_s=60.0, linger_s=0.0))
    raised: list[Exception] = []

    def append_too_much(error: LogError | None) -> None:
        try:
            for _ in range(3):
                log.append([record(b"x")], Outcomes())
        except LogError as refused:
            raised.append(refused)

    log.append([record(b"1")], append_too_much)
    wait_for(lambda: raised, timeout_s=5.0, what="BufferFull")
    log.close(5.0)


def test_a_buffer_that_is_dropped_unused_is_freed() -> None:
    log = MemoryLog()
    reference: Callable[[], object] = weakref.ref(log)
    del log
    gc.collect()
    assert reference() is None


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_sender_that_was_killed_is_replaced_and_its_calls_go_first(log: MemoryLog) -> None:
    done = Outcomes()
    log.failures = [SystemExit()]  # what a killed greenlet looks like from inside
    log.append([record(b"1")], done)
    wait_for(lambda: log._state.sender is None, what="the sender's death")
    log.append([record(b"2")], done)
    assert done.wait(2) == [None, None]
    assert log.values == [b"1", b"2"]


def test_a_fork_waits_for_a_running_write_and_renews_the_child_at_once(log: MemoryLog) -> None:
    log.gate.clear()
    log.append([record(b"1")], Outcomes())
    wait_for(log._state.using_log.locked, what="the write to begin")
    threading.Timer(0.1, log.gate.set).start()

    child = os.fork()
    if child == 0:
        fresh = log._state.pid == os.getpid() and log.forgotten and not log._state.using_log.locked()
        os._exit(0 if log.values == [b"1"] and fresh else 1)

    assert os.waitpid(child, 0)[1] == 0
    assert log.flush(5.0)
    assert not log.forgotten
