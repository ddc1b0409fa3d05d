"""A Kafka log for the reader's and the store's contract, with a group that forgets dead members fast. Needs a
patched process."""

from contextlib import suppress
from pathlib import Path
from typing import Final

import pytest
from gevent import monkey
from kafka import KafkaAdminClient, KafkaProducer, TopicPartition
from kafka.errors import KafkaError

from producer.config import parse_log_url
from producer.errors import LogError
from producer.log.kafka_options import KafkaOptions
from producer.settings import Settings
from tests.contract.reader import PARTITIONS, ReaderWorld
from tests.support.waiting import wait_for
from thorn_worker.log.contract import Consent, LogReader
from thorn_worker.log.kafka import KafkaReader, Membership
from thorn_worker.log.kafka_consumer import Timing
from thorn_worker.log.kafka_topics import create_topics, names
from thorn_worker.store.contract import Store
from thorn_worker.store.kafka import KafkaStore

SESSION_S: Final = 3.0
TIMING: Final = Timing(session_s=SESSION_S, heartbeat_s=0.2, max_poll_s=15.0, metadata_age_s=2.0)


def options_of(bootstrap: str, prefix: str) -> KafkaOptions:
    """How to reach the topics that begin with `prefix`."""
    return KafkaOptions.of(Settings(), parse_log_url(f"kafka://{bootstrap}/{prefix}"))


class KafkaReaderWorld(ReaderWorld):
    """Topics of its own on a broker; `state` is a folder for the stores."""

    patience_s = 30.0
    timing = TIMING

    def __init__(self, bootstrap: str, prefix: str, state: Path, *, make_topics: bool = True) -> None:
        self.bootstrap, self.prefix, self.state = bootstrap, prefix, state
        self.options = options_of(bootstrap, prefix)
        self.readers: list[KafkaReader] = []
        self.stores: list[KafkaStore] = []
        if make_topics:
            create_topics(self.options, PARTITIONS)
        self._producer: KafkaProducer | None = None

    def append(self, partition: int, *values: bytes | None) -> None:
        if self._producer is None:
            self._producer = KafkaProducer(**self.options.connection(), compression_type="lz4", linger_ms=2)
        futures = [
            self._producer.send(
                self.options.deliveries, value, partition=partition, key=b"https://a.example:443"
            )
            for value in values
        ]
        for future in futures:
            future.get(20.0)

    def reader(self, worker_id: str | None = None, consent: Consent | None = None) -> KafkaReader:
        """One more reader, not open; closed by the world if the test does not."""
        membership = Membership(worker_id, PARTITIONS)
        self.readers.append(KafkaReader(self.options, membership, consent or Consent(), self.timing))
        return self.readers[-1]

    def member(self, worker_id: str | None = None, consent: Consent | None = None) -> tuple[LogReader, Store]:
        reader = self.reader(worker_id, consent)
        self.stores.append(KafkaStore(self.options, reader, str(self.state / f"member{len(self.readers)}")))
        return reader, self.stores[-1]

    def program(self) -> list[str]:
        return ["-m", "tests.support.kafka_member", self.bootstrap, self.prefix, str(self.state / "program")]

    def outlast_lease(self) -> None:
        """The whole process stands still, heartbeats too, as a frozen one does."""
        monkey.get_original("time", "sleep")(SESSION_S + 0.7)

    def stored_offsets(self, partition: int) -> list[int]:
        pytest.skip("Kafka deletes records by its retention, not because they are complete")

    def delete_topics(self, *names: str) -> None:
        """Delete topics, as an operator's mistake does."""
        admin = KafkaAdminClient(**self.options.connection())
        try:
            admin.delete_topics(list(names))
        finally:
            admin.close()

    def make_anew(self, *names: str) -> None:
        """Delete these topics and make them again."""
        self.delete_topics(*names)
        wait_for(lambda: self._made() == sorted(names), what="the new topics", timeout_s=20.0, poll_s=0.2)

    def _made(self) -> list[str]:
        """Deleting takes a moment, in which the old one still counts as there."""
        try:
            return sorted(create_topics(self.options, PARTITIONS))
        except LogError:
            return []

    def delete_before(self, partition: int, offset: int) -> None:
        """Delete the records below `offset`, as retention does."""
        admin = KafkaAdminClient(**self.options.connection())
        try:
            admin.delete_records({TopicPartition(self.options.deliveries, partition): offset})
        finally:
            admin.close()

    def close(self) -> None:
        for reader in self.readers:
            reader.close()
        for store in self.stores:
            store.close()
        if self._producer is not None:
            self._producer.close(5.0)
        with suppress(KafkaError):  # a broker of a thousand topics takes long to come back from a crash
            self.delete_topics(*names(self.options))
