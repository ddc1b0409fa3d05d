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
    """Reads the parts on the hub; never waits. waiting_for: why the log could not be opened yet."""

    def __init__(self, parts: Assembly) -> None:
        self._parts = parts
        self._place = parts.settings.log or ""
        self._partitions: Partitions | None = None
        self._started_at = parts.clock.wall()
        self._ends: dict[int, int] = {}
        self.waiting_for = "the log is being opened"
        self.joined = False
        self.draining = False
        self._register()

    def opened(self, info: LogInfo, partitions: Partitions) -> None:
        """The log answers, and these are what the worker will own of it."""
        self._place, self._partitions = info.place, partitions

    def _register(self) -> None:
        parts, register = self._parts, self._parts.counters.register
        register(metrics.JOURNAL_ERRORS, lambda: parts.reader.errors)
        register(metrics.LOST_RECORDS, lambda: parts.reader.lost_records)
        register(metrics.PARTITIONS_OWNED, lambda: len(self._homes()))
        register(metrics.PARTITIONS_PAUSED, lambda: sum(home.paused for home in self._homes()))
        register(metrics.CONNECTIONS_OPENED, lambda: parts.pools.opened)
        register(metrics.CONNECTIONS_REUSED, lambda: parts.pools.reused)
        register(metrics.LAG, lambda: sum(map(self._lag, self._homes())))
        register(metrics.GAP, lambda: sum(home.tracker.gap for home in self._homes()))
        register(metrics.WATERMARK_AGE, lambda: max(map(self._stands_s, self._homes()), default=0.0))
        register(metrics.PENDING, lambda: parts.store.counts()[0])
        register(metrics.OLDEST_PENDING, self._oldest_pending_s)
        register(metrics.OLDEST_UNTRIED, self._oldest_untried_s)
        register(metrics.UNRESOLVED, lambda: len(self._unresolved()))
        register(metrics.UNACKNOWLEDGED, lambda: sum(len(home.unacknowledged) for home in self._homes()))
        register(metrics.LAST_RECORD, lambda: parts.clock.steady() - parts.tally.read_at)
        register(metrics.LAST_COMMIT, lambda: parts.clock.steady() - parts.tally.committed_at)
        register(metrics.LAST_ACKNOWLEDGEMENT, lambda: parts.clock.steady() - parts.tally.acknowledged_at)

    def _homes(self) -> list[Home]:
        return self._partitions.all() if self._partitions is not None else []

    def _unresolved(self) -> set[str]:
        return {sub for home in self._homes() for sub in home.unresolved}

    def refresh(self) -> None:
        """Ask the log how far it reaches, which waits, and the store to count again, which does not."""
        self._parts.store.counts()
        owned = [home.partition for home in self._homes()]
        self._ends = dict(self._parts.reader.end_offsets(owned)) if owned else {}

    def readiness(self) -> Readiness:
        """Joined, every owned partition restored, none standing. Owning none is ready."""
        causes = []
        if self._partitions is None:
            causes.append(self.waiting_for)
        elif not self.joined:
            causes.append("the worker has not joined the log yet")
        if self.draining:
            causes.append("the worker is draining")
        troubles = (self._parts.reader.trouble, self._parts.store.trouble)
        causes += [trouble for trouble in troubles if trouble is not None]
        causes += [cause for home in self._homes() if (cause := self._cause(home)) is not None]
        return Readiness(not causes, tuple(causes))

    def status(self) -> Status:
        """The numbers of the status page."""
        pending, _ = self._parts.store.counts()
        return Status(
            place=self._place,
            started_at=self._started_at,
            partitions=self._rows(self._homes()),
            lanes=len(self._parts.lanes),
            in_flight=self._parts.lanes.in_flight,
            max_in_flight=self._parts.settings.max_in_flight,
            pending=pending,
            unresolved=len(self._unresolved()),
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
        stands_s = self._stands_s(home)
        if stands_s > STANDING_S:
            why = "its window is full" if home.paused else f"{home.in_flight()} attempts are under way"
            where = f"partition {home.partition} stands at offset {home.tracker.watermark}"
            return f"{where} for {stands_s:.0f} s: {why}"
        return None

    def _stands_s(self, home: Home) -> float:
        """Since when the watermark stands although work waits above it; 0 if none does."""
        return self._parts.clock.steady() - home.moved_at if home.tracker.incomplete else 0.0

    def _lag(self, home: Home) -> int:
        return max(0, self._ends.get(home.partition, home.tracker.watermark) - home.tracker.watermark)

    def _oldest_pending_s(self) -> float:
        _, oldest_at = self._parts.store.counts()
        return 0.0 if oldest_at is None else max(0.0, self._parts.clock.now() - oldest_at)

    def _oldest_untried_s(self) -> float:
        """Works stand in the order of their lives, so the first untried one of a partition is its oldest."""
        first = [
            next((work.appended_at for work in home.works.values() if not work.delivery.attempts), None)
            for home in self._homes()
        ]
        oldest = [at for at in first if at is not None]
        return max(0.0, self._parts.clock.now() - min(oldest)) if oldest else 0.0
