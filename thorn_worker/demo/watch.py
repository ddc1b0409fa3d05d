"""What is known so far, from the files and the log: the demo's eyes while it runs."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from producer.errors import LogError
from thorn_worker.demo.ledger import Request
from thorn_worker.demo.records import (
    LOG,
    REQUESTS,
    Acknowledged,
    Sent,
    Tail,
    dead_ids,
    events_file,
    inspector_of,
    pending_ids,
    read_event,
    read_request,
)
from thorn_worker.inspector import Inspector

#: The log is looked into this often; the worker's own reads and writes have priority.
_LOOK_EVERY_S: Final = 0.5


@dataclass(slots=True)
class Watch:
    """Grows with each `look`.

    retried: ids that came with a second or later attempt. owners: of the partitions; None stands for nobody.
    moved_at: when a delivery came to its end last, on the monotonic clock.
    """

    folder: Path
    services: int
    sent: int = 0
    acknowledged: int = 0
    owed: set[str] = field(default_factory=set)
    delivered: set[str] = field(default_factory=set)
    retried: set[str] = field(default_factory=set)
    dead: set[str] = field(default_factory=set)
    pending: int = 0
    owners: set[str | None] = field(default_factory=set)
    moved_at: float = field(default_factory=time.monotonic)
    _inspector: Inspector | None = None
    _looked_at: float = float("-inf")
    _requests: Tail[Request] = field(init=False)
    _events: list[Tail[Sent | Acknowledged]] = field(init=False)

    def __post_init__(self) -> None:
        self._requests = Tail(self.folder / REQUESTS, read_request)
        self._events = [Tail(events_file(self.folder, number), read_event) for number in range(self.services)]

    @property
    def given_up(self) -> int:
        """Dead letters of what never arrived: a killed worker may not have seen the answer to what did."""
        return len(self.dead - self.delivered)

    @property
    def unsettled(self) -> int:
        """Deliveries that are owed and neither delivered nor dead."""
        return len(self.owed - self.delivered - self.dead)

    def look(self) -> None:
        """Take in what is new."""
        ended = len(self.delivered) + len(self.dead)
        self._read_files()
        now = time.monotonic()
        if now - self._looked_at >= _LOOK_EVERY_S:
            self._looked_at = now
            self._look_into_log()
        if len(self.delivered) + len(self.dead) > ended:
            self.moved_at = now

    def close(self) -> None:
        """Release the log."""
        if self._inspector is not None:
            self._inspector.close()

    def _read_files(self) -> None:
        for tail in self._events:
            for event in tail.read():
                if isinstance(event, Sent):
                    self.sent += 1
                else:
                    self.acknowledged += 1
                    self.owed.update(event.delivery_ids)
        for request in self._requests.read():
            if request.taken:
                self.delivered.add(request.id)
            if request.attempt > 1:
                self.retried.add(request.id)

    def _look_into_log(self) -> None:
        if not (self.folder / LOG).exists():
            return
        try:
            self._inspector = self._inspector or inspector_of(self.folder)
            self.owners = {status.owner for status in self._inspector.partitions()}
            self.dead.update(dead_ids(self._inspector))
            self.pending = len(pending_ids(self._inspector))
        except LogError:  # being made, or busy. The next look tells; every wait for what it tells has an end.
            return
