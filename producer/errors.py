"""Every error the library raises: one root, branches by who must act.

``retriable`` is a fact about the class: True where the same call may succeed a moment later without anybody
changing anything.
"""

from typing import ClassVar


class ThornError(Exception):
    """Root of all errors. The message names the value, the rule it broke, and what to do."""

    retriable: ClassVar[bool] = False


class ConfigurationError(ThornError):
    """A setting was refused before any I/O. The operator must change the settings."""


class SubscriptionError(ConfigurationError, ValueError):
    """A subscriber (URL, pattern, secret, header, limit) was refused where it was configured."""


class EventError(ThornError):
    """The caller of ``send`` must change what it passes; nothing of that call was sent."""


class InvalidEvent(EventError, ValueError):
    """An event name, event id, header, timeout or expiry breaks its rule."""


class PayloadError(EventError, TypeError):
    """The data cannot be encoded as the content type that a subscription asks for."""


class BodyTooLarge(EventError, ValueError):
    """One encoded body does not fit into a record (`producer.wire.MAX_RECORD_BYTES`)."""


class NotFlushed(EventError, RuntimeError):
    """``Receipt.wait`` inside an open ``buffer_events``: nothing has left yet, so waiting can't end."""


class DispatcherError(ConfigurationError):
    """The dispatcher that the settings name is unknown or cannot be loaded."""


class LogError(ThornError):
    """The log cannot take or give what was asked of it. The operator of the log must act."""


class LogUnusable(LogError):
    """The log cannot be opened: missing folder, not ours, read-only, corrupt, or of a newer schema."""


class LogUnavailable(LogError):
    """The log is there but does not answer just now."""

    retriable = True


class LogFull(LogError):
    """The SQLite log has reached ``max_log_bytes``; only ``send`` is refused, deliveries go on."""

    retriable = True


class BufferFull(LogError):
    """``max_buffered_bytes`` are waiting for the log and none left within ``max_block`` seconds."""

    retriable = True


class NotAcknowledged(LogError, TimeoutError):
    """The log did not acknowledge in time. The record may still arrive: send it again under the same
    ``event_id`` and receivers see the same delivery ids."""

    retriable = True


class FlushFailed(LogError):
    """A flush stopped half-way; what was not sent is still in the buffer, in order, ahead of later sends.

    kept: number of deliveries still in the buffer.
    """

    retriable = True

    def __init__(self, message: str, kept: int) -> None:
        super().__init__(message)
        self.kept = kept


class WireError(ThornError):
    """A record's value cannot be read. It never stops a partition."""


class MalformedRecord(WireError):
    """The value is not a record of ours: garbage, wrong types, or missing fields."""


class UnsupportedRecord(WireError):
    """The value was written by a newer release than this one reads."""
