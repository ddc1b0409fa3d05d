"""Deliveries per second and CPU per delivery of one worker process, beside a plain gevent and requests loop.

python -m bench.end_to_end                      worker and loop in turn, then a paced live run
python -m bench.end_to_end --check              the same; ends with 1 if a bound is missed
python -m bench.end_to_end --memory 200000      only a long run: is the memory flat?
python -m bench.end_to_end --producer           only the cost of `send`

With --log kafka://host:port/prefix each of these works on Kafka, and says what kafka-python's share is.
"""

import argparse
import json
import os
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from rich.console import Console

if not __package__:  # run as a script: the packages lie in the folder above
    sys.path[0] = str(Path(__file__).parents[1])

from bench import report
from bench.live import live
from bench.logs import Logs, logs_of
from bench.machine import Cores, describe
from bench.memory import memory
from bench.producer_cost import send_cost
from bench.report import Comparison
from bench.runs import deliver
from bench.sinks import Sink

RESULTS: Final = Path(__file__).parent / "results"

_LIVE_PER_S: Final = 500.0


def compare(
    logs: Logs, sink: Sink, cores: Cores, arguments: argparse.Namespace, per_record: int
) -> Comparison:
    """Worker, loop, worker, loop, …: what else the machine does then hits both."""
    runs = [
        deliver(program, logs.filled(sink.hosts(), arguments.deliveries, per_record), sink, cores)
        for program in logs.programs * arguments.repetitions
    ]
    return Comparison(per_record, tuple(runs))


def run_load(console: Console, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The comparison and the live run: results, and what fell short."""
    cores = Cores.of_this_machine()
    comparisons = []
    with tempfile.TemporaryDirectory(prefix="thorn-bench-") as name, Sink(Path(name), cores.others) as sink:
        logs = logs_of(arguments.log, Path(name))
        for per_record in arguments.per_record:
            comparisons.append(compare(logs, sink, cores, arguments, per_record))
            report.print_comparison(console, comparisons[-1])
        ages = live(logs.fresh(), sink, cores, _LIVE_PER_S, arguments.live)
        report.print_ages(console, ages)
    failures = report.losses([run for comparison in comparisons for run in comparison.runs])
    if ages.lost:
        failures.append(f"{ages.lost} deliveries of the live run were lost")
    if arguments.check:
        failures += [text for comparison in comparisons for text in comparison.shortfalls()]
    result = {"comparisons": [report.comparison_as_json(one) for one in comparisons], "live": asdict(ages)}
    return result, failures


def run_memory(console: Console, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """The long run: its result, and what fell short."""
    cores = Cores.of_this_machine()
    with tempfile.TemporaryDirectory(prefix="thorn-bench-") as name, Sink(Path(name), cores.others) as sink:
        logs = logs_of(arguments.log, Path(name))
        found = memory(logs.filled(sink.hosts(), arguments.memory, 1), sink, cores)
    report.print_memory(console, found)
    failures = report.losses([found.run])
    if not found.flat:
        failures.append(f"memory grew by {found.drift:.1%} from the first quarter to the last half")
    if found.run.reuse <= report.MIN_REUSE:
        failures.append(f"{found.run.reuse:.2%} of requests reused a connection")
    return {"memory": report.memory_as_json(found)}, failures


def run_producer(console: Console, arguments: argparse.Namespace) -> tuple[dict[str, Any], list[str]]:
    """What `send` costs: one subscriber, and a hundred over ten hosts with a tenth of the sends."""
    sends = arguments.producer
    with tempfile.TemporaryDirectory(prefix="thorn-bench-") as name:
        logs = logs_of(arguments.log, Path(name))
        costs = [send_cost(logs.fresh(), 1, 1, sends), send_cost(logs.fresh(), 100, 10, sends // 10)]
    report.print_send_costs(console, costs)
    failures = report.send_shortfalls(costs) if arguments.check else []
    return {"producer": [report.send_cost_as_json(cost) for cost in costs]}, failures


def parsed(words: list[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(
        description="One worker process beside a plain loop of gevent and requests."
    )
    parser.add_argument(
        "--log", metavar="URL", help="kafka://host:port/prefix: fresh topics there, and no plain loop beside"
    )
    parser.add_argument("--deliveries", type=int, default=30_000, help="in the log of each run")
    parser.add_argument("--repetitions", type=int, default=3, help="runs of each program")
    parser.add_argument(
        "--per-record", type=int, nargs="+", default=[1, 10], help="deliveries in a log record"
    )
    parser.add_argument("--live", type=float, default=5.0, help="seconds of the paced live run")
    parser.add_argument("--check", action="store_true", help="end with 1 if a bound is missed")
    only = parser.add_mutually_exclusive_group()
    only.add_argument("--memory", type=int, metavar="N", help="only sample memory over N deliveries")
    only.add_argument("--producer", type=int, nargs="?", const=20_000, metavar="N", help="only N sends")
    parser.add_argument("--name", help="of the file in bench/results (default: the kind of run)")
    return parser.parse_args(words)


def main(words: list[str] | None = None) -> int:
    """Run, print, and write the JSON; 1 if something was lost or, with --check, too slow."""
    arguments = parsed(words)
    console = Console()
    machine = describe()
    os.sched_setaffinity(0, {Cores.of_this_machine().others})
    if arguments.memory:
        kind, (result, failures) = "memory", run_memory(console, arguments)
    elif arguments.producer:
        kind, (result, failures) = "producer", run_producer(console, arguments)
    else:
        kind, (result, failures) = "end_to_end", run_load(console, arguments)
    RESULTS.mkdir(exist_ok=True)
    on = "" if arguments.log is None else "_kafka"
    path = RESULTS / f"{arguments.name or kind + on}.json"
    path.write_text(json.dumps({"machine": machine, **result, "failures": failures}, indent=2) + "\n")
    console.print(f"written to {path}")
    for failure in failures:
        console.print(f"[red]{failure}[/red]")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
