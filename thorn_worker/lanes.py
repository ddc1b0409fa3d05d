"""Lanes: whose turn is it? Pure: no I/O, no clock, no gevent.

One lane per host, in it one FIFO per subscription. Lanes that can start something take turns, and so do the
FIFOs of a lane; a host with a million deliveries waiting gets one turn in the ring like a host with one.
Nothing starts beyond the limits, ever.
"""

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

W = TypeVar("W")


@dataclass(frozen=True, slots=True)
class Limits:
    """Attempts at once: `total` in this worker, `per_lane` to one host."""

    total: int
    per_lane: int


class _Fifo(Generic[W]):
    """What one subscription waits for, in order. `listed`: it stands in its lane's ring."""

    __slots__ = ("in_flight", "limit", "listed", "queue", "sub")

    def __init__(self, sub: str) -> None:
        self.sub = sub
        self.queue: deque[W] = deque()
        self.in_flight = 0
        self.limit: int | None = None
        self.listed = False

    def startable(self) -> bool:
        return bool(self.queue) and (self.limit is None or self.in_flight < self.limit)


class _Lane(Generic[W]):
    """One host's FIFOs.

    `ring`: those that can start something. `listed`: the lane stands in the ring of lanes.
    """

    __slots__ = ("fifos", "host", "in_flight", "listed", "queued", "ring", "width")

    def __init__(self, host: str, width: int) -> None:
        self.host = host
        self.width = width
        self.fifos: dict[str, _Fifo[W]] = {}
        self.ring: deque[_Fifo[W]] = deque()
        self.in_flight = 0
        self.queued = 0
        self.listed = False

    def startable(self) -> bool:
        return bool(self.ring) and self.in_flight < self.width


class Lanes(Generic[W]):
    """All lanes of a worker.

    `W` is the caller's unit of work; host and subscription are given with each call. in_flight, queued: works
    now. started: works that `start` ever gave.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._lanes: dict[str, _Lane[W]] = {}
        self._ring: deque[_Lane[W]] = deque()
        self.in_flight = 0
        self.queued = 0
        self.started = 0

    def __len__(self) -> int:
        """Number of hosts with anything queued or in flight."""
        return len(self._lanes)

    def queued_for(self, host: str) -> int:
        """Work waiting in one lane."""
        lane = self._lanes.get(host)
        return lane.queued if lane is not None else 0

    def add(self, host: str, sub: str, work: W, limit: int | None = None, *, first: bool = False) -> None:
        """Queue work.

        limit: most attempts at once of this subscription. first: ahead of what its FIFO holds.
        """
        lane = self._lanes.get(host)
        if lane is None:
            lane = self._lanes[host] = _Lane(host, self._limits.per_lane)
        fifo = lane.fifos.get(sub)
        if fifo is None:
            fifo = lane.fifos[sub] = _Fifo(sub)
        fifo.limit = limit
        if first:
            fifo.queue.appendleft(work)
        else:
            fifo.queue.append(work)
        lane.queued += 1
        self.queued += 1
        self._list(lane, fifo)

    def start(self) -> W | None:
        """The next work to start, now counted in flight; None if no lane may start anything."""
        if self.in_flight >= self._limits.total:
            return None
        while self._ring:
            lane = self._ring.popleft()
            lane.listed = False
            while lane.startable():
                fifo = lane.ring.popleft()
                fifo.listed = False
                if fifo.startable():  # its limit may have been lowered since it was listed
                    return self._start(lane, fifo)
        return None

    def startable(self) -> bool:
        """The limits let something queued start. Asks the queues and not the rings that `start` goes by, so
        that a lane forgotten there shows; that takes a look at every lane.
        """
        return self.in_flight < self._limits.total and any(
            lane.in_flight < lane.width and any(fifo.startable() for fifo in lane.fifos.values())
            for lane in self._lanes.values()
        )

    def _start(self, lane: _Lane[W], fifo: _Fifo[W]) -> W:
        work = fifo.queue.popleft()
        fifo.in_flight += 1
        lane.in_flight += 1
        lane.queued -= 1
        self.in_flight += 1
        self.queued -= 1
        self.started += 1
        self._list(lane, fifo)
        return work

    def finished(self, host: str, sub: str) -> None:
        """One work of this subscription that `start` gave is no longer in flight."""
        lane = self._lanes[host]
        fifo = lane.fifos[sub]
        fifo.in_flight -= 1
        lane.in_flight -= 1
        self.in_flight -= 1
        self._list(lane, fifo)
        self._drop_if_idle(lane, fifo)

    def remove(self, unwanted: Callable[[W], bool]) -> list[W]:
        """Take all queued work that is `unwanted` out of the lanes, in their order.

        What is in flight stays.
        """
        removed: list[W] = []
        for lane in list(self._lanes.values()):
            for fifo in list(lane.fifos.values()):
                kept = deque(work for work in fifo.queue if not unwanted(work))
                taken = len(fifo.queue) - len(kept)
                if taken:
                    removed += [work for work in fifo.queue if unwanted(work)]
                    fifo.queue = kept
                    lane.queued -= taken
                    self.queued -= taken
                    self._unlist(lane, fifo)
                self._drop_if_idle(lane, fifo)
        return removed

    def _list(self, lane: _Lane[W], fifo: _Fifo[W]) -> None:
        """Put fifo and lane into their rings if they can start something and stand in none."""
        if not fifo.listed and fifo.startable():
            fifo.listed = True
            lane.ring.append(fifo)
        if not lane.listed and lane.startable():
            lane.listed = True
            self._ring.append(lane)

    def _unlist(self, lane: _Lane[W], fifo: _Fifo[W]) -> None:
        """Take a fifo that lost its work out of its ring.

        The lane leaves its own ring when its turn comes.
        """
        if fifo.listed and not fifo.startable():
            fifo.listed = False
            lane.ring.remove(fifo)

    def _drop_if_idle(self, lane: _Lane[W], fifo: _Fifo[W]) -> None:
        if not fifo.queue and not fifo.in_flight:
            lane.fifos.pop(fifo.sub, None)
        if not lane.fifos:
            if lane.listed:
                lane.listed = False
                self._ring.remove(lane)
            self._lanes.pop(lane.host, None)
