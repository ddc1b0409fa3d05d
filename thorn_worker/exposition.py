"""The counters as a Prometheus scrape: text format 0.0.4 or OpenMetrics, as the scraper asks."""

from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.core import Metric as Family
from prometheus_client.exposition import choose_encoder
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from thorn_worker.counters import Counters
from thorn_worker.metric import Kind, Metric
from thorn_worker.metrics import METRICS

_TOTAL: Final = "_total"


class CountersCollector(Collector):
    """Turns `Counters` into metric families; runs at each scrape and at no other time."""

    def __init__(self, counters: Counters) -> None:
        self._counters = counters

    def collect(self) -> Iterator[Family]:
        """Every metric of the list, but for gauges that nobody registered."""
        for metric in METRICS:
            if metric.kind is Kind.COUNTER:
                yield self._counter(metric)
            elif metric.kind is Kind.HISTOGRAM:
                yield self._histogram(metric)
            else:
                yield from self._gauge(metric)

    def _counter(self, metric: Metric) -> Family:
        family = CounterMetricFamily(metric.name.removesuffix(_TOTAL), metric.meaning, labels=_labels(metric))
        elsewhere = self._counters.read(metric)
        for value, counter in self._counters.family(metric).items():
            family.add_metric(
                [value] if metric.label else [], counter.value if elsewhere is None else elsewhere
            )
        return family

    def _gauge(self, metric: Metric) -> Iterator[Family]:
        value = self._counters.read(metric)
        if value is not None:
            family = GaugeMetricFamily(metric.name, metric.meaning, labels=_labels(metric))
            family.add_metric(metric.values, value)
            yield family

    def _histogram(self, metric: Metric) -> Family:
        histogram = self._counters.histogram(metric)
        bounds = [*map(floatToGoString, histogram.bounds), "+Inf"]
        family = HistogramMetricFamily(metric.name, metric.meaning)
        family.add_metric([], list(zip(bounds, accumulate(histogram.counts), strict=True)), histogram.sum)
        return family


def _labels(metric: Metric) -> list[str]:
    return [metric.label] if metric.label else []


class Exposition:
    """One registry for one worker: its own metrics, and the process's CPU, memory and open files."""

    def __init__(self, counters: Counters) -> None:
        self._registry = CollectorRegistry()
        self._registry.register(CountersCollector(counters))
        ProcessCollector(registry=self._registry)

    def scrape(self, accept: str) -> tuple[str, bytes]:
        """(content type, body) for a scraper that sent this ``Accept`` header, "" if it sent none."""
        encoder, content_type = choose_encoder(accept)
        return content_type, encoder(self._registry)
