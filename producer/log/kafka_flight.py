"""What one Kafka client was given and has not acknowledged yet."""

import logging
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final, TypeAlias

from producer.errors import LogError
from producer.log.kafka_client import Answer, Client, Outgoing, Sent

#: Called with (offset, None) once the message is durable, or with (None, error) if it never will be.
OnSent: TypeAlias = Callable[[int | None, LogError | None], None]

_log = logging.getLogger("thorn.kafka")

#: Errors that concern one message, by the name of kafka-python's class: others would fare better.
_REFUSALS: Final = frozenset(
    {
        "MessageSizeTooLargeError",
        "RecordListTooLargeError",
        "InvalidRecordError",
        "InvalidTimestampError",
        "InvalidTopicError",
        "PolicyViolationError",
        "TopicAuthorizationFailedError",
        "ClusterAuthorizationFailedError",
        "UnsupportedForMessageFormatError",
        "UnsupportedCompressionTypeError",
    }
)


@dataclass(slots=True, eq=False)
class Attempt:
    """One message given to one client. since: when its owner sent it, on the monotonic clock."""

    flight: "Flight"
    out: Outgoing
    on_sent: OnSent
    size: int
    since: float

    def acknowledged(self, sent: Sent) -> None:
        """kafka-python's callback, on the client's own thread."""
        flight = self.flight
        if flight.failure is None and flight.pending.pop(self, False):
            flight.bytes_acknowledged += self.size
            tell(self.on_sent, sent.offset, None)

    def failed(self, error: Exception) -> None:
        """kafka-python's callback, on the client's own thread."""
        self.flight.on_failure(self, error)


@dataclass(slots=True, eq=False)
class Flight:
    """The messages that are on their way with one client, in the order of `send`.

    Whoever takes an attempt out of `pending` answers for it, so that a message is counted once even while its
    client is being replaced: dict.pop is one step to all threads. Once `failure` is set the client's
    acknowledgements count no more. Everything still pending then goes to the next client, since a later
    message that overtook a failed one has to come after it once more.

    client: None until one could be connected. refusal: what an error means that concerns its message alone;
    None for all other errors. refused: what the client did not even take, to be told by `tell_refused`: a
    `send` must not call back.
    """

    client: Client | None
    refusal: Callable[[Outgoing, Exception], LogError | None]
    pending: dict[Attempt, bool] = field(default_factory=dict)
    refused: list[tuple[Attempt, LogError]] = field(default_factory=list)
    failure: Exception | None = None
    bytes_taken: int = 0
    bytes_acknowledged: int = 0
    bytes_refused: int = 0

    @property
    def ready(self) -> Client | None:
        """The client, if it can take messages."""
        return self.client if self.failure is None else None

    @property
    def bytes(self) -> int:
        """Of what is pending."""
        return self.bytes_taken - self.bytes_acknowledged - self.bytes_refused

    def take(self, out: Outgoing, on_sent: OnSent, since: float | None = None) -> Attempt:
        """Note a message as pending; it is not sent by this."""
        size = len(out.value or b"") + len(out.key or b"")
        attempt = Attempt(self, out, on_sent, size, time.monotonic() if since is None else since)
        self.pending[attempt] = True
        self.bytes_taken += size
        return attempt

    def on_failure(self, attempt: Attempt, error: Exception) -> None:
        """Any failed message ends the client.

        kafka-python's client either fails all that follows with the same error, or never sends again, or goes
        on with what should come after the failed message. Ended inside this callback it does none of that,
        and what it still held fails with the error of its end.
        """
        first = self.failure is None
        if first:
            self.failure = error
        refusal = self.refusal(attempt.out, error)
        if refusal is not None:
            self.refuse(attempt, refusal)
        if first and self.client is not None:
            self.client.end()

    def refuse(self, attempt: Attempt, error: LogError) -> None:
        """Give up one message."""
        if self.pending.pop(attempt, False):
            self.bytes_refused += attempt.size
            tell(attempt.on_sent, None, error)

    def tell_refused(self) -> None:
        """Give up what the client did not take."""
        for attempt, error in self.refused:
            self.refuse(attempt, error)
        self.refused.clear()

    def oldest(self) -> Attempt | None:
        """The pending attempt that was sent first."""
        while self.pending:
            try:
                return next(iter(self.pending))
            except (StopIteration, RuntimeError):  # the client's thread took one just now
                continue
        return None

    def surrender(self) -> Iterator[Attempt]:
        """Take out everything that is pending, in order."""
        for attempt in list(self.pending):
            if self.pending.pop(attempt, False):
                self.bytes_taken -= attempt.size
                yield attempt


@dataclass(slots=True)
class Waiting:
    """Messages of one topic that the client was not given, in order. since: when the first began to wait."""

    since: float
    attempts: deque[Attempt] = field(default_factory=deque)
    answer: Answer | None = None


def tell(on_sent: OnSent, offset: int | None, error: LogError | None) -> None:
    """Call back; an exception there must neither vanish nor stop kafka-python's thread."""
    try:
        on_sent(offset, error)
    except Exception:
        _log.exception("the callback of a Kafka message raised, offset %s, error %s", offset, error)


def is_refusal(error: Exception) -> bool:
    """Whether `error` condemns its message for ever, and not only the client."""
    names = (kind.__name__ for kind in type(error).__mro__)
    return isinstance(error, TypeError | ValueError) or not _REFUSALS.isdisjoint(names)
