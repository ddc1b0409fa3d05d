"""What is delivered: signed JSON events of one size, spread evenly over the hosts of the sink."""

import base64
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from producer import Producer

#: Bytes of each body, a usual order event.
BODY_BYTES: Final = 485

#: Attempts at once to one host. 32 x 8 are more than a loopback sink can be kept waiting for.
PER_HOST: Final = 8

#: Events that are waited for at once while a log is filled: fits into the producer's buffer many times.
_FLUSH_EVERY: Final = 5_000


def subscribers(hosts: Sequence[str]) -> dict[str, Any]:
    """One subscriber per host, in the form that the settings take, signed both ways."""
    return {
        event_of(number): {
            "url": f"{host}/hook",
            "secrets": ["whsec_" + base64.b64encode(b"bench%3d" % number * 4).decode()],
            "hmac_secret": f"secret-{number}",
        }
        for number, host in enumerate(hosts)
    }


def event_of(host: int) -> str:
    """The name of the event that the subscriber at this host wants."""
    return f"bench.order{host}"


def data_of(number: int) -> dict[str, Any]:
    """The data of an event: `BODY_BYTES` long once it is JSON."""
    data: dict[str, Any] = {
        "id": 1_000_000 + number,
        "state": "paid",
        "currency": "EUR",
        "total": "129.90",
        "customer": {"id": 77_123, "email": "someone@example.com"},
        "lines": [
            {"sku": "A-100", "count": 2, "price": "49.95"},
            {"sku": "B-7", "count": 1, "price": "30.00"},
        ],
        "note": "",
    }
    data["note"] = "n" * (BODY_BYTES - len(json.dumps(data)))
    return data


@dataclass(frozen=True, slots=True)
class Filled:
    """A log with deliveries waiting in it. ids: owed, as the receipts said, all acknowledged."""

    url: str
    subscribers: dict[str, Any] = field(repr=False)
    ids: frozenset[str] = field(repr=False)
    per_record: int


def environment(log: str, wanted: dict[str, Any], state: Path) -> dict[str, str]:
    """Environment of the programs under test: the defaults, what a loopback run needs, and `PER_HOST`.

    log: a URL. How to connect to it (``THORN_KAFKA_…``) is as it is for the bench. state: folder for caches.
    """
    own = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("THORN_") or name.startswith("THORN_KAFKA_")
    }
    return {
        **own,
        "THORN_LOG": log,
        "THORN_STATE_DIR": str(state),
        "THORN_SUBSCRIBERS": json.dumps(wanted),
        "THORN_ALLOW_NETWORKS": "127.0.0.0/8",
        "THORN_ADMIN": "127.0.0.1:0",
        "THORN_MAX_IN_FLIGHT_PER_HOST": str(PER_HOST),
    }


def fill(url: str, hosts: Sequence[str], deliveries: int, per_record: int) -> Filled:
    """Fill the log at `url` with `deliveries` in records of `per_record` each, hosts in turn."""
    wanted = subscribers(hosts)
    ids: set[str] = set()
    with Producer(log=url, subscribers=wanted, chunk_size=per_record) as producer:
        for start in range(0, deliveries, _FLUSH_EVERY):
            numbers = range(start, min(start + _FLUSH_EVERY, deliveries))
            with producer.buffer_events():
                receipts = [producer.send(event_of(n % len(hosts)), data_of(n)) for n in numbers]
            for receipt in receipts:
                receipt.wait(timeout_s=60.0)
                ids.update(receipt.delivery_ids)
    assert len(ids) == deliveries, f"{deliveries} deliveries were sent and {len(ids)} ids came back"
    return Filled(url, wanted, frozenset(ids), per_record)
