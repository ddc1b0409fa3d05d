"""What a metric is: the types of the list in `thorn_worker.metrics`, and the bounds of its histograms."""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final


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

#: 1 ms … 60 s: from a commit on a quiet machine to one that outlasts a broker's failover.
LOG_BUCKETS_S: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)
#: 10 ms … 1 h: from an empty partition to one of a hundred million rows.
RESTORE_BUCKETS_S: Final = (0.01, 0.05, 0.1, 0.5, 1, 5, 10, 30, 60, 300, 900, 3600)
