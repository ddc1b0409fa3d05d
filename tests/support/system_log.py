"""Where a whole system's log lies, and what tests do to it behind the workers' backs."""

import sqlite3
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Final, Protocol

from tests.support.ledger import Standing, standing
from tests.support.waiting import wait_for
from thorn_worker.log.sqlite_inspector import SqliteInspector

#: Partitions of every log: what a new one is given unless the settings say otherwise.
PARTITIONS: Final = 12


class Freezable(Protocol):
    """A process that can be stopped and continued."""

    def freeze(self) -> None: ...
    def thaw(self) -> None: ...


class SystemLog(ABC):
    """One empty log of 12 partitions."""

    #: How often it may be asked for its `standing`: reading Kafka's topics takes a while.
    poll_s: float = 0.05
    #: How long partitions may take to move: a lease, or a session.
    move_s: float = 15.0

    @property
    @abstractmethod
    def settings(self) -> Mapping[str, object]:
        """What processes are told to find it."""

    @abstractmethod
    def standing(self) -> Standing:
        """What the log and its store hold."""

    @abstractmethod
    def freeze(self, worker: Freezable) -> None:
        """Stop a worker where it hinders nobody else."""


class SqliteLog(SystemLog):
    """A file in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "thorn.db"

    @property
    def settings(self) -> Mapping[str, object]:
        return {"log": f"sqlite:///{self.path}"}

    def standing(self) -> Standing:
        with closing(SqliteInspector(str(self.path))) as inspector:
            return standing(inspector)

    def freeze(self, worker: Freezable) -> None:
        """SIGSTOP between two of its writes. A process that stops inside of one keeps the file's lock, and
        everybody else then waits for it to go on: nothing is lost, but nothing can be shown either.
        """

        def frozen_without_the_lock() -> bool:
            worker.freeze()
            with closing(sqlite3.connect(self.path, timeout=1.0, isolation_level=None)) as probe:
                try:
                    probe.execute("BEGIN IMMEDIATE")
                except sqlite3.OperationalError:
                    worker.thaw()
                    return False
                probe.execute("ROLLBACK")
            return True

        wait_for(frozen_without_the_lock, what="the worker to be frozen between two writes")
