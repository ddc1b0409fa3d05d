"""A Kafka log for whole systems."""

from collections.abc import Mapping
from contextlib import closing
from pathlib import Path

from kafka import TopicPartition
from kafka.admin import KafkaAdminClient

from producer.config import parse_log_url
from producer.log.kafka_options import KafkaOptions
from producer.settings import Settings
from tests.support.ledger import Standing, standing
from tests.support.system_log import PARTITIONS, Freezable, SystemLog
from tests.support.waiting import wait_for
from thorn_worker.log.kafka_inspector import KafkaInspector
from thorn_worker.log.kafka_topics import create_topics


class KafkaLog(SystemLog):
    """Topics that begin with `prefix`, made at once. state: folder of the workers' caches."""

    poll_s = 0.5
    move_s = 40.0

    def __init__(self, bootstrap: str, prefix: str, state: Path) -> None:
        self._url = f"kafka://{bootstrap}/{prefix}"
        self._state = state
        self.options = KafkaOptions.of(Settings(), parse_log_url(self._url))
        create_topics(self.options, PARTITIONS)

    @property
    def settings(self) -> Mapping[str, object]:
        return {"log": self._url, "state_dir": str(self._state)}

    def standing(self) -> Standing:
        with closing(KafkaInspector(self.options)) as inspector:
            return standing(inspector)

    def freeze(self, worker: Freezable) -> None:
        worker.freeze()

    def keep_state_on(self, number: int) -> None:
        """Let one broker of several hold all of the state, so that it is away when that one is."""
        places = {TopicPartition(self.options.state, partition): [number] for partition in range(PARTITIONS)}
        with closing(KafkaAdminClient(**self.options.connection())) as admin:
            assert set(admin.alter_partition_reassignments(places).values()) == {None}
            wait_for(lambda: not admin.list_partition_reassignments(), 30, what="the state to have moved")
