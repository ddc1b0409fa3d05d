"""What the delivery path is made of: the interfaces it needs from outside, and the parts that it shares."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from thorn_worker.clock import Clock
from thorn_worker.directory import Directory
from thorn_worker.handover import Handover
from thorn_worker.http.request import Request
from thorn_worker.lanes import Lanes, Limits
from thorn_worker.logs import AttemptLog
from thorn_worker.outcome import Report
from thorn_worker.profiles import Profiles
from thorn_worker.retry import RetryPolicy
from thorn_worker.store.contract import Store
from thorn_worker.tally import Tally
from thorn_worker.work import Work


class Driver(Protocol):
    """Carries attempts out. `start` returns at once; `on_report` runs on the hub, once, whatever happens."""

    def start(self, request: Request, on_report: Callable[[Report], None]) -> None: ...


class Loop(Protocol):
    """What the delivery path needs of an event loop."""

    def later(self, delay_s: float, run: Callable[[], None]) -> None:
        """Run on the hub after `delay_s`."""

    def aside(self, run: Callable[[], None]) -> None:
        """Run something that waits, without waiting for it."""


@dataclass(frozen=True, slots=True)
class Parts:
    """Shared by `Dispatcher`, `Intake`, `Orders`, `Reload`.

    confirmed: what is assigned is still ours (`LogReader.confirmed`). timeout_s: of attempts for which none
    is said.
    """

    limits: Limits
    lanes: Lanes[Work]
    driver: Driver
    store: Store
    handover: Handover
    directory: Directory
    profiles: Profiles
    policy: RetryPolicy
    clock: Clock
    loop: Loop
    confirmed: Callable[[], bool]
    tally: Tally
    attempt_log: AttemptLog
    timeout_s: float
