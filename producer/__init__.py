"""Send events to webhook subscribers.

import producer

producer.configure(log="sqlite:///thorn.db", subscribers={"order.*": ["https://example.com/hooks"]})
receipt = producer.send("order.created", {"id": 7})
receipt.wait(timeout_s=5)  # the log has acknowledged it, or raises
"""

from typing import Unpack

from producer.buffering import BufferContext
from producer.client import FLUSH_TIMEOUT_S, Producer, SendOptions, Stats
from producer.default import configure, get
from producer.errors import (
    BodyTooLarge,
    BufferFull,
    ConfigurationError,
    DispatcherError,
    EventError,
    FlushFailed,
    InvalidEvent,
    LogError,
    LogFull,
    LogUnavailable,
    LogUnusable,
    NotAcknowledged,
    NotFlushed,
    PayloadError,
    SubscriptionError,
    ThornError,
)
from producer.event import Event
from producer.model import Subscription
from producer.receipts import Receipt, Status

__all__ = [
    "BodyTooLarge",
    "BufferContext",
    "BufferFull",
    "ConfigurationError",
    "DispatcherError",
    "Event",
    "EventError",
    "FlushFailed",
    "InvalidEvent",
    "LogError",
    "LogFull",
    "LogUnavailable",
    "LogUnusable",
    "NotAcknowledged",
    "NotFlushed",
    "PayloadError",
    "Producer",
    "Receipt",
    "SendOptions",
    "Stats",
    "Status",
    "Subscription",
    "SubscriptionError",
    "ThornError",
    "buffer_events",
    "configure",
    "flush",
    "send",
    "stats",
]


def send(name: str, data: object = None, **options: Unpack[SendOptions]) -> Receipt:
    """`Producer.send` of the configured producer."""
    return get().send(name, data, **options)


def flush(timeout_s: float = FLUSH_TIMEOUT_S) -> bool:
    """`Producer.flush` of the configured producer."""
    return get().flush(timeout_s)


def buffer_events(flush_freq: int | None = None, flush_timeout: float | None = None) -> BufferContext:
    """`Producer.buffer_events` of the configured producer."""
    return get().buffer_events(flush_freq, flush_timeout)


def stats() -> Stats:
    """`Producer.stats` of the configured producer."""
    return get().stats()
