"""Looking into a log from outside its owner: what the command line lists, counts and replays.

Reading never disturbs a worker. The only write is `forget`, a dead letter's tombstone after its replay was
acknowledged.
"""

from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass

from thorn_worker.store.contract import DeadLetter, EndpointState, Pending


@dataclass(frozen=True, slots=True, kw_only=True)
class RowFilter:
    """Which rows to show.

    Everything given must match. since/until: Unix seconds of `appended_at` (rows), `died_at` (letters).
    """

    ids: Collection[str] = ()
    subs: Collection[str] = ()
    hosts: Collection[str] = ()
    reasons: Collection[str] = ()
    since_at: float | None = None
    until_at: float | None = None


@dataclass(frozen=True, slots=True)
class PartitionStatus:
    """committed: next offset to complete; end: next offset to append; owner: who holds it, None if nobody."""

    partition: int
    committed: int
    end: int
    owner: str | None


class Inspector(ABC):
    """A read-only view of a log and its store, for one command of the CLI. Raises `LogError`s.

    Rows that can't be read are left out of the lists, and told of in the log of this process.
    """

    @abstractmethod
    def pendings(self, wanted: RowFilter) -> Iterator[Pending]:
        """Waiting rows, by partition and life."""

    @abstractmethod
    def letters(self, wanted: RowFilter) -> Iterator[DeadLetter]:
        """Dead letters, by partition and life, of records that were there when this was opened.

        So a delivery that is replayed while they are listed, and dies again at once, is not met twice.
        """

    @abstractmethod
    def endpoints(self, subs: Collection[str] = ()) -> Iterator[tuple[int, EndpointState]]:
        """(partition, state) of every endpoint that has any."""

    @abstractmethod
    def partitions(self) -> Sequence[PartitionStatus]:
        """Where each partition stands."""

    @abstractmethod
    def forget(self, letters: Collection[DeadLetter]) -> None:
        """Remove dead letters that were replayed; durable on return. Those that are gone already are fine."""

    @abstractmethod
    def close(self) -> None:
        """Release everything."""
