"""Every metric of the worker in one typed list; the documentation's table is printed from it.

No host, URL, subscription or partition can become a label: a label is one of `Label`, and every value it can
take is listed with the metric. So a scrape's size does not depend on how many subscribers there are.
"""

from typing import Final

from thorn_worker import __version__
from thorn_worker.metric import (
    AGE_BUCKETS_S,
    ATTEMPT_BUCKETS_S,
    LOG_BUCKETS_S,
    LOOP_LAG_BUCKETS_S,
    RESTORE_BUCKETS_S,
    Kind,
    Label,
    Metric,
)
from thorn_worker.outcome import Death, Outcome

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
COMMIT_DURATION: Final = Metric(
    name="thorn_commit_duration_seconds",
    kind=Kind.HISTOGRAM,
    unit="seconds",
    buckets=LOG_BUCKETS_S,
    meaning="How long a commit of watermarks took, whether it was stored or not.",
    when_it_rises="The log is slow: look at its disk, or at the brokers.",
)
REBALANCES: Final = Metric(
    name="thorn_rebalances_total",
    kind=Kind.COUNTER,
    unit="changes",
    label=Label.RESULT,
    values=("assigned", "revoked", "lost"),
    meaning="Times that partitions came to this worker, were taken in order, or were lost without warning.",
    when_it_rises="`lost`: the worker stood still for longer than its session; see thorn_loop_lag_seconds.",
)
RESTORE_DURATION: Final = Metric(
    name="thorn_restore_duration_seconds",
    kind=Kind.HISTOGRAM,
    unit="seconds",
    buckets=RESTORE_BUCKETS_S,
    meaning="From the assignment of a partition until its stored deliveries are known and it may start.",
    when_it_rises="Many deliveries wait (thorn_pending); a THORN_STATE_DIR that survives shortens it.",
)
GAP: Final = Metric(
    name="thorn_gap_records",
    kind=Kind.GAUGE,
    unit="records",
    meaning="Records above the watermarks that are complete already, over the partitions owned here.",
    when_it_rises="A few deliveries hold their watermark back; a crash repeats nothing of the rest.",
)
WATERMARK_AGE: Final = Metric(
    name="thorn_watermark_age_seconds",
    kind=Kind.GAUGE,
    unit="seconds",
    meaning="How long the watermark that stands longest has not moved although work waits above it.",
    when_it_rises="Beyond 90 s /readyz names the partition and the cause.",
)
UNACKNOWLEDGED: Final = Metric(
    name="thorn_store_unacknowledged",
    kind=Kind.GAUGE,
    unit="writes",
    meaning="Writes of the store that the log has not acknowledged yet.",
    when_it_rises="The log is slow or away; stored deliveries are not tried meanwhile.",
)
LAST_RECORD: Final = Metric(
    name="thorn_last_record_seconds",
    kind=Kind.GAUGE,
    unit="seconds",
    meaning="Seconds since a record was read, or since the start.",
    when_it_rises="Nobody sends; or, if thorn_lag_records is above 0, nothing can be read.",
)
LAST_COMMIT: Final = Metric(
    name="thorn_last_commit_seconds",
    kind=Kind.GAUGE,
    unit="seconds",
    meaning="Seconds since a commit was stored, or since the start.",
    when_it_rises="Nothing moves; or, if thorn_commits_total{refused} rises, the log does not take commits.",
)
LAST_ACKNOWLEDGEMENT: Final = Metric(
    name="thorn_last_acknowledgement_seconds",
    kind=Kind.GAUGE,
    unit="seconds",
    meaning="Seconds since the log acknowledged a write of the store, or since the start.",
    when_it_rises="Nothing fails; or, if thorn_store_unacknowledged is above 0, the log is away.",
)
LOST_RECORDS: Final = Metric(
    name="thorn_lost_records_total",
    kind=Kind.COUNTER,
    unit="records",
    meaning="Records that the log deleted or lost before they were completed; each case is one ERROR line.",
    when_it_rises="Deliveries are gone. Retention is shorter than the backlog is old, or brokers lost data.",
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
    *(GAP, WATERMARK_AGE, PARTITIONS_OWNED, PARTITIONS_PAUSED, REBALANCES, RESTORE_DURATION),
    *(COMMITS, COMMIT_DURATION, STORE_WRITES, UNACKNOWLEDGED, JOURNAL_ERRORS, LOST_RECORDS),
    *(LAST_RECORD, LAST_COMMIT, LAST_ACKNOWLEDGEMENT),
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
