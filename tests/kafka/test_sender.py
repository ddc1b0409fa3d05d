"""Messages to Kafka, whatever becomes of the client: dead ones, unknown topics, refusals."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from deploy.kafka import Cluster
from producer.errors import LogError, LogUnavailable, LogUnusable, NotAcknowledged
from producer.log import kafka_sender, kafka_stuck
from producer.log.kafka_client import Client
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_sender import KafkaSender, OnSent, Outgoing
from tests.support.kafka_world import grow_topic, make_topic, options_of, stored_in
from tests.support.waiting import wait_for

pytestmark = pytest.mark.kafka


@dataclass
class Reports:
    """What `on_sent` was told, by the message's value."""

    offsets: dict[bytes, int] = field(default_factory=dict)
    errors: dict[bytes, LogError] = field(default_factory=dict)

    def of(self, value: bytes) -> OnSent:
        def on_sent(offset: int | None, error: LogError | None) -> None:
            assert value not in self.offsets, "told twice"
            assert value not in self.errors, "told twice"
            if error is not None:
                self.errors[value] = error
            elif offset is not None:
                self.offsets[value] = offset

        return on_sent


@pytest.fixture
def options(broker: Cluster, prefix: str) -> KafkaOptions:
    return options_of(broker, prefix)


@pytest.fixture
def topic(options: KafkaOptions) -> str:
    make_topic(options, options.state, 2)
    return options.state


@pytest.fixture
def sender(options: KafkaOptions) -> Iterator[KafkaSender]:
    sender = KafkaSender(options)
    yield sender
    sender.close(0.0)


def client_of(sender: KafkaSender) -> Client:
    client = sender._flight.client
    assert client is not None
    return client


def until(sender: KafkaSender, condition: Callable[[], object], what: str, timeout_s: float = 15.0) -> None:
    """As an owner does it: look after the sender all the time."""

    def checked() -> object:
        sender.check()
        return condition()

    wait_for(checked, timeout_s, what=what, poll_s=0.05)


def send_numbers(sender: KafkaSender, topic: str, numbers: range, reports: Reports) -> None:
    for number in numbers:
        value = b"%d" % number
        sender.send(Outgoing(topic, number % 2, b"key", value), reports.of(value))


def values_in(options: KafkaOptions, topic: str, partition: int) -> list[int]:
    return [int(value) for found, _o, _k, value in stored_in(options, topic) if found == partition]


def test_messages_are_told_their_offsets_once_durable(
    sender: KafkaSender, options: KafkaOptions, topic: str
) -> None:
    reports = Reports()
    sender.open()
    assert sender.partitions(topic) == 2

    send_numbers(sender, topic, range(10), reports)
    assert 0 < sender.unacknowledged <= 10
    until(sender, lambda: len(reports.offsets) == 10, "acknowledgements")

    assert (sender.unacknowledged, sender.unacknowledged_bytes, sender.oldest_s) == (0, 0, None)
    stored = {value: offset for _p, offset, _k, value in stored_in(options, topic)}
    assert reports.offsets == stored


def test_a_tombstone_and_headers_arrive(sender: KafkaSender, options: KafkaOptions, topic: str) -> None:
    reports = Reports()
    sender.open()
    sender.send(Outgoing(topic, 1, b"key", None, (("epoch", b"7"),)), reports.of(b""))
    until(sender, lambda: reports.offsets, "an acknowledgement")
    (stored,) = stored_in(options, topic)
    assert stored[:3] == (1, 0, "key")
    assert not stored[3]


def test_what_is_sent_before_it_is_open_waits(sender: KafkaSender, topic: str) -> None:
    reports = Reports()
    send_numbers(sender, topic, range(3), reports)
    assert sender.unacknowledged == 3
    until(sender, lambda: len(reports.offsets) == 3, "acknowledgements")


def test_rule_1_a_client_without_a_producer_id_is_noticed_and_replaced(
    sender: KafkaSender, options: KafkaOptions, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a client in the state that an expired batch leaves it in: it never sends again, and says nothing
    monkeypatch.setattr(kafka_stuck, "STUCK_S", 0.5)
    monkeypatch.setattr(kafka_stuck, "SILENT_S", 0.1)
    monkeypatch.setattr(kafka_stuck, "ANSWERED_S", 0.5)
    reports = Reports()
    sender.open()
    send_numbers(sender, topic, range(4), reports)
    until(sender, lambda: len(reports.offsets) == 4, "acknowledgements")
    dead = client_of(sender)
    dead._producer._transaction_manager.reset_producer_id()

    # When messages are sent, then they arrive by another client, in order
    send_numbers(sender, topic, range(4, 30), reports)
    until(sender, lambda: len(reports.offsets) == 30, "acknowledgements by a new client")
    assert client_of(sender) is not dead
    assert values_in(options, topic, 0) == list(range(0, 30, 2))
    assert values_in(options, topic, 1) == list(range(1, 30, 2))
    assert reports.errors == {}


def test_a_frozen_broker_is_no_reason_to_replace_the_client(
    sender: KafkaSender, broker: Cluster, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given little patience with clients that are stuck
    monkeypatch.setattr(kafka_stuck, "STUCK_S", 0.2)
    monkeypatch.setattr(kafka_stuck, "SILENT_S", 0.1)
    monkeypatch.setattr(kafka_stuck, "ANSWERED_S", 0.2)
    reports = Reports()
    sender.open()
    send_numbers(sender, topic, range(2), reports)
    until(sender, lambda: len(reports.offsets) == 2, "acknowledgements")
    client = client_of(sender)

    # When the broker is silent for longer, then the client is kept: nobody answered its question either
    broker.freeze(1)
    send_numbers(sender, topic, range(2, 6), reports)
    until(sender, lambda: (sender.oldest_s or 0.0) > 2.0, "a silence")
    assert client_of(sender) is client
    broker.thaw(1)
    until(sender, lambda: len(reports.offsets) == 6, "acknowledgements")


def test_a_client_whose_thread_died_is_replaced(sender: KafkaSender, topic: str) -> None:
    reports = Reports()
    sender.open()
    client_of(sender).end()
    send_numbers(sender, topic, range(5), reports)
    until(sender, lambda: len(reports.offsets) == 5, "acknowledgements by a new client")


def test_answers_of_an_ended_client_are_not_counted(sender: KafkaSender, topic: str) -> None:
    # Given a client that ends while it has messages on their way, again and again
    reports = Reports()
    sender.open()
    assert sender.partitions(topic) == 2
    for start in range(0, 400, 50):
        send_numbers(sender, topic, range(start, start + 50), reports)
        client_of(sender).end()
        sender.check()

    # Then each is told of once (`Reports` would object), and the sums are right
    until(sender, lambda: len(reports.offsets) == 400, "acknowledgements")
    assert (sender.unacknowledged, sender.unacknowledged_bytes) == (0, 0)


def test_a_topic_that_appears_late_gets_what_waited_for_it_and_holds_up_no_other(
    sender: KafkaSender, options: KafkaOptions, topic: str
) -> None:
    late, reports = Reports(), Reports()
    sender.open()
    send_numbers(sender, options.dead, range(6), late)
    send_numbers(sender, topic, range(6), reports)
    until(sender, lambda: len(reports.offsets) == 6, "acknowledgements of the other topic")
    assert late.offsets == {}

    make_topic(options, options.dead, 2)
    send_numbers(sender, options.dead, range(6, 12), late)
    until(sender, lambda: len(late.offsets) == 12, "acknowledgements of the new topic")
    assert values_in(options, options.dead, 1) == [1, 3, 5, 7, 9, 11]


def test_a_topic_that_stays_away_is_refused_and_is_not_made_by_asking(
    sender: KafkaSender, options: KafkaOptions, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_sender, "MISSING_TOPIC_S", 0.5)
    missing, reports = Reports(), Reports()
    sender.open()
    send_numbers(sender, options.dead, range(3), missing)
    send_numbers(sender, topic, range(4), reports)
    until(sender, lambda: len(missing.errors) == 3, "refusals")

    assert all("thorn-worker topics create" in str(error) for error in missing.errors.values())
    until(sender, lambda: len(reports.offsets) == 4, "acknowledgements of the other topic")
    with pytest.raises(LogUnusable, match="thorn-worker topics create"):
        sender.partitions(options.dead)


def test_partitions_that_were_added_are_noticed(
    sender: KafkaSender, options: KafkaOptions, topic: str
) -> None:
    reports = Reports()
    sender.open()
    assert sender.partitions(topic) == 2
    grow_topic(options, topic, 5)
    sender.send(Outgoing(topic, 4, b"key", b"4"), reports.of(b"4"))
    until(sender, lambda: reports.offsets, "an acknowledgement from the new partition")
    assert sender.partitions(topic) == 5


def test_a_partition_that_does_not_exist_is_refused_alone(
    sender: KafkaSender, options: KafkaOptions, topic: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kafka_sender, "MISSING_TOPIC_S", 0.5)
    reports = Reports()
    sender.open()
    sender.send(Outgoing(topic, 9, b"key", b"9"), reports.of(b"9"))
    sender.send(Outgoing(topic, 1, b"key", b"1"), reports.of(b"1"))
    until(sender, lambda: reports.errors and reports.offsets, "a refusal and an acknowledgement")
    assert "partition 9" in str(reports.errors[b"9"])
    assert "it has 0 to 1" in str(reports.errors[b"9"])


def test_a_message_without_a_key_to_a_compacted_topic_fails_alone(
    sender: KafkaSender, options: KafkaOptions
) -> None:
    make_topic(options, options.dead, 2, {"cleanup.policy": "compact"})
    reports = Reports()
    sender.open()
    assert sender.partitions(options.dead) == 2
    sender.send(Outgoing(options.dead, 0, b"key", b"0"), reports.of(b"0"))
    sender.send(Outgoing(options.dead, 0, None, b"1"), reports.of(b"1"))
    sender.send(Outgoing(options.dead, 1, b"key", b"2"), reports.of(b"2"))
    until(sender, lambda: len(reports.errors) + len(reports.offsets) == 3, "reports")
    assert set(reports.errors) == {b"1"}
    assert isinstance(reports.errors[b"1"], LogUnusable)


def test_a_message_that_is_no_bytes_is_refused_and_not_tried_for_ever(
    sender: KafkaSender, topic: str
) -> None:
    reports = Reports()
    sender.open()
    sender.send(Outgoing(topic, 0, b"key", "text"), reports.of(b"text"))  # type: ignore[arg-type]
    assert reports.errors == {}  # not from inside `send`
    until(sender, lambda: reports.errors, "a refusal")


def test_a_callback_that_raises_is_logged_and_harms_nobody(
    sender: KafkaSender, topic: str, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(offset: int | None, error: LogError | None) -> None:
        raise ZeroDivisionError("a defect of the owner")

    reports = Reports()
    sender.open()
    sender.send(Outgoing(topic, 0, b"key", b"0"), broken)
    sender.send(Outgoing(topic, 0, b"key", b"1"), reports.of(b"1"))
    until(sender, lambda: reports.offsets, "the other's acknowledgement")
    assert "a defect of the owner" in caplog.text


def test_close_waits_for_acknowledgements(sender: KafkaSender, topic: str) -> None:
    reports = Reports()
    sender.open()
    send_numbers(sender, topic, range(20), reports)
    sender.close(10.0)
    assert len(reports.offsets) == 20


def test_close_keeps_its_word_and_tells_what_it_dropped(
    sender: KafkaSender, broker: Cluster, topic: str
) -> None:
    reports = Reports()
    sender.open()
    assert sender.partitions(topic) == 2
    broker.freeze(1)
    send_numbers(sender, topic, range(20), reports)
    began = time.monotonic()
    sender.close(0.3)
    assert time.monotonic() - began < 2.0
    assert {type(error) for error in reports.errors.values()} == {NotAcknowledged}
    assert len(reports.errors) == 20


def test_nobody_listens_there() -> None:
    sender = KafkaSender(KafkaOptions(servers=("127.0.0.1:1",), prefix="nobody"))
    with pytest.raises(LogUnavailable, match="refuses connections"):
        sender.open()
    assert sender.trouble is not None
    sender.close(0.0)
