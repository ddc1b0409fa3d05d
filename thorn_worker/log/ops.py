"""Changes to the SQLite log, and how a group of them becomes one transaction. Runs on the writing thread."""

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from producer.errors import LogError

#: Part of a transaction; runs on the writing thread, more than once if the transaction must be repeated.
Change = Callable[[sqlite3.Connection], None]


@dataclass(frozen=True, slots=True, eq=False)
class Op:
    """A change to make durable.

    fence: (partition, epoch) that must still be ours; None for what guards itself.
    settled: runs on the hub: True once durable, False if the fence fell or the journal was closed before.
    """

    fence: tuple[int, int] | None
    change: Change
    settled: Callable[[bool], None]


#: Errors of SQLite that say something of the values, not of the file.
_DEFECTS: Final = (sqlite3.IntegrityError, sqlite3.DataError)


class DefectiveOp(Exception):
    """A change raised what no file can be blamed for; trying again would raise it again."""

    def __init__(self, op: Op) -> None:
        super().__init__(f"{op!r}")
        self.op = op


def apply_group(connection: sqlite3.Connection, me: str, group: Iterable[Op]) -> list[bool]:
    """Apply what is not fenced, in order; say for each whether it was."""
    current: dict[int, tuple[str | None, int]] = {}
    done = []
    for op in group:
        if op.fence is not None:
            partition, epoch = op.fence
            if partition not in current:
                current[partition] = connection.execute(
                    "SELECT owner, epoch FROM partitions WHERE partition = ?", (partition,)
                ).fetchone()
            if current[partition] != (me, epoch):
                done.append(False)
                continue
        try:
            op.change(connection)
        except (sqlite3.OperationalError, sqlite3.DatabaseError, LogError) as error:
            if isinstance(error, _DEFECTS):
                raise DefectiveOp(op) from error
            raise
        except Exception as error:
            raise DefectiveOp(op) from error
        if op.fence is None:
            current.clear()  # such a change may have moved partitions
        done.append(True)
    return done
