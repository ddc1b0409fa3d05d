"""How a delivery leaves memory: delivered, cancelled, or handed to its successor in the store.

A record's position is complete only when nothing is owed any more, or the store has acknowledged what goes on
owing it: a row, or a dead letter.
"""

import logging
from collections.abc import Callable
from dataclasses import replace

from thorn_worker.clock import Clock
from thorn_worker.logs import RateLimited
from thorn_worker.outcome import Death, Outcome
from thorn_worker.store.contract import UNRESOLVED, DeadLetter, EndpointState, Pending, Store
from thorn_worker.tally import Tally
from thorn_worker.work import Home, Work

_logger = logging.getLogger("thorn_worker.handover")


class Handover:
    """Writes outcomes to the store, and completes work once they are durable."""

    def __init__(self, store: Store, clock: Clock, tally: Tally) -> None:
        self._store = store
        self._clock = clock
        self._tally = tally
        self._by_host = RateLimited(_logger)

    def put(self, work: Work, due_at: float | None, reason: str) -> None:
        """Store the work, due at `due_at`, or when what `reason` names is over.

        It stays in memory until the row is acknowledged, so that nothing loads the row before.
        """
        work.home.enter(work)
        work.home.hidden.add(work.life)
        row = Pending(
            life=work.life,
            host=work.host,
            delivery=work.delivery,
            appended_at=work.appended_at,
            due_at=due_at,
            reason=reason,
            history=work.history,
        )

        def stored() -> None:
            self._tally.stored()
            if due_at is not None:
                work.home.due.note(work.host, due_at)
            else:  # again: what waited may have become known, and been loaded, before this row was there
                work.home.unresolved.add(work.delivery.sub)
            self._complete(work)

        self._store.put(work.home.epoch, row, self.awaited(work.home, stored))

    def put_unresolved(self, work: Work) -> None:
        """Store work whose subscription nobody knows: kept, untried, its schedule unspent."""
        home, sub = work.home, work.delivery.sub
        if sub not in home.unresolved:
            home.unresolved.add(sub)
            _logger.warning(
                "subscription %s at %s has secrets or headers that this worker does not know, so its "
                "deliveries wait: give the worker the same subscribers, [secrets] or secrets_of as the "
                "producers",
                sub,
                work.host,
            )
        self.put(work, None, UNRESOLVED)

    def bury(self, work: Work, reason: Death, error: str = "") -> None:
        """Give the delivery up."""
        letter = DeadLetter(
            life=work.life,
            host=work.host,
            delivery=work.delivery,
            appended_at=work.appended_at,
            died_at=self._clock.now(),
            reason=reason,
            history=work.history,
            error=error,
        )
        self.bury_letter(work.home, letter, lambda: self._complete(work))

    def bury_letter(self, home: Home, letter: DeadLetter, done: Callable[[], None]) -> None:
        """Write a dead letter; once it is durable, count it, say so, and call `done`."""
        delivery = letter.delivery

        def buried() -> None:
            self._tally.stored()
            self._tally.dead(letter.reason)
            self._by_host.warning(
                letter.host,
                "dead letter (%s): delivery %s to %s after %d attempts%s",
                letter.reason.value,
                delivery.id if delivery is not None else "unreadable",
                letter.host or "nowhere",
                delivery.attempts if delivery is not None else 0,
                f": {letter.error}" if letter.error else "",
            )
            done()

        self._store.bury(home.epoch, letter, self.awaited(home, buried))

    def cancel(self, work: Work) -> None:
        """End the delivery by command: no attempt more, no dead letter."""
        self._tally.cancelled()
        self.end(work)

    def end(self, work: Work) -> None:
        """Nothing is owed any more."""
        if work.row:
            self.remove(work, lambda: self._complete(work))
        else:
            self._complete(work)

    def remove(self, work: Work, done: Callable[[], None]) -> None:
        """Forget the row of this life, behind whatever is being written of it; then call `done`."""

        def removed() -> None:
            self._tally.stored()
            done()

        self._store.remove(work.home.epoch, work.life, self.awaited(work.home, removed))

    def awaited(self, home: Home, done: Callable[[], None]) -> Callable[[], None]:
        """`done`, for a write that is about to be made; `home` counts the write as under way until then.

        A partition's writes are acknowledged in the order in which they were made.
        """
        home.unacknowledged.append(self._clock.steady())

        def acknowledged() -> None:
            home.unacknowledged.popleft()
            done()

        return acknowledged

    def disable(self, work: Work) -> None:
        """410: the receiver asked for no more. Later deliveries become dead letters without an attempt."""
        home, sub = work.home, work.delivery.sub
        old = home.endpoints.get(sub) or EndpointState(sub=sub, host=work.host)
        state = replace(old, disabled_at=self._clock.now(), reason=Outcome.GONE.value)
        home.endpoints[sub] = state
        self._store.save_endpoint(home.partition, home.epoch, state, self._tally.stored)
        _logger.warning(
            "subscription %s at %s is disabled: it answered 410 Gone ('thorn-worker endpoints enable %s' "
            "takes it back)",
            sub,
            work.host,
            sub,
        )

    def _complete(self, work: Work) -> None:
        """The work has left memory; if its record still waited for it, that position is done."""
        home = work.home
        home.leave(work.life)
        if work.source:
            home.tracker.complete(work.life.offset, work.life.index)
        for run in work.ended:
            run()
