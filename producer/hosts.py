"""URL -> Target: the only place that normalises a URL.

Partition, lane, pool and guard all take the Host from here, so two spellings of one destination can never be
treated as two. What could mean different things to different programs is refused, not guessed.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from producer.errors import SubscriptionError

#: Schemes that can be delivered to, with the port that goes without saying (RFC 9110 section 4.2).
DEFAULT_PORTS: Final = {"http": 80, "https": 443}
#: Longest normalised URL: what RFC 9110 section 4.1 asks every recipient to support.
MAX_URL_LENGTH: Final = 8000
#: Longest name and label of the DNS (RFC 1035 section 2.3.4).
MAX_NAME_LENGTH: Final = 253
MAX_LABEL_LENGTH: Final = 63
#: Targets remembered by `parse`, at roughly 1 KiB each.
CACHE_SIZE: Final = 16_384

#: Characters that IDNA 2003 and IDNA 2008 map to different names (Unicode TS 46 section 7): sharp s in both
#: cases, final sigma, zero-width non-joiner and joiner.
_DEVIATIONS: Final = frozenset("\u00df\u1e9e\u03c2\u200c\u200d")

_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_FORBIDDEN = re.compile(r"[\s\x00-\x20\x7f-\x9f\\]")
_SECRET = re.compile(r"(whsec_|whsk_).*", re.DOTALL)
_NAME = re.compile(r"[a-z0-9_.-]+")
_NUMERIC_LABEL = re.compile(r"[0-9]+|0x[0-9a-f]*")
_IPV4_PART = re.compile(r"(?P<hex>0x[0-9a-f]{1,16})|(?P<octal>0[0-7]{0,22})|(?P<decimal>[1-9][0-9]{0,10})")
_PERCENT = re.compile(r"%([0-9A-Fa-f]{2})?")
#: What may stand in a request target as it is (RFC 3986 section 3.3 and 3.4), "%" included.
_ENCODE = re.compile(r"[^A-Za-z0-9\-._~:/?\[\]@!$&'()*+,;=%]+")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a URL leads, in one spelling.

    host: key of partition, lane, pool and breaker: ``https://example.com:443``, ``https://[::1]:8443``.
    name: host name or address, IPv6 without brackets. is_literal: `name` is an address, nothing to resolve.
    request_target: path and query as they stand in the request line. url: the whole in its normal form.
    host_header: value of the Host field; the port is left out if it is the scheme's (RFC 9110 section 7.2).
    """

    host: str
    scheme: str
    name: str
    port: int
    request_target: str
    url: str
    host_header: str
    is_literal: bool


@lru_cache(maxsize=CACHE_SIZE)
def parse(url: str) -> Target:
    """The target of an absolute http or https URL. Raises `SubscriptionError` for anything else.

    >>> parse("HTTPS://Example.COM.:443?a=1").url
    'https://example.com/?a=1'
    """
    found = _SCHEME.match(url)
    if _FORBIDDEN.search(url):
        raise _refused(url, "it holds a space, control character or backslash; percent-encode it")
    if found is None:
        raise _refused(url, "it must begin with http:// or https:// and a host")
    scheme = found[1].lower()
    if scheme not in DEFAULT_PORTS:
        raise _refused(url, "only http and https can be delivered to")
    if "#" in url:
        raise _refused(url, "a fragment is never sent to a server; remove everything from the # on")
    authority, path = _split(url[found.end() :])
    if "@" in authority:
        raise _refused(
            url, "user and password don't belong into a URL; use the field headers for Authorization"
        )
    raw_name, raw_port = _split_port(url, authority)
    port = _port(url, raw_port, DEFAULT_PORTS[scheme])
    name, is_literal = _host_name(url, raw_name)
    bracketed = f"[{name}]" if ":" in name else name
    host_header = bracketed if port == DEFAULT_PORTS[scheme] else f"{bracketed}:{port}"
    request_target = _request_target(url, path)
    normal = f"{scheme}://{host_header}{request_target}"
    if len(normal) > MAX_URL_LENGTH:
        raise _refused(url, f"it is {len(normal)} characters long, {MAX_URL_LENGTH} are allowed")
    host = f"{scheme}://{bracketed}:{port}"
    return Target(host, scheme, name, port, request_target, normal, host_header, is_literal)


def host_of(url: str) -> str:
    """The Host key of a URL; raises `SubscriptionError` as `parse` does."""
    return parse(url).host


def normal_name(text: str) -> str:
    """A bare host name or address (IPv6 with or without brackets) as `Target.name` spells it.

    Raises `SubscriptionError`. For settings that name hosts, so that they agree with what URLs lead to.
    """
    bare = text if text.startswith("[") or text.count(":") < 2 else f"[{text}]"
    if ":" in bare and not bare.endswith("]"):
        raise _refused(text, "a host goes without scheme and port here")
    return _host_name(text, bare)[0]


def shown(url: str) -> str:
    """A URL fit for messages and logs: no query, user or password, at most 200 characters.

    What stands where a URL belongs may be a misplaced secret; that is hidden as well.
    """
    hidden = re.sub(r"//.*@", "//\u2026@", url, flags=re.DOTALL)
    return re.split(r"[?#]", _SECRET.sub("\\1\u2026", hidden), maxsplit=1)[0][:200]


def _refused(url: str, why: str) -> SubscriptionError:
    return SubscriptionError(f"The URL {shown(url)!r} is refused: {why}.")


def _split(rest: str) -> tuple[str, str]:
    """Authority and what follows it; a backslash can't confuse this, it was refused before."""
    end = next((at for at, character in enumerate(rest) if character in "/?"), len(rest))
    return rest[:end], rest[end:]


def _split_port(url: str, authority: str) -> tuple[str, str]:
    if authority.startswith("["):
        name, bracket, port = authority.partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise _refused(url, "an IPv6 address is written [address] or [address]:port")
        return name + bracket, port[1:]
    name, _, port = authority.partition(":")
    if ":" in port:
        raise _refused(url, "it has more than one colon behind the host; an IPv6 address goes in brackets")
    return name, port


def _port(url: str, text: str, default: int) -> int:
    if not text:
        return default  # "host:" is the same as "host" (RFC 3986 section 6.2.3)
    digits = text.lstrip("0")
    if not (text.isascii() and text.isdigit() and 0 < len(digits) <= 5 and int(digits) <= 65535):
        raise _refused(url, "the port must be a number from 1 to 65535")
    return int(digits)


def _host_name(url: str, raw: str) -> tuple[str, bool]:
    """(name, is it an address) of the host part of a URL."""
    if raw.startswith("["):
        return _ipv6(url, raw.removeprefix("[").removesuffix("]")), True
    name = raw.lower() if raw.isascii() and "%" not in raw else _to_ascii(url, _unescape(url, raw))
    name = name.removesuffix(".")
    if not name:
        raise _refused(url, "it names no host")
    if not _NAME.fullmatch(name):
        raise _refused(url, "a host name holds letters, digits, hyphens, underscores and dots only")
    labels = name.split(".")
    if _NUMERIC_LABEL.fullmatch(labels[-1]):
        return _ipv4(url, labels), True
    if "" in labels:
        raise _refused(url, "the host name has nothing between two dots")
    if len(name) > MAX_NAME_LENGTH or max(map(len, labels)) > MAX_LABEL_LENGTH:
        raise _refused(
            url, f"a host name has at most {MAX_NAME_LENGTH} characters, {MAX_LABEL_LENGTH} between dots"
        )
    return name, False


def _unescape(url: str, raw: str) -> str:
    """The host with its percent escapes resolved (RFC 3986 section 3.2.2: they are UTF-8)."""
    octets = bytearray()
    rest = 0
    for escape in _PERCENT.finditer(raw):
        if escape[1] is None:
            raise _refused(url, "the host holds a % that is not followed by two hexadecimal digits")
        octets += raw[rest : escape.start()].encode("utf-8", "surrogatepass") + bytes.fromhex(escape[1])
        rest = escape.end()
    octets += raw[rest:].encode("utf-8", "surrogatepass")
    try:
        return octets.decode()
    except UnicodeDecodeError as error:
        raise _refused(url, "the host's percent escapes are not UTF-8") from error


def _to_ascii(url: str, name: str) -> str:
    if name.isascii():
        return name.lower()
    from stringprep import in_table_a1  # large tables, rarely needed

    # A name that two resolvers read differently could be checked as one and called as the other.
    if any(character in _DEVIATIONS or in_table_a1(character) for character in name):
        raise _refused(
            url, "the two standards for international names disagree on this one; write its xn-- form"
        )
    try:
        return name.encode("idna").decode("ascii").lower()
    except UnicodeError as error:
        raise _refused(
            url, "the host name can't be written in ASCII (RFC 3490); write its xn-- form"
        ) from error


def _ipv4(url: str, labels: list[str]) -> str:
    """Dotted quad of what `inet_aton` takes for an address: 1 to 4 decimal, octal or hexadecimal parts.

    The last part fills all bytes that the others leave: 127.1, 0x7f000001 and 2130706433 are all 127.0.0.1.
    """
    parts = [_ipv4_part(label) for label in labels]
    last = parts[-1]
    leading = [part for part in parts[:-1] if part is not None and part < 256]
    if len(parts) > 4 or len(leading) < len(parts) - 1 or last is None or last >= 256 ** (5 - len(parts)):
        raise _refused(url, "a host whose last part is a number must be an IPv4 address such as 192.0.2.1")
    octets = bytes(leading) + last.to_bytes(4 - len(leading), "big")
    return ".".join(map(str, octets))


def _ipv4_part(label: str) -> int | None:
    found = _IPV4_PART.fullmatch(label)
    if found is None:
        return None
    return int(label, {"hex": 16, "octal": 8, "decimal": 10}[found.lastgroup or ""])


def _ipv6(url: str, text: str) -> str:
    """An IPv6 address as RFC 5952 section 4 writes it, IPv4-mapped ones in hexadecimal too.

    Formed here because Python's text of mapped addresses differs between its releases, and a Host must not.
    """
    from ipaddress import AddressValueError, IPv6Address  # rarely needed

    if "%" in text:
        raise _refused(url, "a zone (%) means something on one machine only")
    try:
        packed = IPv6Address(text).packed
    except AddressValueError as error:
        raise _refused(url, "what stands in brackets is no IPv6 address") from error
    groups = [f"{packed[at] << 8 | packed[at + 1]:x}" for at in range(0, 16, 2)]
    # The first of the longest runs of two or more zero groups shrinks to "::".
    runs = [
        (end - start, -start)
        for start in range(8)
        for end in range(start + 2, 9)
        if set(groups[start:end]) == {"0"}
    ]
    if not runs:
        return ":".join(groups)
    length, negative_start = max(runs)
    start = -negative_start
    return f"{':'.join(groups[:start])}::{':'.join(groups[start + length :])}"


def _request_target(url: str, path: str) -> str:
    target = path if path.startswith("/") else f"/{path}"
    try:
        return _ENCODE.sub(lambda found: "".join(f"%{octet:02X}" for octet in found[0].encode()), target)
    except UnicodeEncodeError as error:
        raise _refused(url, "it holds half of a surrogate pair, which is no character") from error
