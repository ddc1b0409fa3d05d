"""Whole workers that only look alive, and others that only look dead, under a watchdog that bites soon."""

import sqlite3
import time
from contextlib import closing
from pathlib import Path

import pytest

from deploy.kafka import Cluster
from tests.support.faulty_worker import LIMIT_S
from tests.support.sink import RecordingSink, Rule
from tests.support.system import System, WorkerProcess
from tests.support.system_log import SqliteLog
from tests.support.waiting import wait_for
from thorn_worker.watchdog import EXIT_CODE

pytestmark = [pytest.mark.e2e, pytest.mark.long]


class Faulty(WorkerProcess):
    """A worker with this fault in it."""

    def __init__(self, system: System, fault: str) -> None:
        super().__init__(system.settings, system.folder / f"{fault}.log")
        self.arguments = ("-m", "tests.support.faulty_worker", fault)
        system.workers.append(self)


@pytest.fixture
def system(tmp_path: Path, sink: RecordingSink) -> System:
    return System(tmp_path, sink, subscribers={"order.*": sink.url()}, drain_timeout="30s")


def outlast() -> None:
    """Nothing but time can show that the watchdog does not bite."""
    time.sleep(2 * LIMIT_S)


def ended(worker: WorkerProcess) -> str:
    """Wait until the watchdog has ended it; what it said then."""
    assert worker.wait(LIMIT_S + 20) == EXIT_CODE, worker.said()
    assert f"the process ends with exit code {EXIT_CODE}" in worker.said()
    return worker.said()


def test_a_greenlet_that_never_yields(system: System) -> None:
    with system:
        said = ended(Faulty(system, "spins").launch())

        assert "the event loop has not turned for 3 s" in said
        thread = said.split("--- the event loop's thread", 1)[1].split("\n---", 1)[0]
        assert "in spins_for_ever" in thread


def test_a_poll_that_never_returns(system: System) -> None:
    with system:
        said = ended(Faulty(system, "polls").launch())

        assert "the log's reader has not come back from poll for" in said
        (guilty,) = [stack for stack in said.split("\n---") if "in poll_that_never_returns" in stack]
        assert "in _read" in guilty  # who called it
        assert "in _tick" not in guilty


def test_a_delivery_that_could_start_and_does_not(system: System) -> None:
    with system:
        # Given a worker that has nothing to do: it lives
        worker = Faulty(system, "forgets").start()
        outlast()
        assert worker.alive

        # When there is something to do and it does not do it
        system.send(1)
        assert "a delivery could start and none was started for" in ended(worker)

        # Then the next one does
        system.worker()
        assert system.settle().lost == []


@pytest.mark.long
def test_a_worker_whose_log_is_locked_by_a_stranger_lives(system: System) -> None:
    with system:
        worker = Faulty(system, "none").start()
        assert isinstance(system.log, SqliteLog)
        with closing(sqlite3.connect(system.log.path, isolation_level=None)) as stranger:
            stranger.execute("BEGIN EXCLUSIVE")
            outlast()
            assert worker.alive
            assert worker.get("healthz")[0] == 200
            stranger.execute("ROLLBACK")

        system.send(1)
        assert system.settle().delivered == 1
        assert worker.stop() == 0


@pytest.mark.kafka
@pytest.mark.long
def test_a_worker_whose_broker_is_away_lives(
    tmp_path: Path, sink: RecordingSink, broker: Cluster, prefix: str
) -> None:
    from tests.support.kafka_log import KafkaLog  # kafka-python is for tests with a broker only

    log = KafkaLog(broker.bootstrap, prefix, tmp_path / "state")
    with System(tmp_path, sink, log, subscribers={"order.*": sink.url()}) as system:
        worker = Faulty(system, "none").start()
        for take_away in (broker.freeze, broker.kill):
            take_away(1)
            outlast()
            assert worker.alive, worker.said()
            assert worker.get("healthz")[0] == 200
        broker.up(1)

        system.send(1)
        assert system.settle().delivered == 1
        assert worker.stop() == 0


def test_a_worker_that_waits_for_its_broker_lives_and_can_be_told_to_stop(system: System) -> None:
    # Given a log at a port where nobody listens
    system.settings["log"] = "kafka://127.0.0.1:9/thorn"
    with system:
        worker = Faulty(system, "none").launch()
        wait_for(lambda: "waiting for the log" in worker.said(), what="the worker to say what it waits for")
        outlast()

        assert worker.alive, worker.said()
        assert worker.stop() == 0


def test_a_worker_that_was_stopped_and_continued_lives(system: System) -> None:
    with system:
        worker = Faulty(system, "none").start()
        worker.freeze()
        outlast()
        worker.thaw()

        system.send(1)
        assert system.settle().delivered == 1
        assert worker.alive
        assert worker.stop() == 0


@pytest.mark.long
def test_a_worker_whose_slots_are_taken_and_that_drains_for_long_lives(
    system: System, sink: RecordingSink
) -> None:
    with system:
        # Given a receiver that takes longer than the watchdog's patience, and more deliveries than slots
        sink.set_rules([Rule(delay_s=2 * LIMIT_S)])
        worker = Faulty(system, "none").start(max_in_flight=2)
        system.send(3)
        wait_for(lambda: len(sink.requests()) >= 3, LIMIT_S * 4, what="the third delivery to have its turn")

        # When it is told to stop, then it waits for that one
        assert worker.stop() == 0
        assert len(sink.delivered()) == 3
