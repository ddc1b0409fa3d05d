"""One HTTP/1.1 response, read without I/O: a driver feeds bytes, the exchange says when it has heard enough.

Both drivers use it: `thorn_worker.http.blocking` on a socket that waits, the event loop's driver from
callbacks. The status decides as soon as the header block is complete; whatever goes wrong with the body
afterwards costs only the connection.
"""

from dataclasses import dataclass
from enum import Enum
from typing import Final

import httptools

from thorn_worker.http.request import Request
from thorn_worker.http.retry_after import retry_after_s
from thorn_worker.outcome import Attempt, Outcome, Phase, of_status

#: Most bytes of a response that are read, header block included.
MAX_RESPONSE_BYTES: Final = 64 * 1024
#: Most bytes of a body that are kept.
MAX_EXCERPT_BYTES: Final = 4 * 1024
#: A good size for one read: typical answers fit, and a buffer of it is cheap.
READ_BYTES: Final = 16 * 1024

_SWITCHING_PROTOCOLS: Final = 101


class State(Enum):
    """What an exchange needs next."""

    #: Nothing decided: the header block of the final answer is incomplete.
    WAITING = "waiting"
    #: The status is known, the body is not complete.
    HEAD = "head"
    #: Nothing more to read: complete, cut off at a cap, or broken.
    DONE = "done"


class Exchange:
    """The answer to one request.

    state: see `State`. status: of the final header block, None until it is complete or if the response is
    broken. error: one short sentence if the answer is broken or was cut short. reusable: the connection may
    carry another request. received: bytes fed so far; 0 means that the receiver never answered.
    """

    __slots__ = (
        "_delimited",
        "_excerpt",
        "_interim",
        "_parser",
        "_retry_after",
        "error",
        "received",
        "reusable",
        "state",
        "status",
    )

    def __init__(self) -> None:
        self.state = State.WAITING
        self.status: int | None = None
        self.error: str | None = None
        self.reusable = False
        self.received = 0
        self._excerpt = b""
        self._retry_after: list[bytes] = []
        self._interim = False
        self._delimited = False
        self._parser = httptools.HttpResponseParser(self)

    def __repr__(self) -> str:
        return f"Exchange({self.state.value}, {self.status=}, {self.received=}, {self.error=})"

    @property
    def room(self) -> int:
        """How many more bytes may be read."""
        return MAX_RESPONSE_BYTES - self.received

    @property
    def excerpt(self) -> bytes:
        """The first `MAX_EXCERPT_BYTES` of the body."""
        return self._excerpt

    def done(self) -> bool:
        """True when there is nothing more to read. A method, as the parser changes `state` inside `feed`."""
        return self.state is State.DONE

    def feed(self, data: bytes) -> State:
        """Take bytes as they came from the connection, at least one (`eof` says that no more will come)."""
        if self.done():
            self.reusable = False  # bytes behind the message
            return self.state
        if self.received == 0 and data[:1] not in b"H\r\n":
            # llhttp also speaks RTSP and ICE; an HTTP status line begins with HTTP/ (RFC 9112 section 4).
            self.received = len(data)
            return self._break("the receiver's answer is not HTTP")
        self.received += len(data)
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.done():
                return self._break(f"the receiver's answer is not valid HTTP/1.1: {error}")
            self.reusable = False
        if self.done():
            # It refers back to us: without this each answer would wait for the cycle collector.
            del self._parser
        elif self.received >= MAX_RESPONSE_BYTES:
            what = "header block" if self.status is None else "answer"
            return self._break(f"the receiver's {what} is longer than {MAX_RESPONSE_BYTES} bytes")
        return self.state

    def eof(self) -> State:
        """The receiver closed the connection, or it failed: no more bytes will come."""
        if self.state is State.WAITING:
            return self._break(
                "the receiver closed the connection "
                + ("without an answer" if self.received == 0 else "within its header block")
            )
        if self.state is State.HEAD:
            # Without a length the end of the connection is the end of the body (RFC 9112 section 6.3).
            if self._delimited:
                return self._break("the receiver closed the connection within the body")
            self.state = State.DONE
        self.reusable = False
        return self.state

    def retry_after_s(self, now_at: float) -> float | None:
        """What Retry-After asks for, counted from `now_at`; the longest if there are several."""
        waits = [wait for value in self._retry_after if (wait := retry_after_s(value, now_at)) is not None]
        return max(waits, default=None)

    def _break(self, error: str) -> State:
        self.error = error
        self.reusable = False
        self.state = State.DONE
        return self.state

    # What follows is called by the parser, inside `feed`.

    def on_message_begin(self) -> None:
        if self.state is State.DONE:
            self.reusable = False  # a second answer that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if self.state is not State.WAITING:
            return  # a trailer, or bytes behind the message
        lower = name.lower()
        if lower == b"content-length" or lower == b"transfer-encoding":
            self._delimited = True
        elif lower == b"retry-after":
            self._retry_after.append(value)

    def on_headers_complete(self) -> None:
        if self.state is not State.WAITING:
            return
        status = self._parser.get_status_code()
        if 100 <= status < 200 and status != _SWITCHING_PROTOCOLS:
            self._interim = True
            self._retry_after.clear()
            self._delimited = False
        elif status < 200:
            self._break(f"the receiver answered with status {status}, which nobody asked for")
        else:
            self.status = status
            self.state = State.HEAD

    def on_body(self, body: bytes) -> None:
        room = MAX_EXCERPT_BYTES - len(self._excerpt)
        if room > 0 and self.state is State.HEAD:
            self._excerpt += body[:room]

    def on_message_complete(self) -> None:
        if self._interim:
            self._interim = False
        elif self.state is State.HEAD:
            self.state = State.DONE
            # llhttp knows this only here; asked later, it speaks of the next message.
            self.reusable = self._parser.should_keep_alive()


@dataclass(frozen=True, slots=True)
class Ending:
    """How an attempt stopped, beside what the exchange heard.

    phase: the one it was in. error: one short sentence, None if all went well. blocked: the guard refused.
    """

    phase: Phase
    duration_s: float
    error: str | None = None
    blocked: bool = False


def conclude(request: Request, exchange: Exchange, ending: Ending) -> Attempt:
    """What an attempt means.

    A complete header block decides; without one it is the receiver's, or the guard's, doing.
    """
    status = exchange.status
    if status is None:
        return Attempt(
            number=request.number,
            started_at=request.at,
            duration_s=ending.duration_s,
            outcome=Outcome.BLOCKED if ending.blocked else Outcome.UNREACHABLE,
            phase=ending.phase,
            error=exchange.error or ending.error,
        )
    return Attempt(
        number=request.number,
        started_at=request.at,
        duration_s=ending.duration_s,
        outcome=of_status(status),
        phase=Phase.BODY,
        status=status,
        error=exchange.error or ending.error,
        # Counted from the answer: started_at plus the duration is when it was complete.
        retry_after_s=exchange.retry_after_s(request.at + ending.duration_s),
        excerpt=exchange.excerpt,
    )
