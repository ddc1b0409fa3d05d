"""The kinds of values a setting can have: what is accepted, and the rule that a refusal quotes."""

import json
import math
import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final, TypeVar

from producer.errors import ConfigurationError, SubscriptionError
from producer.hosts import normal_name, shown
from producer.log_url import parse_log_url

_SECONDS: Final = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_BYTES: Final = {
    unit + "b": base**power
    for base, units in ((1000, ("", "k", "m", "g", "t")), (1024, ("", "ki", "mi", "gi", "ti")))
    for power, unit in enumerate(units)
}

_NUMBER = re.compile(r"[0-9]{1,18}(?:\.[0-9]{1,18})?")
_WHOLE = re.compile(r"[+-]?[0-9]{1,18}")
_DURATION_PART = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)(ms|[smhd])")
_DURATION = re.compile(rf"(?:{_DURATION_PART.pattern})+")
_SIZE = re.compile(r"([0-9]{1,18}(?:\.[0-9]{1,18})?)\s*([A-Za-z]{0,3})")
_ADDRESS = re.compile(r"(?:\[(?P<v6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9_.-]+)):(?P<port>[0-9]{1,5})")


class Refused(ValueError):
    """A value breaks the rule of its kind. The text, if any, replaces the rule behind "is refused: "."""


@dataclass(frozen=True, slots=True)
class Kind:
    """rule: completes "is refused: …". parse: (value, folder) -> the value in `Settings`; raises `Refused`.

    folder is what relative paths are taken from.
    """

    rule: str
    parse: Callable[[object, str], object]


T = TypeVar("T", int, float)


def _within(value: T, low: float, high: float) -> T:
    if not low <= value <= high:
        raise Refused
    return value


def seconds(value: object) -> float:
    """Seconds of a duration: ``5s``, ``500ms``, ``1h30m``, or a bare number. Raises `Refused`.

    >>> seconds("1h30m"), seconds("500ms"), seconds(7), seconds("7.5")
    (5400.0, 0.5, 7.0, 7.5)
    """
    if isinstance(value, str):
        text = value.strip()
        if _NUMBER.fullmatch(text):
            return float(text)
        if _DURATION.fullmatch(text):
            return math.fsum(float(number) * _SECONDS[unit] for number, unit in _DURATION_PART.findall(text))
    elif (
        isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value <= 1e18
    ):  # not NaN either
        return float(value)
    raise Refused


def duration(low: float, high: float, words: str) -> Kind:
    """Seconds from `low` to `high`, which `words` tell ("more than 0 and at most 60 s")."""
    rule = f"write a duration of {words}, such as 500ms, 5s or 1h30m (a bare number is seconds)"
    return Kind(rule, lambda value, _: _within(seconds(value), low, high))


def whole(low: int, high: int) -> Kind:
    """A whole number from `low` to `high`, also as text."""

    def parse(value: object, _: str) -> object:
        if isinstance(value, str) and _WHOLE.fullmatch(value.strip()):
            return _within(int(value), low, high)
        if isinstance(value, int) and not isinstance(value, bool):
            return _within(value, low, high)
        raise Refused

    return Kind(f"write a whole number from {low} to {high}", parse)


def size(low: int, high: int) -> Kind:
    """Bytes: ``10 GiB``, ``1 MB`` (1000 x 1000), or a bare number."""

    def parse(value: object, _: str) -> object:
        if isinstance(value, str):
            found = _SIZE.fullmatch(value.strip())
            factor = _BYTES.get(found[2].lower() or "b") if found else None
            if found and factor:
                return _within(
                    int(float(found[1]) * factor) if "." in found[1] else int(found[1]) * factor, low, high
                )
        elif isinstance(value, int) and not isinstance(value, bool):
            return _within(value, low, high)
        raise Refused

    return Kind(f"write a size from {low} to {high} bytes, such as 32 MiB or 1 GB", parse)


def choice(*words: str) -> Kind:
    """One of `words`, in any case."""
    known = {word.lower(): word for word in words}

    def parse(value: object, _: str) -> object:
        if isinstance(value, str) and value.strip().lower() in known:
            return known[value.strip().lower()]
        raise Refused

    return Kind(f"write one of {', '.join(words)}", parse)


def text(pattern: str, rule: str) -> Kind:
    """Text that matches `pattern` as a whole."""
    compiled = re.compile(pattern)

    def parse(value: object, _: str) -> object:
        if isinstance(value, str) and compiled.fullmatch(value.strip()):
            return value.strip()
        raise Refused

    return Kind(rule, parse)


def path() -> Kind:
    """A file or folder, made absolute. Whether it is there shows when it is opened."""

    def parse(value: object, folder: str) -> object:
        plain = os.fspath(value) if isinstance(value, (str, os.PathLike)) else None
        if not isinstance(plain, str) or not plain.strip() or "\0" in plain:
            raise Refused
        return os.path.abspath(os.path.join(folder, plain))

    return Kind("write the path of a file or folder", parse)


def address() -> Kind:
    """(host, port) from ``host:port``; port 0 lets the system choose."""

    def parse(value: object, _: str) -> object:
        found = _ADDRESS.fullmatch(value.strip()) if isinstance(value, str) else None
        if found is None:
            raise Refused
        return found["v6"] or found["name"], _within(int(found["port"]), 0, 65535)

    return Kind("write host:port, such as 127.0.0.1:9464 or [::1]:9464, with a port up to 65535", parse)


def items(of: Kind) -> Kind:
    """A tuple, from a TOML array or one text with spaces between the items; each item as `of` says."""

    def parse(value: object, folder: str) -> object:
        if isinstance(value, str):
            value = value.split()
        if not isinstance(value, (list, tuple)):
            raise Refused
        return tuple(of.parse(item, folder) for item in value)

    return Kind(f"give an array, or one text with spaces between the items; for each item: {of.rule}", parse)


def table(check: Callable[[Mapping[str, object]], Mapping[str, object]]) -> Kind:
    """A mapping, from a TOML table or, in the environment, a JSON object; `check` reads its values."""

    def parse(value: object, _: str) -> object:
        if isinstance(value, str):
            value = _json_object(value)
        if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
            raise Refused
        try:
            return MappingProxyType(dict(check(value)))
        except SubscriptionError as error:
            raise Refused(str(error).rstrip(".")) from error

    return Kind("give a table (in the environment: a JSON object) whose keys are text", parse)


def _json_object(value: str) -> object:
    try:
        return json.loads(value, object_pairs_hook=_distinct)
    except json.JSONDecodeError as error:
        raise Refused(f"it must be a JSON object, but {error.msg} at character {error.pos}") from error
    except RecursionError as error:
        raise Refused("it must be a JSON object, but it is nested too deeply") from error


def _distinct(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise Refused("a key stands twice in one JSON object, and only one of the two can be meant")
    return found


def network() -> Kind:
    """A network such as ``10.20.0.0/16``, in its normal text; one address is a network of one."""

    def parse(value: object, _: str) -> object:
        from ipaddress import ip_network  # few services set networks

        if not isinstance(value, str):
            raise Refused
        try:
            return str(ip_network(value.strip()))
        except ValueError as error:
            if "host bits set" in str(error):
                raise Refused(
                    f"{value!r} names an address inside a network: clear the bits behind the /"
                ) from error
            raise Refused(
                f"{shown(value)!r} is no network: write one as 10.20.0.0/16 or fd00:1::/32"
            ) from error

    return Kind("write a network as 10.20.0.0/16 or fd00:1::/32", parse)


def host_name() -> Kind:
    """A bare host name or address, spelled as URLs of it are."""

    def parse(value: object, _: str) -> object:
        if not isinstance(value, str):
            raise Refused
        try:
            return normal_name(value.strip())
        except SubscriptionError as error:
            raise Refused(
                f"{shown(value)!r} must be a bare host name or address, without scheme and port"
            ) from error

    return Kind("write a bare host name or address", parse)


def log_url() -> Kind:
    """The text of a log URL, a SQLite path made absolute."""

    def parse(value: object, folder: str) -> object:
        if not isinstance(value, str):
            raise Refused
        try:
            return parse_log_url(value.strip(), folder).text
        except ConfigurationError as error:
            raise Refused(str(error).partition(" is refused: ")[2].rstrip(".")) from error

    return Kind("write sqlite:///file.db or kafka://host:port/prefix", parse)
