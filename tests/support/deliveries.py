"""Deliveries and rows as tests need them."""

from dataclasses import replace
from typing import Any

from producer.model import Delivery, Life
from thorn_worker.outcome import Death
from thorn_worker.store.contract import DeadLetter, Pending

HOST = "https://a.example:443"


def delivery(name: str = "d1", *, sub: str = "s1", **changes: Any) -> Delivery:
    """A small delivery with this id."""
    plain = Delivery(
        id=name,
        event="order.created",
        event_id="e1",
        at=1_700_000_000.0,
        sub=sub,
        url="https://a.example/hooks",
        type="application/json",
        body=b'{"id":7}',
    )
    return replace(plain, **changes)


def pending(topic_id: str, partition: int, offset: int, index: int = 0, **changes: Any) -> Pending:
    """A row of that life, due at 100."""
    plain = Pending(
        life=Life(topic_id, partition, offset, index),
        host=HOST,
        delivery=delivery(f"d{offset}.{index}"),
        appended_at=50.0 + offset,
        due_at=100.0,
        reason="failed",
    )
    return replace(plain, **changes)


def letter(life: Life, **changes: Any) -> DeadLetter:
    """A dead letter of that life."""
    plain = DeadLetter(
        life=life,
        host=HOST,
        delivery=delivery(f"d{life.offset}.{life.index}"),
        appended_at=50.0,
        died_at=200.0,
        reason=Death.EXHAUSTED,
    )
    return replace(plain, **changes)
