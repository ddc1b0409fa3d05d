"""The ledger: what was owed, what arrived, and what became of the rest, by delivery id. Pure.

Nothing here comes from a worker's own counters: owed is what services wrote down for acknowledged receipts,
delivered is what receivers wrote down, dead and pending are what the log holds.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

#: Share of the deliveries over which their rate is taken: the last ones wait for retries, not for the worker.
RATE_SHARE: Final = 0.99


@dataclass(frozen=True, slots=True)
class Owed:
    """A delivery of an acknowledged event. kind: of its receiver. sent_at: when the event was sent."""

    id: str
    kind: str
    sent_at: float


@dataclass(frozen=True, slots=True)
class Request:
    """What a receiver wrote down, before it answered.

    at: when the request had arrived. status: the answer; 0: none. signed: its signatures were right.
    """

    at: float
    id: str
    attempt: int
    status: int
    signed: bool

    @property
    def taken(self) -> bool:
        """The receiver answered with a 2xx."""
        return 200 <= self.status < 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Books:
    """What the ledger is made from. dead: delivery id -> reason."""

    sent: int
    acknowledged: int
    owed: Mapping[str, Owed]
    requests: Sequence[Request]
    dead: Mapping[str, str]
    pending: Collection[str] = ()
    cancelled: Collection[str] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One kind of receiver. Ages are seconds, None where nothing was delivered."""

    kind: str
    owed: int
    delivered: int
    retried: int
    dead: Mapping[str, int]
    lost: int
    p50_s: float | None
    p99_s: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Ledger:
    """The result of a demo. Counts are deliveries, unless the name says otherwise.

    retried: delivered, but not at the first attempt. repeated: requests taken beyond a delivery's first.
    lost: the ids that are owed and nowhere. Ages (arrival at the receiver minus send) are seconds.
    """

    events_sent: int
    events_acknowledged: int
    owed: int
    delivered: int
    retried: int
    dead: Mapping[str, int]
    cancelled: int
    pending: int
    repeated: int
    invalid_signatures: int
    lost: tuple[str, ...]
    deliveries_per_s: float
    p50_s: float | None
    p99_s: float | None
    lines: tuple[Line, ...] = field(default=())

    @property
    def balances(self) -> bool:
        """Nothing was lost, and nothing arrived with a wrong signature."""
        return not self.lost and not self.invalid_signatures


def balance(books: Books) -> Ledger:
    """lost = owed - delivered - dead - pending - cancelled, by id. What was delivered is nothing else."""
    taken = [request for request in books.requests if request.taken and request.id in books.owed]
    first: dict[str, Request] = {}
    for request in taken:
        first.setdefault(request.id, request)
    open_ids = [one for one in books.owed if one not in first]
    dead = {one: books.dead[one] for one in open_ids if one in books.dead}
    cancelled = {one for one in open_ids if one in books.cancelled and one not in dead}
    pending = {one for one in open_ids if one in books.pending and one not in dead and one not in cancelled}
    lost = tuple(one for one in open_ids if one not in dead and one not in cancelled and one not in pending)
    ages = [request.at - books.owed[one].sent_at for one, request in first.items()]
    return Ledger(
        events_sent=books.sent,
        events_acknowledged=books.acknowledged,
        owed=len(books.owed),
        delivered=len(first),
        retried=sum(request.attempt > 1 for request in first.values()),
        dead=dict(Counter(dead.values())),
        cancelled=len(cancelled),
        pending=len(pending),
        repeated=len(taken) - len(first),
        invalid_signatures=sum(not request.signed for request in books.requests),
        lost=lost,
        deliveries_per_s=rate([request.at for request in first.values()]),
        p50_s=percentile(ages, 50),
        p99_s=percentile(ages, 99),
        lines=_lines(books.owed, first, dead, lost),
    )


def percentile(values: Collection[float], percent: float) -> float | None:
    """The smallest value that is not below `percent` % of all; None if there are none.

    >>> percentile([5.0, 1.0, 3.0, 2.0], 50), percentile([5.0, 1.0, 3.0, 2.0], 99)
    (2.0, 5.0)
    """
    if not values:
        return None
    rank = -(-len(values) * percent // 100)
    return sorted(values)[max(0, int(rank) - 1)]


def rate(arrivals: Collection[float]) -> float:
    """Deliveries per second from the first one until `RATE_SHARE` of all have arrived; 0 for fewer than two.

    200 deliveries, one every 10 ms and the last two a minute later: the 198th comes 1.97 s after the first,
    which makes 197 intervals in 1.97 s, 100 per second.
    """
    ordered = sorted(arrivals)
    counted = int(len(ordered) * RATE_SHARE)
    if counted < 2 or ordered[counted - 1] == ordered[0]:
        return 0.0
    return (counted - 1) / (ordered[counted - 1] - ordered[0])


def _lines(
    owed: Mapping[str, Owed], first: Mapping[str, Request], dead: Mapping[str, str], lost: Collection[str]
) -> tuple[Line, ...]:
    lost = set(lost)
    by_kind: dict[str, list[Owed]] = {}
    for one in owed.values():
        by_kind.setdefault(one.kind, []).append(one)
    return tuple(_line(kind, ones, first, dead, lost) for kind, ones in sorted(by_kind.items()))


def _line(
    kind: str, ones: Sequence[Owed], first: Mapping[str, Request], dead: Mapping[str, str], lost: set[str]
) -> Line:
    arrived = [(one, first[one.id]) for one in ones if one.id in first]
    ages = [request.at - one.sent_at for one, request in arrived]
    return Line(
        kind=kind,
        owed=len(ones),
        delivered=len(arrived),
        retried=sum(request.attempt > 1 for _, request in arrived),
        dead=dict(Counter(dead[one.id] for one in ones if one.id in dead)),
        lost=sum(one.id in lost for one in ones),
        p50_s=percentile(ages, 50),
        p99_s=percentile(ages, 99),
    )
