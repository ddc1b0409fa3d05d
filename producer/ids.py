"""Event ids and delivery ids: stable, so that a repeated send is a repeat and not a second delivery."""

import re
from typing import Final
from uuid import UUID, uuid5

from producer.errors import InvalidEvent

#: Namespace of all delivery ids. It never changes: receivers deduplicate by these ids.
DELIVERY_NAMESPACE: Final = UUID("7d8f0a52-6c0e-5b7e-9d55-0a4b6f3c2e11")

_EVENT_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def delivery_id(event_id: str, subscription_id: str) -> str:
    """uuid5 of ``event_id/subscription id``: the same event sent twice owes the same deliveries."""
    return str(uuid5(DELIVERY_NAMESPACE, f"{event_id}/{subscription_id}"))


def check_event_id(event_id: object) -> str:
    """A caller's own event id, or `InvalidEvent`."""
    if not isinstance(event_id, str) or not _EVENT_ID.fullmatch(event_id):
        raise InvalidEvent(
            f"event_id {event_id!r:.140} must be 1 to 128 characters of A-Z, a-z, 0-9, '_' and '-': "
            "leave it out to get a random one"
        )
    return event_id
