"""What the worker says of itself: readiness, the status page, and the gauges that are computed."""

from collections.abc import Sequence

from thorn_worker import metrics
from thorn_worker.admin import PartitionRow, Readiness, Status
from thorn_worker.assembly import Assembly
from thorn_worker.log.contract import LogInfo
from thorn_worker.partitions import Partitions
from thorn_worker.work import Home

#: A watermark that has work below it and has not moved for this long makes the worker unready.
STANDING_S = 90.0


class Reporter:
    """Reads the parts on the hub; never waits."""

    def __init__(self, parts: Assembly, info: LogInfo, partitions: Partitions) -> None:
        self._parts = parts
        self._info = info
        self._partitions = partitions
        self._started_at = parts.clock.wall()
        self._ends: dict[int, int] = {}
        self.joined = False
        self.draining = False
        counters = parts.counters
        counters.register(metrics.JOURNAL_ERRORS, lambda: parts.reader.errors)
        counters.register(metrics.PARTITIONS_OWNED, lambda: len(partitions))
        counters.register(metrics.PARTITIONS_PAUSED, lambda: sum(home.paused for home in partitions.all()))
        counters.register(metrics.CONNECTIONS_OPENED, lambda: parts.pools.opened)
        counters.register(metrics.CONNECTIONS_REUSED, lambda: parts.pools.reused)
        counters.register(metrics.LAG, lambda: sum(map(self._lag, partitions.all())))
        counters.register(metrics.PENDING, lambda: parts.store.counts()[0])
        counters.register(metrics.OLDEST_PENDING, self._oldest_pending_s)
        counters.register(metrics.OLDEST_UNTRIED, self._oldest_untried_s)
        counters.register(
            metrics.UNRESOLVED, lambda: len({sub for home in partitions.all() for sub in home.unresolved})
        )

    def refresh(self) -> None:
        """Ask the log how far it reaches, which waits, and the store to count again, which does not."""
        self._parts.store.counts()
        owned = [home.partition for home in self._partitions.all()]
        self._ends = dict(self._parts.reader.end_offsets(owned)) if owned else {}

    def readiness(self) -> Readiness:
        """Joined, every owned partition restored, none standing. Owning none is ready."""
        causes = [] if self.joined else ["the worker has not joined the log yet"]
        if self.draining:
            causes.append("the worker is draining")
        if self._parts.reader.trouble is not None:
            causes.append(self._parts.reader.trouble)
        causes += [cause for home in self._partitions.all() if (cause := self._cause(home)) is not None]
        return Readiness(not causes, tuple(causes))

    def status(self) -> Status:
        """The numbers of the status page."""
        pending, _ = self._parts.store.counts()
        return Status(
            place=self._info.place,
            started_at=self._started_at,
            partitions=self._rows(self._partitions.all()),
            lanes=len(self._parts.lanes),
            in_flight=self._parts.lanes.in_flight,
            max_in_flight=self._parts.settings.max_in_flight,
            pending=pending,
            unresolved=len({sub for home in self._partitions.all() for sub in home.unresolved}),
            draining=self.draining,
        )

    def _rows(self, homes: Sequence[Home]) -> tuple[PartitionRow, ...]:
        return tuple(
            PartitionRow(
                partition=home.partition,
                owner="this worker",
                state=self._cause(home) or "ours",
                committed=home.committed,
                lag=self._lag(home),
                in_flight=home.in_flight(),
                paused=home.paused,
            )
            for home in sorted(homes, key=lambda home: home.partition)
        )

    def _cause(self, home: Home) -> str | None:
        if home.restoring:
            return f"partition {home.partition} is being restored{home.trouble and f': {home.trouble}'}"
        stands_s = self._parts.clock.steady() - home.moved_at
        if home.tracker.incomplete and stands_s > STANDING_S:
            why = "its window is full" if home.paused else f"{home.in_flight()} attempts are under way"
            where = f"partition {home.partition} stands at offset {home.tracker.watermark}"
            return f"{where} for {stands_s:.0f} s: {why}"
        return None

    def _lag(self, home: Home) -> int:
        return max(0, self._ends.get(home.partition, home.tracker.watermark) - home.tracker.watermark)

    def _oldest_pending_s(self) -> float:
        _, oldest_at = self._parts.store.counts()
        return 0.0 if oldest_at is None else max(0.0, self._parts.clock.now() - oldest_at)

    def _oldest_untried_s(self) -> float:
        """Works stand in the order of their lives, so the first untried one of a partition is its oldest."""
        first = [
            next((work.appended_at for work in home.works.values() if not work.delivery.attempts), None)
            for home in self._partitions.all()
        ]
        oldest = [at for at in first if at is not None]
        return max(0.0, self._parts.clock.now() - min(oldest)) if oldest else 0.0
