"""The store contract on Kafka."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka import Cluster
from tests.contract.reader import PARTITIONS, ReaderWorld
from tests.contract.store import StoreContract
from tests.support.kafka_reader_world import KafkaReaderWorld
from tests.support.kafka_store_world import last_values
from thorn_worker.store.contract import DeadLetter
from thorn_worker.store.rows import decode_letter

pytestmark = pytest.mark.kafka


class TestKafkaStore(StoreContract):
    @pytest.fixture
    def world(self, broker: Cluster, prefix: str, tmp_path: Path) -> Iterator[KafkaReaderWorld]:
        world = KafkaReaderWorld(broker.bootstrap, prefix, tmp_path / "state")
        yield world
        world.close()

    def letters(self, world: ReaderWorld) -> list[DeadLetter]:
        assert isinstance(world, KafkaReaderWorld)
        return [
            decode_letter(value)
            for partition in range(PARTITIONS)
            for _key, value in sorted(last_values(world.options, world.options.dead, partition).items())
            if value is not None
        ]
