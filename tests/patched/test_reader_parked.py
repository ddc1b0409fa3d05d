"""What was fetched of a partition before it was paused is read once it is resumed."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka import Cluster
from tests.contract.reader import until
from tests.support.kafka_reader_world import KafkaReaderWorld
from tests.support.kafka_workers import alone
from thorn_worker.log.kafka_consumer import POLL_RECORDS

pytestmark = pytest.mark.kafka


@pytest.fixture
def world(broker: Cluster, prefix: str, tmp_path: Path) -> Iterator[KafkaReaderWorld]:
    world = KafkaReaderWorld(broker.bootstrap, prefix, tmp_path)
    yield world
    world.close()


def test_a_partition_goes_on_after_a_pause_although_all_others_are_read_to_their_ends(
    world: KafkaReaderWorld,
) -> None:
    # Given a partition of which one poll has returned a part of what was fetched
    worker = alone(world)
    values = [b"%d" % number for number in range(POLL_RECORDS * 2)]
    world.append(0, *values)
    until("a part", world, worker, holds=lambda: len(worker.offsets(0)) > 0)
    assert len(worker.offsets(0)) < len(values)

    # When it is paused, the others are read to their ends, and it is resumed
    worker.reader.pause(0)
    world.append(1, b"of another partition")
    until("the other partition", world, worker, holds=lambda: worker.offsets(1) == [0])
    worker.reader.resume(0)

    # Then the rest of it comes, although nothing new comes to any partition
    until("the rest", world, worker, holds=lambda: len(worker.offsets(0)) == len(values))
    assert worker.offsets(0) == list(range(len(values)))
