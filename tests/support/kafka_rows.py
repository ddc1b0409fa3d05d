"""Rows in the topics of a Kafka log, written as their owner writes them, but by nobody's worker."""

from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self

from kafka import KafkaConsumer, KafkaProducer, TopicPartition

from producer.config import Settings, parse_log_url
from producer.log.kafka_options import KafkaOptions
from thorn_worker.log.kafka_admin import connected
from thorn_worker.log.kafka_topics import check_topics, create_topics
from thorn_worker.store.contract import DeadLetter, EndpointState, Pending
from thorn_worker.store.rows import (
    encode_endpoint,
    encode_letter,
    encode_pending,
    endpoint_key,
    letter_key,
    pending_key,
)


class KafkaRows:
    """A new log of `partitions` at a cluster, and the pen that writes into it. Leaving the block waits until
    all is written.
    """

    def __init__(self, bootstrap: str, prefix: str, partitions: int) -> None:
        self.url = f"kafka://{bootstrap}/{prefix}"
        self.options = KafkaOptions.of(Settings(), parse_log_url(self.url))
        create_topics(self.options, partitions)
        self.topic_id = check_topics(self.options).deliveries_id
        self._producer: Any = None

    def __enter__(self) -> Self:
        self._producer = KafkaProducer(**self.options.connection(), compression_type="lz4", linger_ms=20)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._producer.flush(timeout=30)
        self._producer.close(timeout=10)

    def put(self, row: Pending) -> None:
        self.write(self.options.state, row.life.partition, pending_key(row.life), encode_pending(row))

    def remove(self, row: Pending) -> None:
        self.write(self.options.state, row.life.partition, pending_key(row.life), None)

    def bury(self, letter: DeadLetter) -> None:
        self.write(self.options.dead, letter.life.partition, letter_key(letter), encode_letter(letter))

    def save(self, partition: int, state: EndpointState) -> None:
        self.write(self.options.state, partition, endpoint_key(state.sub), encode_endpoint(state))

    def write(self, topic: str, partition: int, key: bytes | None, value: bytes | None) -> None:
        self._producer.send(topic, value, key, partition=partition)

    def flush(self) -> None:
        """What was written until now is there, in batches of its own."""
        self._producer.flush(timeout=30)


def configure(options: KafkaOptions, topic: str, settings: Mapping[str, str]) -> None:
    """Change settings of a topic."""
    from kafka.admin import ConfigResource, ConfigResourceType

    with connected(options) as admin:
        resource = ConfigResource(ConfigResourceType.TOPIC, topic, configs=dict(settings))
        admin._client.alter_configs([resource])


def records(options: KafkaOptions, topic: str) -> dict[int, list[Any]]:
    """All that lies in a topic now, per partition."""
    consumer = KafkaConsumer(**options.connection(), group_id=None)
    try:
        places = [TopicPartition(topic, number) for number in consumer.partitions_for_topic(topic)]
        consumer.assign(places)
        ends = consumer.end_offsets(places)
        consumer.seek_to_beginning()
        found: dict[int, list[Any]] = {place.partition: [] for place in places}
        while any(consumer.position(place) < ends[place] for place in places):
            for place, some in consumer.poll(timeout_ms=200).items():
                found[place.partition] += some
        return found
    finally:
        consumer.close()
