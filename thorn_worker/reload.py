"""Stored rows -> lanes, when they are due; and those that will never be, to their end.

A row stays in the store until its outcome: loading writes nothing, dropping it from memory costs nothing. A
lane loads at most twice its width, so that millions of rows cost disk and not memory.
"""

from collections.abc import Collection, Iterable
from typing import Final

from thorn_worker.dispatcher import Dispatcher
from thorn_worker.outcome import Death
from thorn_worker.parts import Parts
from thorn_worker.store.contract import UNRESOLVED, Pending
from thorn_worker.work import Home, work_of_row

#: A host whose lane is full, or that has more due rows than were loaded, is looked at again after this long.
LOOK_AGAIN_S: Final = 0.1

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
            if not home.alive or home.restoring:
                continue
            for host in list(home.due.ready(self._clock.now())):
                self._load_host(home, host)
            for sub in list(home.resolved):
                self._load_resolved(home, sub)

    def _load_host(self, home: Home, host: str) -> None:
        now = self._clock.now()
        room = self._room - self._lanes.queued_for(host)
        if room <= 0:
            home.due.note(host, now + LOOK_AGAIN_S)
            return
        found = self._store.due(home.partition, host, now, room, home.works.keys())
        if found.next_due_at is not None:
            home.due.note(host, max(found.next_due_at, now + LOOK_AGAIN_S))
        self._queue(home, found.rows)

    def look_up(self, homes: Collection[Home]) -> None:
        """Ask again for subscriptions that nobody knew, which may wait; `due` then loads their rows."""
        for home in homes:
            for sub in list(home.unresolved):
                if home.alive and self._directory.resolve(sub) is not None:
                    home.unresolved.discard(sub)
                    home.resolved.add(sub)

    def _load_resolved(self, home: Home, sub: str) -> None:
        rows = self._store.unresolved(home.partition, sub, self._room, home.works.keys())
        self._queue(home, rows)
        if len(rows) < self._room:
            home.resolved.discard(sub)

    def overdue(self, homes: Collection[Home]) -> None:
        """Give up rows without due time that are too old or past ``expires_at``; waits for the store."""
        for home in homes:
            if not home.alive or home.restoring:
                continue
            now = self._clock.now()
            for row in self._store.overdue(home.partition, now - self._policy.max_age_s, now, OVERDUE_ROWS):
                if home.alive and row.life not in home.works:
                    work = home.works[row.life] = work_of_row(row, home)
                    unresolved = row.reason == UNRESOLVED
                    self._handover.bury(work, Death.UNRESOLVED if unresolved else Death.EXPIRED)

    def _queue(self, home: Home, rows: Iterable[Pending]) -> None:
        for row in rows:
            # While the store was asked, the partition may have gone, or the life come by another way.
            fresh = home.alive and row.life not in home.works
            if fresh and not self._dispatcher.adopt(row.life, home, stored=True):
                self._dispatcher.queue(work_of_row(row, home))
        self._dispatcher.pump()
