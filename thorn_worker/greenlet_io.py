"""The driver that carries each attempt out in a greenlet of its own, over the blocking client."""

import logging
import time
from collections.abc import Callable
from typing import Final

import gevent
from greenlet import getcurrent, greenlet

from thorn_worker.http.blocking import Client
from thorn_worker.http.request import Request
from thorn_worker.outcome import Attempt, Outcome, Phase, Report

#: Greenlets that are kept for the next attempt: making one anew costs more than the rest of a start.
MAX_IDLE: Final = 512

_logger: Final = logging.getLogger("thorn_worker.attempts")


class GreenletDriver:
    """Starts attempts on greenlets, which take one after the other; reports on the hub's own thread."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._hub = gevent.get_hub()
        self._idle: list[greenlet] = []

    def start(self, request: Request, on_report: Callable[[Report], None]) -> None:
        """Carry out one attempt and report it once."""
        if self._idle:
            self._hub.loop.run_callback(self._idle.pop().switch, (request, on_report))
        else:
            gevent.spawn_raw(self._serve, request, on_report)

    def _serve(self, request: Request, on_report: Callable[[Report], None]) -> None:
        me = getcurrent()
        while True:
            self._run(request, on_report)
            if len(self._idle) >= MAX_IDLE:
                return
            self._idle.append(me)
            request, on_report = self._hub.switch()

    def _run(self, request: Request, on_report: Callable[[Report], None]) -> None:
        started = time.monotonic()
        report: Report
        try:
            report = self._client.attempt(request)
        except Exception as error:
            # A mistake of ours that one delivery brings out must neither stop its partition nor lose it: it
            # spends its schedule like a failure and ends as a dead letter that says so.
            _logger.exception("an attempt at %s ended in an error of our own", request.target.host)
            report = Attempt(
                number=request.number,
                started_at=request.at,
                duration_s=time.monotonic() - started,
                outcome=Outcome.FAILED,
                phase=Phase.SEND,
                error=f"internal error: {type(error).__name__}",
            )
        on_report(report)


class GreenletLoop:
    """The dispatcher's view of the hub."""

    def later(self, delay_s: float, run: Callable[[], None]) -> None:
        """Run on a greenlet after `delay_s`."""
        gevent.spawn_later(delay_s, run)

    def aside(self, run: Callable[[], None]) -> None:
        """Run on a greenlet of its own."""
        gevent.spawn(run)
