"""Every metric of the worker in one typed list; the documentation's table is printed from it.

No host, URL, subscription or partition can become a label: a label is one of `Label`, and every value it can
take is listed with the metric. So a scrape's size does not depend on how many subscribers there are.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from thorn_worker import __version__
from thorn_worker.outcome import Death, Outcome


class Kind(StrEnum):
    """What Prometheus may do with the numbers."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


class Label(StrEnum):
    """The closed set of label names. Whatever grows with subscribers or traffic has no place in it."""

    OUTCOME = "outcome"
    RESULT = "result"
    REASON = "reason"
    VERSION = "version"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Metric:
    """One metric: all that is known of it before the first number.

    unit: what one step means (``seconds``, ``records`` …). label, values: the one label it may have, and
    every value that label can take. buckets: upper bounds of a histogram, inclusive, rising, without +Inf.
    when_it_rises: what the operator does.
    """

    name: str
    kind: Kind
    unit: str
    meaning: str
    when_it_rises: str
    label: Label | None = None
    values: tuple[str, ...] = ()
    buckets: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if (self.label is None) != (not self.values):
            raise ValueError(
                f"{self.name} has a label without values or values without a label; give both or none"
            )
        if (self.kind is Kind.HISTOGRAM) != bool(self.buckets):
            raise ValueError(
                f"{self.name} is a {self.kind} with buckets {self.buckets}; only a histogram has buckets"
            )
        if list(self.buckets) != sorted(set(self.buckets)):
            raise ValueError(f"{self.name} has buckets {self.buckets}; they must rise")
        if (self.kind is Kind.COUNTER) != self.name.endswith("_total"):
            raise ValueError(f"{self.name} is a {self.kind}; counters end in _total, and nothing else does")


#: 1 ms … 60 s: an attempt lasts at most `event_timeout_s`, which is at most 60.
ATTEMPT_BUCKETS_S: Final = (
    0.001,
    0.0025,
    0.005,
    0.01,
    0.025,
    0.05,
    0.1,
    0.25,
    0.5,
    1,
    2.5,
    5,
    10,
    15,
    30,
    60,
)
#: 5 ms … 5 d: from a warm connection to the default `max_age_s`.
AGE_BUCKETS_S: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60),
    *(300, 1800, 7200, 18000, 36000, 86400, 172800, 432000),
)
#: 1 ms … 10 s: 5 ms is what any single call may hold the loop for; 0.5 s counts as a stall.
LOOP_LAG_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10)

RECORDS_READ: Final = Metric(
    name="thorn_records_read_total",
    kind=Kind.COUNTER,
    unit="records",
    meaning="Records read from the log, commands and unreadable ones included.",
    when_it_rises="Load. If it stands still while lag grows, look at thorn_partitions_paused.",
)
ATTEMPTS: Final = Metric(
    name="thorn_attempts_total",
    kind=Kind.COUNTER,
    unit="attempts",
    label=Label.OUTCOME,
    values=tuple(Outcome),
    meaning="HTTP attempts by what they meant.",
    when_it_rises="Anything but `delivered`: `thorn-worker pending list` shows which hosts, and why.",
)
DELIVERIES: Final = Metric(
    name="thorn_deliveries_total",
    kind=Kind.COUNTER,
    unit="deliveries",
    label=Label.RESULT,
    values=("delivered", "dead", "cancelled"),
    meaning="Deliveries that came to an end, by how.",
    when_it_rises="`dead`: see thorn_dead_letters_total for why.",
)
DEAD_LETTERS: Final = Metric(
    name="thorn_dead_letters_total",
    kind=Kind.COUNTER,
    unit="letters",
    label=Label.REASON,
    values=tuple(Death),
    meaning="Dead letters by cause; records that could not be read are `malformed` or `unsupported`.",
    when_it_rises=(
        "`thorn-worker dead list --reason …`, mend the cause, then `dead replay`. "
        "`unsupported`: a newer producer is running, upgrade the workers."
    ),
)
ATTEMPT_DURATION: Final = Metric(
    name="thorn_attempt_duration_seconds",
    kind=Kind.HISTOGRAM,
    unit="seconds",
    buckets=ATTEMPT_BUCKETS_S,
    meaning="From the start of an attempt until its outcome is known.",
    when_it_rises="Receivers are slow; if thorn_loop_lag_seconds rises too, it is this worker.",
)
DELIVERY_AGE: Final = Metric(
    name="thorn_delivery_age_seconds",
    kind=Kind.HISTOGRAM,
    unit="seconds",
    buckets=AGE_BUCKETS_S,
    meaning="Age of a delivery when it was delivered, counted from the log's taking it.",
    when_it_rises="First attempts wait (thorn_oldest_untried_seconds), or many need retries (thorn_pending).",
)
OLDEST_UNTRIED: Final = Metric(
    name="thorn_oldest_untried_seconds",
    kind=Kind.GAUGE,
    unit="seconds",
    meaning="Age of the oldest delivery here that was never attempted; 0 if there is none.",
    when_it_rises="Intake outruns delivery: add workers, or raise THORN_MAX_IN_FLIGHT if it is reached.",
)
OLDEST_PENDING: Final = Metric(
    name="thorn_oldest_pending_seconds",
    kind=Kind.GAUGE,
    unit="seconds",
    meaning="Age of the oldest delivery in the store; 0 if there is none.",
    when_it_rises="Some subscriber has failed for that long: `thorn-worker pending list`.",
)
UNRESOLVED: Final = Metric(
    name="thorn_unresolved",
    kind=Kind.GAUGE,
    unit="subscriptions",
    meaning="Subscriptions whose secrets or headers this worker cannot find; their deliveries wait untried.",
    when_it_rises="Give the worker the same subscribers or [secrets] as the producers, then restart it.",
)
LOCAL_ERRORS: Final = Metric(
    name="thorn_local_errors_total",
    kind=Kind.COUNTER,
    unit="attempts",
    meaning="Attempts that our own machine prevented: no files, memory or ports left. Nobody else is blamed.",
    when_it_rises="Raise the open-file limit, or lower THORN_MAX_IN_FLIGHT.",
)
BUILD_INFO: Final = Metric(
    name="thorn_build_info",
    kind=Kind.GAUGE,
    unit="info",
    label=Label.VERSION,
    values=(__version__,),
    meaning="Always 1; the label says which release runs.",
    when_it_rises="Never.",
)
IN_FLIGHT: Final = Metric(
    name="thorn_in_flight",
    kind=Kind.GAUGE,
    unit="attempts",
    meaning="Attempts under way.",
    when_it_rises="At THORN_MAX_IN_FLIGHT for minutes: slow receivers hold all slots; add workers.",
)
LANES: Final = Metric(
    name="thorn_lanes",
    kind=Kind.GAUGE,
    unit="hosts",
    meaning="Hosts with work in memory.",
    when_it_rises="More hosts have a backlog. Harmless by itself.",
)
PENDING: Final = Metric(
    name="thorn_pending",
    kind=Kind.GAUGE,
    unit="deliveries",
    meaning="Deliveries that wait in the store of the partitions owned here.",
    when_it_rises="Some subscribers fail: `thorn-worker pending list` shows which and why.",
)
LAG: Final = Metric(
    name="thorn_lag_records",
    kind=Kind.GAUGE,
    unit="records",
    meaning="Records between the committed offset and the end of the log, over the partitions owned here.",
    when_it_rises="Intake outruns delivery: add workers; if only one partition stands, see the status page.",
)
PARTITIONS_OWNED: Final = Metric(
    name="thorn_partitions_owned",
    kind=Kind.GAUGE,
    unit="partitions",
    meaning="Partitions that this worker owns.",
    when_it_rises="Another worker left. The sum over all workers must equal the log's partitions.",
)
PARTITIONS_PAUSED: Final = Metric(
    name="thorn_partitions_paused",
    kind=Kind.GAUGE,
    unit="partitions",
    meaning="Owned partitions whose window is full, so that nothing is read from them.",
    when_it_rises="Back-pressure. If it lasts, see thorn_in_flight and thorn_loop_lag_seconds.",
)
COMMITS: Final = Metric(
    name="thorn_commits_total",
    kind=Kind.COUNTER,
    unit="commits",
    label=Label.RESULT,
    values=("stored", "refused"),
    meaning="Commits of watermarks; refused: the partition is no longer ours or the log did not answer.",
    when_it_rises="`refused` outside of a rebalance: the log is slow, or the worker froze past its lease.",
)
CONNECTIONS_OPENED: Final = Metric(
    name="thorn_connections_opened_total",
    kind=Kind.COUNTER,
    unit="connections",
    meaning="Connections opened to receivers.",
    when_it_rises="As fast as attempts: receivers close after each answer; ask them for keep-alive.",
)
CONNECTIONS_REUSED: Final = Metric(
    name="thorn_connections_reused_total",
    kind=Kind.COUNTER,
    unit="attempts",
    meaning="Attempts that went over a connection already open.",
    when_it_rises="Good.",
)
LOOP_LAG: Final = Metric(
    name="thorn_loop_lag_seconds",
    kind=Kind.HISTOGRAM,
    unit="seconds",
    buckets=LOOP_LAG_BUCKETS_S,
    meaning="How late the event loop wakes a greenlet that slept for 100 ms.",
    when_it_rises="The process is short of CPU: add workers, or move neighbours off the machine.",
)
STORE_WRITES: Final = Metric(
    name="thorn_store_writes_total",
    kind=Kind.COUNTER,
    unit="writes",
    meaning="Rows, removals, dead letters and endpoint states made durable.",
    when_it_rises="Many deliveries fail and are stored for later: see thorn_attempts_total.",
)
JOURNAL_ERRORS: Final = Metric(
    name="thorn_journal_errors_total",
    kind=Kind.COUNTER,
    unit="errors",
    meaning="Reads, writes and commits that the log refused and that are tried again until they succeed.",
    when_it_rises="Disk full, file locked by a stranger, or broker away: the log lines name the cause.",
)

#: Every metric, in the order of the documentation.
METRICS: Final[tuple[Metric, ...]] = (
    *(RECORDS_READ, ATTEMPTS, DELIVERIES, DEAD_LETTERS, ATTEMPT_DURATION, DELIVERY_AGE),
    *(OLDEST_UNTRIED, OLDEST_PENDING, PENDING, UNRESOLVED, IN_FLIGHT, LANES, LAG),
    *(PARTITIONS_OWNED, PARTITIONS_PAUSED, COMMITS, STORE_WRITES, JOURNAL_ERRORS),
    *(CONNECTIONS_OPENED, CONNECTIONS_REUSED, LOCAL_ERRORS, LOOP_LAG, BUILD_INFO),
)


def markdown_table() -> str:
    """The metrics as a Markdown table, for the documentation."""
    lines = ["| metric | kind | meaning | when it rises |", "|---|---|---|---|"]
    for metric in METRICS:
        label = f"{{{metric.label}}}" if metric.label else ""
        values = "" if metric.label in (None, Label.VERSION) else f" ({', '.join(metric.values)})"
        kind = f"{metric.kind}, {metric.unit}"
        lines.append(
            f"| `{metric.name}{label}` | {kind} | {metric.meaning}{values} | {metric.when_it_rises} |"
        )
    return "\n".join(lines) + "\n"
