"""Connections to pinned addresses: the name is kept for SNI, certificate and Host header, but never looked up
here.
"""

import errno
import os
import select
import socket
import ssl
import time
from collections.abc import Sequence
from typing import Final

from urllib3.connection import HTTPConnection, HTTPSConnection

from thorn_worker.http.addresses import Address
from thorn_worker.http.errors import LOCAL_ERRNOS, LocalFailure, NotConnected, describe
from thorn_worker.outcome import Phase

#: Most seconds for all of a host's addresses together; each gets an equal share of what is left.
CONNECT_TIMEOUT_S: Final = 5.0

READABLE: Final = select.POLLIN
WRITABLE: Final = select.POLLOUT


class Connection:
    """What both kinds of connection have in common; a mixin over urllib3's classes.

    key: the Host it leads to. address: where it really goes. opened_at, released_at: monotonic seconds.
    reused: it has carried a request before. buffered: bytes may wait inside the TLS layer, where `wait` can't
    see them.
    """

    buffered = False
    key = ""
    address: Address | None = None
    opened_at = 0.0
    released_at = 0.0
    reused = False
    sock: socket.socket

    _route: Sequence[Address] = ()
    _deadline = 0.0
    _poll: "select.poll"

    def connect(self) -> None:
        """Open the connection; urllib3's method."""
        raise NotImplementedError

    def close(self) -> None:
        """Close it; urllib3's method."""
        raise NotImplementedError

    def dial(self, key: str, addresses: Sequence[Address], deadline: float) -> None:
        """Connect to the first of `addresses` that answers, TLS included, until `deadline` (monotonic
        seconds).

        Raises `NotConnected` or `LocalFailure`; nothing stays open then.
        """
        self.key = key
        self._route = addresses
        self._deadline = deadline
        try:
            self.connect()
            self._poll = select.poll()
            self._poll.register(self.sock.fileno(), READABLE)
        except BaseException:
            self.close()
            raise
        self.opened_at = time.monotonic()

    def wait_readable(self, timeout_s: float) -> int:
        """Wait until something can be read, the end included; 0 if nothing could within `timeout_s`."""
        ready = self._poll.poll(timeout_s * 1000)
        return ready[0][1] if ready else 0

    def is_stale(self) -> bool:
        """True if an idle connection was closed by the receiver, or holds bytes that answer nothing of ours.

        Looks below the TLS layer: a record that came unasked is as good as a closing one.
        """
        try:
            socket.socket.recv(self.sock, 1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            return True
        return True

    def _new_conn(self) -> socket.socket:
        """urllib3 asks here for a connected socket; it would resolve the name, we have done so."""
        give_up_at = min(self._deadline, time.monotonic() + CONNECT_TIMEOUT_S)
        failure = "no address was tried in time"
        for index, address in enumerate(self._route):
            left_s = give_up_at - time.monotonic()
            if left_s <= 0:
                break
            try:
                sock = _connected(address, left_s / (len(self._route) - index))
            except OSError as error:
                if error.errno in LOCAL_ERRNOS and _is_ours(error, address):
                    raise LocalFailure(f"connecting: {describe(error)}") from error
                failure = f"{address.ip} port {address.port}: {describe(error)}"
                continue
            self.address = address
            return sock
        raise NotConnected(Phase.CONNECT, f"can't connect to {failure}")


class PlainConnection(Connection, HTTPConnection):
    """A connection over TCP."""

    def connect(self) -> None:
        HTTPConnection.connect(self)

    def close(self) -> None:
        HTTPConnection.close(self)


class TlsConnection(Connection, HTTPSConnection):
    """A connection over TLS: certificate and name are checked by the shared context."""

    buffered = True

    def connect(self) -> None:
        self.sock = plain = self._new_conn()
        assert self.ssl_context is not None
        try:
            # If the receiver has reset it already, `wrap_socket` raises half-way and leaves a socket behind.
            plain.getpeername()
            # The handshake is driven here: inside `wrap_socket` it would know no total deadline.
            self.sock = tls = self.ssl_context.wrap_socket(
                plain, server_hostname=self.host, do_handshake_on_connect=False
            )
            _shake_hands(tls, self._deadline)
        except TimeoutError as error:
            raise NotConnected(Phase.TLS, "the receiver did not finish the TLS handshake in time") from error
        except OSError as error:
            if error.errno in LOCAL_ERRNOS and not isinstance(error, ssl.SSLError):
                raise LocalFailure(f"TLS: {describe(error)}") from error
            raise NotConnected(Phase.TLS, f"TLS: {describe(error)}") from error
        except ValueError as error:  # a name that can't be sent as SNI
            raise NotConnected(Phase.TLS, f"TLS: {error}") from error
        self.is_verified = True

    def close(self) -> None:
        HTTPSConnection.close(self)


def wait(sock: socket.socket, events: int, timeout_s: float) -> int:
    """Wait for any of `events`; the ones that came, errors and hang-ups among them, or 0."""
    poll = select.poll()
    poll.register(sock.fileno(), events)
    ready = poll.poll(timeout_s * 1000)
    return ready[0][1] if ready else 0


def _connected(address: Address, timeout_s: float) -> socket.socket:
    """A connected socket that never blocks. Raises `OSError`."""
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        code = sock.connect_ex(tuple(address))
        if code == errno.EINPROGRESS:
            if not wait(sock, WRITABLE, timeout_s):
                raise TimeoutError(errno.ETIMEDOUT, "timed out")
            code = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if code == 0 and sock.getsockname()[:2] == tuple(address):
            # Nobody listens, and the system chose just this port for our own end: we would talk to ourselves.
            code = errno.ECONNREFUSED
        if code:
            raise OSError(code, os.strerror(code))
    except BaseException:
        sock.close()
        raise
    return sock


def _is_ours(error: OSError, address: Address) -> bool:
    """False if "address not available" only means that this machine has no address of that family.

    UDP has ports of its own: if even it can't be given a source address, ports are not what is missing.
    """
    if error.errno != errno.EADDRNOTAVAIL:
        return True
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as probe:
            probe.connect(tuple(address))
    except OSError as probe_error:
        return probe_error.errno not in (errno.EADDRNOTAVAIL, errno.ENETUNREACH, errno.EAFNOSUPPORT)
    return True


def _shake_hands(tls: ssl.SSLSocket, deadline: float) -> None:
    while True:
        try:
            tls.do_handshake()
        except ssl.SSLWantReadError:
            events = READABLE
        except ssl.SSLWantWriteError:
            events = WRITABLE
        else:
            return
        left_s = deadline - time.monotonic()
        if left_s <= 0 or not wait(tls, events, left_s):
            raise TimeoutError
