"""The receiver of a run, in a process of its own, and its ledger read while it grows."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import TracebackType
from typing import Final

from bench.machine import pinned

#: Loopback addresses it listens on, all with one port.
ADDRESSES: Final = 32

ROOT: Final = Path(__file__).parents[1]


class Ledger:
    """What arrived since it was opened.

    ids: deliveries answered with 2xx, with how often they came; arrived_at: when first (Unix seconds).
    opened_after: for each new connection, how many ids had come by then. first_at, last_at: of all requests.
    """

    def __init__(self, path: Path) -> None:
        self.arrived_at: dict[str, float] = {}
        self.ids: Counter[str] = Counter()
        self.opened_after: list[int] = []
        self.first_at = 0.0
        self.last_at = 0.0
        self._path = path
        self._read_to = path.stat().st_size if path.exists() else 0

    def read(self) -> int:
        """Take in what came since the last time; the number of different ids so far."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._read_to)
                data = file.read()
            whole = data[: data.rfind(b"\n") + 1]
            self._read_to += len(whole)
            for line in whole.decode("latin-1").splitlines():
                self._take(line)
        return len(self.ids)

    def _take(self, line: str) -> None:
        if line == "connection":
            self.opened_after.append(len(self.ids))
            return
        at, _address, _path, delivery, _event, _attempt, status, *_ = line.split("\t")
        self.last_at = float(at)
        self.first_at = self.first_at or self.last_at
        if status.startswith("2"):
            self.ids[delivery] += 1
            self.arrived_at.setdefault(delivery, self.last_at)


class Sink:
    """`tests.support.sink` on `ADDRESSES` loopback addresses. A context manager; it ends with the block."""

    def __init__(self, folder: Path, core: int, *, keep: bool = False) -> None:
        self.path = folder / "ledger"
        self._core = core
        self._command = [sys.executable, "-m", "tests.support.sink", "--ledger", str(self.path)]
        self._command += ["--addresses", f"127.0.0.1-{ADDRESSES}", *(["--keep"] if keep else [])]

    def __enter__(self) -> "Sink":
        with pinned(self._core):
            self._process = subprocess.Popen(
                self._command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
        assert self._process.stdout is not None
        self.port = int(json.loads(self._process.stdout.readline())["port"])
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=10)

    @property
    def pid(self) -> int:
        """Its process."""
        return self._process.pid

    def hosts(self) -> list[str]:
        """A URL base per address."""
        return [f"http://127.0.0.{number}:{self.port}" for number in range(1, ADDRESSES + 1)]
