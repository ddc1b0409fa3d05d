"""The numbers behind the metrics: plain ints and floats.

Counting is an addition without a lock, since all of it happens on the hub's own thread. Only a scrape pays
for the text (`thorn_worker.exposition`).
"""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from types import MappingProxyType

from thorn_worker.metric import Kind, Metric
from thorn_worker.metrics import BUILD_INFO, METRICS


class Counter:
    """One number that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, by: int = 1) -> None:
        """Add `by`; never less than 0."""
        self.value += by

    def __repr__(self) -> str:
        return f"Counter({self.value})"


class Histogram:
    """Counts of values per bucket. A value equal to a bound is in its bucket, as Prometheus' ``le`` says.

    With bounds (1, 2): observing 0.5, 1, 1.5 and 9 gives counts [2, 1, 1], the last one being +Inf.
    """

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value, in the metric's unit."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value

    def __repr__(self) -> str:
        return f"Histogram({sum(self.counts)} values, sum {self.sum:g})"


class Counters:
    """The numbers of one worker. Bind `family`, `counter` and `histogram` once, count on what they return.

    All methods raise KeyError for a metric of another kind: a mistake that the first start shows.
    """

    def __init__(self) -> None:
        self._families: Mapping[str, Mapping[str, Counter]] = {
            metric.name: MappingProxyType({value: Counter() for value in metric.values or ("",)})
            for metric in METRICS
            if metric.kind is Kind.COUNTER
        }
        self._histograms: Mapping[str, Histogram] = {
            metric.name: Histogram(metric.buckets) for metric in METRICS if metric.kind is Kind.HISTOGRAM
        }
        self._readers: dict[str, Callable[[], float]] = {}
        self.register(BUILD_INFO, lambda: 1.0)

    def family(self, metric: Metric) -> Mapping[str, Counter]:
        """The counters of a labelled metric, by label value; an `Outcome` or `Death` is such a value."""
        return self._families[metric.name]

    def counter(self, metric: Metric) -> Counter:
        """The counter of a metric without a label."""
        return self._families[metric.name][""]

    def inc(self, metric: Metric, value: str = "", by: int = 1) -> None:
        """Count without binding first. `value`: the label's, if the metric has one."""
        self._families[metric.name][value].value += by

    def histogram(self, metric: Metric) -> Histogram:
        """The histogram behind a metric."""
        return self._histograms[metric.name]

    def observe(self, metric: Metric, value: float) -> None:
        """Count one value of a histogram without binding first."""
        self._histograms[metric.name].observe(value)

    def register(self, metric: Metric, read: Callable[[], float]) -> None:
        """Say how a gauge is read, or a counter without label that somebody else keeps.

        `read` runs at each scrape, on the hub, and must not wait.
        """
        if metric.kind is Kind.HISTOGRAM or (metric.kind is Kind.COUNTER and metric.label is not None):
            raise KeyError(metric.name)
        self._readers[metric.name] = read

    def read(self, metric: Metric) -> float | None:
        """What was registered says now; None if nothing was registered."""
        reader = self._readers.get(metric.name)
        return None if reader is None else reader()
