"""The store: Pendings, dead letters and endpoint state, per partition, durable. Told once.

Every implementation passes `tests/contract/store.py`. Only the owner of a partition writes its state, and
every write carries the epoch under which it was decided: a write of an older epoch has no effect and its
callback never runs.

Writes return at once and call back on the hub when they are durable, in the order in which they were made per
partition. A write that cannot be made durable (full disk, broker away) is tried again until it can: its
callback is late, never wrong. Reads wait cooperatively and see every write that was called back.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from producer.model import Delivery, Life
from thorn_worker.outcome import Attempt, Death

#: `Pending.reason` of a row that waits until the worker knows its subscription.
UNRESOLVED: Final = "unresolved"
#: `Pending.reason` of a row that its sender asked to be held until an instant.
NOT_BEFORE: Final = "not_before"

#: How many of the last attempts a row and a dead letter remember.
HISTORY: Final = 10

#: Runs on the hub once a write is durable.
Done = Callable[[], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pending:
    """A delivery that waits in the store.

    delivery: as it came, with `attempts` and `first_at` brought up to date.
    appended_at: when the log took this life; `max_age` counts from here.
    due_at: Unix seconds of the next attempt; None while it waits for something else (`reason` says what).
    reason: the last Outcome in lower case, or `UNRESOLVED`, or `NOT_BEFORE`.
    history: the last attempts (at most `HISTORY`), oldest first, without excerpts but for the last one's.
    """

    life: Life
    host: str
    delivery: Delivery
    appended_at: float
    due_at: float | None
    reason: str
    history: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadLetter:
    """A delivery given up on: all that a replay needs, and why.

    raw: value of a record that could not be read (`Death.MALFORMED`, `Death.UNSUPPORTED`), at most 512 KiB of
    it; then `delivery` is None and `raw_bytes`/`raw_sha256` describe the whole.
    """

    life: Life
    host: str
    delivery: Delivery | None
    appended_at: float
    died_at: float
    reason: Death
    history: tuple[Attempt, ...] = ()
    raw: bytes | None = None
    raw_bytes: int = 0
    raw_sha256: str = ""
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class EndpointState:
    """What is remembered of one subscription in one partition.

    disabled_at: None while enabled. reason: ``gone`` or ``command``. command_offset: offset of the last
    command applied in this partition, -1 if none; a command at or below it is skipped.
    failing_since/failures: since the last success.
    """

    sub: str
    host: str
    disabled_at: float | None = None
    reason: str = ""
    failing_since: float | None = None
    failures: int = 0
    command_offset: int = -1


@dataclass(frozen=True, slots=True)
class Restored:
    """What a partition holds when its restore is complete.

    lives: (offset, index) of rows at or above the committed offset: read again, they are complete without an
    attempt. hosts: per host with due rows the earliest `due_at`. unresolved: subscription ids with
    `UNRESOLVED` rows.
    """

    rows: int
    lives: frozenset[tuple[int, int]]
    hosts: dict[str, float]
    unresolved: frozenset[str]
    endpoints: dict[str, EndpointState]


@dataclass(frozen=True, slots=True)
class Due:
    """Rows of one host that are due, oldest due first, and when the next one that was not returned is (None:
    no more).
    """

    rows: list[Pending] = field(default_factory=list)
    next_due_at: float | None = None


@dataclass(frozen=True, slots=True)
class Selection:
    """Which rows a command means: any of these."""

    ids: Collection[str] = ()
    subs: Collection[str] = ()
    hosts: Collection[str] = ()
    below_offset: int = 0


class Store(ABC):
    """Durable state of the partitions that this process owns."""

    def open(self) -> None:  # noqa: B027 - a store that lies in the log's own file has nothing to open
        """Open what is the store's own, once the reader is open; waits. Again: nothing happens.

        Raises `LogError`: `LogUnusable` if the operator must act.
        """

    def close(self) -> None:  # noqa: B027
        """Release what `open` took. What is under way is not called back any more."""

    @abstractmethod
    def restore(self, partition: int, epoch: int, committed: int) -> Restored:
        """Make the partition's state readable and writable under `epoch`; waits.

        Raises `LogError` if it can't.
        """

    @abstractmethod
    def put(self, epoch: int, row: Pending, done: Done) -> None:
        """Write or overwrite the row of a life."""

    @abstractmethod
    def remove(self, epoch: int, life: Life, done: Done) -> None:
        """Forget the row of a life: delivered or cancelled. No row is fine."""

    @abstractmethod
    def bury(self, epoch: int, letter: DeadLetter, done: Done) -> None:
        """Append a dead letter and forget the row of the same life, if any, in this order or at once."""

    @abstractmethod
    def save_endpoint(self, partition: int, epoch: int, state: EndpointState, done: Done) -> None:
        """Write the state of one endpoint in one partition."""

    @abstractmethod
    def due(self, partition: int, host: str, now: float, limit: int, loaded: Collection[Life]) -> Due:
        """At most `limit` rows of `host` with ``due_at <= now`` that are not in `loaded`."""

    @abstractmethod
    def unresolved(self, partition: int, sub: str, limit: int, loaded: Collection[Life]) -> list[Pending]:
        """Rows that wait for this subscription to become known, in the order of their lives."""

    @abstractmethod
    def overdue(self, partition: int, appended_before: float, now: float, limit: int) -> list[Pending]:
        """Rows without due time whose life was appended before `appended_before`, or whose ``expires_at`` is
        past `now`.
        """

    @abstractmethod
    def select(
        self, partition: int, selection: Selection, limit: int, after: Life | None
    ) -> Sequence[Pending]:
        """Rows that a command means, in the order of their lives, beginning behind `after`."""

    @abstractmethod
    def release(self, partition: int, epoch: int) -> bool:
        """Wait (at most 3 s) until the partition's writes are durable, then forget it here.

        False if some are not.
        """

    @property
    def trouble(self) -> str | None:
        """Why writes do not become durable just now, in one sentence; None while they do, or if the reader
        says it already.
        """
        return None

    @abstractmethod
    def counts(self) -> tuple[int, float | None]:
        """(rows in all partitions owned, earliest `appended_at` among them), as of a few seconds ago.

        Never waits.
        """
