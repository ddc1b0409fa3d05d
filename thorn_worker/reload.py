"""Stored rows -> lanes, when they are due; and those that will never be, to their end.

A row stays in the store until its outcome: loading writes nothing, dropping it from memory costs nothing. A
lane loads at most twice its width, so that millions of rows cost disk and not memory.
"""

from collections.abc import Collection, Iterable, Set
from typing import Final

from producer.errors import LogError
from producer.model import Life
from thorn_worker.dispatcher import Dispatcher
from thorn_worker.outcome import Death
from thorn_worker.parts import Parts
from thorn_worker.store.contract import UNRESOLVED, Pending
from thorn_worker.work import Home, work_of_row

#: A host whose lane is full, or that has more due rows than were loaded, is looked at again after this long.
LOOK_AGAIN_S: Final = 0.1

#: Hosts with due rows are asked for many times a second; past this, nobody does.
OVERLOOKED_S: Final = 5.0

#: Rows without due time that are given up at once.
OVERDUE_ROWS: Final = 500


class Reload:
    """Brings rows back into the lanes."""

    def __init__(self, parts: Parts, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._handover = parts.handover
        self._store = parts.store
        self._lanes = parts.lanes
        self._directory = parts.directory
        self._policy = parts.policy
        self._clock = parts.clock
        self._room = 2 * parts.limits.per_lane

    def due(self, homes: Collection[Home]) -> None:
        """Load what is due now; waits for the store."""
        for home in homes:
            if not self._may_load(home):
                continue
            for host in home.due.ready(self._clock.now()):
                self._load_host(home, host)
            for sub in list(home.resolved):
                self._load_resolved(home, sub)

    def overlooks(self, homes: Collection[Home]) -> bool:
        """Rows are due that may be loaded, and `due` has not come round for `OVERLOOKED_S`."""
        since = self._clock.now() - OVERLOOKED_S
        return any(
            self._may_load(home) and (due_at := home.due.next_at()) is not None and due_at < since
            for home in homes
        )

    def _may_load(self, home: Home) -> bool:
        return home.alive and not home.restoring and not home.writes_late(self._clock.steady())

    def _load_host(self, home: Home, host: str) -> None:
        now = self._clock.now()
        room = self._room - self._lanes.queued_for(host)
        if room <= 0:
            home.due.note(host, now + LOOK_AGAIN_S)
            return
        with home.departures() as gone:
            try:
                found = self._store.due(home.partition, host, now, room, home.hidden)
            except LogError:
                home.due.note(host, now + LOOK_AGAIN_S)
                raise
            if found.next_due_at is not None:
                home.due.note(host, max(found.next_due_at, now + LOOK_AGAIN_S))
            self._queue(home, found.rows, gone)

    def look_up(self, homes: Collection[Home]) -> None:
        """Ask again for subscriptions that nobody knew, which may wait; `due` then loads their rows."""
        for home in homes:
            for sub in list(home.unresolved):
                if home.alive and self._directory.resolve(sub) is not None:
                    home.unresolved.discard(sub)
                    home.resolved.add(sub)

    def _load_resolved(self, home: Home, sub: str) -> None:
        with home.departures() as gone:
            rows = self._store.unresolved(home.partition, sub, self._room, home.hidden)
            fitting = [row for row in rows if self._lanes.queued_for(row.host) < self._room]
            self._queue(home, fitting, gone)
        if len(rows) == len(fitting) < self._room:
            home.resolved.discard(sub)

    def overdue(self, homes: Collection[Home]) -> None:
        """Give up rows without due time that are too old or past ``expires_at``; waits for the store."""
        for home in homes:
            if not self._may_load(home):
                continue
            now = self._clock.now()
            with home.departures() as gone:
                past_at = min(now, self._clock.wall())  # expiries are told by the wall clock, set back or not
                rows = self._store.overdue(
                    home.partition, now - self._policy.max_age_s, past_at, OVERDUE_ROWS
                )
                for row in self._fresh(home, rows, gone):
                    work = home.enter(work_of_row(row, home))
                    unresolved = row.reason == UNRESOLVED
                    self._handover.bury(work, Death.UNRESOLVED if unresolved else Death.EXPIRED)

    def _queue(self, home: Home, rows: Iterable[Pending], gone: Set[Life]) -> None:
        for row in self._fresh(home, rows, gone):
            if self._dispatcher.delivered_late(row.life):
                work = home.enter(work_of_row(row, home))
                self._handover.end(work)
            elif not self._dispatcher.adopt(row.life, home, stored=True):
                self._dispatcher.queue(work_of_row(row, home))
        self._dispatcher.pump()

    @staticmethod
    def _fresh(home: Home, rows: Iterable[Pending], gone: Set[Life]) -> list[Pending]:
        """Rows that still are what the store said: while it was asked, the partition may have gone, and a
        life may have come by another way, or come and gone.
        """
        if not home.alive:
            return []
        return [row for row in rows if row.life not in home.works and row.life not in gone]
