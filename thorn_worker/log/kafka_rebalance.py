"""What kafka-python's group membership tells us: heartbeats, rebalances, and the answers to commits.

All of it is told on the client's network greenlet (its "IO loop"), which must not wait.
"""

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, Protocol

import gevent
from gevent.event import Event
from kafka.consumer.subscription_state import AsyncConsumerRebalanceListener
from kafka.coordinator.heartbeat import Heartbeat

from thorn_worker.clock import boot_time
from thorn_worker.log.kafka_confirmation import Confirmation

#: The IO loop knows no events of gevent: it looks this often whether our listener has returned.
_LOOK_S: Final = 0.01


class Owner(Protocol):
    """Told of rebalances. `given` must not wait; the others may, and the member waits for them."""

    def given(self, partitions: Sequence[int]) -> None:
        """Ours from now on; nothing of it is read yet."""

    def taken(self, partitions: Sequence[int]) -> None:
        """About to move; commits still count."""

    def gone(self, partitions: Sequence[int]) -> None:
        """Somebody else's already."""


class Unknown(Exception):
    """Nobody can tell whether a commit was stored."""


class Answer:
    """The answer to a commit, perhaps still to come."""

    def __init__(self, future: Any) -> None:
        self._future = future
        self._come = Event()
        future.add_both(lambda _result: self._come.set())

    def wait(self, timeout_s: float) -> bool:
        """Whether it has come within `timeout_s`."""
        return bool(self._come.wait(timeout_s))

    @property
    def error(self) -> Exception | None:
        """None: stored. Of an answer that has come."""
        exception: Exception | None = self._future.exception
        return error_of(exception, self._future.value)


def error_of(exception: Exception | None, value: object) -> Exception | None:
    """Why a commit whose future holds these is not known to be stored; None if it is.

    Without a coordinator kafka-python first looks for one and answers with its name (``'coordinator-1'``);
    the commit goes out later, and nobody is told how that went.
    """
    if exception is None and value is not None:
        exception = Unknown(f"the coordinator had to be looked up first ({value!r})")
    return exception


class Beats(Heartbeat):  # type: ignore[misc]
    """Tells when heartbeats are sent and answered. The base class uses a clock that a suspended machine
    stops.
    """

    def __init__(self, confirmation: Confirmation, heard: Callable[[], None], **configs: Any) -> None:
        super().__init__(**configs)
        self._confirmation = confirmation
        self._heard = heard

    def sent_heartbeat(self) -> None:
        super().sent_heartbeat()
        self._confirmation.asked(boot_time())

    def received_heartbeat(self) -> None:
        super().received_heartbeat()
        self._confirmation.answered()
        self._heard()


class Listener(AsyncConsumerRebalanceListener):  # type: ignore[misc]
    """Passes rebalances on to the owner. What may wait runs in a greenlet of its own, while the IO loop goes
    on with heartbeats and with the commits made in there.

    hold_back: called with what is given, before the owner. disown: before the owner learns of a loss.
    pause_io: sleeps on the IO loop. error: what the owner has raised; kafka-python would hide it behind one
    of its own.
    """

    def __init__(
        self,
        owner: Owner,
        hold_back: Callable[[Iterable[Any]], None],
        disown: Callable[[], None],
        pause_io: Callable[[float], Awaitable[None]],
    ) -> None:
        self._owner: Owner | None = owner
        self._hold_back = hold_back
        self._disown = disown
        self._pause_io = pause_io
        self.error: BaseException | None = None

    def detach(self) -> None:
        """Tell the owner nothing more: it may have another member by now, with the same partitions."""
        self._owner = None

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        self._hold_back(assigned)
        if self._owner is not None:
            self._owner.given(numbers_of(assigned))

    async def on_partitions_revoked(self, revoked: Iterable[Any]) -> None:
        if self._owner is not None:
            await self._finish(self._owner.taken, revoked)

    async def on_partitions_lost(self, lost: Iterable[Any]) -> None:
        self._disown()
        if self._owner is not None:
            await self._finish(self._owner.gone, lost)

    async def _finish(self, call: Callable[[Sequence[int]], None], partitions: Iterable[Any]) -> None:
        numbers = numbers_of(partitions)
        if not numbers:
            return
        running = gevent.spawn(self._guarded, call, numbers)
        while not running.ready():
            await self._pause_io(_LOOK_S)

    def _guarded(self, call: Callable[[Sequence[int]], None], numbers: Sequence[int]) -> None:
        try:
            call(numbers)
        except BaseException as error:  # told by the poll, in the greenlet that reads
            self.error = error


def numbers_of(partitions: Iterable[Any]) -> list[int]:
    """The numbers of kafka-python's partitions, which all are of one topic."""
    return sorted(tp.partition for tp in partitions)
