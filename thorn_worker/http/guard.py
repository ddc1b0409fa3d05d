"""The guard: which destinations a worker may call. Every resolved address must be public, or allowed by the
operator.
"""

from collections.abc import Iterable, Sequence
from ipaddress import ip_network
from typing import Final

from producer.errors import ConfigurationError
from producer.hosts import Target, normal_name
from thorn_worker.http.addresses import Address, IPNetwork, Kind, Verdict, judge

_PORT_MAX: Final = 65535


class Refused(Exception):
    """The guard refuses a destination. The text is one sentence for lists and dead letters."""


class Guard:
    """Judges addresses before each new connection.

    allow_hosts: host names or literal addresses, each with an optional ``:port`` (``[::1]:8080`` for IPv6):
    whatever such a name resolves to may be called. allow_networks: networks in CIDR form. Link-local and
    metadata addresses stay refused under both. Raises `ConfigurationError` for an entry that is neither.
    """

    def __init__(self, allow_hosts: Iterable[str] = (), allow_networks: Iterable[str] = ()) -> None:
        self._hosts = frozenset(_host_entry(entry) for entry in allow_hosts)
        self._networks = tuple(_network_entry(entry) for entry in allow_networks)

    def check(self, target: Target, addresses: Sequence[Address]) -> None:
        """Raise `Refused` unless each of `addresses` may be called for `target`.

        One refused address refuses the answer as a whole: a name that points both outside and inside is
        either broken or an attempt to slip through.
        """
        allowed = self._allows(target)
        for address in addresses:
            verdict = judge(address.ip)
            if verdict.kind is Kind.PUBLIC:
                continue
            if verdict.kind is Kind.SPECIAL and (allowed or self._inside(verdict)):
                continue
            raise Refused(_sentence(target, address, verdict, wholly=len(addresses) == 1))

    def _allows(self, target: Target) -> bool:
        return (target.name, None) in self._hosts or (target.name, target.port) in self._hosts

    def _inside(self, verdict: Verdict) -> bool:
        return any(
            ip.version == network.version and ip in network
            for ip in verdict.stands_for
            for network in self._networks
        )


def _sentence(target: Target, address: Address, verdict: Verdict, *, wholly: bool) -> str:
    hint = "" if verdict.kind is Kind.NEVER else "; allow_hosts or allow_networks can permit it"
    if target.is_literal:
        return f"{address.ip} is {verdict.reason}, which the guard refuses{hint}"
    answer = "resolves to" if wholly else "resolves, among others, to"
    return f"{target.name} {answer} {address.ip}, {verdict.reason}, which the guard refuses{hint}"


def _host_entry(entry: str) -> tuple[str, int | None]:
    """``example.org:8080`` -> ("example.org", 8080); ``::1`` and ``[::1]`` -> ("::1", None)."""
    text = entry.strip()
    name, colon, digits = text.rpartition(":")
    bare = not colon or text.endswith("]") or (":" in name and not name.endswith("]"))
    port = None if bare else digits
    try:
        if port is not None and not (port.isascii() and port.isdigit() and 0 < int(port) <= _PORT_MAX):
            raise ConfigurationError(f"the port must be a number from 1 to {_PORT_MAX}")
        return normal_name(text if bare else name), None if port is None else int(port)
    except ConfigurationError as error:
        raise ConfigurationError(
            f"allow_hosts: {entry!r} is not a host ({error}); write a name or address, perhaps with :port"
        ) from error


def _network_entry(entry: str) -> IPNetwork:
    """One allowed network."""
    try:
        return ip_network(entry.strip())
    except ValueError as error:
        raise ConfigurationError(
            f"allow_networks: {entry!r} is not a network ({error}); write it like 10.20.0.0/16"
        ) from error
