"""A fast receiver in a process of its own, that writes down every request before it answers.

    with RecordingSink(tmp_path / "ledger", addresses=4) as sink:
        ...  # deliver to sink.url(0), sink.url(1), ...
        sink.wait_for_count(100)
        assert sink.delivered() == Counter(owed)

The ledger is a file, appended line by line with one `write` each: it outlives any process that is killed, the
sink included. By hand: ``python -m tests.support.sink --addresses 127.0.0.1-32 --port 0 --ledger F`` prints
its port as one JSON line and ends when its standard input does.
"""

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, Self

from tests.support.waiting import wait_for

#: Status in the ledger of a request that is never answered.
NEVER_ANSWERED: Final = 0

_ROOT: Final = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """How requests are answered that reach `address` ("" is any) with a path that begins with `path`.

    statuses: the first for a delivery's first attempt here, and so on; the last one stays. delay_s: before
    the answer. hang: no answer ever. close: close the connection after the answer. headers, body: of every
    answer.
    """

    address: str = ""
    path: str = ""
    statuses: tuple[int, ...] = (200,)
    delay_s: float = 0.0
    hang: bool = False
    close: bool = False
    headers: tuple[tuple[str, str], ...] = ()
    body: str = ""


@dataclass(frozen=True, slots=True)
class Received:
    """One request as the ledger has it. head and body are empty unless the sink keeps them."""

    at: float
    address: str
    path: str
    id: str
    event: str
    attempt: int
    status: int
    head: str = ""
    body: bytes = b""

    def header(self, name: str) -> str | None:
        """A header's value, the name compared without case; None if there is none."""
        wanted = name.lower()
        for line in self.head.split("\r\n")[1:]:
            found, _, value = line.partition(": ")
            if found.lower() == wanted:
                return value
        return None


class RecordingSink:
    """Starts the receiver, asks its ledger, and stops it.

    addresses: how many of 127.0.0.1, 127.0.0.2, … it listens on, all with one port. keep: record heads and
    bodies. tls_pem: file with key and chain; serves TLS then.
    """

    def __init__(
        self,
        ledger: Path,
        *,
        addresses: int = 1,
        port: int = 0,
        rules: Sequence[Rule] = (),
        keep: bool = False,
        tls_pem: str | None = None,
    ) -> None:
        self.ledger = ledger
        self.addresses = [f"127.0.0.{number}" for number in range(1, addresses + 1)]
        self.port = port
        self._rules = tuple(rules)
        self._scheme = "http" if tls_pem is None else "https"
        self._options = ["--keep"] if keep else []
        self._options += [] if tls_pem is None else ["--tls", tls_pem]
        self._process: subprocess.Popen[str] | None = None
        self._read_to = 0
        self._received: list[Received] = []
        self._connections = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start it, on the port it had before if there was one; returns when it listens."""
        command = [sys.executable, "-m", "tests.support.sink", "--ledger", str(self.ledger)]
        command += [
            "--addresses",
            f"127.0.0.1-{len(self.addresses)}",
            "--port",
            str(self.port),
            *self._options,
        ]
        self._process = subprocess.Popen(
            command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        self.port = int(self._told()["port"])
        if self._rules:
            self.set_rules(self._rules)

    def stop(self) -> None:
        """End it. Requests that were not answered lose their connection."""
        if self._process is not None:
            self._process.communicate(timeout=10)
            self._process = None

    def set_rules(self, rules: Sequence[Rule]) -> None:
        """Answer by these from now on; the first that fits counts, 200 if none does."""
        self._rules = tuple(rules)
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([asdict(rule) for rule in rules]) + "\n")
        self._process.stdin.flush()
        self._told()

    def fail(self, address: int) -> None:
        """One address answers 500 from now on, the others 200."""
        self.set_rules([Rule(address=self.addresses[address], statuses=(500,))])

    def url(self, address: int = 0, path: str = "/hook") -> str:
        """A URL of this sink."""
        return f"{self._scheme}://{self.addresses[address]}:{self.port}{path}"

    def requests(self) -> list[Received]:
        """All requests so far, in order of arrival."""
        self._read()
        return list(self._received)

    def ids(self) -> Counter[str]:
        """How many requests came per delivery id, whatever they were answered."""
        self._read()
        return Counter(received.id for received in self._received)

    def delivered(self) -> Counter[str]:
        """How many requests per delivery id were answered with 2xx."""
        self._read()
        return Counter(received.id for received in self._received if 200 <= received.status < 300)

    def counts(self) -> Counter[int]:
        """How many requests were answered with which status."""
        self._read()
        return Counter(received.status for received in self._received)

    def connections(self) -> int:
        """How many connections were accepted."""
        self._read()
        return self._connections

    def wait_for_count(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until at least `count` requests came."""

        def enough() -> bool:
            self._read()
            return len(self._received) >= count

        wait_for(enough, timeout_s, what=f"{count} requests at the sink")

    def wait_for_ids(self, ids: Collection[str], timeout_s: float = 20.0) -> None:
        """Wait until each of `ids` was answered with 2xx."""
        wanted = set(ids)
        wait_for(
            lambda: wanted <= self.delivered().keys(), timeout_s, what=f"{len(wanted)} deliveries at the sink"
        )

    def _told(self) -> dict[str, Any]:
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the sink ended before it answered"
        told: dict[str, Any] = json.loads(line)
        return told

    def _read(self) -> None:
        """Take in what the ledger has grown by since the last time."""
        if not self.ledger.exists():
            return
        with self.ledger.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        for entry in _entries(whole):
            if entry is None:
                self._connections += 1
            else:
                self._received.append(entry)


def read_ledger(path: Path) -> list[Received]:
    """All requests of a ledger file, its last line left out if it is not whole."""
    data = path.read_bytes()
    return [entry for entry in _entries(data[: data.rfind(b"\n") + 1]) if entry is not None]


def _entries(data: bytes) -> Iterator[Received | None]:
    """The requests in some lines of a ledger; None for a new connection."""
    for line in data.decode("latin-1").splitlines():
        if line == "connection":
            yield None
            continue
        at, address, path, delivery, event, attempt, status, head, body = line.split("\t")
        yield Received(
            float(at),
            address,
            path,
            delivery,
            event,
            int(attempt or 0),
            int(status),
            bytes.fromhex(head).decode("latin-1"),
            bytes.fromhex(body),
        )


if __name__ == "__main__":
    from tests.support.sink_server import main

    main()
