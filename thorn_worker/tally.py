"""The dispatcher's counters, bound once so that counting a delivery is a few additions."""

from typing import Final

from thorn_worker import metrics
from thorn_worker.counters import Counters
from thorn_worker.outcome import Attempt, Death


class Tally:
    """What happened to deliveries, in plain numbers."""

    def __init__(self, counters: Counters) -> None:
        self.records: Final = counters.counter(metrics.RECORDS_READ)
        self.local_errors: Final = counters.counter(metrics.LOCAL_ERRORS)
        self._attempts: Final = counters.family(metrics.ATTEMPTS)
        self._durations: Final = counters.histogram(metrics.ATTEMPT_DURATION)
        self._ages: Final = counters.histogram(metrics.DELIVERY_AGE)
        self._results: Final = counters.family(metrics.DELIVERIES)
        self._deaths: Final = counters.family(metrics.DEAD_LETTERS)
        self._writes: Final = counters.counter(metrics.STORE_WRITES)
        self._commits: Final = counters.family(metrics.COMMITS)

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

    def committed(self, stored: bool) -> None:
        """A commit of one partition was stored, or not."""
        self._commits["stored" if stored else "refused"].value += 1
