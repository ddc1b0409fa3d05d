"""The Kafka log's writing half on a real broker: the writer contract, and what only Kafka can do wrong."""

from collections.abc import Iterator

import pytest

from deploy.kafka import Cluster
from tests.contract.writer import WriterContract
from tests.support.kafka_world import KafkaWriterWorld

pytestmark = pytest.mark.kafka


@pytest.fixture
def world(broker: Cluster, prefix: str) -> Iterator[KafkaWriterWorld]:
    world = KafkaWriterWorld(broker, prefix)
    yield world
    world.close()


class TestKafkaWriter(WriterContract):
    @pytest.fixture
    def world(self, broker: Cluster, prefix: str) -> Iterator[KafkaWriterWorld]:
        world = KafkaWriterWorld(broker, prefix)
        yield world
        world.close()
