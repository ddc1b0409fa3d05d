"""A Kafka log for the writer's contract and the writer's own tests: topics of one prefix on a real broker."""

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from types import MappingProxyType
from typing import Final

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, TopicPartition

from deploy.kafka import Cluster
from producer.log.buffer_state import BufferLimits
from producer.log.contract import LogWriter
from producer.log.kafka import KafkaWriter
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_sender import KafkaSender
from tests.contract.writer import Stored, WriterWorld

PARTITIONS: Final = 4
NO_SETTINGS: Final[Mapping[str, str]] = MappingProxyType({})


def options_of(cluster: Cluster, prefix: str) -> KafkaOptions:
    return KafkaOptions(servers=tuple(cluster.bootstrap.split(",")), prefix=prefix)


def make_topic(
    options: KafkaOptions,
    topic: str,
    partitions: int = PARTITIONS,
    settings: Mapping[str, str] = NO_SETTINGS,
    replicas: int = -1,
) -> None:
    """replicas: -1 for as many as the cluster makes by itself."""
    admin = KafkaAdminClient(bootstrap_servers=list(options.servers))
    try:
        wanted = {
            "num_partitions": partitions,
            "replication_factor": replicas,
            "configs": dict(settings),
        }
        admin.create_topics({topic: wanted}, timeout_ms=60_000, wait_for_metadata=True)
    finally:
        admin.close()


def grow_topic(options: KafkaOptions, topic: str, partitions: int) -> None:
    admin = KafkaAdminClient(bootstrap_servers=list(options.servers))
    try:
        admin.create_partitions({topic: partitions})
    finally:
        admin.close()


def delete_topic(options: KafkaOptions, topic: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=list(options.servers))
    try:
        admin.delete_topics([topic])
    finally:
        admin.close()


def stored_in(options: KafkaOptions, topic: str) -> list[Stored]:
    """What a topic holds, by partition and offset."""
    consumer = KafkaConsumer(bootstrap_servers=list(options.servers), group_id=None)
    try:
        known = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(known)
        ends = consumer.end_offsets(known)
        consumer.seek_to_beginning(*known)
        found: list[Stored] = []
        while any(consumer.position(one) < ends[one] for one in known):
            for records in consumer.poll(timeout_ms=200).values():
                found += [
                    (each.partition, each.offset, (each.key or b"").decode(), each.value) for each in records
                ]
        return sorted(found, key=lambda record: record[:2])
    finally:
        consumer.close()


class KafkaWriterWorld(WriterWorld):
    def __init__(self, cluster: Cluster, prefix: str, settings: Mapping[str, str] = NO_SETTINGS) -> None:
        """settings: of the deliveries topic."""
        self.cluster = cluster
        self.options = options_of(cluster, prefix)
        self.writers: list[KafkaWriter] = []
        make_topic(self.options, self.options.deliveries, settings=settings)

    def writer(self, limits: BufferLimits, sender: KafkaSender | None = None) -> LogWriter:
        self.writers.append(KafkaWriter(self.options, limits, sender))
        return self.writers[-1]

    def stored(self) -> list[Stored]:
        return stored_in(self.options, self.options.deliveries)

    @contextmanager
    def unavailable(self) -> Iterator[None]:
        """A stalled broker: connections stay open, nothing answers."""
        self.cluster.freeze(1)
        try:
            yield
        finally:
            self.cluster.thaw(1)

    def full(self) -> AbstractContextManager[None]:
        pytest.skip("a Kafka log is never full: its topics forget by age")

    def close(self) -> None:
        for writer in self.writers:
            writer.close(5.0)
