"""What the Kafka writer does while its brokers are dead, frozen, or refuse."""

import logging
import threading
import time
from collections.abc import Iterator
from functools import partial
from itertools import chain
from random import Random

import pytest
from kafka import KafkaAdminClient

from deploy.kafka import Cluster
from producer.errors import LogError, LogUnusable, NotAcknowledged
from producer.log.buffer_state import BufferLimits
from producer.log.contract import LogWriter, NewRecord
from producer.log.kafka import KafkaWriter
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_sender import KafkaSender
from tests.contract.writer import Outcomes, Stored, record
from tests.support.kafka_world import (
    PARTITIONS,
    KafkaWriterWorld,
    delete_topic,
    make_topic,
    options_of,
)
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.long]

#: Longer than a request may take, which kafka-python demands; shorter than a test may last.
SHORT_DELIVERY_TIMEOUT_S = 10.1
#: A broker that starts on a busy machine may take longer than records wait by default.
PATIENT = BufferLimits(deadline_s=300.0)


@pytest.fixture
def world(broker: Cluster, prefix: str) -> Iterator[KafkaWriterWorld]:
    world = KafkaWriterWorld(broker, prefix)
    yield world
    world.close()


def numbers_by_partition(stored: list[Stored]) -> dict[int, list[int]]:
    found: dict[int, list[int]] = {partition: [] for partition in range(PARTITIONS)}
    for partition, _offset, _key, value in stored:
        found[partition].append(int(value))
    return found


def append_numbers(writer: LogWriter, numbers: range, done: Outcomes) -> None:
    for number in numbers:
        value = b"%d" % number
        writer.append([NewRecord(f"https://h{number % 20}.example:443", value)], done)


def test_rule_1_an_outage_longer_than_the_clients_delivery_timeout_kills_no_writer(
    world: KafkaWriterWorld, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a client that gives up a message after 10 s, and has delivered some
    sender = KafkaSender(world.options, delivery_timeout_s=SHORT_DELIVERY_TIMEOUT_S)
    writer, done = world.writer(PATIENT, sender), Outcomes()
    append_numbers(writer, range(8), done)
    assert writer.flush(10.0)

    # When the broker dies with 100 records on their way, for so long that one of them expires
    world.cluster.kill(1)
    append_numbers(writer, range(8, 108), done)
    wait_for(lambda: "the Kafka client is replaced" in caplog.text, 40.0, what="a record to expire")
    world.cluster.up(1)

    # Then all 100 arrive, in order, and so do new ones
    assert writer.flush(20.0)
    append_numbers(writer, range(108, 120), done)
    assert writer.flush(10.0)
    assert done.told == [None] * 120
    by_partition = numbers_by_partition(world.stored())
    assert all(found == sorted(found) for found in by_partition.values())
    assert sorted(chain(*by_partition.values())) == list(range(120))


def test_a_broker_that_crashes_under_load_costs_no_record_and_no_order(world: KafkaWriterWorld) -> None:
    # Given a thread that sends all the time
    writer, done, stop = world.writer(PATIENT), Outcomes(), threading.Event()
    sent = 0

    def send() -> None:
        nonlocal sent
        while not stop.is_set():
            append_numbers(writer, range(sent, sent + 1), done)
            sent += 1
            stop.wait(0.003)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        wait_for(lambda: len(done.told) > 100, what="the first acknowledgements")

        # When the broker is killed, and started again a few hundred records later
        world.cluster.kill(1)
        at = sent
        wait_for(lambda: sent > at + 300, what="records of the outage")
        world.cluster.up(1)
        at = sent
        wait_for(lambda: len(done.told) > at, 20.0, what="acknowledgements of what came after")
    finally:
        stop.set()
        thread.join()

    # Then every record is there, once and in order: the client's retries do not repeat
    assert writer.flush(20.0)
    assert done.told == [None] * sent
    by_partition = numbers_by_partition(world.stored())
    assert all(found == sorted(found) for found in by_partition.values())
    assert sorted(chain(*by_partition.values())) == list(range(sent))


def test_flush_and_close_keep_their_word_though_the_client_does_not(world: KafkaWriterWorld) -> None:
    writer, done = world.writer(BufferLimits()), Outcomes()
    append_numbers(writer, range(10), done)
    assert writer.flush(10.0)
    with world.unavailable():
        append_numbers(writer, range(10, 60), done)  # many batches, each of which the client would wait for

        began = time.monotonic()
        assert not writer.flush(0.5)
        assert 0.5 <= time.monotonic() - began < 1.0

        began = time.monotonic()
        writer.close(0.5)
        assert time.monotonic() - began < 2.5
    assert [type(error) for error in done.told[10:]] == [NotAcknowledged] * 50


def test_a_broker_that_is_away_at_the_first_append_is_waited_for(
    world: KafkaWriterWorld, caplog: pytest.LogCaptureFixture
) -> None:
    world.cluster.kill(1)
    writer, done = world.writer(BufferLimits(max_block_s=0.5, deadline_s=300.0)), Outcomes()

    began = time.monotonic()
    append_numbers(writer, range(5), done)
    assert time.monotonic() - began < 1.5

    world.cluster.up(1)
    assert writer.flush(30.0)
    assert done.told == [None] * 5


def test_a_broker_that_is_away_is_told_of_in_a_few_lines(
    world: KafkaWriterWorld, caplog: pytest.LogCaptureFixture
) -> None:
    writer, done = world.writer(PATIENT), Outcomes()
    append_numbers(writer, range(10), done)
    assert writer.flush(10.0)
    caplog.clear()
    caplog.set_level(logging.WARNING)

    world.cluster.kill(1)
    append_numbers(writer, range(10, 20), done)
    wait_for(lambda: "does not take records" in caplog.text, 20.0, what="a word about the silence")
    lines = [f"{line.name}: {line.getMessage()}" for line in caplog.records]
    world.cluster.up(1)

    assert len(lines) <= 12, "\n".join(lines)
    assert writer.flush(20.0)
    assert done.told == [None] * 20


def test_records_that_were_late_do_not_keep_newer_ones_from_arriving(world: KafkaWriterWorld) -> None:
    writer, late, done = world.writer(BufferLimits(deadline_s=0.5)), Outcomes(), Outcomes()
    writer.partitions()
    with world.unavailable():
        append_numbers(writer, range(10), late)
        assert [type(error) for error in late.wait(10)] == [NotAcknowledged] * 10
        assert writer.buffered_bytes == 0

    def accepted() -> bool:
        told = len(done.told)
        writer.append([record(b"77")], done)
        return writer.flush(5.0) and done.told[told] is None

    wait_for(accepted, 20.0, what="the broker to answer in time again")


def test_a_topic_that_is_missing_is_said_by_the_first_append(broker: Cluster, prefix: str) -> None:
    writer = KafkaWriter(options_of(broker, prefix), BufferLimits(max_block_s=10.0))
    try:
        with pytest.raises(LogUnusable, match="thorn-worker topics create"):
            writer.append([record(b"1")], Outcomes())
        assert writer.buffered_bytes == 0
        with pytest.raises(LogUnusable, match="thorn-worker topics create"):
            writer.partitions()
    finally:
        writer.close(1.0)


def test_a_topic_that_was_deleted_is_said_and_used_again_once_it_is_back(world: KafkaWriterWorld) -> None:
    writer, done = world.writer(BufferLimits()), Outcomes()
    append_numbers(writer, range(4), done)
    assert writer.flush(10.0)
    delete_topic(world.options, world.options.deliveries)

    def said() -> bool:
        """By the record's failure at first, then by `append` itself."""
        try:
            append_numbers(writer, range(1), done)
        except LogUnusable as error:
            return "thorn-worker topics create" in str(error)
        return False

    wait_for(said, 30.0, what="the missing topic to be noticed", poll_s=0.2)
    assert any(isinstance(error, LogUnusable) for error in done.told[4:])

    make_topic(world.options, world.options.deliveries)

    def accepted() -> bool:
        again = Outcomes()
        try:
            append_numbers(writer, range(7, 8), again)
        except LogUnusable:
            return False
        return writer.flush(10.0) and again.told == [None]

    wait_for(accepted, 30.0, what="the new topic to be used", poll_s=0.2)
    assert [int(value) for *_rest, value in world.stored()][-1] == 7


def test_a_record_that_the_topic_does_not_take_fails_alone(broker: Cluster, prefix: str) -> None:
    # Given a topic with a small bound, and records of which some are larger even when compressed
    world = KafkaWriterWorld(broker, prefix, {"max.message.bytes": "20000"})
    writer = world.writer(BufferLimits(linger_s=0.2))
    outcomes: dict[int, LogError | None] = {}
    noise = random_bytes(40_000)

    # When they are sent together
    for number in range(40):
        value = noise if number % 10 == 9 else b"%d" % number
        writer.append([record(value)], partial(outcomes.__setitem__, number))
    assert writer.flush(30.0)

    # Then only those fail, and the others arrive in order
    world.close()
    failed = {number: error for number, error in outcomes.items() if error is not None}
    assert sorted(failed) == [9, 19, 29, 39]
    assert all("larger than the topic takes" in str(error) for error in failed.values())
    stored = [int(value) for *_rest, value in world.stored()]
    assert in_order_of_last_arrival(stored) == [number for number in range(40) if number % 10 != 9]


def random_bytes(size: int) -> bytes:
    return Random(7).randbytes(size)


def in_order_of_last_arrival(values: list[int]) -> list[int]:
    """Without the earlier ones of repeats."""
    return list(dict.fromkeys(reversed(values)))[::-1]


@pytest.mark.parametrize("size", [1, 900_000])
def test_the_smallest_and_the_largest_record_of_the_wire_fit(world: KafkaWriterWorld, size: int) -> None:
    writer, done = world.writer(BufferLimits()), Outcomes()
    value = random_bytes(size)
    writer.append([record(value)], done)
    assert done.wait() == [None]
    assert [found for *_rest, found in world.stored()] == [value]


def test_a_partition_without_a_leader_holds_up_no_other(cluster3: Cluster, prefix: str) -> None:
    # Given partitions of one replica each, on three brokers
    options = options_of(cluster3, prefix)
    make_topic(options, options.deliveries, 3, {"min.insync.replicas": "1"}, replicas=1)
    lost, *others = sorted(range(3), key=lambda partition: leader_of(options, partition) != 3)
    assert leader_of(options, lost) == 3
    writer, stuck, done = KafkaWriter(options, PATIENT), Outcomes(), Outcomes()
    try:
        for partition in (lost, *others):
            writer.append([NewRecord("key", b"1", partition)], done)
        assert writer.flush(20.0)

        # When the leader of one is gone, then records to the others are acknowledged
        cluster3.kill(3)
        writer.append([NewRecord("key", b"2", lost)], stuck)
        for number in range(20):
            writer.append([NewRecord("key", b"2", others[number % 2])], done)
        done.wait(23)
        assert stuck.told == []

        # And the one that waits arrives when it is back
        cluster3.up(3)
        assert stuck.wait() == [None]
    finally:
        writer.close(1.0)
    assert done.told == [None] * 23


def leader_of(options: KafkaOptions, partition: int) -> int:
    admin = KafkaAdminClient(bootstrap_servers=list(options.servers))
    try:
        (topic,) = admin.describe_topics([options.deliveries])
    finally:
        admin.close()
    return next(int(one["leader_id"]) for one in topic["partitions"] if one["partition_index"] == partition)
