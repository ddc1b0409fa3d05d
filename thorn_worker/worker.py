"""read -> lane -> complete -> commit; pause; rebalance; drain. One process, one hub.

The walk: `_read` takes records from the reader and gives them to `Intake`, which fills the lanes; the
`Dispatcher` starts attempts and turns outcomes into completion; `_commit` makes watermarks durable once a
second; `_tick` brings stored rows back when they are due.
"""

import gc
import logging
import os
import signal
from collections.abc import Callable
from typing import Final

import gevent
from gevent.event import Event

from producer.config import Settings
from producer.errors import LogError
from thorn_worker import __version__
from thorn_worker.admin import AdminServer, LoopMonitor, Sources
from thorn_worker.assembly import Assembly
from thorn_worker.log.contract import Consent, LogInfo
from thorn_worker.report import Reporter
from thorn_worker.watchdog import BEAT_S, Pulse, Watchdog
from thorn_worker.work import Home

#: Watermarks are committed this often: what a crash repeats, beside what was in flight.
COMMIT_S: Final = 1.0
#: Due rows and paused partitions are looked at this often.
TICK_S: Final = 0.1
#: Unresolved subscriptions are asked for again, and rows without due time checked for their age, this often.
SLOW_TICK_S: Final = 30.0
#: Idle connections and the lag are looked at this often.
HOUSEKEEPING_S: Final = 2.0
#: Longest wait for records.
POLL_S: Final = 0.5
#: Intake waits at most this long at a time for trouble of our own machine to pass.
TROUBLE_WAIT_S: Final = 1.0
#: Records taken in before everybody else has a turn on the hub.
SLICE_RECORDS: Final = 32

#: First and longest pause between two tries to open a log that does not answer.
FIRST_WAIT_S: Final = 0.5
LONGEST_WAIT_S: Final = 15.0

#: Exit codes of a worker that could not go on: an error of ours, and a log that became unusable.
FAILED: Final = 1
LOG_UNUSABLE: Final = 4

_logger = logging.getLogger("thorn_worker.worker")


class Worker:
    """One worker process. `run` returns its exit code.

    A loop that raises ends the process: a worker that only looks alive is worse than one that is
    restarted. Raises `ThornError` for what keeps it from starting.
    """

    def __init__(self, settings: Settings, consent: Consent) -> None:
        self._parts = parts = Assembly(settings, consent)
        self._reporter = Reporter(parts)
        self._monitor = LoopMonitor(parts.counters)
        self._admin = AdminServer(
            settings.admin,
            Sources(parts.counters, self._reporter.readiness, self._reporter.status, self._monitor),
        )
        self.pulse = Pulse(lambda: parts.lanes.started, self._startable)
        self.watchdog = Watchdog(self.pulse)
        self._stop = Event()
        self._stopping = False
        self._exit_code = 0

    def run(self) -> int:
        """Deliver until SIGTERM or SIGINT, then drain. A second signal ends the process at once."""
        self._admin.start()
        for number in (signal.SIGTERM, signal.SIGINT):
            gevent.signal_handler(number, self._signalled, number)
        self._monitor.start()
        self._keep("pulse", BEAT_S, self.pulse.beat)
        self.watchdog.start()
        try:
            info = self._opened()
            if info is not None:
                self._deliver(info)
        finally:
            self._monitor.stop()
            self._admin.stop()
            self._parts.close()
            self.watchdog.stop()
        _logger.info("stopped")
        return self._exit_code

    def _opened(self) -> LogInfo | None:
        """The open log, once it answers; None if the worker was told to stop before."""
        pause_s = FIRST_WAIT_S
        while not self._stop.is_set():
            try:
                info = self._parts.reader.open()
                self._parts.store.open()
                return info
            except LogError as error:
                if not error.retriable:
                    raise
                _logger.warning("waiting for the log, admin http://%s:%d/: %s", *self._admin.address, error)
                self._reporter.waiting_for = str(error)
            self._stop.wait(pause_s)
            pause_s = min(pause_s * 2, LONGEST_WAIT_S)
        return None

    def _deliver(self, info: LogInfo) -> None:
        self._partitions = self._parts.partitions(info, self._restored)
        self._reporter.opened(info, self._partitions)
        self._banner(info)
        self._parts.reader.join(self._partitions)
        loops = [
            self._keep("commit", COMMIT_S, self._commit),
            self._keep("tick", TICK_S, self._tick),
            self._keep("slow tick", SLOW_TICK_S, self._slow_tick),
            self._keep("housekeeping", HOUSEKEEPING_S, self._housekeeping),
        ]
        reading = self._keep("read", 0.0, self._read)
        self.pulse.idle = False
        _settle_garbage_collector()
        self._stop.wait()
        self._stopping = self._reporter.draining = self.pulse.idle = True
        reading.join()
        self._drain()
        gevent.killall(loops)
        self._parts.reader.close()

    # -- loops -------------------------------------------------------------------------------------

    def _keep(self, name: str, every_s: float, step: Callable[[], None]) -> gevent.Greenlet:
        def loop() -> None:
            try:
                while not self._stopping or every_s:
                    self._patiently(step)
                    gevent.sleep(every_s)
            except LogError as error:
                _logger.critical("the worker stops: %s", error)
                self._fail(LOG_UNUSABLE)
            except Exception:
                _logger.critical("the loop %r ended in an error; the worker stops", name, exc_info=True)
                self._fail(FAILED)

        return gevent.spawn(loop)

    @staticmethod
    def _patiently(step: Callable[[], None]) -> None:
        """A log that does not answer just now is asked again at the next turn; it was said and counted."""
        try:
            step()
        except LogError as error:
            if not error.retriable:
                raise
            gevent.sleep(TICK_S)

    def _fail(self, exit_code: int) -> None:
        self._exit_code = exit_code
        self._stop.set()

    def _read(self) -> None:
        """Take in what the reader has, a slice at a time."""
        self.pulse.polls += 1
        records = self._parts.reader.poll(POLL_S)
        self._reporter.joined = self._reporter.joined or self._parts.reader.confirmed()
        if records:
            self._parts.tally.read_at = self._parts.clock.steady()
        for start in range(0, len(records), SLICE_RECORDS):
            for record in records[start : start + SLICE_RECORDS]:
                home = self._partitions.of(record.partition, record.epoch)
                if home is not None:
                    self._parts.intake.take(home, record)
                    self._partitions.pause_full(home)
            self._parts.dispatcher.pump()
            gevent.sleep(0)
        # Slower, but never silent: a reader that is not asked for seconds loses its partitions.
        until = self._parts.clock.steady() + TROUBLE_WAIT_S
        while self._parts.dispatcher.troubled and not self._stopping and self._parts.clock.steady() < until:
            gevent.sleep(TICK_S)

    def _commit(self) -> None:
        now = self._parts.clock.steady()
        homes = self._partitions.all()
        for home in homes:
            if home.tracker.watermark != home.committed or not home.tracker.incomplete:
                home.moved_at = now
        self._partitions.commit(homes)

    def _tick(self) -> None:
        self._partitions.resume_roomy()
        if not self._stopping:
            self._parts.reload.due(self._partitions.all())
            self._parts.dispatcher.pump()

    def _slow_tick(self) -> None:
        homes = self._partitions.all()
        self._parts.directory.refresh()
        self._parts.reload.look_up(homes)
        self._parts.reload.overdue(homes)

    def _housekeeping(self) -> None:
        self._parts.pools.sweep(self._parts.clock.steady())
        self._reporter.refresh()

    def _startable(self) -> bool:
        return self._parts.dispatcher.startable() or self._parts.reload.overlooks(self._partitions.all())

    def _restored(self, home: Home) -> None:
        """A partition may start: what waited for a subscription that is known by now need not wait for the
        slow tick.
        """
        home.moved_at = self._parts.clock.steady()
        gevent.spawn(self._parts.reload.look_up, [home])

    # -- the end -----------------------------------------------------------------------------------

    def _signalled(self, number: int) -> None:
        if self._stop.is_set():
            os._exit(128 + number)  # the operator is done waiting; everything acknowledged is durable
        _logger.info(
            "draining after %s: a second signal ends the process at once", signal.Signals(number).name
        )
        self._stop.set()

    def _drain(self) -> None:
        """Start nothing more, finish what is in flight.

        The reader is polled meanwhile so that the partitions stay ours.
        """
        self._partitions.stop_reading()
        self._parts.dispatcher.stop()
        patience_s = 0.0 if self._exit_code else self._parts.settings.drain_timeout_s
        deadline = self._parts.clock.steady() + patience_s
        while self._parts.lanes.in_flight and self._parts.clock.steady() < deadline:
            self._parts.reader.poll(TICK_S)
        left = self._parts.lanes.in_flight
        if left:
            _logger.warning(
                "%d attempts were still under way after %g s and will be repeated", left, patience_s
            )

    def _banner(self, info: LogInfo) -> None:
        settings, (host, port) = self._parts.settings, self._admin.address
        exceptions = ", ".join((*settings.allow_hosts, *settings.allow_networks)) or "none"
        _logger.info(
            "thorn-worker %s: log %s, %d partitions, %d subscriptions known, guard exceptions: %s, admin http://%s:%d/",
            *(
                __version__,
                info.place,
                info.partitions,
                len(self._parts.directory),
                exceptions,
                host,
                port,
            ),
        )


def _settle_garbage_collector() -> None:
    """What stands now stays: never look at it again. Deliveries make little garbage that refers to itself, so
    looking for it less often saves a tenth of the CPU per delivery.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def run_worker(settings: Settings, consent: Consent) -> int:
    """Run a worker until it is told to stop; its exit code.

    Raises `ThornError` for what keeps it from starting.
    """
    return Worker(settings, consent).run()
