"""Sends messages to Kafka until each is acknowledged, whatever becomes of the client in between.

**A client can die while it looks alive.** An idempotent kafka-python producer whose tried batch expires waits
for a producer id that it never asks for. A refused record makes it fail all others with the same error, and a
login that is refused is tried for ever with the same password. No exception of `send` tells of that. So every
message is kept here until it is acknowledged, expiry is put off beyond the outages that a client is to
survive by itself, and the first message that fails ends its client: `check` connects a new one and gives it
all that is unacknowledged, in order.

**An outage is not a reason to replace the client.** Its retries carry the sequence numbers by which a broker
drops repeats; those of a new client do not, and what the old one had on the wire may arrive after them. So a
client that is only silent is replaced for good reason only (`kafka_stuck`).
"""

import logging
import threading
import time
from typing import Final

from producer.errors import LogError, LogUnavailable, LogUnusable, NotAcknowledged
from producer.log.kafka_client import Client, Outgoing
from producer.log.kafka_connector import Connector
from producer.log.kafka_flight import Attempt, Flight, OnSent, Waiting
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_stuck import StuckWatch

__all__ = ["KafkaSender", "OnSent", "Outgoing"]

#: How long kafka-python may try one message; longer outages cost a new client.
DELIVERY_TIMEOUT_S: Final = 3600.0
#: A topic that the brokers do not know is refused after this time, since a new one takes a moment.
MISSING_TOPIC_S: Final = 5.0
#: An ended client closes its connections within this time, or is left to itself.
JOIN_S: Final = 1.0
#: A try to connect may take this long.
CONNECT_S: Final = 5.0
#: How often `close` looks whether everything is acknowledged.
CLOSE_POLL_S: Final = 0.01
#: Under gevent a greenlet that sends without a pause starves the greenlet that carries the messages away.
YIELD_EVERY: Final = 100

_log = logging.getLogger("thorn.kafka")


class KafkaSender:
    """Messages to explicit partitions, acknowledged by all replicas in sync.

    For one thread, or for the greenlets of one hub. `on_sent` runs on kafka-python's own thread or greenlet,
    or inside `check` or `close`, and must not block. The order in a partition is the order of `send`,
    whatever happens to the client; a message may be written twice then.

    linger_s: how long the first message of a batch waits for company. delivery_timeout_s: how long one client
    may try one message; more than the 10 s of a request.
    """

    def __init__(
        self,
        options: KafkaOptions,
        *,
        linger_s: float = 0.005,
        delivery_timeout_s: float = DELIVERY_TIMEOUT_S,
    ) -> None:
        self._options = options
        self._connector = Connector(options, linger_s, delivery_timeout_s)
        #: Clients of a parent process: kept, since even their garbage collection would touch its connections.
        self._inherited: list[Client] = []
        self._start_empty()

    def _start_empty(self) -> None:
        #: Held while the client is looked after: that waits, and two greenlets would make two clients.
        self._tending = threading.Lock()
        self._flight = Flight(None, self._connector.refusal)
        self._waiting: dict[str, Waiting] = {}
        self._trouble: LogError | None = None
        self._connected_at = 0.0
        self._stuck = StuckWatch()
        self._until_yield = YIELD_EVERY

    def __repr__(self) -> str:
        state = "connected" if self._flight.client is not None else "not connected"
        return f"<KafkaSender {self._options.place} {state}, {self.unacknowledged} unacknowledged>"

    @property
    def unacknowledged(self) -> int:
        """Messages that were sent and are not durable yet."""
        return len(self._flight.pending)

    @property
    def unacknowledged_bytes(self) -> int:
        """Keys and values of those messages."""
        return self._flight.bytes

    @property
    def oldest_s(self) -> float | None:
        """Age of the oldest of them."""
        oldest = self._flight.oldest()
        return None if oldest is None else time.monotonic() - oldest.since

    @property
    def trouble(self) -> str | None:
        """Why nothing moves, if that is known and so."""
        return None if self._trouble is None else str(self._trouble)

    def open(self) -> None:
        """Connect, unless that is done.

        Raises `LogUnavailable` or `LogUnusable`, after some seconds at most.
        """
        with self._tending:
            if self._flight.client is None:
                self._connect()
                if self._trouble is not None:
                    raise self._trouble

    def partitions(self, topic: str) -> int:
        """Number of partitions of `topic`; a growth is noticed within half a minute. Connects.

        Raises `LogUnusable` if the topic is missing or not ours to use, `LogUnavailable` if no broker tells.
        """
        self.open()
        client = self._flight.client
        try:
            partitions = None if client is None else client.await_partitions(topic)
        except Exception as error:
            raise self._connector.explain(error, f"the look at {topic}") from error
        if partitions is None:
            raise LogUnavailable(f"{self._options.place} does not say who leads {topic}: check the brokers")
        return partitions

    def send(self, out: Outgoing, on_sent: OnSent) -> None:
        """Send one message, now or as soon as that can be. It is kept until `on_sent` was called."""
        attempt = self._flight.take(out, on_sent)
        waits = out.topic in self._waiting or not (self._hand_over(attempt) or self._introduce(attempt))
        if waits and attempt.flight is self._flight:  # else the next flight has taken it over meanwhile
            self._wait(attempt)
        self._yield_sometimes()

    def check(self) -> None:
        """Look after the client; to be called about every second. Blocks for seconds while none can connect.

        Ends a client that can't go on, connects a new one and gives it everything unacknowledged again.
        """
        if not self._tending.acquire(blocking=False):
            return
        try:
            self._flight.tell_refused()
            self._replace_if_dead()
            try:
                for topic in list(self._waiting):
                    self._look_for(topic)
                self._watch()
            except Exception as error:  # it ended while it was asked; unguarded, that would end our caller
                if self._flight.client is None:
                    raise
                self._end(error)
        finally:
            self._tending.release()

    def close(self, timeout_s: float) -> None:
        """Wait until everything is acknowledged, at most `timeout_s`, then drop the rest and the connections.

        What is dropped is told `NotAcknowledged`. A later `open` starts anew.
        """
        give_up_at = time.monotonic() + timeout_s
        while self._flight.pending and (left_s := give_up_at - time.monotonic()) > 0:
            if self._flight.ready is not None or left_s > CONNECT_S:
                self.check()
            time.sleep(min(CLOSE_POLL_S, left_s))
        flight = self._flight
        flight.tell_refused()
        left = list(flight.pending)
        if flight.client is not None:
            flight.client.end()
            flight.client.join(JOIN_S)
        error = NotAcknowledged(
            f"{self._options.place} did not acknowledge within {timeout_s:g} s of its close"
        )
        for attempt in left:
            flight.refuse(attempt, error)
        self._start_empty()

    def forget(self) -> None:
        """In a forked child: leave everything to the parent and start empty."""
        client = self._flight.client
        if client is not None:
            client.abandon()
            self._inherited.append(client)
        self._start_empty()

    def _hand_over(self, attempt: Attempt) -> bool:
        """Give an attempt to the client; False if there is none that can take it."""
        client = self._flight.ready
        if client is None:
            return False
        try:
            return client.send(attempt.out, attempt.acknowledged, attempt.failed)
        except Exception as error:
            refusal = self._connector.refusal(attempt.out, error)
            if refusal is not None:
                self._flight.refused.append((attempt, refusal))
            return refusal is not None

    def _introduce(self, attempt: Attempt) -> bool:
        """The client does not know this topic yet, most likely: tell it, and try once more."""
        client = self._flight.ready
        try:
            known = client is not None and client.partitions(attempt.out.topic) is not None
        except Exception as error:
            _log.info("the first look at %s failed: %s", attempt.out.topic, error)
            return False
        return known and attempt.flight is self._flight and self._hand_over(attempt)

    def _wait(self, attempt: Attempt) -> None:
        waiting = self._waiting.setdefault(attempt.out.topic, Waiting(time.monotonic()))
        waiting.attempts.append(attempt)

    def _yield_sometimes(self) -> None:
        self._until_yield -= 1
        if self._until_yield <= 0:
            self._until_yield = YIELD_EVERY
            time.sleep(0)

    def _replace_if_dead(self) -> None:
        flight = self._flight
        if flight.client is not None:
            if flight.failure is None and flight.client.is_running:
                return
            self._end(flight.failure or RuntimeError("its thread has ended"))
        if self._connector.is_due:
            self._connect()

    def _connect(self) -> None:
        """Try to give the flight a client; `_trouble` says why not."""
        client = self._connector.connect()
        self._trouble = self._connector.trouble
        if client is not None:
            self._flight.client = client
            self._connected_at = time.monotonic()

    def _end(self, error: Exception) -> None:
        """End the client; what it had waits for the next one."""
        flight = self._flight
        client = flight.client
        assert client is not None
        flight.failure = flight.failure or error
        client.end()
        client.join(JOIN_S)
        _log.warning(
            "the Kafka client is replaced, %d messages are sent again: %r", len(flight.pending), error
        )
        self._flight = Flight(None, self._connector.refusal)
        self._waiting.clear()
        for attempt in flight.surrender():
            self._wait(self._flight.take(attempt.out, attempt.on_sent, attempt.since))

    def _look_for(self, topic: str) -> None:
        """Hand over what waits for `topic`, if the client knows it by now."""
        client = self._flight.ready
        if client is None:
            return
        waiting = self._waiting[topic]
        try:
            known = client.partitions(topic)
        except Exception as error:
            self._trouble = self._connector.explain(error, f"writing to {topic}")
            if not self._trouble.retriable:
                self._refuse_topic(topic, self._trouble)
            return
        while waiting.attempts and self._hand_over(waiting.attempts[0]):
            waiting.attempts.popleft()
            self._yield_sometimes()
        if not waiting.attempts:
            del self._waiting[topic]
            return
        answer, waiting.answer = waiting.answer, client.ask_again()
        if answer is None or time.monotonic() - max(waiting.since, self._connected_at) < MISSING_TOPIC_S:
            return
        error_told = answer.error(topic)
        if error_told is not None:
            self._refuse_topic(topic, self._connector.explain(error_told, f"writing to {topic}"))
        elif known is not None and answer.has_come:
            number = waiting.attempts[0].out.partition
            reason = f"partition {number} of {topic} does not exist: it has 0 to {known - 1}"
            self._flight.refuse(waiting.attempts.popleft(), LogUnusable(reason))

    def _refuse_topic(self, topic: str, error: LogError) -> None:
        """Give up all that goes to a topic which is gone or closed to us."""
        client, waiting = self._flight.client, self._waiting.pop(topic)
        assert client is not None
        lost = [attempt for attempt in list(self._flight.pending) if attempt.out.topic == topic]
        for attempt in lost:
            self._flight.refuse(attempt, error)
        client.forget_topic(topic)
        if len(lost) > len(waiting.attempts):  # the client holds the others, and would write them one day
            self._end(error)

    def _watch(self) -> None:
        """Replace a client that gets answers and yet acknowledges nothing."""
        client, oldest = self._flight.ready, self._flight.oldest()
        if client is None:
            return
        if oldest is None:
            self._trouble = None
        if (stuck := self._stuck.look(client, oldest, self._connected_at)) is not None:
            self._end(stuck)
