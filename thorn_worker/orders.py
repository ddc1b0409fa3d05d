"""Commands: what an operator ordered, applied by the owner of the partition when the reader reaches it.

A command acts on lives of smaller offset in its partition, wherever they are: waiting in a lane, in flight,
or stored. Its own offset completes when every write that it led to is acknowledged. Commands of one partition
are applied one after the other.
"""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Final

import gevent

from producer.errors import ThornError
from producer.model import Command, Life
from thorn_worker.dispatcher import Dispatcher
from thorn_worker.parts import Parts
from thorn_worker.store.contract import UNRESOLVED, EndpointState, Pending, Selection
from thorn_worker.work import Home, Work, work_of_row

#: Rows read and changed at a time, so that a command over a million rows neither blocks nor fills memory.
PAGE_ROWS: Final = 500

#: Commands about endpoints: they read no rows, so nothing has to be waited for.
_SWITCHES: Final = frozenset({"enable", "disable"})

#: A command whose rows could not be read is applied again after this long.
AGAIN_S: Final = 1.0

_POLL_S: Final = 0.02

_logger = logging.getLogger("thorn_worker.orders")


class _Open:
    """Counts the writes of one command.

    `done` runs when the last one is acknowledged and no more will come.
    """

    def __init__(self, done: Callable[[], None]) -> None:
        self._done = done
        self._left = 1

    def expect(self) -> Callable[[], None]:
        """One write more; call the result when it is durable."""
        self._left += 1
        return self.finished

    def finished(self) -> None:
        """A write is durable, or (once, at the end) all have been made."""
        self._left -= 1
        if self._left == 0:
            self._done()


class Orders:
    """Applies commands."""

    def __init__(self, parts: Parts, dispatcher: Dispatcher) -> None:
        self._dispatcher = dispatcher
        self._store = parts.store
        self._handover = parts.handover
        self._clock = parts.clock
        self._loop = parts.loop
        self._tally = parts.tally
        self._waiting: dict[Home, deque[tuple[int, Command]]] = {}

    def take(self, home: Home, offset: int, command: Command) -> None:
        """Apply `command`, read at `offset`: behind those taken before, but switches at once, so that the
        records right behind an ``enable`` (a replay, as a rule) meet an enabled endpoint.
        """
        if command.op in _SWITCHES:
            self._apply(home, offset, command)
            return
        waiting = self._waiting.get(home)
        if waiting is not None:
            waiting.append((offset, command))
            return
        self._waiting[home] = deque([(offset, command)])
        self._loop.aside(lambda: self._work_off(home))

    def _work_off(self, home: Home) -> None:
        waiting = self._waiting[home]
        while waiting and home.alive:
            offset, command = waiting[0]
            try:
                self._apply(home, offset, command)
            except ThornError as error:
                _logger.error("the command at offset %d is tried again: %s", offset, error)
                self._loop.later(AGAIN_S, lambda: self._work_off(home))
                return
            waiting.popleft()
        del self._waiting[home]

    def _apply(self, home: Home, offset: int, command: Command) -> None:
        _logger.info(
            "partition %d, offset %d: %s %d deliveries, %d subscriptions, %d hosts",
            *(home.partition, offset, command.op, len(command.ids), len(command.subs), len(command.hosts)),
        )
        open_writes = _Open(lambda: self._complete(home, offset))
        if command.op in _SWITCHES:
            self._switch(home, offset, command, open_writes)
        else:
            act = self._retry if command.op == "retry" else self._cancel
            act(home, self._in_memory(home, offset, command), self._rows(home, offset, command), open_writes)
        self._dispatcher.pump()
        open_writes.finished()

    @staticmethod
    def _complete(home: Home, offset: int) -> None:
        home.tracker.complete(offset, 0)

    # -- endpoints ---------------------------------------------------------------------------------

    def _switch(self, home: Home, offset: int, command: Command, open_writes: _Open) -> None:
        disabled_at = self._clock.now() if command.op == "disable" else None
        for sub in command.subs:
            old = home.endpoints.get(sub)
            if old is not None and old.command_offset >= offset:
                continue  # applied before a crash
            if old is None and disabled_at is None:
                continue  # nothing is known against it here
            state = EndpointState(
                sub=sub,
                host=old.host if old is not None else "",
                disabled_at=disabled_at,
                reason="command" if disabled_at is not None else "",
                command_offset=offset,
            )
            home.endpoints[sub] = state
            self._store.save_endpoint(home.partition, home.epoch, state, self._acknowledged(open_writes))

    # -- deliveries --------------------------------------------------------------------------------

    def _in_memory(self, home: Home, offset: int, command: Command) -> list[Work]:
        ids, subs, hosts = set(command.ids), set(command.subs), set(command.hosts)
        return [
            work
            for life, work in home.works.items()
            if life.offset < offset
            and (work.delivery.id in ids or work.delivery.sub in subs or work.host in hosts)
        ]

    def _rows(self, home: Home, offset: int, command: Command) -> Iterator[tuple[Pending, bool]]:
        """Rows that the command means, as they were a moment ago, and whether their life left memory since.

        A page is read only when most writes of the last one are durable: a late log must not fill memory.
        """
        selection = Selection(command.ids, command.subs, command.hosts, offset)
        after: Life | None = None
        while home.alive:
            with home.departures() as gone:
                page = self._store.select(home.partition, selection, PAGE_ROWS, after)
                for row in page:
                    yield row, row.life in gone
            if len(page) < PAGE_ROWS:
                return
            after = page[-1].life
            while home.alive and len(home.unacknowledged) > PAGE_ROWS:
                gevent.sleep(_POLL_S)

    def _retry(
        self, home: Home, _: list[Work], rows: Iterator[tuple[Pending, bool]], open_writes: _Open
    ) -> None:
        """Due now. What is in memory has its turn anyway; what nobody knows the secrets of can't be tried."""
        now = self._clock.now()
        for row, departed in rows:
            busy = row.life in home.works or self._dispatcher.is_in_flight(row.life)
            if busy or departed or row.reason == UNRESOLVED:
                continue
            acknowledged = self._acknowledged(open_writes)

            def stored(host: str = row.host, acknowledged: Callable[[], None] = acknowledged) -> None:
                home.due.note(host, now)
                acknowledged()

            self._store.put(home.epoch, replace(row, due_at=now), self._handover.awaited(home, stored))

    def _cancel(
        self, home: Home, works: list[Work], rows: Iterator[tuple[Pending, bool]], open_writes: _Open
    ) -> None:
        self._dispatcher.cancel(works, open_writes.expect)
        chosen = {id(work) for work in works}
        for row, departed in rows:
            work = home.works.get(row.life)
            if work is None:
                # In memory it hides its row, which must neither be loaded nor retried until it is gone.
                work = home.enter(work_of_row(row, home))
                work.when_ended(open_writes.expect())
                end = self._handover.end if departed else self._handover.cancel
                end(work)
            elif id(work) not in chosen:  # loaded while the command was being applied
                self._dispatcher.cancel([work], open_writes.expect)

    def _acknowledged(self, open_writes: _Open) -> Callable[[], None]:
        finished = open_writes.expect()

        def acknowledged() -> None:
            self._tally.stored()
            finished()

        return acknowledged
