"""Receivers that misbehave: raw sockets, one script per misbehaviour, one thread per connection.

    with RudeServer(hang_before_headers) as server:
        ...  # talk to server.port

A script gets the accepted `Peer` and does with it what it likes. When it returns with the connection still
open, the server waits for the other side to close: `open_connections` falls to 0 only if the client leaked
nothing.
"""

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Final, Self

#: A complete answer that keeps the connection alive.
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

#: What a script never waits longer for: a test that fails must still end.
_PATIENCE_S: Final = 30.0


class Peer:
    """One accepted connection, from the receiver's side."""

    def __init__(self, sock: socket.socket, closing: threading.Event) -> None:
        self.sock = sock
        self._closing = closing
        self._buffer = b""

    def read_request(self) -> bytes:
        """One whole request, head and body; b"" if the client closed instead."""
        while b"\r\n\r\n" not in self._buffer:
            if not self._fill():
                return b""
        head, _, _ = self._buffer.partition(b"\r\n\r\n")
        fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
        length = len(head) + 4 + int(fields.get(b"content-length", b"0"))
        while len(self._buffer) < length:
            if not self._fill():
                return b""
        request, self._buffer = self._buffer[:length], self._buffer[length:]
        return request

    def send(self, data: bytes) -> None:
        """Send all of `data`."""
        self.sock.sendall(data)

    def drip(self, data: bytes, interval_s: float) -> None:
        """Send `data` byte by byte, a pause before each, until it is out or the client has had enough."""
        for at in range(len(data)):
            if self._closing.wait(interval_s):
                return
            self.sock.send(data[at : at + 1])

    def wait_readable(self) -> None:
        """Return when the client has sent something that was not read yet."""
        self.sock.recv(1, socket.MSG_PEEK)

    def wait_closed(self) -> None:
        """Return when the client has closed, reading and forgetting what still comes."""
        while self._fill():
            self._buffer = b""

    def hang(self) -> None:
        """Read on, say nothing, until the client leaves."""
        self.wait_closed()

    def ignore(self) -> None:
        """Neither read nor say anything for as long as the server runs. A client that leaves is not noticed:
        its FIN queues up behind data that can't arrive."""
        self._closing.wait(_PATIENCE_S)

    def reset(self) -> None:
        """Close with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def close(self) -> None:
        """Close in good order."""
        self.sock.close()

    def _fill(self) -> bool:
        data = self.sock.recv(65536)
        self._buffer += data
        return bool(data)


Script = Callable[[Peer], None]


class RudeServer:
    """Runs a script for each connection. tls: serve TLS with this context (the handshake is part of
    accepting).

    requests: what `polite` and the scripts built on `_each` have read, in order. connections: how many were
    accepted.
    """

    def __init__(
        self, script: Script, *, address: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None
    ) -> None:
        self.address = address
        self.connections = 0
        self.open_connections = 0
        self._script = script
        self._tls = tls
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._socks: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        self._listener = socket.create_server((address, port), family=family, backlog=128)
        self.port: int = self._listener.getsockname()[1]

    def url(self, path: str = "/hook", name: str | None = None) -> str:
        """Where to send; `name` instead of the address."""
        host = name or (f"[{self.address}]" if ":" in self.address else self.address)
        return f"{'https' if self._tls else 'http'}://{host}:{self.port}{path}"

    def __enter__(self) -> Self:
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        with self._lock:
            socks = list(self._socks)
        for sock in socks:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def _start(self, run: Callable[[], None]) -> None:
        thread = threading.Thread(target=run, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._closing.is_set():
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(_PATIENCE_S)
            with self._lock:
                self.connections += 1
                self.open_connections += 1
                self._socks.add(sock)
            self._start(lambda sock=sock: self._serve(sock))  # type: ignore[misc]

    def _serve(self, sock: socket.socket) -> None:
        served = sock
        try:
            if self._tls is not None:
                served = self._tls.wrap_socket(sock, server_side=True)
                with self._lock:
                    self._socks.discard(sock)
                    self._socks.add(served)
            peer = Peer(served, self._closing)
            self._script(peer)
            if served.fileno() != -1:
                peer.wait_closed()
        except OSError:
            pass  # the client left, which ends every script
        finally:
            served.close()
            sock.close()
            with self._lock:
                self._socks -= {sock, served}
                self.open_connections -= 1


# Scripts. Those that take arguments return the script.


def answer(*answers: bytes) -> Script:
    """One answer per request, the last one again and again."""

    def script(peer: Peer) -> None:
        number = 0
        while peer.read_request():
            peer.send(answers[min(number, len(answers) - 1)])
            number += 1

    return script


def answer_and_close(data: bytes) -> Script:
    """One answer, then the end of the connection."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(data)
        peer.close()

    return script


def answer_unasked(data: bytes) -> Script:
    """An answer at once, before anything was read."""

    def script(peer: Peer) -> None:
        peer.send(data)

    return script


def reset_when_spoken_to(peer: Peer) -> None:
    """Break the connection when the first bytes arrive: of a request or, without `tls`, of a handshake."""
    peer.wait_readable()
    peer.reset()


def reset_after_request(peer: Peer) -> None:
    """Read the request and break the connection."""
    peer.read_request()
    peer.reset()


def close_after_request(peer: Peer) -> None:
    """Read the request and leave without a word."""
    peer.read_request()
    peer.close()


def hang_before_headers(peer: Peer) -> None:
    """Read the request and say nothing."""
    peer.read_request()
    peer.hang()


def hang_without_reading(peer: Peer) -> None:
    """Read nothing, so that a large request can't leave."""
    peer.ignore()


def drip(data: bytes, interval_s: float = 1.0, at_once: bytes = b"") -> Script:
    """`at_once`, then `data` byte by byte."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(at_once)
        peer.drip(data, interval_s)

    return script


def endless(start: bytes, block: bytes) -> Script:
    """`start`, then `block` again and again: endless headers, or an endless body."""

    def script(peer: Peer) -> None:
        peer.read_request()
        peer.send(start)
        while True:
            peer.send(block)

    return script


def close_idle_as_they_write(peer: Peer) -> None:
    """Serve one request, then break the kept connection at the very moment the next one arrives."""
    peer.read_request()
    peer.send(OK)
    peer.wait_readable()
    peer.reset()


def answer_early(data: bytes, *, closes: bool = True) -> Script:
    """Answer after the first bytes of a request, the rest unread; closing then resets the connection."""

    def script(peer: Peer) -> None:
        peer.sock.recv(1024)
        peer.send(data)
        if closes:
            peer.close()
        else:
            peer.ignore()

    return script


def trickle_handshake(interval_s: float) -> Script:
    """Pretend to begin a TLS handshake: a record header, then its content byte by byte. For a server without
    `tls`.
    """
    return drip_unasked(b"\x16\x03\x03\x40\x00" + b"\x02" * 0x4000, interval_s)


def drip_unasked(data: bytes, interval_s: float) -> Script:
    """Byte by byte without reading anything first."""

    def script(peer: Peer) -> None:
        peer.drip(data, interval_s)

    return script


@contextlib.contextmanager
def refused_port(address: str = "127.0.0.1") -> Iterator[int]:
    """A port that refuses connections: bound, so that nobody else gets it, but not listening."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as sock:
        sock.bind((address, 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def unaccepting_port(address: str = "127.0.0.1") -> Iterator[int]:
    """A port whose queue of connections is full and never emptied: further ones get no answer at all."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
        listener.bind((address, 0))
        listener.listen(0)
        port: int = listener.getsockname()[1]
        give_up_at = time.monotonic() + _PATIENCE_S
        while time.monotonic() < give_up_at:
            filler = stack.enter_context(socket.socket(socket.AF_INET, socket.SOCK_STREAM))
            filler.settimeout(0.3)
            try:
                filler.connect((address, port))
            except TimeoutError:
                break
        yield port
