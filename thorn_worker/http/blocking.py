"""The blocking driver: one attempt from start to end, in whatever thread or greenlet calls it.

Nothing that a receiver does raises here: every attempt ends as an `Attempt`, or as `LocalTrouble` if our own
machine failed.
"""

import ssl
import time
from collections.abc import Callable
from typing import Final

from thorn_worker.http.dialing import READABLE, WRITABLE, Connection, wait
from thorn_worker.http.errors import LOCAL_ERRNOS, LocalFailure, NotConnected, describe
from thorn_worker.http.exchange import READ_BYTES, Ending, Exchange, State, conclude
from thorn_worker.http.pools import Pools
from thorn_worker.http.request import Request
from thorn_worker.outcome import LocalTrouble, Phase, Report

#: The socket has nothing to give or no room just now.
_NOT_YET: Final = (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError)

#: What was going on, for the text of an error.
_DOING: Final = {
    Phase.SEND: "the connection broke while sending",
    Phase.WAIT: "the connection broke before an answer",
}


class Client:
    """Makes attempts over the connections of `pools`. Safe from any number of threads or greenlets."""

    def __init__(self, pools: Pools, clock: Callable[[], float] = time.monotonic) -> None:
        self._pools = pools
        self._clock = clock

    def __repr__(self) -> str:
        return f"Client({self._pools!r})"

    def attempt(self, request: Request) -> Report:
        """Send `request` and wait for what comes of it, at most `request.timeout_s` over all phases."""
        started = self._clock()
        deadline = started + request.timeout_s
        try:
            talk = self._talk(request, deadline, fresh=False)
            if talk.went_stale:
                # The receiver let go of an idle connection just as we wrote: not its answer to this request.
                talk = self._talk(request, deadline, fresh=True)
        except NotConnected as error:
            ending = Ending(error.phase, self._clock() - started, str(error), error.blocked)
            return conclude(request, Exchange(), ending)
        except LocalFailure as error:
            return LocalTrouble(str(error))
        return conclude(request, talk.exchange, Ending(talk.phase, self._clock() - started, talk.error))

    def _talk(self, request: Request, deadline: float, *, fresh: bool) -> "_Talk":
        connection = self._pools.acquire(request.target, deadline, fresh=fresh)
        talk = _Talk(connection, request, deadline, self._clock)
        try:
            talk.send()
            talk.listen()
        finally:
            self._pools.release(connection, talk.reusable)
        return talk


class _Talk:
    """One request and its answer on one connection."""

    __slots__ = (
        "_clock",
        "_connection",
        "_deadline",
        "_last_look",
        "_request",
        "error",
        "exchange",
        "lost",
        "phase",
        "sent",
    )

    def __init__(
        self, connection: Connection, request: Request, deadline: float, clock: Callable[[], float]
    ) -> None:
        self.exchange = Exchange()
        self.phase = Phase.SEND
        self.error: str | None = None
        self.sent = False
        self.lost = False
        self._connection = connection
        self._request = request
        self._deadline = deadline
        self._clock = clock
        self._last_look = False

    @property
    def reusable(self) -> bool:
        return self.sent and self.exchange.reusable and not self.lost

    @property
    def went_stale(self) -> bool:
        """A connection that had served before ended without one byte of an answer."""
        return self.lost and self.exchange.received == 0 and self._connection.reused

    def send(self) -> None:
        """Send the request; stops early if an answer comes before all of it is out."""
        data = self._request.head + self._request.body
        try:
            count = self._try_send(data)
            if count < len(data):
                self._send_rest(memoryview(data)[count:])
            else:
                self.sent = True
        except OSError as error:
            self._fail(error)
            # A receiver that has heard enough answers and closes: its answer may still lie here.
            while self.exchange.state is not State.DONE and self._read():
                pass

    def listen(self) -> None:
        """Read the answer to its end, or as far as cap, deadline and connection let us."""
        if self.sent:
            self.phase = Phase.WAIT
        plain = wait_first = not self._connection.buffered
        while self.exchange.state is not State.DONE and not self.lost and self.error is None:
            if wait_first and not self._wait(READABLE):
                self._run_out()
            else:
                wait_first = not self._read() or plain

    def _try_send(self, data: bytes | memoryview) -> int:
        try:
            return self._connection.sock.send(data)
        except _NOT_YET:
            return 0

    def _send_rest(self, rest: memoryview) -> None:
        """The slow way, for what the socket did not take at once: listens meanwhile."""
        while self.exchange.state is State.WAITING and not self.lost:
            ready = self._wait(READABLE | WRITABLE)
            if not ready:
                self._run_out()
                return
            if ready & ~WRITABLE:
                self._read()
                continue
            rest = rest[self._try_send(rest) :]
            if not rest:
                self.sent = True
                return

    def _wait(self, events: int) -> int:
        """What is ready; 0 when time has run out. Past the deadline there is one last look, so that a stall
        of our own process is not held against bytes that came in time.
        """
        left_s = self._deadline - self._clock()
        if left_s <= 0:
            if self._last_look:
                return 0
            self._last_look = True
            left_s = 0
        if events == READABLE:
            return self._connection.wait_readable(left_s)
        return wait(self._connection.sock, events, left_s)

    def _read(self) -> bool:
        """Take what is there; False if there was nothing, or nothing more will come."""
        try:
            data = self._connection.sock.recv(min(READ_BYTES, self.exchange.room))
        except _NOT_YET:
            return False
        except OSError as error:
            self._fail(error)
            return False
        if data:
            self.exchange.feed(data)
            return True
        self.lost = True
        self.exchange.eof()
        return False

    def _fail(self, error: OSError) -> None:
        """The connection broke. The first cause is the one worth telling."""
        if error.errno in LOCAL_ERRNOS and not isinstance(error, ssl.SSLError):
            raise LocalFailure(f"{self.phase}: {describe(error)}") from error
        self.lost = True
        if self.error is None:
            self.error = f"{_DOING[self.phase]}: {describe(error)}"

    def _run_out(self) -> None:
        limit_s = self._request.timeout_s
        if self.exchange.status is not None:
            self.error = f"the answer's body did not end within {limit_s:g} s"
        elif self.phase is Phase.SEND:
            self.error = f"the receiver did not take the request within {limit_s:g} s"
        else:
            self.error = f"the receiver did not answer within {limit_s:g} s"
