"""A few requests of Kafka's protocol over a plain blocking socket: enough to see why a client gets no answer.

kafka-python reports every failure to connect as one timeout without a cause; the causes are seen only by who
asks step by step.
"""

import socket
import struct
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

#: Keys of the requests, from the protocol guide of Apache Kafka.
METADATA: Final = 3
_SASL_HANDSHAKE: Final = 17
_API_VERSIONS: Final = 18
_SASL_AUTHENTICATE: Final = 36

#: The broker is not set up for logins at this port.
ILLEGAL_SASL_STATE: Final = 34

_CLIENT_ID: Final = b"thorn-probe"
#: Longer answers are not from a broker that was asked about no topic.
_ANSWER_BYTES: Final = 1_000_000
#: So much of a broker's own words is repeated.
_QUOTED: Final = 300
#: How long a server that took a request in silence may think about an empty line.
_NUDGE_S: Final = 0.5
#: Of an answer that isn't Kafka's, so much is looked at.
_FIRST_WORDS: Final = 32

#: One address as `socket.getaddrinfo` gives it.
_Address: TypeAlias = tuple[Any, Any, int, str, Any]


class HungUp(Exception):
    """The other side closed the connection instead of an answer."""


class Silent(Exception):
    """The connection stands, but no answer came in time."""


class NotKafka(Exception):
    """What came back is no answer of a broker. start: its first bytes."""

    def __init__(self, start: bytes) -> None:
        super().__init__(quoted(start.decode("latin-1")))
        self.start = start


@dataclass(frozen=True, slots=True)
class Login:
    """How a broker answered a step of a login. error: 0 if it agrees; says: its own words."""

    error: int
    says: str
    token: bytes = b""


class Talk:
    """Requests and answers, one at a time, over a connected socket with a timeout.

    Every method raises `HungUp`, `Silent` or `NotKafka`; OSErrors other than those, such as an alert of TLS,
    pass through.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._number = 0

    def __repr__(self) -> str:
        return f"<Talk {self._number} requests>"

    def api_versions(self) -> dict[int, tuple[int, int]]:
        """What the server understands: key of a request -> lowest and highest version."""
        answer = self._ask(_API_VERSIONS, 0, b"")
        _error, count = answer.numbers(">hi")
        return {key: (low, high) for key, low, high in (answer.numbers(">hhh") for _ in range(count))}

    def brokers(self) -> list[tuple[str, int]]:
        """Host and port of the brokers, as the cluster advertises them."""
        answer = self._ask(METADATA, 1, struct.pack(">i", 0))
        (count,) = answer.numbers(">i")
        found = []
        for _ in range(count):
            answer.numbers(">i")
            host = answer.text()
            (port,) = answer.numbers(">i")
            answer.text()
            found.append((host, port))
        return found

    def mechanisms(self, wanted: str) -> tuple[int, list[str]]:
        """Offer to log in by `wanted`: the broker's error code, 0 if it agrees, and what it offers itself."""
        answer = self._ask(_SASL_HANDSHAKE, 1, _packed(wanted.encode()))
        error, count = answer.numbers(">hi")
        return error, [answer.text() for _ in range(count)]

    def authenticate(self, token: bytes) -> Login:
        """One step of a login."""
        answer = self._ask(_SASL_AUTHENTICATE, 0, struct.pack(">i", len(token)) + token)
        (error,) = answer.numbers(">h")
        says = quoted(answer.text())
        (size,) = answer.numbers(">i")
        return Login(error, says, answer.take(max(size, 0)))

    def _ask(self, key: int, version: int, body: bytes) -> "_Answer":
        self._number += 1
        head = struct.pack(">hhi", key, version, self._number) + _packed(_CLIENT_ID)
        try:
            self._connection.sendall(struct.pack(">i", len(head) + len(body)) + head + body)
            start = self._exactly(8)
            size, number = struct.unpack(">ii", start)
            if not 4 <= size <= _ANSWER_BYTES or number != self._number:
                raise NotKafka(start)
            return _Answer(self._exactly(size - 4))
        except TimeoutError:
            raise self._silence() from None
        except ConnectionError as error:
            raise HungUp(str(error)) from error

    def _silence(self) -> Silent | NotKafka:
        """A server of HTTP or Redis waits for the end of a line, a frozen broker for nothing."""
        self._connection.settimeout(_NUDGE_S)
        try:
            self._connection.sendall(b"\r\n\r\n")
            said = self._connection.recv(_FIRST_WORDS)
        except OSError:
            said = b""
        return NotKafka(said) if said else Silent("no answer in time")

    def _exactly(self, count: int) -> bytes:
        data = b""
        while len(data) < count:
            part = self._connection.recv(count - len(data))
            if not part:
                # TLS and HTTP say a few bytes, fewer than an answer of Kafka has, before they hang up.
                raise NotKafka(data) if data else HungUp("closed without an answer")
            data += part
        return data


class _Answer:
    """The body of an answer, read from the front."""

    def __init__(self, body: bytes) -> None:
        self._rest = body

    def numbers(self, form: str) -> tuple[int, ...]:
        return struct.unpack(form, self.take(struct.calcsize(form)))

    def text(self) -> str:
        """A text after its length; "" for none."""
        (size,) = self.numbers(">h")
        return self.take(max(size, 0)).decode("utf-8", "replace")

    def take(self, count: int) -> bytes:
        taken, self._rest = self._rest[:count], self._rest[count:]
        if len(taken) < count:
            raise NotKafka(taken)
        return taken


def _packed(text: bytes) -> bytes:
    return struct.pack(">h", len(text)) + text


def quoted(text: str) -> str:
    """Somebody else's words in one short line without control characters."""
    return "".join(letter if letter.isprintable() else " " for letter in text[:_QUOTED]).strip()


def connect(host: str, port: int, timeout_s: float) -> socket.socket:
    """Connect to the first address that takes the connection; the look-up counts. Raises OSError."""
    give_up_at = time.monotonic() + timeout_s
    failure: OSError = TimeoutError("timed out")
    for family, kind, protocol, _, address in _resolve(host, port, timeout_s):
        connection = socket.socket(family, kind, protocol)
        connection.settimeout(max(give_up_at - time.monotonic(), 0.1))
        try:
            connection.connect(address)
        except OSError as error:
            connection.close()
            failure = error
        else:
            return connection
    raise failure


def _resolve(host: str, port: int, timeout_s: float) -> list[_Address]:
    """The addresses of a name. A look-up has no time limit of its own, so it gets a thread."""
    answer: Future[list[_Address]] = Future()

    def ask() -> None:
        try:
            answer.set_result(socket.getaddrinfo(host, port, type=socket.SOCK_STREAM))
        except UnicodeError:  # a label of it is empty, or longer than 63 letters
            answer.set_exception(socket.gaierror(socket.EAI_NONAME, "it is no valid name"))
        except OSError as error:
            answer.set_exception(error)

    threading.Thread(target=ask, name="thorn-resolve", daemon=True).start()
    return answer.result(timeout_s)


def unreachable(error: OSError) -> str:
    """What a server does that can't be connected to: ``refuses connections``."""
    if isinstance(error, socket.gaierror):
        return f"has a name that can't be looked up ({error.strerror})"
    if isinstance(error, ConnectionRefusedError):
        return "refuses connections"
    if isinstance(error, TimeoutError):
        return "does not answer"
    return f"can't be reached ({error.strerror or error})"
