"""lanes -> attempts -> outcomes -> completion.

An attempt is started on a driver and calls back with its `Report`. Nothing here knows how it is carried out,
nor needs a greenlet for it.
"""

import logging
import random
from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import Final

from producer.errors import InvalidEvent, SubscriptionError
from producer.model import Delivery, Life, Subscription
from thorn_worker.logs import RateLimited
from thorn_worker.outcome import Attempt, Death, LocalTrouble, Outcome, Report
from thorn_worker.parts import Parts
from thorn_worker.retry import GiveUp
from thorn_worker.work import Home, Work

#: After an attempt that our own machine failed, nothing is started for this long.
TROUBLE_PAUSE_S: Final = 1.0

#: Longest that any attempt may last, whoever asks for more.
LONGEST_ATTEMPT_S: Final = 60.0

#: Lives remembered that were delivered when their epoch was over already.
DELIVERED_LATE: Final = 10_000

_logger = logging.getLogger("thorn_worker.dispatcher")


class Dispatcher:
    """Starts what the lanes say, and decides what each outcome leads to.

    troubled: our own machine failed an attempt a moment ago; nothing starts, and intake should wait too.
    """

    def __init__(self, parts: Parts) -> None:
        self._lanes = parts.lanes
        self._driver = parts.driver
        self._handover = parts.handover
        self._directory = parts.directory
        self._profiles = parts.profiles
        self._policy = parts.policy
        self._clock = parts.clock
        self._loop = parts.loop
        self._tally = parts.tally
        self._attempt_log = parts.attempt_log
        self._confirmed = parts.confirmed
        self._timeout_s = parts.timeout_s
        self._complaints = RateLimited(_logger)
        self._in_flight: dict[Life, Work] = {}
        self._delivered_late: dict[Life, float] = {}
        self._stopped = False
        self.troubled = False

    # -- into the lanes ----------------------------------------------------------------------------

    def queue(self, work: Work, *, first: bool = False) -> None:
        """Put work into its lane. Call `pump` once when everything at hand is queued.

        Work of a partition that is leaving is dropped: its next owner reads it again.
        """
        if work.home.leaving:
            work.home.leave(work.life)
            return
        work.home.enter(work)
        known = self._directory.known(work.delivery.sub)
        limit = known.max_in_flight if known is not None else None
        self._lanes.add(work.host, work.delivery.sub, work, limit, first=first)

    def adopt(self, life: Life, home: Home, *, stored: bool) -> bool:
        """True if this life is in flight already; if for an older epoch, its outcome now counts for `home`.

        stored: a row of it was found, not its record.
        """
        work = self._in_flight.get(life)
        if work is None or work.home is home:
            return work is not None
        work.home, work.source, work.row, work.stands = home, not stored, stored, stored
        home.enter(work)
        return True

    def delivered_late(self, life: Life) -> bool:
        """True, once, if an attempt delivered this life when its epoch was over: nothing is owed of it."""
        appended_at = self._delivered_late.pop(life, None)
        if appended_at is None:
            return False
        self._tally.delivered(self._clock.now() - appended_at)
        return True

    def is_in_flight(self, life: Life) -> bool:
        """An attempt of this life is under way in this process, for whatever epoch."""
        return life in self._in_flight

    def let_go(self, home: Home) -> None:
        """The partition is leaving: drop what waits in its lanes; what is in flight still counts."""
        home.leaving = True
        for work in self._lanes.remove(lambda work: work.home is home):
            home.leave(work.life)

    def forget(self, home: Home) -> None:
        """The partition is gone: what is still in flight changes nothing any more."""
        self.let_go(home)
        home.alive = False

    def cancel(self, works: Iterable[Work], expect: Callable[[], Callable[[], None]]) -> None:
        """Cancel work in memory. What waits in a lane ends now, what is in flight ends as cancelled if it
        fails, and what is being written is removed behind that write.

        expect: called per work; gives what to call when its end is durable.
        """
        chosen = {id(work): work for work in works}
        for work in self._lanes.remove(lambda work: id(work) in chosen):
            del chosen[id(work)]
            work.when_ended(expect())
            self._handover.cancel(work)
        for work in chosen.values():
            work.cancelled = True
            if work.in_flight:
                work.when_ended(expect())
            else:
                self._handover.remove(work, expect())

    # -- one attempt -------------------------------------------------------------------------------

    def pump(self) -> None:
        """Start everything that may start; nothing while it is uncertain whether it is still ours."""
        if self._stopped or not self._confirmed():
            return
        while not self.troubled and (work := self._lanes.start()) is not None:
            self._begin(work)

    def startable(self) -> bool:
        """Something waits in the lanes that the next `pump` has to start."""
        return not self._stopped and not self.troubled and self._lanes.startable() and self._confirmed()

    def stop(self) -> None:
        """From now on only finish what is in flight."""
        self._stopped = True

    def _begin(self, work: Work) -> None:
        """Start the attempt of work that `lanes.start` gave, or settle it without one."""
        delivery, home = work.delivery, work.home
        if self._clock.now() > self._policy.dies_at(work.appended_at, self._expires_at(delivery)):
            self._release(work)
            self._handover.bury(work, Death.EXPIRED)
        elif home.disabled(delivery.sub):
            self._release(work)
            self._handover.bury(work, Death.DISABLED)
        elif not delivery.lookup:
            self._attempt(work, self._directory.known(delivery.sub))
        elif (equipped := self._directory.equipped(delivery.sub)) is not None:
            self._attempt(work, equipped)
        elif self._directory.may_resolve:
            self._loop.aside(lambda: self._look_up(work))
        else:
            self._release(work)
            self._handover.put_unresolved(work)

    def _look_up(self, work: Work) -> None:
        known = self._directory.resolve(work.delivery.sub)
        if known is not None and not work.home.leaving and not work.cancelled:
            self._attempt(work, known)
            return
        self._release(work)
        if work.home.leaving:
            work.home.leave(work.life)
        elif work.cancelled:
            self._handover.cancel(work)
        else:
            self._handover.put_unresolved(work)
        self.pump()

    def _attempt(self, work: Work, subscription: Subscription | None) -> None:
        delivery, wall_at = work.delivery, self._clock.wall()
        timeout_s = self._patience_s(delivery, subscription)
        try:
            request = self._profiles.request(delivery, subscription, work.number, wall_at, timeout_s)
        except (SubscriptionError, InvalidEvent) as error:
            # Our own library lets neither through; a record of another producer may ask for it.
            reason = Death.MALFORMED if isinstance(error, InvalidEvent) else Death.BLOCKED
            self._release(work)
            self._handover.bury(work, reason, str(error))
            return
        work.in_flight = True
        self._in_flight[work.life] = work
        self._driver.start(request, lambda report: self._finished(work, report))

    def _expires_at(self, delivery: Delivery) -> float | None:
        """Producers tell it by the wall clock. Nothing may expire early because that was set back since our
        start: set back by an hour, what it says is an hour later by our clock.
        """
        if delivery.expires_at is None:
            return None
        return delivery.expires_at + max(0.0, self._clock.now() - self._clock.wall())

    def _patience_s(self, delivery: Delivery, subscription: Subscription | None) -> float:
        asked_s = delivery.timeout_s
        if asked_s is None and subscription is not None:
            asked_s = subscription.timeout_s
        return min(asked_s, LONGEST_ATTEMPT_S) if asked_s is not None and asked_s > 0 else self._timeout_s

    def _finished(self, work: Work, report: Report) -> None:
        work.in_flight = False
        del self._in_flight[work.life]
        self._release(work)
        if isinstance(report, LocalTrouble):
            self._local_trouble(work, report)
        else:
            self._tally.attempt(report)
            if self._attempt_log.on:
                self._attempt_log.write(work.delivery, work.host, report)
            if work.home.alive:
                self._settle(work, report)
            elif report.outcome is Outcome.DELIVERED:
                self._remember_delivered(work)
        self.pump()

    def _remember_delivered(self, work: Work) -> None:
        """The partition is gone; if it comes back, it need not send this again."""
        if len(self._delivered_late) >= DELIVERED_LATE:
            del self._delivered_late[next(iter(self._delivered_late))]
        self._delivered_late[work.life] = work.appended_at

    def _release(self, work: Work) -> None:
        self._lanes.finished(work.host, work.delivery.sub)

    # -- what an attempt leads to ------------------------------------------------------------------

    def _settle(self, work: Work, attempt: Attempt) -> None:
        if attempt.outcome is Outcome.DELIVERED:
            self._tally.delivered(self._clock.now() - work.appended_at)
            self._handover.end(work)
        elif work.stands and not work.cancelled:
            work.home.leave(work.life)
            work.home.due.note(work.host, self._clock.now())
        else:
            first_at = work.delivery.first_at if work.delivery.first_at is not None else attempt.started_at
            work.delivery = replace(work.delivery, attempts=attempt.number, first_at=first_at)
            work.history = work.remembering(attempt)
            self._settle_failure(work, attempt)

    def _settle_failure(self, work: Work, attempt: Attempt) -> None:
        delivery, error = work.delivery, attempt.error or ""
        if work.cancelled:
            self._handover.cancel(work)
            return
        if work.home.disabled(delivery.sub):
            self._handover.bury(work, Death.DISABLED, error)
            return
        if attempt.outcome is Outcome.GONE:
            self._handover.disable(work)
        now, dice = self._clock.now(), random.random()
        expires_at = self._expires_at(delivery)
        decision = self._policy.decide(attempt, now, work.appended_at, expires_at, dice)
        if isinstance(decision, GiveUp):
            self._handover.bury(work, decision.reason, error)
        else:
            self._handover.put(work, decision.due_at, attempt.outcome.value)

    def _local_trouble(self, work: Work, trouble: LocalTrouble) -> None:
        """Nobody's fault but ours: the delivery keeps its place and its schedule, and everything waits."""
        self._tally.local_errors.inc()
        self._complaints.error("local", "this machine could not make an attempt: %s", trouble.error)
        if work.cancelled:
            self._handover.cancel(work)
        elif work.home.alive:
            self.queue(work, first=True)
        if not self.troubled:
            self.troubled = True
            self._loop.later(TROUBLE_PAUSE_S, self._trouble_over)

    def _trouble_over(self) -> None:
        self.troubled = False
        self.pump()
