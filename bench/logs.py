"""The logs that runs work on: copies of one SQLite file, or fresh topics of a Kafka cluster."""

import shutil
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final
from uuid import uuid4

from bench.load import Filled, fill
from bench.runs import KAFKA_WORKER, PLAIN, WORKER
from bench.sinks import ROOT

_SQLITE: Final = "sqlite:///"


class Logs(ABC):
    """Makes logs. programs: those that can deliver from one."""

    programs: tuple[str, ...]

    @abstractmethod
    def fresh(self) -> str:
        """URL of an empty log that nobody has used."""

    @abstractmethod
    def filled(self, hosts: Sequence[str], deliveries: int, per_record: int) -> Filled:
        """A log for one run: `deliveries` in records of `per_record` each, hosts in turn."""


class SqliteLogs(Logs):
    """Files in one folder. A worker deletes what it has delivered, so each run gets a copy."""

    programs = (WORKER, PLAIN)

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._originals: dict[tuple[int, int], Filled] = {}

    def fresh(self) -> str:
        return f"{_SQLITE}{self._folder / uuid4().hex}.db"

    def filled(self, hosts: Sequence[str], deliveries: int, per_record: int) -> Filled:
        original = self._originals.get((deliveries, per_record))
        if original is None:
            original = fill(self.fresh(), hosts, deliveries, per_record)
            self._originals[deliveries, per_record] = original
        copy = self._folder / "run.db"
        for path in (copy, Path(f"{copy}-wal"), Path(f"{copy}-shm")):
            path.unlink(missing_ok=True)
        source = original.url.removeprefix(_SQLITE)
        assert not Path(f"{source}-wal").exists(), f"{source} is open somewhere: its copy would lack records"
        shutil.copy(source, copy)
        return replace(original, url=f"{_SQLITE}{copy}")


class KafkaLogs(Logs):
    """Topics whose names begin with the prefix of `url`; the brokers keep them for as long as they like."""

    programs = (KAFKA_WORKER,)

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")

    def fresh(self) -> str:
        url = f"{self._url}-{uuid4().hex[:8]}"
        command = [sys.executable, "-m", "thorn_worker", "topics", "create", "--log", url]
        made = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
        assert made.returncode == 0, f"no topics for {url}: {made.stderr}"
        return url

    def filled(self, hosts: Sequence[str], deliveries: int, per_record: int) -> Filled:
        return fill(self.fresh(), hosts, deliveries, per_record)


def logs_of(url: str | None, folder: Path) -> Logs:
    """The Kafka cluster of `url`; without one, SQLite files in `folder`."""
    return SqliteLogs(folder) if url is None else KafkaLogs(url)
