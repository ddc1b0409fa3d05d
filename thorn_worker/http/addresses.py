"""Which addresses are public. Pure: a table and the arithmetic of addresses that carry another one inside.

The table is written out here instead of asking `ipaddress.is_global`, whose answer changes between Python
releases: what a worker may call must not depend on the interpreter under it. Sources: IANA's IPv4 and IPv6
special-purpose address registries (RFC 6890), the multicast and reserved blocks (RFC 5771, RFC 1112), and the
addresses under which cloud providers answer with credentials.
"""

from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from socket import AF_INET, AF_INET6
from typing import Final, NamedTuple, TypeAlias

IPAddress: TypeAlias = IPv4Address | IPv6Address
IPNetwork: TypeAlias = IPv4Network | IPv6Network


class Address(NamedTuple):
    """One place to connect to: an IP address as text, and a port."""

    ip: str
    port: int

    @property
    def family(self) -> int:
        """The socket family that reaches it."""
        return AF_INET6 if ":" in self.ip else AF_INET


class Kind(Enum):
    """What the guard makes of an address before it looks at what the operator allows."""

    PUBLIC = "public"
    #: Refused unless the operator allows it.
    SPECIAL = "special"
    #: Refused whatever the operator allows.
    NEVER = "never"


@dataclass(frozen=True, slots=True)
class Verdict:
    """reason: words for an error text, "" if public.

    stands_for: addresses that the operator's networks are compared with.
    """

    kind: Kind
    reason: str
    stands_for: tuple[IPAddress, ...]


#: Link-local and metadata addresses: credentials of the machine itself may be behind them.
_NEVER: Final[tuple[tuple[IPNetwork, str], ...]] = tuple(
    (ip_network(block), reason)
    for block, reason in (
        ("169.254.0.0/16", "a link-local address"),
        ("fe80::/10", "a link-local address"),
        ("fd00:ec2::/32", "a metadata address"),  # Amazon
        ("fd20:ce::254/128", "a metadata address"),  # Google
        ("fd00:42::42/128", "a metadata address"),  # Scaleway
        ("100.100.100.200/32", "a metadata address"),  # Alibaba
        ("192.0.0.192/32", "a metadata address"),  # Oracle
        ("168.63.129.16/32", "a metadata address"),  # Azure; lies in public space
    )
)

_SPECIAL: Final[tuple[tuple[IPNetwork, str], ...]] = tuple(
    (ip_network(block), reason)
    for block, reason in (
        ("0.0.0.0/8", "an unspecified address"),
        ("10.0.0.0/8", "a private address"),
        ("100.64.0.0/10", "a shared carrier address"),
        ("127.0.0.0/8", "a loopback address"),
        ("172.16.0.0/12", "a private address"),
        ("192.0.0.0/24", "a reserved address"),
        ("192.0.2.0/24", "a documentation address"),
        ("192.88.99.0/24", "a retired relay address"),
        ("192.168.0.0/16", "a private address"),
        ("198.18.0.0/15", "a benchmarking address"),
        ("198.51.100.0/24", "a documentation address"),
        ("203.0.113.0/24", "a documentation address"),
        ("224.0.0.0/4", "a multicast address"),
        ("240.0.0.0/4", "a reserved or broadcast address"),
        ("::/128", "an unspecified address"),
        ("::1/128", "a loopback address"),
        ("::/96", "a retired address with an IPv4 address inside"),
        ("64:ff9b:1::/48", "a local translation address"),
        ("2001::/23", "a reserved address"),  # Teredo, ORCHID, benchmarking
        ("2001:db8::/32", "a documentation address"),
        ("3fff::/20", "a documentation address"),
        ("fc00::/7", "a private address"),
        ("fec0::/10", "a private address"),
        ("ff00::/8", "a multicast address"),
    )
)

#: The only IPv6 space handed out for public use (RFC 4291 section 2.4); the rest is refused without being
# listed.
_GLOBAL_UNICAST: Final = IPv6Network("2000::/3")
#: NAT64 (RFC 6052): how a machine without IPv4 reaches an IPv4 receiver, so the inner address decides.
_NAT64: Final = IPv6Network("64:ff9b::/96")
_LOCAL_NAT64: Final = IPv6Network("64:ff9b:1::/48")
_MAPPED: Final = IPv6Network("::ffff:0:0/96")
_COMPATIBLE: Final = IPv6Network("::/96")
_TRANSLATED: Final = IPv6Network("::ffff:0:0:0/96")
_SIX_TO_FOUR: Final = IPv6Network("2002::/16")
_TEREDO: Final = IPv6Network("2001::/32")
#: Interface ids of ISATAP (RFC 5214 section 6.1), without and with the universal bit.
_ISATAP: Final = (0x00005EFE, 0x02005EFE)
#: Networks in which the address inside decides alone.
_TRANSPARENT: Final = (_MAPPED, _NAT64)


def parse(text: str) -> IPAddress | None:
    """The address that `text` says, None if it is not one. A zone (``fe80::1%eth0``) belongs to link-local
    only: kept.
    """
    try:
        return ip_address(text)
    except ValueError:
        return None


def _slice(value: int, first_bit: int) -> IPv4Address:
    """The 32 bits of a 128-bit value that begin at `first_bit`, counted from the left.

    2002:0a00:0001:: carries its IPv4 address from bit 16 on: 10.0.0.1.
    """
    return IPv4Address((value >> (96 - first_bit)) & 0xFFFFFFFF)


def _split(value: int, prefix_bits: int) -> IPv4Address:
    """An IPv4 address behind a prefix of 48, 56 or 64 bits, bits 64 to 71 left out (RFC 6052 section 2.2)."""
    rest = value & ((1 << (128 - prefix_bits)) - 1)
    upper_bits = 64 - prefix_bits
    upper = rest >> 64
    lower = (rest >> (24 + upper_bits)) & ((1 << (32 - upper_bits)) - 1)
    return IPv4Address(((upper << (32 - upper_bits)) | lower) & 0xFFFFFFFF)


def embedded(ip: IPv6Address) -> tuple[IPv4Address, ...]:
    """Every IPv4 address to which some router may turn `ip`."""
    value = int(ip)
    if ip in _MAPPED or ip in _NAT64 or ip in _TRANSLATED or (ip in _COMPATIBLE and value > 1):
        return (_slice(value, 96),)
    if ip in _LOCAL_NAT64:  # the operator chose the layout, we can't know which
        return (_slice(value, 96), _split(value, 48), _split(value, 56), _split(value, 64))
    if ip in _SIX_TO_FOUR:
        return (_slice(value, 16),)
    if ip in _TEREDO:  # server, then the client with its bits inverted (RFC 4380 section 4)
        return (_slice(value, 32), IPv4Address(int(_slice(value, 96)) ^ 0xFFFFFFFF))
    if (value >> 32) & 0xFFFFFFFF in _ISATAP:
        return (_slice(value, 96),)
    return ()


def _find(ip: IPAddress, table: tuple[tuple[IPNetwork, str], ...]) -> str:
    return next((reason for network, reason in table if ip.version == network.version and ip in network), "")


def _own_reason(ip: IPAddress) -> str:
    """Why `ip` is not public by itself, whatever it carries inside; "" if it is."""
    reason = _find(ip, _SPECIAL)
    if reason or isinstance(ip, IPv4Address) or ip in _GLOBAL_UNICAST:
        return reason
    return "an address outside the public IPv6 space"


@lru_cache(maxsize=65536)
def judge(text: str) -> Verdict:
    """What an address is, remembered: a worker meets the same few thousand again and again."""
    ip = parse(text)
    if ip is None:
        return Verdict(Kind.NEVER, "not an address", ())
    inner = embedded(ip) if isinstance(ip, IPv6Address) else ()
    for candidate in (ip, *inner):
        reason = _find(candidate, _NEVER)
        if reason:
            return Verdict(Kind.NEVER, reason, ())
    transparent = isinstance(ip, IPv6Address) and any(ip in network for network in _TRANSPARENT)
    stands_for: tuple[IPAddress, ...] = inner if transparent else (ip,)
    own = "" if transparent else _own_reason(ip)
    reason = own or next((found for found in map(_own_reason, inner) if found), "")
    return Verdict(Kind.SPECIAL if reason else Kind.PUBLIC, reason, stands_for)
