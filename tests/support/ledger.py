"""Was anything lost? By delivery id: what the producers wrote down against what the receivers recorded.

Never by a worker's own counters.
"""

from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass

from thorn_worker.inspector import Inspector, PartitionStatus, RowFilter


@dataclass(frozen=True, slots=True)
class Standing:
    """What a log and its store hold at an instant. dead: delivery id -> reason."""

    pending: frozenset[str]
    dead: Mapping[str, str]
    partitions: tuple[PartitionStatus, ...]

    @property
    def lag(self) -> int:
        """Records that are not committed yet."""
        return sum(status.end - status.committed for status in self.partitions)

    @property
    def owners(self) -> tuple[str | None, ...]:
        """Who holds each partition."""
        return tuple(status.owner for status in self.partitions)


@dataclass(frozen=True, slots=True)
class Account:
    """owed = delivered + dead + pending + cancelled + lost, by id; what arrived is delivered, whatever else.

    repeated: ids that arrived more than once -> how often beyond the first time.
    unknown: ids that nobody owed.
    """

    owed: int
    delivered: int
    repeated: Mapping[str, int]
    dead: Mapping[str, str]
    pending: frozenset[str]
    lost: list[str]
    unknown: list[str]

    @property
    def repeats(self) -> int:
        """Requests beyond the first good one of each delivery."""
        return sum(self.repeated.values())

    def __str__(self) -> str:
        return (
            f"owed {self.owed} delivered {self.delivered} repeated {self.repeats} dead {len(self.dead)} "
            f"pending {len(self.pending)} lost {len(self.lost)}"
        )


def standing(inspector: Inspector) -> Standing:
    """Look into a log."""
    # Partitions first: what a worker settles while we look was then still counted as uncommitted.
    partitions = tuple(inspector.partitions())
    pending = frozenset(row.delivery.id for row in inspector.pendings(RowFilter()))
    letters = inspector.letters(RowFilter())
    dead = {one.delivery.id: str(one.reason) for one in letters if one.delivery is not None}
    return Standing(pending, dead, partitions)


def reconcile(
    owed: Collection[str], delivered: Counter[str], holds: Standing, cancelled: Collection[str] = ()
) -> Account:
    """Hold the producers' ledger against the receivers'."""
    wanted = set(owed)
    missing = wanted - delivered.keys()
    pending = missing & holds.pending
    dead = {one: holds.dead[one] for one in missing & holds.dead.keys()}
    return Account(
        owed=len(wanted),
        delivered=len(wanted & delivered.keys()),
        repeated={one: count - 1 for one, count in delivered.items() if count > 1},
        dead=dead,
        pending=frozenset(pending),
        lost=sorted(missing - pending - dead.keys() - set(cancelled)),
        unknown=sorted(delivered.keys() - wanted),
    )
