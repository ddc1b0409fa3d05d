"""SIGTERM: a worker finishes what it began, lets go of everything, and nothing is repeated afterwards."""

import time
from pathlib import Path

import pytest

from tests.support.sink import RecordingSink, Rule
from tests.support.system import System
from tests.support.system_log import SystemLog
from tests.support.waiting import wait_for

pytestmark = pytest.mark.e2e


def test_a_drain_finishes_what_is_in_flight_and_nothing_is_repeated(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with System(tmp_path, sink, log, subscribers={"order.*": [sink.url(n) for n in range(4)]}) as system:
        # Given requests that take a second, some in flight and many more waiting behind them
        sink.set_rules([Rule(delay_s=1.0)])
        worker = system.worker(max_in_flight_per_host=10)
        system.send(100)
        wait_for(lambda: len(sink.requests()) >= 40, what="forty requests in flight")

        # When the worker is told to stop
        began = time.monotonic()
        code = worker.stop()
        took_s = time.monotonic() - began

        # Then it ends well, and soon
        assert code == 0, worker.said()
        assert took_s < 10
        assert "Traceback" not in worker.said()
        begun = len(sink.requests())

        # And the next one does the rest, and only the rest
        sink.set_rules([])
        system.worker()
        account = system.settle()
        print(f"drained in {took_s:.2f} s after {begun} requests: {account}")
        assert account.lost == []
        assert account.repeats == 0
        assert len(sink.requests()) == 400


def test_a_drained_worker_leaves_its_partitions_to_the_others_at_once(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with System(tmp_path, sink, log, subscribers={"order.*": sink.url()}) as system:
        # Given two workers that share the partitions
        leaver, stayer = system.worker(), system.worker()
        system.wait_for_owners(leaver, stayer)

        # When one drains, then the other owns everything without waiting for a lease to expire
        assert leaver.stop() == 0
        took_s = system.wait_for_owners(stayer)
        print(f"owned everything {took_s:.2f} s after the other's end")
        assert took_s < 2.5


def test_a_drain_ends_at_its_limit_and_what_was_in_flight_is_sent_again(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with System(tmp_path, sink, log, subscribers={"order.*": sink.url()}, drain_timeout="1s") as system:
        # Given a receiver that hangs
        sink.set_rules([Rule(hang=True)])
        worker = system.worker()
        system.send(5)
        wait_for(lambda: len(sink.requests()) >= 5, what="five requests that hang")

        # When the worker is told to stop, then it does not wait for it longer than it may
        began = time.monotonic()
        assert worker.stop() == 0
        assert time.monotonic() - began < 8
        assert "5 attempts were still under way" in worker.said()

        # And the deliveries are still owed
        sink.set_rules([])
        system.worker()
        account = system.settle()
        assert account.lost == []
        assert account.delivered == 5


def test_a_second_signal_ends_the_process_at_once(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with System(tmp_path, sink, log, subscribers={"order.*": sink.url()}) as system:
        sink.set_rules([Rule(hang=True)])
        worker = system.worker()
        system.send(3)
        wait_for(lambda: len(sink.requests()) >= 3, what="three requests that hang")

        worker.terminate()
        wait_for(lambda: "draining after SIGTERM" in worker.said(), what="the drain to begin")
        wait_for(lambda: worker.get("readyz")[0] == 503, what="the worker to say that it is not ready")
        worker.terminate()

        assert worker.wait(2.0) == 128 + 15
