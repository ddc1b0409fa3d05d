"""The few things that tests of the brokers themselves do with a client."""

from typing import Final

from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.consumer.fetcher import ConsumerRecord

#: How long a client looks for a broker that is there, or isn't.
BOOTSTRAP_MS: Final = 5_000

#: Settings of one client: `security_protocol`, `ssl_cafile` and so on.
Login = dict[str, object]


def create_topic(bootstrap: str, topic: str, login: Login | None = None) -> None:
    """One partition, replicated as the cluster does it by default."""
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=BOOTSTRAP_MS, **(login or {}))
    try:
        admin.create_topics({topic: {"num_partitions": 1}}, wait_for_metadata=True)
    finally:
        admin.close()


def topics(bootstrap: str) -> set[str]:
    admin = KafkaAdminClient(bootstrap_servers=bootstrap, bootstrap_timeout_ms=BOOTSTRAP_MS)
    try:
        return set(admin.list_topics())
    finally:
        admin.close()


def put(bootstrap: str, topic: str, value: bytes, login: Login | None = None) -> int:
    """Write one record, wait until all replicas in sync have it, and return its offset."""
    producer = KafkaProducer(
        bootstrap_servers=bootstrap,
        bootstrap_timeout_ms=BOOTSTRAP_MS,
        acks="all",
        request_timeout_ms=5_000,
        reconnect_backoff_max_ms=200,
        **(login or {}),
    )
    try:
        return int(producer.send(topic, value).get(timeout=30).offset)
    finally:
        producer.close(timeout=10)


def records(bootstrap: str, topic: str, partitions: int) -> list[ConsumerRecord]:
    """All records of a topic, by partition and offset."""
    wanted = [TopicPartition(topic, partition) for partition in range(partitions)]
    consumer = KafkaConsumer(bootstrap_servers=bootstrap, bootstrap_timeout_ms=BOOTSTRAP_MS, group_id=None)
    try:
        consumer.assign(wanted)
        ends = consumer.end_offsets(wanted)
        consumer.seek_to_beginning(*wanted)
        found: list[ConsumerRecord] = []
        while any(consumer.position(partition) < ends[partition] for partition in wanted):
            for some in consumer.poll(timeout_ms=200).values():
                found += some
        return sorted(found, key=lambda record: (record.partition, record.offset))
    finally:
        consumer.close()


def values(bootstrap: str, topic: str, login: Login | None = None) -> list[bytes]:
    """All records of a topic with one partition."""
    partition = TopicPartition(topic, 0)
    consumer = KafkaConsumer(
        bootstrap_servers=bootstrap,
        bootstrap_timeout_ms=BOOTSTRAP_MS,
        group_id=None,
        reconnect_backoff_max_ms=200,
        **(login or {}),
    )
    try:
        consumer.assign([partition])
        end = consumer.end_offsets([partition])[partition]
        consumer.seek_to_beginning(partition)
        found: list[bytes] = []
        while consumer.position(partition) < end:
            for records in consumer.poll(timeout_ms=200).values():
                found += [record.value for record in records]
        return found
    finally:
        consumer.close()
