"""The acts of a demo, in their order. Each is told in one line when it is over."""

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path
from typing import Final

from thorn_worker.demo.cast import Kind, Role, cast, planned, save_cast, settings_text
from thorn_worker.demo.records import CAST, PLACES, SETTINGS
from thorn_worker.demo.show import Picture, Show
from thorn_worker.demo.stage import Actor, Stage
from thorn_worker.demo.watch import Watch

#: Producer processes.
SERVICES: Final = 2

#: Longest that a process may take to be ready, on a busy machine.
_START_S: Final = 20.0
#: Longest until a new worker has the partitions of a dead one.
_TAKEOVER_S: Final = 30.0
#: Longest for the sending, and for half of the deliveries.
_SENDING_S: Final = 60.0
#: Without any progress for this long, longer than any retry takes, there is nothing more to wait for.
_STANDSTILL_S: Final = 20.0
#: Longest for the retries, however slow the machine.
_SETTLING_S: Final = 600.0
#: Longest for a worker to stop.
_STOP_S: Final = 30.0

_KINDS: Final = {
    Kind.FAST: "{} fast",
    Kind.SLOW: "{} slow (0.3 to 1 s)",
    Kind.FLAKY: "{} flaky (500 for 30 % of the requests)",
    Kind.HANGING: "{} that never answers",
    Kind.GONE: "{} that says 410 Gone",
    Kind.REFUSING: "{} that refuses connections",
}


class Play:
    """One demo of `events` events in `folder`, told to `show`."""

    def __init__(self, folder: Path, events: int, show: Show) -> None:
        self._folder = folder
        self._events = events
        self._show = show
        self._roles = cast()
        self._planned = planned(self._roles, events)
        self._watch = Watch(folder, SERVICES)
        self._stage = Stage(folder, self._tick)
        self._state = "not started"
        self._workers = 0

    def run(self) -> None:
        """Play it all. Raises `DemoFailed` and `Interrupted`; no process is left in any case."""
        try:
            with self._stage:
                self._receivers()
                worker = self._worker("starting")
                self._show.act(f"a worker has started: process {worker.process.pid}")
                senders = self._senders()
                self._kill(worker)
                worker = self._take_over()
                self._finish_sending(senders)
                self._settle()
                self._stop(worker)
        finally:
            self._watch.close()

    def _receivers(self) -> None:
        save_cast(self._folder / CAST, self._roles)
        self._stage.start("receivers", "thorn_worker.demo.receivers", str(self._folder))
        told = self._folder / PLACES
        self._stage.until(told.exists, _START_S, "the receivers")
        places: dict[str, str] = json.loads(told.read_text())
        (self._folder / SETTINGS).write_text(settings_text(self._roles, places))
        self._show.act(f"{len(self._roles)} receivers are ready: {_described(self._roles)}")

    def _worker(self, state: str) -> Actor:
        """A worker that has the partitions; until then, `state` is said of it."""
        self._workers += 1
        self._state = state
        before = self._watch.owners
        worker = self._stage.start(
            f"worker-{self._workers}",
            "thorn_worker",
            *("run", "--settings", str(self._folder / SETTINGS)),
        )
        self._stage.until(
            lambda: self._watch.owners and not self._watch.owners & {None, *before},
            _TAKEOVER_S,
            "a worker that owns all partitions",
        )
        self._state = f"running (process {worker.process.pid})"
        return worker

    def _senders(self) -> list[Actor]:
        senders = [
            self._stage.start(
                f"service-{number + 1}",
                "thorn_worker.demo.senders",
                *(str(self._folder), str(number), str(SERVICES), str(self._events)),
            )
            for number in range(SERVICES)
        ]
        for sender in senders:
            sender.may_end = frozenset({os.EX_OK})
        self._show.act(
            f"{SERVICES} services send {self._events:,} events, which come to {self._planned:,} deliveries"
        )
        return senders

    def _kill(self, worker: Actor) -> None:
        watch = self._watch
        self._stage.until(
            lambda: len(watch.delivered) >= self._planned / 2, _SENDING_S, "half of the deliveries"
        )
        worker.end(signal.SIGKILL, -signal.SIGKILL)
        worker.process.wait()
        self._show.act(
            f"the worker was killed with SIGKILL after {len(watch.delivered):,} deliveries; services go on"
        )

    def _take_over(self) -> Actor:
        began = self._show.elapsed_s()
        worker = self._worker("killed; a new one waits for its lease to run out")
        outage_s = self._show.elapsed_s() - began
        self._show.act(
            f"a new worker (process {worker.process.pid}) took over after {outage_s:.1f} s, "
            "once the dead one's lease had run out"
        )
        return worker

    def _finish_sending(self, senders: list[Actor]) -> None:
        watch = self._watch
        self._stage.until(lambda: all(sender.gone for sender in senders), _SENDING_S, "the services")
        watch.look()
        self._show.act(
            f"all events are sent; the log has acknowledged {watch.acknowledged:,}: "
            f"{len(watch.owed):,} deliveries are owed"
        )

    def _settle(self) -> None:
        """Wait until everything has ended, as long as it moves."""
        watch, began = self._watch, time.monotonic()
        self._stage.until(
            lambda: not watch.unsettled or time.monotonic() - max(began, watch.moved_at) > _STANDSTILL_S,
            _SETTLING_S,
            "an end of the retries",
        )
        if watch.unsettled:
            self._show.act(f"nothing has moved for {_STANDSTILL_S:g} s: {watch.unsettled:,} have no end")
        else:
            self._show.act(
                f"every delivery has an end: {len(watch.delivered):,} delivered, {watch.given_up:,} given up"
            )

    def _stop(self, worker: Actor) -> None:
        self._state = "stopping"
        worker.end(signal.SIGTERM, os.EX_OK)
        self._stage.until(lambda: worker.gone, _STOP_S, "the worker to stop")
        self._state = "stopped"
        self._show.act("the worker was stopped with SIGTERM and ended with code 0")

    def _tick(self) -> None:
        watch = self._watch
        watch.look()
        self._show.picture(
            Picture(
                events=self._events,
                planned=self._planned,
                sent=watch.sent,
                acknowledged=watch.acknowledged,
                delivered=len(watch.delivered),
                retried=len(watch.retried),
                dead=watch.given_up,
                pending=watch.pending,
                worker=self._state,
            )
        )


def _described(roles: tuple[Role, ...]) -> str:
    """``16 fast, 3 slow (0.3 to 1 s), …``."""
    return ", ".join(
        _KINDS[kind].format(count) for kind, count in Counter(role.kind for role in roles).items()
    )
