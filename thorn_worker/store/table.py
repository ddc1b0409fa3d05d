"""What both stores have in common: rows in SQLite tables, asked through a `GroupCommit`."""

import time
from abc import abstractmethod
from collections.abc import Collection, Sequence
from functools import partial
from typing import Final

import gevent

from producer.errors import LogError
from producer.model import Life
from thorn_worker.log.group_commit import GroupCommit
from thorn_worker.store import queries
from thorn_worker.store.contract import Due, Pending, Selection, Store
from thorn_worker.store.queries import Place

#: How long `release` waits for the last writes of a partition.
RELEASE_WAIT_S: Final = 3.0
#: `counts` is at least this stale, and counting takes at most this part of the reading thread's time.
COUNT_EVERY_S: Final = 5.0
COUNT_SHARE: Final = 0.02


class TableStore(Store):
    """The reading half of a store whose rows lie in the tables `pendings` and `endpoints`."""

    def __init__(self) -> None:
        self._owned: set[int] = set()
        self._counts: tuple[int, float | None] = (0, None)
        self._counting = False
        self._count_due_at = float("-inf")

    @abstractmethod
    def _file(self) -> GroupCommit:
        """Where the tables lie."""

    def _place(self, life: Life) -> Place:
        """Where the row of a life stands in its partition."""
        return life.offset, life.index

    def due(self, partition: int, host: str, now: float, limit: int, loaded: Collection[Life]) -> Due:
        places = self._places(loaded)
        return self._file().read(
            partial(queries.due, place=(partition, host), now=now, limit=limit, loaded=places)
        )

    def unresolved(self, partition: int, sub: str, limit: int, loaded: Collection[Life]) -> list[Pending]:
        places = self._places(loaded)
        return self._file().read(
            partial(queries.unresolved, partition=partition, sub=sub, limit=limit, loaded=places)
        )

    def overdue(self, partition: int, appended_before: float, now: float, limit: int) -> list[Pending]:
        return self._file().read(
            partial(
                queries.overdue, partition=partition, appended_before=appended_before, now=now, limit=limit
            )
        )

    def select(
        self, partition: int, selection: Selection, limit: int, after: Life | None
    ) -> Sequence[Pending]:
        place = None if after is None else self._place(after)
        return self._file().read(
            partial(queries.select, partition=partition, selection=selection, limit=limit, after=place)
        )

    def counts(self) -> tuple[int, float | None]:
        if not self._counting and time.monotonic() >= self._count_due_at:
            self._counting = True
            gevent.spawn(self._count)
        return self._counts

    def _own(self, partition: int) -> None:
        self._owned.add(partition)
        self._count_due_at = float("-inf")

    def _disown(self, partition: int) -> None:
        self._owned.discard(partition)
        self._count_due_at = float("-inf")

    def _count(self) -> None:
        began = time.monotonic()
        try:
            self._counts = self._file().read(partial(queries.count, partitions=tuple(self._owned)))
        except LogError:
            return  # counted and logged by the file; the last figures stand
        finally:
            ended = time.monotonic()
            self._count_due_at = ended + max(COUNT_EVERY_S, (ended - began) / COUNT_SHARE)
            self._counting = False

    def _places(self, lives: Collection[Life]) -> frozenset[Place]:
        return frozenset(map(self._place, lives))
