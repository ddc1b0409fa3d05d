"""One KafkaProducer of kafka-python, held so that it can be thrown away at any moment.

kafka-python carries no types: what it is asked and what it answers gets its types here.
"""

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol, Self

from producer.log.kafka_options import MAX_MESSAGE_BYTES, KafkaOptions, check_library
from producer.log.process import end_inherited

#: A partition's records travel in batches of up to this size, one batch at a time.
BATCH_BYTES: Final = 128 * 1024
#: One request takes several batches, or one message of the largest size.
REQUEST_BYTES: Final = 2 * MAX_MESSAGE_BYTES
#: A client asks for a topic's partitions this often, so a topic that has grown is noticed this late.
METADATA_AGE_S: Final = 30.0
#: How long one question for the metadata of a topic may take.
METADATA_WAIT_S: Final = 0.25
#: A topic is waited for so long if the brokers do not know it, and if none answers.
NEW_TOPIC_S: Final = 0.5
TOPIC_WAIT_S: Final = 5.0


class Sent(Protocol):
    """What the broker says of a record."""

    offset: int


@dataclass(frozen=True, slots=True)
class Outgoing:
    """One message, with the partition that it must reach. A value of None is a tombstone."""

    topic: str
    partition: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


@dataclass(frozen=True, slots=True)
class Client:
    """A connected KafkaProducer and what of it a sender needs.

    It retries by itself, in order and without repeats, until `end`, or until a record is older than its
    delivery timeout. Then it may be beyond repair (an idempotent client whose tried batch expired never sends
    again), so its owner ends it and connects a new one.
    """

    _producer: Any

    @classmethod
    def connect(cls, options: KafkaOptions, *, linger_s: float, delivery_timeout_s: float) -> Self:
        """Raises kafka-python's errors, and those of `check_library` and `KafkaOptions.connection`."""
        check_library()
        from kafka import KafkaProducer
        from kafka.net.compat import KafkaNetClient

        made: list[Any] = []

        def net_client(**settings: Any) -> Any:
            made.append(KafkaNetClient(**settings))
            return made[-1]

        try:
            producer = KafkaProducer(
                **options.connection(),
                kafka_client=net_client,
                acks="all",
                enable_idempotence=True,
                compression_type="lz4",
                batch_size=BATCH_BYTES,
                linger_ms=linger_s * 1000,
                delivery_timeout_ms=delivery_timeout_s * 1000,
                max_request_size=REQUEST_BYTES,
                max_block_ms=METADATA_WAIT_S * 1000,
                metadata_max_age_ms=METADATA_AGE_S * 1000,
            )
        except BaseException:
            for client in made:  # a constructor that fails leaves its connections open
                client.close()
            raise
        # At exit it would run before the hooks of our users, and drop what they still flush.
        producer._unregister_cleanup()
        # Otherwise a look at a topic that is missing would make it, with the broker's defaults.
        producer._metadata.config["allow_auto_create_topics"] = False
        return cls(producer)

    def send(
        self, out: Outgoing, acknowledged: Callable[[Sent], None], failed: Callable[[Exception], None]
    ) -> bool:
        """Queue one message. False where its topic or partition is not known: nothing was queued then.

        One of the callbacks follows, on the client's own thread. Raises kafka-python's error for a message
        that it refuses itself, or if the client has ended.
        """
        producer = self._producer
        # Unasked, send() would ask for the topic itself, and block until it knows.
        if out.topic not in producer._metadata._partitions:
            return False
        headers = list(out.headers) if out.headers else None
        try:
            future = producer.send(
                out.topic, value=out.value, key=out.key, headers=headers, partition=out.partition
            )
        except ValueError:
            if out.partition in (producer._metadata.partitions_for_topic(out.topic) or ()):
                raise
            return False
        future._add_cb_eb(acknowledged, failed)
        return True

    def partitions(self, topic: str) -> int | None:
        """Number of partitions; None if no broker has told within a moment. Raises kafka-python's errors."""
        from kafka.errors import KafkaTimeoutError

        try:
            return len(self._producer.partitions_for(topic))
        except KafkaTimeoutError:
            return None

    def await_partitions(self, topic: str) -> int | None:
        """Number of partitions; None if no broker tells within seconds.

        Raises kafka-python's errors, for a missing topic too: a new one takes a moment to be known to all.
        """
        began = time.monotonic()
        answer: Answer | None = None
        while time.monotonic() - began < TOPIC_WAIT_S:
            partitions = self.partitions(topic)
            if partitions is not None:
                return partitions
            error = None if answer is None else answer.error(topic)
            if error is not None and time.monotonic() - began >= NEW_TOPIC_S:
                self.forget_topic(topic)
                raise error
            answer = self.ask_again()
        return None

    def forget_topic(self, topic: str) -> None:
        """Ask no more for a topic: kafka-python would ask for a missing one ten times a second, for ever."""
        metadata = self._producer._metadata
        metadata._topics = metadata._topics - {topic}  # a new set, since its own thread may be in the old one

    def leads(self, topic: str, partition: int) -> bool:
        """Whether a broker is known to lead this partition."""
        from kafka import TopicPartition

        leader = self._producer._metadata.leader_for_partition(TopicPartition(topic, partition))
        return leader is not None and leader != -1

    def ask_again(self) -> "Answer":
        """Ask the brokers anew who leads what."""
        answer = Answer(self._producer._metadata.request_update(), self._producer._metadata)
        self._producer._sender.wakeup()
        return answer

    @property
    def is_running(self) -> bool:
        return bool(self._producer._sender.is_alive())

    def end(self) -> None:
        """Stop at once, from any thread: what is queued is dropped, with a call of `failed` for each.

        ``close`` would first flush without keeping to its timeout, raise, and leave everything running.
        """
        self._producer._closed = True
        self._producer._sender.force_close()

    def join(self, timeout_s: float) -> None:
        """Wait until an ended client has closed its connections. From its own thread: return at once."""
        sender: threading.Thread = self._producer._sender
        if sender is not threading.current_thread():
            sender.join(timeout_s)

    def abandon(self) -> None:
        """In a forked child: never use, flush or close what the parent goes on using."""
        self._producer._closed = True
        end_inherited(self._producer._sender)


@dataclass(frozen=True, slots=True)
class Answer:
    """The brokers' answer to a question for metadata, perhaps still on its way."""

    _future: Any
    _metadata: Any

    @property
    def is_due(self) -> bool:
        """Whether nobody has answered yet, and the question stands."""
        return not self._future.is_done

    @property
    def has_come(self) -> bool:
        """Whether a broker answered, be it that there is no such topic."""
        from kafka.errors import BrokerResponseError

        return (
            not self.is_due
            and self.refused is None
            and isinstance(self._future.exception, BrokerResponseError | None)
        )

    @property
    def refused(self) -> Exception | None:
        """Set if our login was refused: a client goes on trying the one that it was made with."""
        from kafka.errors import SaslAuthenticationFailedError

        error = self._future.exception
        return error if isinstance(error, SaslAuthenticationFailedError) else None

    def error(self, topic: str) -> Exception | None:
        """What the brokers say against using this topic. None: nothing, or they have not answered."""
        from kafka.errors import TopicAuthorizationFailedError, UnknownTopicOrPartitionError

        if not self.has_come:
            return None
        if topic in self._metadata.unauthorized_topics:
            return TopicAuthorizationFailedError(topic)  # type: ignore[no-any-return]
        if self._metadata.partitions_for_topic(topic) is None:
            return UnknownTopicOrPartitionError(topic)  # type: ignore[no-any-return]
        return None
