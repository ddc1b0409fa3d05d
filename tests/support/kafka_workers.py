"""Workers of the reader's contract on a Kafka log. Needs a patched process."""

from collections.abc import Iterator
from contextlib import contextmanager

import gevent

from tests.contract.reader import Worker, owns_all, until
from tests.support.kafka_reader_world import KafkaReaderWorld
from thorn_worker.log.contract import CommitRequest, Consent
from thorn_worker.log.kafka import KafkaReader


def newcomer(world: KafkaReaderWorld, worker_id: str | None = None, consent: Consent | None = None) -> Worker:
    """One more worker, which has not polled yet."""
    reader, store = world.member(worker_id, consent)
    return Worker(reader, store).start()


def alone(world: KafkaReaderWorld, worker_id: str | None = None, consent: Consent | None = None) -> Worker:
    """A worker that owns everything."""
    worker = newcomer(world, worker_id, consent)
    until("all partitions", world, worker, holds=lambda: owns_all(worker))
    return worker


def kafka_of(worker: Worker) -> KafkaReader:
    """Its reader, with what a Kafka reader has beyond the contract."""
    assert isinstance(worker.reader, KafkaReader)
    return worker.reader


def request(worker: Worker, partition: int, offset: int, metadata: str = "") -> CommitRequest:
    """A commit of what the worker owns."""
    return CommitRequest(partition, worker.owned[partition].epoch, offset, metadata)


@contextmanager
def polling(worker: Worker) -> Iterator[None]:
    """The worker polls by itself meanwhile."""

    def poll() -> None:
        while True:
            worker.poll(0.1)

    greenlet = gevent.spawn(poll)
    try:
        yield
    finally:
        greenlet.kill()
