"""Three brokers, of which some are lost: every acknowledged record is read, and commits go on."""

import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import gevent
import pytest

from deploy.kafka import Cluster
from tests.contract.reader import PARTITIONS, Worker, until
from tests.support.kafka_reader_world import KafkaReaderWorld
from tests.support.kafka_workers import alone, kafka_of
from thorn_worker.log.kafka_consumer import Timing

pytestmark = [pytest.mark.kafka, pytest.mark.chaos, pytest.mark.timeout(300)]


@pytest.fixture
def world(cluster3: Cluster, prefix: str, tmp_path: Path) -> Iterator[KafkaReaderWorld]:
    world = KafkaReaderWorld(cluster3.bootstrap, prefix, tmp_path)
    world.patience_s = 90.0
    world.timing = Timing()
    yield world
    world.close()


class Traffic:
    """Appends to every partition until told to stop. acknowledged: how many records each has."""

    def __init__(self, world: KafkaReaderWorld) -> None:
        self._world = world
        self._stop = threading.Event()
        self.acknowledged = dict.fromkeys(range(PARTITIONS), 0)
        self._greenlet = gevent.spawn(self._run)

    def _run(self) -> None:
        while not self._stop.is_set():
            for partition in range(PARTITIONS):
                self._world.append(partition, b"x")
                self.acknowledged[partition] += 1
            self._stop.wait(0.02)

    def end(self) -> dict[int, int]:
        self._stop.set()
        self._greenlet.get()
        return self.acknowledged


def coordinator(worker: Worker) -> int:
    """Number of the broker that coordinates the group."""
    link = kafka_of(worker)._link
    assert link is not None
    assert link.member is not None
    return int(str(link.member._coordinator.coordinator_id).rpartition("-")[2])


def survive(
    world: KafkaReaderWorld, worker: Worker, fault: Callable[[], None], cure: Callable[[], None]
) -> None:
    """All that is acknowledged around a fault is read, once unless the worker was evicted, and commits go on
    before the cure.
    """
    traffic = Traffic(world)
    until("records", world, worker, holds=lambda: len(worker.records) > 50)
    assert all(worker.commit().values())
    fault()
    try:
        seen = len(worker.records)
        until("more records", world, worker, holds=lambda: len(worker.records) > seen + 200)
        until("a commit", world, worker, holds=lambda: all(worker.commit().values()))
    finally:
        cure()
    acknowledged = traffic.end()
    for partition, count in acknowledged.items():
        until("all", world, worker, holds=lambda p=partition, n=count: len(worker.offsets(p)) >= n)  # type: ignore[misc]
        read = worker.offsets(partition)
        assert sorted(set(read)) == list(range(max(read) + 1))
        again = len(read) - len(set(read))
        assert again == 0 or ("lost", tuple(range(PARTITIONS))) in worker.events
        print(f"partition {partition}: {len(read)} read, {again} of them again")
    assert kafka_of(worker).stats.clients_replaced == 0


def test_the_coordinator_is_killed(cluster3: Cluster, world: KafkaReaderWorld) -> None:
    worker = alone(world)
    number = coordinator(worker)
    survive(world, worker, lambda: cluster3.kill(number), lambda: cluster3.up(number))


def test_the_coordinator_stands_still(cluster3: Cluster, world: KafkaReaderWorld) -> None:
    worker = alone(world)
    number = coordinator(worker)
    survive(world, worker, lambda: cluster3.freeze(number), lambda: cluster3.thaw(number))


def test_the_coordinator_is_stopped_cleanly(cluster3: Cluster, world: KafkaReaderWorld) -> None:
    worker = alone(world)
    number = coordinator(worker)
    survive(world, worker, lambda: cluster3.term(number), lambda: cluster3.up(number))


def test_two_of_three_brokers_are_killed_and_come_back(cluster3: Cluster, world: KafkaReaderWorld) -> None:
    worker = alone(world)

    def lose_two() -> None:
        cluster3.kill(1, 2)
        for _ in range(10):
            worker.poll(0.5)
        cluster3.up(1, 2)

    survive(world, worker, lose_two, lambda: None)
