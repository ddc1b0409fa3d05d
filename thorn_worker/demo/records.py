"""The files that receivers and services append to, one ``write`` at a time: they outlive any killed process.

A folder of a demo has ``requests.tsv`` (the receivers), ``events-1.tsv`` and ``events-2.tsv`` (the services),
``cast.json``, ``settings.toml``, the log ``thorn.db``, and what each process said in ``*.log``.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Generic, TypeVar

from producer.config import Settings
from producer.errors import ConfigurationError
from producer.ids import delivery_ids
from thorn_worker.demo.cast import Role, read_cast
from thorn_worker.demo.ledger import Books, Owed, Request
from thorn_worker.inspector import Inspector, RowFilter
from thorn_worker.log.open import open_inspector

T = TypeVar("T")

LOG: Final = "thorn.db"
CAST: Final = "cast.json"
SETTINGS: Final = "settings.toml"
PLACES: Final = "places.json"
REQUESTS: Final = "requests.tsv"
EVENTS: Final = "events-{}.tsv"


def events_file(folder: Path, service: int) -> Path:
    """Where the service with this number, from 0, writes."""
    return folder / EVENTS.format(service + 1)


class Recorder:
    """Appends to a file: what is written is with the operating system when the call returns."""

    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def write(self, lines: Iterable[str]) -> None:
        """Append all lines at once."""
        os.write(self._file, "".join(f"{line}\n" for line in lines).encode())

    def close(self) -> None:
        """Release the file."""
        os.close(self._file)


@dataclass(frozen=True, slots=True)
class Sent:
    """A service is about to send this event."""

    event_id: str
    at: float


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """The log has acknowledged this event: from now on these deliveries are owed."""

    event_id: str
    delivery_ids: tuple[str, ...]


def request_line(request: Request) -> str:
    """A request as the receivers write it down."""
    right = "right" if request.signed else "wrong"
    return f"{request.at:.6f}\t{request.id}\t{request.attempt}\t{request.status}\t{right}"


def read_request(line: str) -> Request:
    """What `request_line` wrote."""
    at, delivery, attempt, status, signature = line.split("\t")
    return Request(float(at), delivery, int(attempt), int(status), signature == "right")


def event_line(event: Sent | Acknowledged) -> str:
    """A step of an event as the services write it down."""
    if isinstance(event, Sent):
        return f"sent\t{event.event_id}\t{event.at:.6f}"
    return f"acknowledged\t{event.event_id}\t{' '.join(event.delivery_ids)}"


def read_event(line: str) -> Sent | Acknowledged:
    """What `event_line` wrote."""
    step, event_id, rest = line.split("\t")
    return Sent(event_id, float(rest)) if step == "sent" else Acknowledged(event_id, tuple(rest.split()))


class Tail(Generic[T]):
    """Reads a file that grows: each call returns the whole lines since the last one."""

    def __init__(self, path: Path, parse: Callable[[str], T]) -> None:
        self._path = path
        self._parse = parse
        self._read_to = 0

    def read(self) -> list[T]:
        """What is new; nothing while there is no file."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._read_to)
            data = file.read()
        whole = data[: data.rfind(b"\n") + 1]
        self._read_to += len(whole)
        return [self._parse(line) for line in whole.decode().splitlines()]


def inspector_of(folder: Path) -> Inspector:
    """A view of the demo's log, whatever the environment says. Raises `LogError` while there is none."""
    return open_inspector(Settings(log=f"sqlite:///{folder.absolute() / LOG}"))


def dead_ids(inspector: Inspector) -> dict[str, str]:
    """Delivery id -> cause of death."""
    letters = inspector.letters(RowFilter())
    return {letter.delivery.id: letter.reason.value for letter in letters if letter.delivery is not None}


def pending_ids(inspector: Inspector) -> frozenset[str]:
    """Ids of the deliveries that wait in the store."""
    return frozenset(row.delivery.id for row in inspector.pendings(RowFilter()))


def read_books(folder: Path) -> Books:
    """All that a demo left behind. Raises `LogError`s, and `ConfigurationError` for another folder."""
    if not (folder / CAST).exists():
        raise ConfigurationError(
            f"{str(folder)!r} holds no {CAST}, so it is not the folder of a demo: "
            "give the one that 'thorn-worker demo --keep' printed"
        )
    files = sorted(folder.glob(EVENTS.format("*")))
    events = [event for file in files for event in Tail(file, read_event).read()]
    inspector = inspector_of(folder)
    try:
        dead, pending = dead_ids(inspector), pending_ids(inspector)
    finally:
        inspector.close()
    return Books(
        sent=sum(isinstance(event, Sent) for event in events),
        acknowledged=sum(isinstance(event, Acknowledged) for event in events),
        owed={owed.id: owed for owed in _owed(events, read_cast(folder / CAST))},
        requests=tuple(Tail(folder / REQUESTS, read_request).read()),
        dead=dead,
        pending=pending,
    )


def _owed(events: Sequence[Sent | Acknowledged], roles: Sequence[Role]) -> Iterator[Owed]:
    sent_at = {event.event_id: event.at for event in events if isinstance(event, Sent)}
    for event in events:
        if isinstance(event, Acknowledged):
            ids = delivery_ids(event.event_id, [role.id for role in roles])
            kinds = {one: role.kind.value for one, role in zip(ids, roles, strict=True)}
            for one in event.delivery_ids:
                yield Owed(one, kinds[one], sent_at[event.event_id])
