"""What the worker holds in memory: `Work` (a delivery on its way) and `Home` (a partition in one epoch)."""

import heapq
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from producer.model import Delivery, Life
from thorn_worker.offsets import WINDOW_OFFSETS, Tracker
from thorn_worker.outcome import Attempt
from thorn_worker.store.contract import HISTORY, EndpointState, Pending

#: Bytes that a delivery costs in memory beside its body.
DELIVERY_BYTES: Final = 600

#: Bytes of all records read and not complete, over all partitions of a worker.
WINDOW_BYTES: Final = 64 * 1024 * 1024

#: While a write has not been acknowledged for this long, no stored delivery of its partition is loaded.
LATE_WRITE_S: Final = 2.0

#: Entries of a `DueHosts` heap beyond twice its hosts before those that no longer count are thrown out.
_STALE_ENTRIES: Final = 64


@dataclass(slots=True, eq=False)
class Work:
    """One delivery in memory: queued in a lane, in flight, or waiting for a write of its outcome.

    home: the partition and epoch that it counts for. source: its record's position is still incomplete. row:
    the store holds a row of this life. stands: the attempt under way belongs to an older epoch and the row
    may know more than it: only a success of it counts. cancelled: a command ended it while it could not leave
    at once; `ended` run when it has left memory.
    """

    life: Life
    home: "Home"
    host: str
    delivery: Delivery
    appended_at: float
    source: bool
    row: bool
    history: tuple[Attempt, ...] = ()
    in_flight: bool = False
    stands: bool = False
    cancelled: bool = False
    ended: tuple[Callable[[], None], ...] = ()

    def when_ended(self, run: Callable[[], None]) -> None:
        """Call `run` too when this has left memory: several commands may wait for one delivery."""
        self.ended += (run,)

    @property
    def number(self) -> int:
        """Number of the attempt that comes next, 1 for the first."""
        return self.delivery.attempts + 1

    def remembering(self, attempt: Attempt) -> tuple[Attempt, ...]:
        """The history with this attempt added."""
        return (*self.history, attempt)[-HISTORY:]


class DueHosts:
    """When each host of a partition has its next row due: a heap of (due_at, host), old entries skipped."""

    def __init__(self, hosts: dict[str, float]) -> None:
        self._due_at = dict(hosts)
        self._heap = [(due_at, host) for host, due_at in hosts.items()]
        heapq.heapify(self._heap)

    def note(self, host: str, due_at: float) -> None:
        """A row of `host` is due then; an earlier one that is known stays."""
        if due_at < self._due_at.get(host, float("inf")):
            self._due_at[host] = due_at
            heapq.heappush(self._heap, (due_at, host))
            if len(self._heap) > 2 * len(self._due_at) + _STALE_ENTRIES:
                # A host that fails every few seconds would leave an entry of hours hence behind each time.
                self._heap = [(at, name) for name, at in self._due_at.items()]
                heapq.heapify(self._heap)

    def ready(self, now: float) -> Iterator[str]:
        """Hosts with a row due, each taken off: `note` again what is left of them."""
        while self._heap and self._heap[0][0] <= now:
            due_at, host = heapq.heappop(self._heap)
            if self._due_at.get(host) == due_at:
                del self._due_at[host]
                yield host

    def next_at(self) -> float | None:
        """The earliest instant at which `ready` may yield something."""
        return self._heap[0][0] if self._heap else None


@dataclass(slots=True, eq=False)
class Home:
    """One partition in one epoch of ours.

    works: every life of it that is in memory; hidden: those of them that have a row, or are about to, which
    must not be loaded again. stored: (offset, index) of rows found at the restore; such a life read again
    is complete at once. unresolved: subscriptions whose rows wait until the worker knows them; resolved: it
    does, and they are being loaded. watchers: see `departures`. unacknowledged: when each write under way
    was made (steady clock). leaving: it is being revoked, nothing starts any more. alive: False once it was
    revoked or lost: what finishes later changes nothing. restoring: no delivery starts yet; trouble: why
    the last try to restore it failed. moved_at: when the watermark last moved, or nothing was incomplete
    (steady clock).
    """

    partition: int
    epoch: int
    topic_id: str
    tracker: Tracker
    committed: int
    committed_metadata: str = ""
    moved_at: float = 0.0
    alive: bool = True
    leaving: bool = False
    restoring: bool = True
    trouble: str = ""
    paused: bool = False
    works: dict[Life, Work] = field(default_factory=dict)
    hidden: set[Life] = field(default_factory=set)
    stored: frozenset[tuple[int, int]] = frozenset()
    endpoints: dict[str, EndpointState] = field(default_factory=dict)
    due: DueHosts = field(default_factory=lambda: DueHosts({}))
    unresolved: set[str] = field(default_factory=set)
    resolved: set[str] = field(default_factory=set)
    watchers: dict[int, set[Life]] = field(default_factory=dict)
    unacknowledged: deque[float] = field(default_factory=deque)

    def enter(self, work: Work) -> Work:
        """A life is in memory from now on."""
        self.works[work.life] = work
        if work.row:
            self.hidden.add(work.life)
        return work

    def leave(self, life: Life) -> None:
        """A life is in memory no longer."""
        self.works.pop(life, None)
        self.hidden.discard(life)
        for gone in self.watchers.values():
            gone.add(life)

    @contextmanager
    def departures(self) -> Iterator[set[Life]]:
        """The lives that leave memory from now on: what the store is about to say of them may be old."""
        gone: set[Life] = set()
        self.watchers[id(gone)] = gone
        try:
            yield gone
        finally:
            del self.watchers[id(gone)]

    def writes_late(self, now: float) -> bool:
        """The store is slow to acknowledge: outcomes of what is loaded would pile up. now: steady clock."""
        return bool(self.unacknowledged) and now - self.unacknowledged[0] > LATE_WRITE_S

    def full(self, share_bytes: float) -> bool:
        """The window holds all it may: nothing more is read until some of it is complete.

        An empty window is never full.
        """
        tracker = self.tracker
        return tracker.window >= WINDOW_OFFSETS or (
            tracker.incomplete > 0 and tracker.size_bytes >= share_bytes
        )

    def roomy(self, share_bytes: float) -> bool:
        """Half of the window is free again: reading goes on."""
        return self.tracker.window <= WINDOW_OFFSETS // 2 and self.tracker.size_bytes <= share_bytes / 2

    def disabled(self, sub: str) -> bool:
        """The endpoint gets no attempts."""
        state = self.endpoints.get(sub)
        return state is not None and state.disabled_at is not None

    def in_flight(self) -> int:
        """Attempts under way for this home."""
        return sum(work.in_flight for work in self.works.values())

    def __repr__(self) -> str:
        state = "restoring" if self.restoring else "paused" if self.paused else "live"
        state = state if self.alive else "gone"
        return f"Home({self.partition} epoch {self.epoch} {state}, {len(self.works)} works)"


def work_of_row(row: Pending, home: Home) -> Work:
    """The work of a stored row that was loaded: its record is complete, its row stands."""
    return Work(
        row.life, home, row.host, row.delivery, row.appended_at, source=False, row=True, history=row.history
    )
