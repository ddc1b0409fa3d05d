"""Event ids and delivery ids: stable, so that a repeated send is a repeat and not a second delivery."""

import hashlib
import os
import re
from collections.abc import Iterable
from typing import Final

from producer.errors import InvalidEvent

#: Namespace of all delivery ids. It never changes: receivers deduplicate by these ids.
DELIVERY_NAMESPACE: Final = "7d8f0a52-6c0e-5b7e-9d55-0a4b6f3c2e11"

_PREFIX: Final = hashlib.sha1(bytes.fromhex(DELIVERY_NAMESPACE.replace("-", "")), usedforsecurity=False)
#: First digit of the fourth group: the two highest bits are the variant (RFC 9562 section 4.1).
_VARIANT: Final = {digit: "89ab"[int(digit, 16) & 3] for digit in "0123456789abcdef"}

_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def delivery_ids(event_id: str, subscription_ids: Iterable[str]) -> tuple[str, ...]:
    """For each, the uuid5 of ``event_id/subscription id`` (RFC 9562 section 5.5): the same event sent twice
    owes the same deliveries.

    Written out, because it is made for every delivery and `uuid` takes several times as long.
    """
    of_event = _PREFIX.copy()
    of_event.update(f"{event_id}/".encode())
    found = []
    for subscription_id in subscription_ids:
        digest = of_event.copy()
        digest.update(subscription_id.encode())
        text = digest.digest()[:16].hex("-", 6)
        found.append(f"{text[:13]}-5{text[14:17]}-{_VARIANT[text[17]]}{text[18:]}")
    return tuple(found)


def new_event_id() -> str:
    """A random UUID (RFC 9562 section 5.4), as `uuid.uuid4` makes it, without the object around it."""
    text = os.urandom(16).hex("-", 6)
    return f"{text[:13]}-4{text[14:17]}-{_VARIANT[text[17]]}{text[18:]}"


def check_event_id(event_id: object) -> str:
    """A caller's own event id, or `InvalidEvent`."""
    if not isinstance(event_id, str) or not _EVENT_ID.fullmatch(event_id):
        raise InvalidEvent(
            f"event_id {event_id!r:.140} must be 1 to 128 characters of A-Z, a-z, 0-9, '_' and '-': "
            "leave it out to get a random one"
        )
    return event_id
