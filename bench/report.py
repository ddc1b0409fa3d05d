"""Results as tables for people and as JSON for later."""

import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.live import Ages
from bench.memory import MARKS, Memory
from bench.producer_cost import SendCost
from bench.runs import PLAIN, WORKER, Run

#: What `--check` asks for.
MIN_PER_S: Final = 1_200.0
MIN_RATIO: Final = 2.5
#: What `--check` and a long run (`--memory`) ask for: requests that found an open connection.
MIN_REUSE: Final = 0.99
#: What `--check` asks for on Kafka: CPU us of kafka-python per delivery, by deliveries per record.
MAX_KAFKA_US: Final = {1: 20.0, 10: 4.0}
#: What `--producer --check` asks for: CPU us of a send without the log's, by subscribers and hosts.
MAX_SEND_US: Final = {(1, 1): 40.0, (100, 10): 250.0}

_MIB: Final = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Comparison:
    """All runs with one number of deliveries per record."""

    per_record: int
    runs: tuple[Run, ...]

    @property
    def programs(self) -> tuple[str, ...]:
        """Which programs ran, the worker first."""
        return tuple(dict.fromkeys(run.program for run in self.runs))

    def of(self, program: str) -> list[Run]:
        """The runs of one program."""
        return [run for run in self.runs if run.program == program]

    def median(self, program: str, value: Callable[[Run], float]) -> float:
        """Median over the repetitions of one program."""
        return statistics.median(value(run) for run in self.of(program))

    @property
    def speed_ratio(self) -> float:
        """Deliveries per second, worker to plain loop, of the medians."""
        return self.median(WORKER, lambda run: run.per_s) / self.median(PLAIN, lambda run: run.per_s)

    @property
    def cpu_ratio(self) -> float:
        """CPU per delivery, plain loop to worker, of the medians. Steadier than speed on a busy machine."""
        return self.median(PLAIN, lambda run: run.cpu_us) / self.median(WORKER, lambda run: run.cpu_us)

    def shortfalls(self) -> list[str]:
        """What is below the bounds, one sentence each."""
        where = f"with {self.per_record} per record"
        worker = self.programs[0]
        per_s = self.median(worker, lambda run: run.per_s)
        found = []
        if per_s < MIN_PER_S:
            found.append(f"{per_s:.0f} deliveries/s {where}: {MIN_PER_S:.0f} are asked for")
        if PLAIN in self.programs and self.speed_ratio < MIN_RATIO:
            found.append(f"{self.speed_ratio:.2f} x the plain loop {where}: {MIN_RATIO} x is asked for")
        reuse = self.median(worker, lambda run: run.reuse)
        if reuse <= MIN_REUSE:
            found.append(
                f"{reuse:.2%} of requests reused a connection {where}: {MIN_REUSE:.0%} are asked for"
            )
        kafka_us = self.median(worker, lambda run: run.kafka_us)
        if kafka_us > MAX_KAFKA_US.get(self.per_record, math.inf):
            found.append(
                f"kafka-python takes {kafka_us:.1f} us of CPU per delivery {where}: at most "
                f"{MAX_KAFKA_US[self.per_record]:g} are asked for"
            )
        return found


def losses(runs: Sequence[Run]) -> list[str]:
    """Runs in which something never arrived. That is never a matter of speed."""
    return [f"{run.program}: {run.lost} of {run.deliveries} deliveries were lost" for run in runs if run.lost]


def print_comparison(console: Console, comparison: Comparison) -> None:
    """One line per figure: min / median / max of the worker, then of the plain loop."""
    deliveries = comparison.runs[0].deliveries
    table = Table(
        title=f"{deliveries:,} deliveries, {comparison.per_record} per record "
        f"({len(comparison.of(comparison.programs[0]))} runs each, alternating; min / median / max)"
    )
    table.add_column("")
    for program in comparison.programs:
        table.add_column(program, justify="right")
    sampled = all(run.shares is not None for run in comparison.runs)
    for title, shown, value in (*_FIGURES, *(_SAMPLED if sampled else ())):
        cells = [
            _spread([value(run) for run in comparison.of(program)], shown) for program in comparison.programs
        ]
        table.add_row(title, *cells)
    console.print(table)
    if PLAIN in comparison.programs:
        console.print(
            f"worker / plain loop: {comparison.speed_ratio:.2f} x deliveries/s, "
            f"{comparison.cpu_ratio:.2f} x less CPU per delivery\n"
        )


def _spread(values: Sequence[float], shown: str) -> str:
    return " / ".join(shown.format(value) for value in (min(values), statistics.median(values), max(values)))


_FIGURES: Final[tuple[tuple[str, str, Callable[[Run], float]], ...]] = (
    ("deliveries/s", "{:,.0f}", lambda run: run.per_s),
    ("CPU us per delivery", "{:.0f}", lambda run: run.cpu_us),
    ("CPU us, last commits included", "{:.0f}", lambda run: run.cpu_to_exit_us),
    ("peak memory, MiB", "{:.0f}", lambda run: run.peak_rss_bytes / _MIB),
    ("connections opened", "{:,.0f}", lambda run: run.connections),
    ("reuse, all requests", "{:.2%}", lambda run: run.reuse),
    ("reuse, second half (warm)", "{:.2%}", lambda run: run.warm_reuse),
    ("lost", "{:.0f}", lambda run: run.lost),
    ("repeated", "{:.0f}", lambda run: run.repeated),
    ("the sink's core was busy", "{:.0%}", lambda run: run.sink_busy),
)
#: What a worker on Kafka knows of itself. The figures are parts of "CPU us per delivery".
_SAMPLED: Final[tuple[tuple[str, str, Callable[[Run], float]], ...]] = (
    ("of it kafka-python, by samples", "{:.1f}", lambda run: run.kafka_us),
    ("of it our reader and store, by samples", "{:.1f}", lambda run: run.log_us),
    ("kafka-python, CPU ms per second", "{:.1f}", lambda run: run.kafka_us * run.per_s / 1e3),
    ("samples of CPU", "{:,.0f}", lambda run: run.shares.samples if run.shares is not None else 0),
)


def print_ages(console: Console, ages: Ages) -> None:
    """The live run in one line."""
    console.print(
        f"live, {ages.per_s:.0f}/s, {ages.deliveries:,} deliveries: age p50 {ages.p50_s * 1e3:.1f} ms, "
        f"p99 {ages.p99_s * 1e3:.1f} ms, longest {ages.longest_s * 1e3:.1f} ms, lost {ages.lost}"
    )


def print_memory(console: Console, memory: Memory) -> None:
    """The series, and whether it is flat."""
    series = ", ".join(
        f"{mark:.0%}: {size / _MIB:.1f}" for mark, size in zip(MARKS, memory.marks_bytes, strict=True)
    )
    run = memory.run
    console.print(
        f"memory over {run.deliveries:,} deliveries, MiB ({memory.samples} samples): {series}\n"
        f"median of first quarter {memory.first_quarter_bytes / _MIB:.1f}, of last half "
        f"{memory.last_half_bytes / _MIB:.1f}: {memory.drift:+.1%}, {'flat' if memory.flat else 'NOT FLAT'}\n"
        f"{run.connections:,} connections, reuse {run.reuse:.2%}, warm {run.warm_reuse:.2%}; "
        f"{run.per_s:,.0f} deliveries/s, {run.cpu_us:.0f} us each; lost {run.lost}, repeated {run.repeated}"
    )


def print_send_costs(console: Console, costs: Sequence[SendCost]) -> None:
    """A table of what `send` costs."""
    table = Table(title="CPU us per send of one event")
    for title in (
        "subscribers",
        "hosts",
        "match + encode",
        "group + pack",
        "our share",
        "bound",
        "hand over",
        "log's threads",
    ):
        table.add_column(title, justify="right")
    for cost in costs:
        bound = MAX_SEND_US.get((cost.subscribers, cost.hosts))
        figures = (cost.prepare_us, cost.pack_us, cost.ours_us, bound, cost.hand_over_us, cost.log_us)
        cells = ("" if figure is None else f"{figure:.1f}" for figure in figures)
        table.add_row(str(cost.subscribers), str(cost.hosts), *cells)
    console.print(table)


def send_shortfalls(costs: Sequence[SendCost]) -> list[str]:
    """What costs more than its bound, one sentence each."""
    return [
        f"a send to {cost.subscribers} subscribers on {cost.hosts} hosts costs {cost.ours_us:.1f} us without "
        f"the log: at most {bound:.0f} are asked for"
        for cost in costs
        if (bound := MAX_SEND_US.get((cost.subscribers, cost.hosts))) is not None and cost.ours_us > bound
    ]


def send_cost_as_json(cost: SendCost) -> dict[str, Any]:
    """What `send` costs, with our share."""
    return {**asdict(cost), "ours_us": round(cost.ours_us, 1)}


def run_as_json(run: Run) -> dict[str, Any]:
    """A run with its derived figures."""
    return {
        **asdict(run),
        "per_s": round(run.per_s, 1),
        "cpu_us": round(run.cpu_us, 1),
        "cpu_to_exit_us": round(run.cpu_to_exit_us, 1),
        "kafka_us": round(run.kafka_us, 1),
        "log_us": round(run.log_us, 1),
        "sink_busy": round(run.sink_busy, 3),
        "reuse": round(run.reuse, 5),
        "warm_reuse": round(run.warm_reuse, 5),
    }


def comparison_as_json(comparison: Comparison) -> dict[str, Any]:
    """A comparison, with its ratios if there are two programs."""
    ratios = {}
    if PLAIN in comparison.programs:
        ratios = {
            "speed_ratio": round(comparison.speed_ratio, 2),
            "cpu_ratio": round(comparison.cpu_ratio, 2),
        }
    return {
        "per_record": comparison.per_record,
        **ratios,
        "runs": [run_as_json(run) for run in comparison.runs],
    }


def memory_as_json(memory: Memory) -> dict[str, Any]:
    """The memory run."""
    return {**asdict(memory), "run": run_as_json(memory.run), "drift": round(memory.drift, 4)}
