"""`Producer.send`: match, encode, group, hand over. The first line of the walk, on one screen."""

import atexit
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Final, TypedDict, Unpack

from producer.buffering import BufferContext, Buffered, BufferSlot
from producer.config import load
from producer.dispatch import open_dispatcher
from producer.dispatch.contract import Dispatcher, NotDispatched
from producer.encoding import encode
from producer.errors import InvalidEvent, LogError
from producer.headers import check as check_headers
from producer.ids import check_event_id, delivery_ids, new_event_id
from producer.matching import validate_event_name
from producer.model import NOTHING
from producer.receipts import Accounts, Receipt
from producer.sending import Sending
from producer.subscriptions.settings import Subscribers
from producer.unsent import Unsent

#: `flush()` and the flush at exit wait this long for the log unless told otherwise.
FLUSH_TIMEOUT_S: Final = 30.0

_logger = logging.getLogger("thorn.producer")


class SendOptions(TypedDict, total=False):
    """What a `send` may say beside name and data.

    sender: only subscriptions of this sender, and those of none. event_id: 1-128 characters of
    ``[A-Za-z0-9_-]``; the same id yields the same delivery ids. headers: for these deliveries only.
    timeout_s: total seconds of one attempt, at most 60. expires_in_s: give up what is not delivered by then.
    context: keyword arguments for callable subscribers. subscribers: extra ones for this event only, in any
    form that the settings take.
    """

    sender: str | None
    event_id: str | None
    headers: Mapping[str, str] | None
    timeout_s: float | None
    expires_in_s: float | None
    context: Mapping[str, Any] | None
    subscribers: object


@dataclass(frozen=True, slots=True)
class Stats:
    """Plain numbers for any metrics library. Deliveries, unless the name says otherwise."""

    sent: int
    acknowledged: int
    failed: int
    unmatched_events: int
    buffered_bytes: int
    blocked_s: float


class Producer:
    """Sends events. Safe from threads and greenlets, and after a fork; flushed at exit.

    settings: keyword arguments in lower case without ``THORN_``; they win over the environment and the
    settings file. on_error: called as ``on_error(receipt, error)`` for a send that failed while nobody waited
    on its Receipt; it runs on the dispatcher's thread and must not block. Raises `ConfigurationError` for
    settings that can't be.
    """

    def __init__(self, **settings: object) -> None:
        on_error: Any = settings.pop("on_error", None)
        loaded = load(settings)
        self.settings = loaded.settings
        for warning in loaded.warnings:
            _logger.warning("%s", warning)
        self._subscribers = Subscribers(self.settings.subscribers)
        self._dispatcher: Dispatcher = open_dispatcher(self.settings)
        self._slot = BufferSlot()
        self._unsent = Unsent(self._dispatcher)
        self._accounts = Accounts(on_error)
        atexit.register(self.close)

    def send(self, name: str, data: object = None, **options: Unpack[SendOptions]) -> Receipt:
        """Owe `data` to every subscriber whose pattern matches `name`, and return at once.

        ``receipt.wait()`` returns when the log has acknowledged: from then on delivery happens at least once.
        Raises an `EventError` if the event can't be sent as it is, a `LogError` if the log can't take it;
        then nothing of it was sent.
        """
        sending = self._prepare(name, data, options)
        if not sending.ids:
            self._accounts.unmatched_events += 1
            return sending.receipt
        buffered = self._slot.current()
        if buffered is not None:
            buffered.add(sending, self._unsent.size_bytes)
        else:
            self._dispatch(sending)
        self._accounts.sent += len(sending.ids)
        return sending.receipt

    def buffer_events(
        self, flush_freq: int | None = None, flush_timeout: float | None = None
    ) -> BufferContext:
        """Collect the sends of this thread, greenlet or task until the block ends. See `BufferContext`."""
        return BufferContext(
            self._slot, self._flush_buffer, self.settings.max_buffered_bytes, flush_freq, flush_timeout
        )

    def flush(self, timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
        """Send what an open buffer and earlier failed flushes hold, and wait for the log.

        False if time ran out.

        Raises `FlushFailed` if some of it can't be handed over.
        """
        buffered = self._slot.current()
        self._unsent.dispatch(buffered.take() if buffered is not None else ())
        return self._dispatcher.flush(timeout_s)

    def stats(self) -> Stats:
        """Counters since this producer was made."""
        accounts = self._accounts
        return Stats(
            sent=accounts.sent,
            acknowledged=accounts.acknowledged,
            failed=accounts.failed,
            unmatched_events=accounts.unmatched_events,
            buffered_bytes=self._dispatcher.buffered_bytes + self._unsent.size_bytes,
            blocked_s=self._dispatcher.blocked_s,
        )

    def close(self, timeout_s: float = FLUSH_TIMEOUT_S) -> None:
        """Flush within `timeout_s` and release everything.

        Happens at exit by itself; closing twice is fine.
        """
        atexit.unregister(self.close)
        try:
            self._unsent.dispatch(())
        finally:
            self._dispatcher.close(timeout_s)

    def __enter__(self) -> "Producer":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def _prepare(self, name: str, data: object, options: SendOptions) -> Sending:
        """Match and encode.

        Everything that can be wrong with an event shows here, before anything is handed over.
        """
        now = time.time()
        validate_event_name(name)
        if options:
            _check_options(options)
        event_id = options.get("event_id") or new_event_id()
        headers, timeout_s, expires_in_s = _request_options(options)
        recipients = self._subscribers.recipients(
            name, options.get("sender"), options.get("context") or NOTHING, extra=options.get("subscribers")
        )
        ids = delivery_ids(event_id, recipients.subs)
        sending = Sending(
            event=name,
            event_id=event_id,
            at=now,
            bodies={content_type: encode(data, content_type) for content_type in recipients.types},
            recipients=recipients,
            ids=ids,
            receipt=Receipt(event_id, ids, self._accounts),
            headers=headers,
            timeout_s=timeout_s,
            expires_at=None if expires_in_s is None else now + expires_in_s,
        )
        sending.check_size()
        return sending

    def _dispatch(self, sending: Sending) -> None:
        if self._unsent:  # what an earlier flush kept stays ahead
            self._unsent.dispatch(())
        try:
            self._dispatcher.dispatch((sending,))
        except NotDispatched as failure:
            if isinstance(failure.__cause__, LogError):
                raise failure.__cause__ from None
            raise

    def _flush_buffer(self, buffered: Buffered) -> None:
        self._unsent.dispatch(buffered.take())


def _check_options(options: SendOptions) -> None:
    unknown = options.keys() - SendOptions.__annotations__.keys()
    if unknown:
        known = ", ".join(SendOptions.__annotations__)
        raise TypeError(f"send() takes no option {sorted(unknown)[0]!r}: it takes {known}")
    if options.get("event_id") is not None:
        check_event_id(options["event_id"])
    sender = options.get("sender")
    if sender is not None and not isinstance(sender, str):
        raise InvalidEvent(f"sender {sender!r:.80} must be a text")


def _request_options(options: SendOptions) -> tuple[Mapping[str, str], float | None, float | None]:
    headers = options.get("headers")
    checked = check_headers(headers, InvalidEvent) if headers else NOTHING
    timeout_s = _seconds("timeout_s", options.get("timeout_s"), at_most=60.0)
    return checked, timeout_s, _seconds("expires_in_s", options.get("expires_in_s"), at_most=float("inf"))


def _seconds(name: str, value: object, at_most: float) -> float | None:
    if value is None:
        return None
    if (
        isinstance(value, bool)
        or not isinstance(value, int | float)
        or not 0 < value <= at_most
        or value == float("inf")
    ):
        rule = "more than 0" if at_most == float("inf") else f"more than 0 and at most {at_most:g}"
        raise InvalidEvent(f"{name} {value!r:.40} must be a number of seconds, {rule}")
    return float(value)
