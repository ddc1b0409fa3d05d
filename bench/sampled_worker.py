"""A worker that samples its own CPU: how much of it is spent in kafka-python?

The kernel sends SIGPROF whenever the process has used some milliseconds of CPU more, in user or system mode;
the handler then looks at the stack that it has interrupted. A frame of kafka-python anywhere on it makes the
sample Kafka's: sockets, checksums, decompression and callbacks that run for it included. Otherwise, a frame
of our own reader or store makes it the log's. Looking costs about 0.2 %.

    python -m bench.sampled_worker FILE       the samples are written to FILE at the end
"""

import signal
import sys
import time
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from importlib.util import find_spec
from pathlib import Path
from types import FrameType
from typing import Final

from thorn_worker.__main__ import main as run_worker

#: CPU between two samples. The kernel rounds it up to its own tick, 1 to 10 ms.
_INTERVAL_S: Final = 0.001


class Spent(StrEnum):
    """What a sample of CPU was spent for."""

    KAFKA = "kafka-python"
    LOG = "reader and store"
    REST = "the rest"


@dataclass(frozen=True, slots=True)
class Shares:
    """Shares of the CPU that was sampled, 0 to 1."""

    samples: int
    kafka: float
    log: float


class Sampler:
    """Samples this process from `start` to `stop`.

    kafka_folder: where kafka-python lies. log_files: how the paths of our reader and store for it begin.
    """

    def __init__(self) -> None:
        self.kafka_folder: Final = _folder_of("kafka")
        ours = _folder_of("thorn_worker")
        self.log_files: Final = (f"{ours}log/kafka", f"{ours}store/kafka")
        self._samples: list[tuple[float, Spent]] = []
        self._spent: dict[str, Spent] = {}

    def start(self) -> None:
        """Take samples from now on."""
        signal.signal(signal.SIGPROF, self._sample)
        signal.setitimer(signal.ITIMER_PROF, _INTERVAL_S, _INTERVAL_S)

    def stop(self) -> None:
        """Take no more; a late SIGPROF must not end the process, which is what it does by default."""
        signal.setitimer(signal.ITIMER_PROF, 0.0)
        signal.signal(signal.SIGPROF, signal.SIG_IGN)

    def _sample(self, _number: int, frame: FrameType | None) -> None:
        found = Spent.REST
        while frame is not None:
            file = frame.f_code.co_filename
            spent = self._spent.get(file)
            if spent is None:
                spent = self._spent[file] = self._spent_by(file)
            if spent is Spent.KAFKA:
                found = spent
                break
            if spent is Spent.LOG:
                found = spent  # kafka-python may still have called it
            frame = frame.f_back
        self._samples.append((time.time(), found))

    def _spent_by(self, file: str) -> Spent:
        if file.startswith(self.kafka_folder):
            return Spent.KAFKA
        return Spent.LOG if file.startswith(self.log_files) else Spent.REST

    def write(self, file: Path) -> None:
        """Write the samples down, for `shares`."""
        file.write_text("".join(f"{at}\t{spent}\n" for at, spent in self._samples))


def shares(file: Path, first_at: float, last_at: float) -> Shares:
    """What the samples of `file` between two instants say. Raises AssertionError if there is none."""
    lines = [line.split("\t") for line in file.read_text().splitlines()]
    spent = Counter(what for at, what in lines if first_at <= float(at) <= last_at)
    samples = spent.total()
    assert samples, f"no sample of {len(lines)} falls into the run"
    return Shares(samples, spent[Spent.KAFKA] / samples, spent[Spent.LOG] / samples)


def _folder_of(package: str) -> str:
    """Where a package lies, without importing it: the worker must patch first."""
    spec = find_spec(package)
    assert spec is not None, f"{package} is not installed"
    assert spec.origin is not None, f"{package} has no file"
    return f"{Path(spec.origin).parent}/"


def main() -> int:
    """Run ``thorn-worker run`` under the sampler."""
    file = Path(sys.argv.pop(1))
    sampler = Sampler()
    sampler.start()
    try:
        return run_worker()
    finally:
        sampler.stop()
        sampler.write(file)


if __name__ == "__main__":
    sys.exit(main())
