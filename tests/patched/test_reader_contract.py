"""The Kafka log's reading half keeps the contract of every log."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka import Cluster
from tests.contract.reader import ReaderContract
from tests.support.kafka_reader_world import KafkaReaderWorld

pytestmark = pytest.mark.kafka


class TestKafkaReader(ReaderContract):
    @pytest.fixture
    def world(self, broker: Cluster, prefix: str, tmp_path: Path) -> Iterator[KafkaReaderWorld]:
        world = KafkaReaderWorld(broker.bootstrap, prefix, tmp_path)
        yield world
        world.close()
