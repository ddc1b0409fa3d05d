"""A service in a process of its own: sends events, and writes down the ids of acknowledged deliveries.

``python -m tests.support.sending PLAN``, where PLAN is a JSON object with the fields of `Plan`.
"""

import json
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import producer


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to send, and where the ids go.

    group: events in the air before their receipts are waited for. per_s: events per second, 0 for no limit.
    pad_bytes: size of the payload. patience_s: how long each receipt is waited for. stubborn: what the log
    did not acknowledge is sent again. options: of each `send`.
    """

    log: str
    ledger: str
    subscribers: Mapping[str, Any]
    count: int = 1
    event: str = "order.created"
    group: int = 50
    per_s: float = 0.0
    pad_bytes: int = 100
    patience_s: float = 30.0
    stubborn: bool = False
    options: Mapping[str, Any] = field(default_factory=dict)


def acknowledged(
    service: producer.Producer, receipt: producer.Receipt, plan: Plan, data: Mapping[str, Any]
) -> None:
    """Wait for the log; a stubborn service sends the same event again until it has taken it."""
    while True:
        try:
            receipt.wait(plan.patience_s)
            return
        except producer.NotAcknowledged:
            if not plan.stubborn:
                raise
            receipt = service.send(plan.event, data, event_id=receipt.event_id, **plan.options)


def run(plan: Plan) -> None:
    """Send it all."""
    began = time.monotonic()
    with (
        producer.Producer(log=plan.log, subscribers=plan.subscribers) as service,
        Path(plan.ledger).open("ab", buffering=0) as ledger,
    ):
        for start in range(0, plan.count, plan.group):
            numbers = range(start, min(start + plan.group, plan.count))
            if plan.per_s:
                time.sleep(max(0.0, began + start / plan.per_s - time.monotonic()))
            data = {"pad": "x" * plan.pad_bytes}
            receipts = [service.send(plan.event, {**data, "n": n}, **plan.options) for n in numbers]
            for n, receipt in zip(numbers, receipts, strict=True):
                acknowledged(service, receipt, plan, {**data, "n": n})
            ids = [delivery for receipt in receipts for delivery in receipt.delivery_ids]
            # One write: a ledger never holds half an id, however this process ends.
            ledger.write("".join(f"{one}\n" for one in ids).encode())


if __name__ == "__main__":
    run(Plan(**json.loads(sys.argv[1])))
