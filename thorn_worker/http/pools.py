"""Keep-alive connections: one urllib3 pool per Host makes them, this module owns them.

urllib3 brings the pool and connection classes, TLS context handling and their options; requests are not sent
through `urlopen`, whose bookkeeping costs more than the request itself. A connection's socket never blocks:
whoever drives it waits by itself, with its own deadline.
"""

import ssl
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from urllib3 import HTTPConnectionPool, HTTPSConnectionPool

from producer.errors import ConfigurationError
from producer.hosts import Target
from thorn_worker.http.addresses import Address
from thorn_worker.http.dialing import Connection, PlainConnection, TlsConnection
from thorn_worker.http.errors import LocalFailure, NotConnected, describe
from thorn_worker.http.guard import Guard, Refused
from thorn_worker.http.resolver import NotResolved, Resolver
from thorn_worker.outcome import Phase

#: Most connections of a worker, idle and in use.
MAX_CONNECTIONS: Final = 10_000
#: A connection lives at most this long; the next one is resolved and checked again.
MAX_AGE_S: Final = 300.0


class PlainPool(HTTPConnectionPool):
    """Makes the connections to one Host over http."""

    ConnectionCls = PlainConnection


class TlsPool(HTTPSConnectionPool):
    """Makes the connections to one Host over https."""

    ConnectionCls = TlsConnection


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolLimits:
    """idle_timeout_s: an unused connection is closed after it. max_connections: see `MAX_CONNECTIONS`."""

    idle_timeout_s: float = 60.0
    max_connections: int = MAX_CONNECTIONS
    max_age_s: float = MAX_AGE_S


class _HostPool:
    """What is open to one Host: the urllib3 pool that makes connections, and idle ones, last used last."""

    __slots__ = ("factory", "idle", "opened")

    def __init__(self, factory: PlainPool | TlsPool) -> None:
        self.factory = factory
        self.idle: list[Connection] = []
        self.opened = 0


class Pools:
    """All connections of a worker, bounded in number, idle time and age. Safe from threads and greenlets.

    opened, reused: how many connections were made, and how often one served a further request.
    """

    def __init__(
        self,
        guard: Guard,
        resolver: Resolver,
        *,
        limits: PoolLimits = PoolLimits(),
        ca_file: str | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Raises `ConfigurationError` if `ca_file` (extra authorities, PEM) can't be read."""
        self.opened = 0
        self.reused = 0
        self._guard = guard
        self._resolver = resolver
        self._limits = limits
        self._tls = tls_context(ca_file)
        self._clock = clock
        self._lock = threading.Lock()
        self._hosts: dict[str, _HostPool] = {}
        self._idle: OrderedDict[Connection, _HostPool] = OrderedDict()
        self._open = 0
        self._closed = False

    def __repr__(self) -> str:
        return f"Pools({len(self._hosts)} hosts, {self._open} connections, {len(self._idle)} idle)"

    @property
    def connections(self) -> int:
        """Connections that are open or being opened."""
        return self._open

    @property
    def idle(self) -> int:
        """Connections that wait for their next request."""
        return len(self._idle)

    @property
    def hosts(self) -> int:
        """Hosts that have a connection."""
        return len(self._hosts)

    def acquire(self, target: Target, deadline: float, *, fresh: bool = False) -> Connection:
        """A connection to `target` for the caller alone: an idle one, or a new one made within `deadline`
        (monotonic).

        fresh: take no idle one. Raises `NotConnected` with the phase it ended in, or `LocalFailure`. Every
        connection comes back through `release`.
        """
        with self._lock:
            connection = None if fresh else self._take_idle(target)
            if connection is not None:
                self.reused += 1
                return connection
            host = self._make_room(target)
        try:
            connection = self._dial(host, target, deadline)
        except BaseException:
            with self._lock:
                self._forget(target.host, host)
            raise
        with self._lock:
            self.opened += 1
        return connection

    def release(self, connection: Connection, reusable: bool) -> None:
        """Give a connection back.

        `reusable` says that the last answer was read to its end and keeps it alive.
        """
        now = self._clock()
        with self._lock:
            host = self._hosts[connection.key]
            if reusable and not self._closed and now - connection.opened_at < self._limits.max_age_s:
                connection.released_at = now
                connection.reused = True
                host.idle.append(connection)
                self._idle[connection] = host
                return
            self._forget(connection.key, host)
        connection.close()

    def sweep(self, now: float) -> None:
        """Close what has been idle too long at `now` (monotonic).

        Cheap if there is nothing to do; call it each second.
        """
        with self._lock:
            expired: list[Connection] = []
            for connection in self._idle:
                if now - connection.released_at < self._limits.idle_timeout_s:
                    break
                expired.append(connection)
            for connection in expired:
                self._drop_idle(connection)

    def close(self) -> None:
        """Close what is idle, and the rest as it is released. No connection is given out any more."""
        with self._lock:
            self._closed = True
            for connection in list(self._idle):
                self._drop_idle(connection)

    def _take_idle(self, target: Target) -> Connection | None:
        host = self._hosts.get(target.host)
        oldest = self._clock() - self._limits.max_age_s
        while host is not None and host.idle:
            connection = host.idle[-1]
            if connection.opened_at > oldest and not connection.is_stale():
                host.idle.pop()
                del self._idle[connection]
                return connection
            self._drop_idle(connection)
        return None

    def _make_room(self, target: Target) -> _HostPool:
        """Count a connection to come, closing the one that was unused longest if there are too many."""
        if self._closed:
            raise LocalFailure("the worker is stopping")
        if self._open >= self._limits.max_connections:
            if not self._idle:
                raise LocalFailure(f"all {self._limits.max_connections} connections are in use")
            self._drop_idle(next(iter(self._idle)))
        host = self._hosts.get(target.host)
        if host is None:
            host = self._hosts[target.host] = _HostPool(self._factory(target))
        host.opened += 1
        self._open += 1
        return host

    def _factory(self, target: Target) -> PlainPool | TlsPool:
        if target.scheme == "https":
            return TlsPool(target.name, target.port, retries=False, ssl_context=self._tls)
        return PlainPool(target.name, target.port, retries=False)

    def _dial(self, host: _HostPool, target: Target, deadline: float) -> Connection:
        addresses = self._checked(target, deadline)
        connection = host.factory._new_conn()
        assert isinstance(connection, Connection)
        connection.dial(target.host, addresses, deadline)
        return connection

    def _checked(self, target: Target, deadline: float) -> tuple[Address, ...]:
        """Where `target` may be reached. The guard sees all addresses of it before one is called."""
        phase = Phase.GUARD if target.is_literal else Phase.DNS
        try:
            if target.is_literal:
                addresses: tuple[Address, ...] = (Address(target.name, target.port),)
            else:
                addresses = self._resolver.resolve(target.name, target.port, deadline)
            self._guard.check(target, addresses)
        except Refused as error:
            raise NotConnected(phase, str(error), blocked=True) from error
        except (NotResolved, TimeoutError) as error:
            raise NotConnected(phase, str(error)) from error
        return addresses

    def _drop_idle(self, connection: Connection) -> None:
        host = self._idle.pop(connection)
        host.idle.remove(connection)
        self._forget(connection.key, host)
        connection.close()

    def _forget(self, key: str, host: _HostPool) -> None:
        """Uncount one connection, and its Host with the last one."""
        self._open -= 1
        host.opened -= 1
        if host.opened == 0:
            del self._hosts[key]
            host.factory.close()


def tls_context(ca_file: str | None) -> ssl.SSLContext:
    """What all https connections share: TLS 1.2 or newer, certificate and host name always checked.

    Authorities are the system's (or those of ``SSL_CERT_FILE``, which OpenSSL honours) and those in
    `ca_file`.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    # A receiver that renegotiates could make a writer spin, and TLS 1.3 has no renegotiation at all.
    context.options |= ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(["http/1.1"])
    if ca_file is not None:
        try:
            context.load_verify_locations(ca_file)
        except OSError as error:
            raise ConfigurationError(
                f"ca_file {ca_file!r} can't be used ({describe(error)}); name a readable PEM file"
            ) from error
    return context
