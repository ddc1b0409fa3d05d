"""The inside of a worker on a real log and store: all but HTTP, whose outcomes a test reports by hand.

with Inside(tmp_path) as inside:
    inside.append(delivery("d1"))
    inside.wait_started("d1")
    inside.driver.answer("d1", 500)
    inside.wait(lambda: inside.rows(), what="a row")
"""

import re
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final, Self

import gevent

from producer.log.buffer import BufferLimits
from producer.log.contract import NewRecord
from producer.log.sqlite import SqliteOptions, SqliteWriter
from producer.model import Command, Delivery, Subscription
from producer.wire import encode_batch, encode_command
from tests.support.hub import wait_on_hub
from thorn_worker.clock import Clock, boot_time
from thorn_worker.counters import Counters
from thorn_worker.directory import Directory, SecretsOf
from thorn_worker.dispatcher import Dispatcher
from thorn_worker.greenlet_io import GreenletLoop
from thorn_worker.handover import Handover
from thorn_worker.http.request import Request
from thorn_worker.inspector import RowFilter
from thorn_worker.intake import Intake
from thorn_worker.lanes import Lanes, Limits
from thorn_worker.log.contract import Assignment
from thorn_worker.log.journal import Journal
from thorn_worker.log.leases import LeaseTiming, member_name
from thorn_worker.log.sqlite import SqliteReader
from thorn_worker.log.sqlite_inspector import SqliteInspector
from thorn_worker.logs import AttemptLog
from thorn_worker.orders import Orders
from thorn_worker.outcome import Attempt, LocalTrouble, Outcome, Phase, Report, of_status
from thorn_worker.partitions import Partitions
from thorn_worker.parts import Parts
from thorn_worker.profiles import Profiles
from thorn_worker.reload import Reload
from thorn_worker.retry import RetryPolicy
from thorn_worker.store.contract import DeadLetter, Pending
from thorn_worker.store.sqlite import SqliteStore
from thorn_worker.tally import Tally
from thorn_worker.work import Home, Work

BEAT_S: Final = 0.05
#: Delays of the retry policy: long enough that only a clock moved by hand makes anything due.
SCHEDULE_S: Final = (60.0, 600.0)
MAX_AGE_S: Final = 86_400.0

_DELIVERY: Final = re.compile(rb"\r\nHook-Delivery: ([^\r]+)\r\n")


class Hands:
    """The hands of a clock: `wait` lets time pass, `step` only moves the wall clock."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self.stepped_s = 0.0

    def clock(self) -> Clock:
        """A clock that shows them."""
        return Clock(
            lambda: time.time() + self.passed_s + self.stepped_s, lambda: boot_time() + self.passed_s
        )

    def wait(self, seconds: float) -> None:
        """So much time has passed."""
        self.passed_s += seconds

    def step(self, seconds: float) -> None:
        """Somebody has set the machine's clock."""
        self.stepped_s += seconds


class ScriptedDriver:
    """Attempts wait until the test reports their end. started: (delivery id, number), in order."""

    def __init__(self) -> None:
        self.started: list[tuple[str, int]] = []
        self._open: dict[str, list[tuple[Request, Callable[[Report], None]]]] = {}

    def start(self, request: Request, on_report: Callable[[Report], None]) -> None:
        """Note it."""
        found = _DELIVERY.search(request.head)
        assert found is not None
        name = found[1].decode()
        self.started.append((name, request.number))
        self._open.setdefault(name, []).append((request, on_report))

    @property
    def in_flight(self) -> list[str]:
        """Deliveries with an attempt under way."""
        return sorted(name for name, waiting in self._open.items() for _ in waiting)

    def answer(self, name: str, status: int, retry_after_s: float | None = None) -> None:
        """The receiver answers the oldest open attempt of this delivery."""
        request, on_report = self._open[name].pop(0)
        on_report(
            Attempt(
                number=request.number,
                started_at=request.at,
                duration_s=0.01,
                outcome=of_status(status),
                phase=Phase.BODY,
                status=status,
                retry_after_s=retry_after_s,
            )
        )

    def fail(self, name: str, outcome: Outcome, phase: Phase) -> None:
        """The attempt ends without an answer."""
        request, on_report = self._open[name].pop(0)
        on_report(
            Attempt(
                number=request.number,
                started_at=request.at,
                duration_s=0.01,
                outcome=outcome,
                phase=phase,
                error="no",
            )
        )

    def trouble(self, name: str) -> None:
        """This machine could not make the attempt."""
        _, on_report = self._open[name].pop(0)
        on_report(LocalTrouble("no file left"))


class Inside:
    """One worker's parts on one partition, wired as `thorn_worker.assembly` does it.

    `turn` is one turn of its loops.
    """

    def __init__(
        self,
        folder: Path,
        *,
        known: Mapping[str, Subscription] | None = None,
        secrets_of: SecretsOf | None = None,
        per_lane: int = 64,
        ttl_s: float = 5.0,
        hands: Hands | None = None,
        driver: ScriptedDriver | None = None,
    ) -> None:
        self.path = folder / "log.db"
        self.hands = hands or Hands()
        self.driver = driver or ScriptedDriver()
        self.clock = self.hands.clock()
        self.counters = Counters()
        self.tally = Tally(self.counters, self.clock.steady)
        self.directory = Directory(known or {}, {}, secrets_of, self.clock.steady)
        self.journal = Journal(str(self.path), 1, member_name(None))
        self.reader = SqliteReader(self.journal, LeaseTiming(beat_s=BEAT_S, ttl_s=ttl_s))
        self.store = SqliteStore(self.journal)
        limits = Limits(total=5000, per_lane=per_lane)
        self.lanes: Lanes[Work] = Lanes(limits)
        parts = Parts(
            limits=limits,
            lanes=self.lanes,
            driver=self.driver,
            store=self.store,
            handover=Handover(self.store, self.clock, self.tally),
            directory=self.directory,
            profiles=Profiles("test"),
            policy=RetryPolicy(SCHEDULE_S, MAX_AGE_S),
            clock=self.clock,
            loop=GreenletLoop(),
            confirmed=self.reader.confirmed,
            tally=self.tally,
            attempt_log=AttemptLog("off"),
            timeout_s=5.0,
        )
        self.dispatcher = Dispatcher(parts)
        self.intake = Intake(parts, self.dispatcher, Orders(parts, self.dispatcher))
        self.reload = Reload(parts, self.dispatcher)
        self.restored: list[Home] = []
        info = self.reader.open()
        self.partitions = Partitions(
            self.reader, self.store, self.dispatcher, info, self.tally, self.restored.append
        )
        self._writer = SqliteWriter(SqliteOptions(path=str(self.path), partitions=1), BufferLimits())
        self.reader.join(self.partitions)

    def __enter__(self) -> Self:
        self.wait(lambda: self.restored, what="the partition to be restored")
        return self

    def __exit__(self, *_: object) -> None:
        self.partitions.revoke_wait_s = 0.0
        self.reader.close()
        self._writer.close(5.0)

    def crash(self) -> None:
        """Lose everything that is in memory, and commit nothing of it."""
        home = self.home
        self.partitions.lost([Assignment(home.partition, home.epoch, home.committed, "")])

    # -- what producers and operators do -----------------------------------------------------------

    def append(self, *deliveries: Delivery) -> None:
        """One record with these deliveries."""
        self.append_raw(encode_batch(deliveries))

    def order(self, op: str, **chosen: Any) -> None:
        """A command."""
        self.append_raw(encode_command(Command(op=op, **chosen)))

    def append_raw(self, value: bytes) -> None:
        """One record, durable on return."""
        failures: list[object] = []
        self._writer.append([NewRecord("https://a.example:443", value, partition=0)], failures.append)
        assert self._writer.flush(10.0)
        assert failures == [None]

    # -- the worker's loops ------------------------------------------------------------------------

    def turn(self) -> None:
        """Read, take in, start, load what is due, resume."""
        for record in self.reader.poll(0.01):
            home = self.partitions.of(record.partition, record.epoch)
            if home is not None:
                self.intake.take(home, record)
                self.partitions.pause_full(home)
        self.dispatcher.pump()
        self.partitions.resume_roomy()
        self.reload.due(self.partitions.all())

    def wait(self, condition: Callable[[], object], *, what: str, timeout_s: float = 10.0) -> None:
        """Turn until `condition()`."""

        def turned() -> object:
            self.turn()
            return condition()

        wait_on_hub(turned, timeout_s, what=what)

    def wait_started(self, *names: str) -> None:
        """Turn until exactly these deliveries have an attempt under way."""
        self.wait(lambda: self.driver.in_flight == sorted(names), what=f"attempts of {names[:5]}")

    def settled(self) -> None:
        """Turn until everything read is complete, and all writes are durable."""
        self.wait(
            lambda: not self.home.tracker.incomplete and not self.journal.queued, what="all to be complete"
        )

    def turns(self, count: int = 30) -> None:
        """Turn so often, to show that something does not happen."""
        for _ in range(count):
            self.turn()
            gevent.sleep(0)

    # -- what there is -----------------------------------------------------------------------------

    @property
    def home(self) -> Home:
        """The one partition."""
        (home,) = self.partitions.all()
        return home

    def commit(self) -> int:
        """Commit; the watermark that the file holds then."""
        self.partitions.commit(self.partitions.all())
        with closing(SqliteInspector(str(self.path))) as inspector:
            return inspector.partitions()[0].committed

    def rows(self) -> list[Pending]:
        """What waits in the store."""
        with closing(SqliteInspector(str(self.path))) as inspector:
            return list(inspector.pendings(RowFilter()))

    def letters(self) -> list[DeadLetter]:
        """What was given up."""
        with closing(SqliteInspector(str(self.path))) as inspector:
            return list(inspector.letters(RowFilter()))

    @contextmanager
    def busy_file(self) -> Iterator[None]:
        """Somebody else holds the file's write lock: nothing of ours becomes durable meanwhile."""
        with closing(sqlite3.connect(self.path, isolation_level=None)) as stranger:
            stranger.execute("BEGIN IMMEDIATE")
            try:
                yield
            finally:
                stranger.execute("ROLLBACK")
