"""Rules for header fields that users add, per `send` or per subscription."""

import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from producer.errors import ThornError
from producer.model import NOTHING

#: Most bytes that all added fields may have together, written as ``name: value`` and a line end.
MAX_HEADERS_BYTES: Final = 8 * 1024

#: Fields that frame or route the request (RFC 9110 sections 7.2, 7.6 and 10.1.1, RFC 9112 section 6):
#: only the worker sets them.
REFUSED_NAMES: Final = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "keep-alive",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
#: Beginnings of names that are ours (a receiver trusts them) or meant for a proxy.
REFUSED_PREFIXES: Final = ("hook-", "proxy-", "webhook-")

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 section 5.6.2
_VALUE = re.compile(r"[\t\x20-\x7e\xa0-\xff]*")  # RFC 9110 section 5.5, without C1 controls


def check(headers: Mapping[str, str], error_class: type[ThornError]) -> Mapping[str, str]:
    """The fields with their values stripped, unchangeable. Raises `error_class` for the first bad one.

    A value is never part of the message: it is often a credential.
    """
    if not isinstance(headers, Mapping):
        raise error_class(f"Headers must be a mapping of names to values, not {type(headers).__name__}.")
    checked: dict[str, str] = {}
    seen: set[str] = set()
    for name, value in headers.items():
        _check_name(name, seen, error_class)
        if not isinstance(value, str):
            raise error_class(f"The value of header {name!r} must be text, not {type(value).__name__}.")
        if not _VALUE.fullmatch(value):
            raise error_class(
                f"The value of header {name!r} is refused: only visible ASCII or Latin-1 characters, spaces "
                "and tabs may stand in it, no line ends."
            )
        checked[name] = value.strip(" \t")
    size = sum(len(name) + len(value) + 4 for name, value in checked.items())
    if size > MAX_HEADERS_BYTES:
        raise error_class(
            f"The headers have {size} bytes together, {MAX_HEADERS_BYTES} are allowed; send less."
        )
    return MappingProxyType(checked) if checked else NOTHING


def _check_name(name: str, seen: set[str], error_class: type[ThornError]) -> None:
    if not (isinstance(name, str) and _TOKEN.fullmatch(name)):
        shown = repr(name[:80]) if isinstance(name, str) else f"of type {type(name).__name__}"
        raise error_class(
            f"The header name {shown} is refused: names are letters, digits and hyphens, such as X-Tenant."
        )
    lower = name.lower()
    if lower in REFUSED_NAMES or lower.startswith(REFUSED_PREFIXES):
        raise error_class(f"The header {name!r} is refused: only the worker sets it; use another name.")
    if lower in seen:
        raise error_class(f"The header {name!r} is given twice (case doesn't count); give it once.")
    seen.add(lower)
