"""The list of metrics, the numbers behind it, and what a scrape looks like."""

import re

import pytest

from thorn_worker import __version__, metrics
from thorn_worker.counters import Counters, Histogram
from thorn_worker.exposition import Exposition
from thorn_worker.metric import AGE_BUCKETS_S, Kind, Label, Metric
from thorn_worker.metrics import METRICS, markdown_table
from thorn_worker.outcome import Death, Outcome

#: Names that dashboards rely on, with their label.
PROMISED = [
    "thorn_records_read_total",
    "thorn_attempts_total{outcome}",
    "thorn_deliveries_total{result}",
    "thorn_dead_letters_total{reason}",
    "thorn_attempt_duration_seconds",
    "thorn_delivery_age_seconds",
    "thorn_oldest_untried_seconds",
    "thorn_oldest_pending_seconds",
    "thorn_unresolved",
    "thorn_local_errors_total",
    "thorn_build_info{version}",
    "thorn_in_flight",
    "thorn_lanes",
    "thorn_pending",
    "thorn_lag_records",
    "thorn_partitions_owned",
    "thorn_partitions_paused",
    "thorn_commits_total{result}",
    "thorn_connections_opened_total",
    "thorn_connections_reused_total",
    "thorn_loop_lag_seconds",
]


def scrape(counters: Counters, accept: str = "") -> str:
    return Exposition(counters).scrape(accept)[1].decode()


def test_every_promised_name_is_there_with_its_label() -> None:
    names = {metric.name + (f"{{{metric.label}}}" if metric.label else "") for metric in METRICS}
    assert set(PROMISED) <= names


def test_names_are_unique_and_in_prometheus_style() -> None:
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert [name for name in names if not re.fullmatch(r"thorn_[a-z]+(_[a-z]+)*", name)] == []
    in_seconds = {metric.name for metric in METRICS if metric.unit == "seconds"}
    assert in_seconds == {name for name in names if name.endswith("_seconds")}


def test_no_label_can_name_a_host_url_subscription_or_partition() -> None:
    assert set(Label) == {"outcome", "result", "reason", "version"}
    assert {type(metric.label) for metric in METRICS} <= {Label, type(None)}


def test_every_metric_tells_its_meaning_and_what_to_do_when_it_rises() -> None:
    for metric in METRICS:
        assert metric.meaning.endswith("."), metric.name
        assert metric.when_it_rises.endswith("."), metric.name


def test_ages_are_counted_from_five_milliseconds_to_five_days() -> None:
    assert (AGE_BUCKETS_S[0], AGE_BUCKETS_S[-1]) == (0.005, 5 * 86400)


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": Kind.COUNTER, "name": "thorn_x"},
        {"kind": Kind.GAUGE, "name": "thorn_x_total"},
        {"kind": Kind.GAUGE, "label": Label.REASON},
        {"kind": Kind.GAUGE, "values": ("a",)},
        {"kind": Kind.GAUGE, "buckets": (1.0,)},
        {"kind": Kind.HISTOGRAM},
        {"kind": Kind.HISTOGRAM, "buckets": (2.0, 1.0)},
    ],
)
def test_a_metric_that_contradicts_itself_is_refused(wrong: dict[str, object]) -> None:
    fields: dict[str, object] = {"name": "thorn_x", "unit": "x", "meaning": "X.", "when_it_rises": "Y."}
    with pytest.raises(ValueError, match="thorn_x"):
        Metric(**{**fields, **wrong})  # type: ignore[arg-type]


def test_a_value_on_a_bound_belongs_to_its_bucket() -> None:
    histogram = Histogram((1, 2))
    for value in (0.5, 1, 1.5, 9):
        histogram.observe(value)
    assert histogram.counts == [2, 1, 1]
    assert histogram.sum == 12.0


def test_counting_is_bound_once_per_label_value() -> None:
    # Given counters bound at the start
    counters = Counters()
    attempts = counters.family(metrics.ATTEMPTS)

    # When outcomes come in
    attempts[Outcome.DELIVERED].inc()
    attempts[Outcome.DELIVERED].inc(2)
    counters.inc(metrics.DEAD_LETTERS, Death.GONE)

    # Then the scrape shows them, and zero for all others
    text = scrape(counters)
    assert 'thorn_attempts_total{outcome="delivered"} 3.0' in text
    assert 'thorn_attempts_total{outcome="failed"} 0.0' in text
    assert 'thorn_dead_letters_total{reason="gone"} 1.0' in text


def test_a_value_outside_of_the_closed_set_is_an_error() -> None:
    with pytest.raises(KeyError):
        Counters().inc(metrics.ATTEMPTS, "https://example.com:443")


def test_a_metric_of_another_kind_is_an_error() -> None:
    counters = Counters()
    with pytest.raises(KeyError):
        counters.counter(metrics.IN_FLIGHT)
    with pytest.raises(KeyError):
        counters.histogram(metrics.IN_FLIGHT)
    with pytest.raises(KeyError):
        counters.register(metrics.DELIVERY_AGE, lambda: 1.0)
    with pytest.raises(KeyError):
        counters.register(metrics.ATTEMPTS, lambda: 1.0)


def test_gauges_are_read_at_the_scrape_and_absent_before_anybody_registered_them() -> None:
    counters = Counters()
    assert "thorn_lanes" not in scrape(counters)

    lanes = [1]
    counters.register(metrics.LANES, lambda: float(len(lanes)))
    lanes.append(2)

    assert "thorn_lanes 2.0" in scrape(counters)


def test_a_counter_kept_elsewhere_is_read_at_the_scrape() -> None:
    counters = Counters()
    counters.register(metrics.CONNECTIONS_OPENED, lambda: 7)
    assert "thorn_connections_opened_total 7.0" in scrape(counters)


def test_a_histogram_is_exposed_cumulatively() -> None:
    counters = Counters()
    counters.observe(metrics.LOOP_LAG, 0.001)
    counters.observe(metrics.LOOP_LAG, 60)
    text = scrape(counters)
    assert 'thorn_loop_lag_seconds_bucket{le="0.001"} 1.0' in text
    assert 'thorn_loop_lag_seconds_bucket{le="10.0"} 1.0' in text
    assert 'thorn_loop_lag_seconds_bucket{le="+Inf"} 2.0' in text
    assert "thorn_loop_lag_seconds_sum 60.001" in text


def test_the_scrape_tells_the_release_and_the_process() -> None:
    text = scrape(Counters())
    assert f'thorn_build_info{{version="{__version__}"}} 1.0' in text
    assert "process_open_fds" in text


def test_a_scraper_that_asks_for_openmetrics_gets_it() -> None:
    content_type, body = Exposition(Counters()).scrape("application/openmetrics-text; version=1.0.0")
    assert content_type.startswith("application/openmetrics-text")
    assert body.endswith(b"# EOF\n")


def test_the_documentation_has_one_row_per_metric() -> None:
    rows = markdown_table().splitlines()[2:]
    assert len(rows) == len(METRICS)
    assert rows[1].startswith("| `thorn_attempts_total{outcome}` | counter, attempts |")
    assert all(row.count(" | ") == 3 for row in rows)
