"""Receipt: what became of one `send`, as far as the log (or the process) can tell."""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from producer.errors import LogError, NotAcknowledged, NotFlushed

#: A failing log fails every send; one line in this many seconds tells it.
COMPLAINT_INTERVAL_S: Final = 10.0

_logger = logging.getLogger("thorn.producer")


class Status(StrEnum):
    """States of a Receipt. BUFFERED and PENDING can change, the others are final."""

    BUFFERED = "buffered"  # in an open buffer_events block
    PENDING = "pending"  # handed over, not yet acknowledged
    ACKNOWLEDGED = "acknowledged"  # durable: from here on at least once
    FAILED = "failed"
    UNMATCHED = "unmatched"  # nobody subscribed; nothing to wait for
    DISABLED = "disabled"  # the disabled dispatcher matched it and sent nothing


@dataclass(slots=True)
class Accounts:
    """What became of all sends of one producer. Counts are deliveries, unless the name says otherwise.

    on_error: told of each failed send that nobody waits for.
    """

    on_error: "Callable[[Receipt, LogError], None] | None" = None
    sent: int = 0
    acknowledged: int = 0
    failed: int = 0
    unmatched_events: int = 0
    complained_at: float = float("-inf")

    def complain(self, receipt: "Receipt", error: LogError) -> None:
        """A send failed behind everybody's back: say so, without flooding the service's log."""
        now = time.monotonic()
        if now - self.complained_at >= COMPLAINT_INTERVAL_S:
            self.complained_at = now
            _logger.error(
                "event %s was not sent: %s (%d deliveries failed so far)",
                receipt.event_id,
                error,
                self.failed,
            )
        if self.on_error is not None:
            try:
                self.on_error(receipt, error)
            except Exception:  # the next receipt of this failure must still hear of it
                _logger.exception("on_error raised for event %s", receipt.event_id)


class Receipt:
    """Returned by `send`, before the log has acknowledged. `wait` is the guarantee.

    event_id: the event's id. delivery_ids: one per matched subscription, in their order.

    Acknowledgements arrive on one thread (the dispatcher's), waiting happens on any; each side sets its own
    mark before it looks at the other's, so no wake-up is missed.
    """

    __slots__ = ("_accounts", "_error", "_event", "_outstanding", "_status", "delivery_ids", "event_id")

    def __init__(self, event_id: str, delivery_ids: tuple[str, ...], accounts: Accounts) -> None:
        self.event_id = event_id
        self.delivery_ids = delivery_ids
        self._accounts = accounts
        self._outstanding = len(delivery_ids)
        self._status = Status.PENDING if delivery_ids else Status.UNMATCHED
        self._error: LogError | None = None
        self._event: threading.Event | None = None

    @property
    def status(self) -> Status:
        """Where the send stands now."""
        return self._status

    @property
    def error(self) -> LogError | None:
        """Why it failed, None unless `status` is FAILED."""
        return self._error

    def wait(self, timeout_s: float | None = None) -> None:
        """Return once the log has acknowledged every delivery; at once if there is none.

        Raises the `LogError` of a failed send, `NotAcknowledged` when `timeout_s` passes first (the send goes
        on), and `NotFlushed` inside an open ``buffer_events``, where waiting could never end.
        """
        if self._status is Status.BUFFERED:
            raise NotFlushed(
                f"event {self.event_id} is still in an open buffer_events: flush the buffer before you wait"
            )
        if self._status is Status.PENDING:
            event = self._event = self._event or threading.Event()
            if self._status is Status.PENDING and not event.wait(timeout_s):
                raise NotAcknowledged(
                    f"the log did not acknowledge event {self.event_id} within {timeout_s} s: wait again, "
                    "or send it again with the same event_id"
                )
        if self._error is not None:
            raise self._error

    def buffered(self) -> None:
        """The sending (or what is left of it) waits in a buffer. A failure stands."""
        if self._status is Status.PENDING:
            self._status = Status.BUFFERED

    def handed_over(self) -> None:
        """The sending is about to leave the buffer. A failure of another part of it stands."""
        if self._status is Status.BUFFERED:
            self._status = Status.PENDING

    def acknowledged(self, deliveries: int) -> None:
        """That many deliveries more are durable. Called by the dispatcher."""
        self._outstanding -= deliveries
        self._accounts.acknowledged += deliveries
        if self._outstanding <= 0 and self._status is Status.PENDING:  # below 0: a part was sent twice
            self._finish(Status.ACKNOWLEDGED)

    def failed(self, error: LogError) -> None:
        """Some delivery will not become durable. The first failure stays. Called by the dispatcher."""
        if self._status not in (Status.PENDING, Status.BUFFERED):
            return
        self._error = error
        self._accounts.failed += max(self._outstanding, 0)
        waited_for = self._event is not None
        self._finish(Status.FAILED)
        if not waited_for:
            self._accounts.complain(self, error)

    def settled(self, deliveries: int, error: LogError | None) -> None:
        """That many deliveries are durable, or they failed. Called by the dispatcher."""
        if error is None:
            self.acknowledged(deliveries)
        else:
            self.failed(error)

    def disabled(self) -> None:
        """Nothing is sent, by choice of the settings."""
        self._finish(Status.DISABLED)

    def _finish(self, status: Status) -> None:
        self._status = status
        if self._event is not None:
            self._event.set()

    def __repr__(self) -> str:
        outstanding = f"{self._outstanding} of {len(self.delivery_ids)} outstanding"
        return f"Receipt({self.event_id}, {self._status}, {outstanding})"
