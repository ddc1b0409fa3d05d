"""Is a worker's memory flat, however much it has delivered?"""

import statistics
from dataclasses import dataclass
from typing import Final

from bench.load import Filled
from bench.machine import Cores, rss_bytes
from bench.runs import WORKER, Run, deliver
from bench.sinks import Sink

#: The last half may be this much away from the first quarter.
TOLERANCE: Final = 0.10

#: When the series that is printed was taken, as shares of all deliveries.
MARKS: Final = (0.0, 0.25, 0.5, 0.75, 1.0)


@dataclass(frozen=True, slots=True)
class Memory:
    """marks_bytes: resident memory at `MARKS`. first_quarter_bytes, last_half_bytes: medians of samples."""

    run: Run
    samples: int
    marks_bytes: tuple[int, ...]
    first_quarter_bytes: int
    last_half_bytes: int

    @property
    def drift(self) -> float:
        """How far the last half lies above (or, negative, below) the first quarter: 0.1 is 10 %."""
        return self.last_half_bytes / self.first_quarter_bytes - 1.0

    @property
    def flat(self) -> bool:
        """Within the tolerance, upwards: memory that is given back is no leak."""
        return self.drift <= TOLERANCE


def memory(filled: Filled, sink: Sink, cores: Cores) -> Memory:
    """Deliver `filled` with one worker and sample its resident memory all the way."""
    samples: list[tuple[float, int]] = []

    def look(pid: int, came: int) -> None:
        samples.append((came / len(filled.ids), rss_bytes(pid)))

    run = deliver(WORKER, filled, sink, cores, look)
    return Memory(
        run=run,
        samples=len(samples),
        marks_bytes=tuple(min(samples, key=lambda one: abs(one[0] - mark))[1] for mark in MARKS),
        first_quarter_bytes=round(statistics.median(size for share, size in samples if share <= 0.25)),
        last_half_bytes=round(statistics.median(size for share, size in samples if share >= 0.5)),
    )
