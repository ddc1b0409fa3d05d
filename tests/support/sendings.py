"""Sendings as tests of dispatchers need them."""

from producer.model import NOTHING, Subscription
from producer.receipts import Receipt
from producer.recipients import recipients_of
from producer.sending import Sending


def sending(receipt: Receipt, *urls: str, body: bytes = b'{"id":7}') -> Sending:
    """What this receipt stands for, to these URLs, the first of its delivery ids to the first one."""
    subscriptions = [
        Subscription(pattern="*", url=url, id=f"s{number}") for number, url in enumerate(urls, start=1)
    ]
    return Sending(
        event="order.created",
        event_id=receipt.event_id,
        at=1_700_000_000.0,
        bodies={"application/json": body},
        headers=NOTHING,
        timeout_s=None,
        expires_at=None,
        recipients=recipients_of(subscriptions),
        ids=receipt.delivery_ids,
        receipt=receipt,
    )
