"""The values that travel: Subscription, Delivery, Batch, Command, Life.

All are frozen. Instants are Unix seconds (``_at``), spans are float seconds (``_s``).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final, NamedTuple

#: A mapping that nobody can change, shared by all values that have nothing to say.
NOTHING: Final[Mapping[str, Any]] = MappingProxyType({})

#: Content types that a subscription may ask for.
JSON: Final = "application/json"
FORM: Final = "application/x-www-form-urlencoded"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """A subscriber's standing wish: events that match `pattern` go to `url`.

    `id` is a UUID as text: the caller's own, or derived from pattern and URL so that every process
    computes the same one. `url` is already normalised (`producer.hosts`).

    secrets: Standard Webhooks keys, ``whsec_…`` (HMAC) or ``whsk_…`` (ed25519); each live key adds one
    signature. hmac_secret: key of ``Hook-HMAC``; None means no such header. max_in_flight: most attempts at
    once to this subscription; None means only the lane's own limit.
    """

    pattern: str
    url: str
    id: str
    sender: str | None = None
    secrets: tuple[str, ...] = ()
    hmac_secret: str | None = None
    hmac_digest: str = "sha256"
    content_type: str = JSON
    headers: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    ordered: bool = False
    timeout_s: float | None = None
    max_in_flight: int | None = None

    @property
    def needs_lookup(self) -> bool:
        """True when an attempt needs what never rides the log: secrets or the subscription's own headers."""
        return bool(self.secrets or self.headers or self.hmac_secret is not None)

    def __repr__(self) -> str:  # secrets must never reach a log file
        return f"Subscription({self.pattern!r} -> {self.url.split('?')[0]!r}, id={self.id!r})"


@dataclass(frozen=True, slots=True, kw_only=True)
class Delivery:
    """One event owed to one subscription. `id` is the same on every attempt and in every life.

    at: when the event happened. type: content type of `body`. lookup: see `Subscription.needs_lookup`.
    attempts, first_at, not_before: what an earlier life or dispatcher already did, or asks for.
    extra: keys of the record that this release does not know, carried unchanged.
    """

    id: str
    event: str
    event_id: str
    at: float
    sub: str
    url: str
    type: str
    body: bytes
    lookup: bool = False
    ordered: bool = False
    headers: Mapping[str, str] = field(default_factory=lambda: NOTHING)
    timeout_s: float | None = None
    expires_at: float | None = None
    attempts: int = 0
    first_at: float | None = None
    not_before: float | None = None
    extra: Mapping[str, Any] = field(default_factory=lambda: NOTHING)

    def __repr__(self) -> str:  # a body is the customer's business, a URL's query often holds a token
        return f"Delivery({self.id} {self.event!r} -> {self.url.split('?')[0]!r})"


@dataclass(frozen=True, slots=True)
class Batch:
    """What one log record carries: deliveries for one host, in the order of `send`."""

    deliveries: tuple[Delivery, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """An operator's order to the owner of a partition, as a record of ``kind: command``.

    op: ``retry``, ``cancel``, ``enable`` or ``disable``. It acts on lives of smaller offset in its partition
    that match any of `ids` (delivery ids), `subs` (subscription ids) or `hosts`.
    """

    op: str
    ids: tuple[str, ...] = ()
    subs: tuple[str, ...] = ()
    hosts: tuple[str, ...] = ()
    at: float = 0.0


class Life(NamedTuple):
    """One passage of a delivery through the log, named by where it stands there. Orders like the log."""

    topic_id: str
    partition: int
    offset: int
    index: int  # type: ignore[assignment]  # hides tuple.index, which means nothing here
