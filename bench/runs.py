"""One run: a program delivers a log that was filled before, and the sink's ledger says what arrived when."""

import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.load import Filled, environment
from bench.machine import Cores, cpu_s, peak_rss_bytes, pinned
from bench.sampled_worker import Shares, shares
from bench.sinks import ROOT, Ledger, Sink

WORKER: Final = "worker"
#: The same, and it samples its own CPU.
KAFKA_WORKER: Final = "worker on Kafka"
PLAIN: Final = "plain loop"

#: Between looks at the ledger: often while nothing has come, so that CPU of the start is not counted.
_EAGER_S: Final = 0.002
_STEADY_S: Final = 0.02

#: A run of which nothing arrives for this long has failed.
_SILENCE_S: Final = 30.0

#: A worker that is told to stop commits and lets go within this time.
_STOP_S: Final = 40.0


@dataclass(frozen=True, slots=True)
class Run:
    """What one run showed.

    seconds: from the first arrival to the last. cpu_s: of the program in that time; cpu_to_exit_s: from the
    same start until it ended, last commits included. warm_connections: opened after half of the deliveries
    had come. lost, repeated: deliveries that never came, arrivals of one that had come before. shares: of
    `cpu_s`, if the program samples itself.
    """

    program: str
    per_record: int
    deliveries: int
    seconds: float
    cpu_s: float
    cpu_to_exit_s: float
    sink_cpu_s: float
    peak_rss_bytes: int
    connections: int
    warm_connections: int
    lost: int
    repeated: int
    shares: Shares | None = None

    @property
    def per_s(self) -> float:
        """Deliveries per second."""
        return self.deliveries / self.seconds

    @property
    def cpu_us(self) -> float:
        """Microseconds of CPU per delivery."""
        return self.cpu_s / self.deliveries * 1e6

    @property
    def cpu_to_exit_us(self) -> float:
        """The same with everything that comes after the last arrival."""
        return self.cpu_to_exit_s / self.deliveries * 1e6

    @property
    def kafka_us(self) -> float:
        """Microseconds of CPU per delivery that kafka-python takes of `cpu_us`, by the samples."""
        return self.cpu_us * self.shares.kafka if self.shares is not None else 0.0

    @property
    def log_us(self) -> float:
        """The same for our own reader and store."""
        return self.cpu_us * self.shares.log if self.shares is not None else 0.0

    @property
    def sink_busy(self) -> float:
        """Share of the time that the sink used its core: near 1 it would be what was measured."""
        return self.sink_cpu_s / self.seconds

    @property
    def reuse(self) -> float:
        """Share of requests that found an open connection."""
        return 1.0 - self.connections / (self.deliveries + self.repeated)

    @property
    def warm_reuse(self) -> float:
        """The same over the second half, when every host is known: how a run began does not count."""
        return 1.0 - self.warm_connections / (self.deliveries - self.deliveries // 2)


class Program:
    """A process under test, alone on its core. A context manager; leaving it early kills the process."""

    def __init__(self, command: Sequence[str], environment: dict[str, str], cores: Cores, said: Path) -> None:
        self._said = said
        with said.open("wb") as file, pinned(cores.subject):
            self._process = subprocess.Popen(
                [sys.executable, "-m", *command], cwd=ROOT, env=environment, stdout=file, stderr=file
            )
        self.pid = self._process.pid

    def __enter__(self) -> "Program":
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait(timeout=10)

    def is_running(self) -> bool:
        """False once it ended well. Raises AssertionError with its last words if it ended in an error."""
        # Not `poll`, which would take the ended process, and with it what it used, out of /proc.
        ended = os.waitid(os.P_PID, self.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        if ended is not None:
            self._check(ended.si_status)
        return ended is None

    def finish(self, *, stop: bool) -> float:
        """Let it end, after SIGTERM if `stop`; all CPU seconds that it ever used.

        Raises AssertionError if it fails.
        """
        before = _children_cpu_s()
        if stop:
            self._process.send_signal(signal.SIGTERM)
        self._check(self._process.wait(timeout=_STOP_S))
        return _children_cpu_s() - before

    def _check(self, code: int) -> None:
        assert code == 0, f"the program ended with code {code}:\n{self._said.read_text()[-3000:]}"


def deliver(
    program: str, filled: Filled, sink: Sink, cores: Cores, look: Callable[[int, int], None] | None = None
) -> Run:
    """Deliver `filled`, which is used up then, until every id arrived.

    look: called often with the pid and how many came.

    Raises AssertionError if the program fails, or nothing more arrives while ids are missing.
    """
    samples = sink.path.with_name("samples")
    command = {
        WORKER: ["thorn_worker"],
        KAFKA_WORKER: ["bench.sampled_worker", str(samples)],
        PLAIN: ["bench.plain_loop", filled.url.removeprefix("sqlite:///"), str(len(filled.ids))],
    }[program]
    ledger = Ledger(sink.path)
    said = sink.path.with_name(f"{program.replace(' ', '_')}.log")
    surroundings = environment(filled.url, filled.subscribers, sink.path.with_name("state"))
    with Program(command, surroundings, cores, said) as subject:
        cpu_before_s, sink_before_s = _wait_for_first(subject, ledger, sink)
        peak = _wait_for_all(subject, ledger, len(filled.ids), look)
        cpu_after_s, sink_after_s = cpu_s(subject.pid), cpu_s(sink.pid)
        cpu_in_all_s = subject.finish(stop=program != PLAIN)
    ledger.read()
    return Run(
        program=program,
        per_record=filled.per_record,
        deliveries=len(filled.ids),
        seconds=ledger.last_at - ledger.first_at,
        cpu_s=cpu_after_s - cpu_before_s,
        cpu_to_exit_s=cpu_in_all_s - cpu_before_s,
        sink_cpu_s=sink_after_s - sink_before_s,
        peak_rss_bytes=peak,
        connections=len(ledger.opened_after),
        warm_connections=sum(came >= len(filled.ids) // 2 for came in ledger.opened_after),
        lost=len(filled.ids - ledger.ids.keys()),
        repeated=ledger.ids.total() - len(ledger.ids),
        shares=shares(samples, ledger.first_at, ledger.last_at) if program == KAFKA_WORKER else None,
    )


def _wait_for_first(subject: Program, ledger: Ledger, sink: Sink) -> tuple[float, float]:
    """CPU seconds of program and sink just before the first arrival was seen."""
    give_up_at = time.monotonic() + _SILENCE_S
    while True:
        before = cpu_s(subject.pid), cpu_s(sink.pid)
        if ledger.read():
            return before
        assert subject.is_running(), "the program ended and nothing arrived"
        assert time.monotonic() < give_up_at, f"nothing arrived within {_SILENCE_S:g} s"
        time.sleep(_EAGER_S)


def _wait_for_all(
    subject: Program, ledger: Ledger, wanted: int, look: Callable[[int, int], None] | None
) -> int:
    """Wait until `wanted` ids came, or the program is done; its peak memory in bytes.

    What is missing then is counted as lost.
    """
    peak = came = 0
    give_up_at = time.monotonic() + _SILENCE_S
    while came < wanted:
        time.sleep(_STEADY_S)
        before, came = came, ledger.read()
        peak = peak_rss_bytes(subject.pid) or peak
        if look is not None:
            look(subject.pid, came)
        if came > before:
            give_up_at = time.monotonic() + _SILENCE_S
        elif not subject.is_running() or time.monotonic() > give_up_at:
            break
    return peak


def _children_cpu_s() -> float:
    """CPU seconds of all processes that were waited for."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime
