"""The dispatcher's counters, bound once so that counting a delivery is a few additions."""

from collections.abc import Callable, Iterable
from typing import Final

from thorn_worker import metrics
from thorn_worker.counters import Counters
from thorn_worker.outcome import Attempt, Death


class Tally:
    """What happened to deliveries, in plain numbers.

    read_at, committed_at, acknowledged_at: when the log last gave records, took a commit, and took a write
    of the store (steady clock; the start, before the first one).
    """

    def __init__(self, counters: Counters, steady: Callable[[], float]) -> None:
        self.steady: Final = steady
        self.read_at = self.committed_at = self.acknowledged_at = steady()
        self.records: Final = counters.counter(metrics.RECORDS_READ)
        self.local_errors: Final = counters.counter(metrics.LOCAL_ERRORS)
        self._attempts: Final = counters.family(metrics.ATTEMPTS)
        self._durations: Final = counters.histogram(metrics.ATTEMPT_DURATION)
        self._ages: Final = counters.histogram(metrics.DELIVERY_AGE)
        self._results: Final = counters.family(metrics.DELIVERIES)
        self._deaths: Final = counters.family(metrics.DEAD_LETTERS)
        self._writes: Final = counters.counter(metrics.STORE_WRITES)
        self._commits: Final = counters.family(metrics.COMMITS)
        self._commit_times: Final = counters.histogram(metrics.COMMIT_DURATION)
        self._restores: Final = counters.histogram(metrics.RESTORE_DURATION)
        self._rebalances: Final = counters.family(metrics.REBALANCES)

    def attempt(self, attempt: Attempt) -> None:
        """An attempt ended."""
        self._attempts[attempt.outcome].value += 1
        self._durations.observe(attempt.duration_s)

    def delivered(self, age_s: float) -> None:
        """A delivery arrived, so long after the log took it."""
        self._results["delivered"].value += 1
        self._ages.observe(age_s)

    def dead(self, reason: Death) -> None:
        """A dead letter is durable."""
        self._results["dead"].value += 1
        self._deaths[reason].value += 1

    def cancelled(self) -> None:
        """A command ended a delivery."""
        self._results["cancelled"].value += 1

    def stored(self) -> None:
        """A write of the store is durable."""
        self._writes.value += 1
        self.acknowledged_at = self.steady()

    def committed(self, results: Iterable[bool], took_s: float) -> None:
        """A commit of some partitions was answered: stored, or not, for each of them."""
        self._commit_times.observe(took_s)
        for stored in results:
            self._commits["stored" if stored else "refused"].value += 1
            if stored:
                self.committed_at = self.steady()

    def restored(self, took_s: float) -> None:
        """A partition's stored rows are here."""
        self._restores.observe(took_s)

    def rebalanced(self, how: str) -> None:
        """Partitions were ``assigned``, ``revoked`` or ``lost``."""
        self._rebalances[how].value += 1
