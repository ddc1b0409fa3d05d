"""Sending: what one `send` owes, on its way through buffer and dispatcher."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from producer.errors import BodyTooLarge
from producer.model import Delivery
from producer.packing import Parcel, join_batch, map_header, packed_items
from producer.receipts import Receipt
from producer.recipients import Recipients, Style
from producer.wire import MAX_RECORD_BYTES

#: A body of this size fits into a record, with all that can stand around it.
_SURELY_FITS_BYTES: Final = MAX_RECORD_BYTES - 64 * 1024

#: Items that every delivery has: id, event, event_id, at, sub, url, type, body.
_ITEMS: Final = 8
#: Key and header of a delivery id, which is always 36 characters long.
_BEFORE_ID: Final = packed_items({"id": "-" * 36})[:-36]


# Frozen it would take three times as long to make, and each `send` makes one.
@dataclass(slots=True, kw_only=True, eq=False)
class Sending:
    """One `send`, or what is left of it: an event, the recipients it is owed to, and the receipt.

    Nobody changes it.

    bodies: by content type. ids: of the deliveries, in the order of the recipients. timeout_s: None leaves it
    to each subscription.
    """

    event: str
    event_id: str
    at: float
    bodies: Mapping[str, bytes] = field(repr=False)
    headers: Mapping[str, str]
    timeout_s: float | None
    expires_at: float | None
    recipients: Recipients
    ids: tuple[str, ...]
    receipt: Receipt

    @property
    def deliveries(self) -> tuple[Delivery, ...]:
        """What is owed, one by one, in the order of the recipients. Made anew by each call."""
        return tuple(
            Delivery(
                id=delivery_id,
                event=self.event,
                event_id=self.event_id,
                at=self.at,
                sub=recipient.sub,
                url=recipient.url,
                type=recipient.style.type,
                body=self.bodies[recipient.style.type],
                lookup=recipient.style.lookup,
                ordered=recipient.style.ordered,
                headers=self.headers,
                timeout_s=recipient.style.timeout_s if self.timeout_s is None else self.timeout_s,
                expires_at=self.expires_at,
            )
            for recipient, delivery_id in zip(self.recipients.each, self.ids, strict=True)
        )

    @property
    def size_bytes(self) -> int:
        """Bytes of the bodies, each counted once per delivery."""
        return sum(len(self.bodies[recipient.style.type]) for recipient in self.recipients.each)

    def parcels(self) -> list[Parcel]:
        """`deliveries`, packed: several times faster than to make them and pack them one by one."""
        event = packed_items({"event": self.event, "event_id": self.event_id, "at": self.at})
        styled = {style: self._styled(style) for style in self.recipients.styles}
        parcels: list[Parcel] = []
        for recipient, delivery_id in zip(self.recipients.each, self.ids, strict=True):
            beginning, body, end = styled[recipient.style]
            parcels.append((beginning, delivery_id.encode(), event, recipient.items, body, end))
        return parcels

    def _styled(self, style: Style) -> tuple[bytes, bytes, bytes]:
        """Beginning, body and end of a parcel of this style."""
        timeout_s = style.timeout_s if self.timeout_s is None else self.timeout_s
        fields: dict[str, Any] = {}
        if style.lookup:
            fields["lookup"] = True
        if style.ordered:
            fields["ordered"] = True
        if self.headers:
            fields["headers"] = dict(self.headers)
        if timeout_s is not None:
            fields["timeout_s"] = timeout_s
        if self.expires_at is not None:
            fields["expires_at"] = self.expires_at
        beginning = map_header(_ITEMS + len(fields)) + _BEFORE_ID
        return beginning, self.bodies[style.type], packed_items(fields)

    def part(self, positions: Collection[int]) -> "Sending":
        """The deliveries at these positions, in the order of the recipients."""
        if len(positions) == len(self.ids):
            return self
        ascending = sorted(positions)
        return replace(
            self,
            recipients=Recipients.of(self.recipients.each[position] for position in ascending),
            ids=tuple(self.ids[position] for position in ascending),
        )

    def check_size(self) -> None:
        """Raise `BodyTooLarge` if some delivery can't fit into a record of its own."""
        if all(len(body) <= _SURELY_FITS_BYTES for body in self.bodies.values()):
            return
        largest = max(len(join_batch([parcel])) for parcel in self.parcels())
        if largest > MAX_RECORD_BYTES:
            raise BodyTooLarge(
                f"the body for {self.event!r} makes a record of {largest} bytes; a record holds at most "
                f"{MAX_RECORD_BYTES}: send a reference to the data instead of the data"
            )
