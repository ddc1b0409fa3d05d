"""Event name -> who wants it. Pure.

Names and patterns are segments separated by dots; case matters.

| pattern | matches | not |
|---|---|---|
| ``order.created`` | ``order.created`` | |
| ``order.*`` | ``order.created``, ``order.item.added`` | ``order`` |
| ``*.created`` | ``order.created``, ``shop.order.created`` | ``created`` |
| ``*`` | every name | names that begin with ``thorn.`` |
"""

import re
from collections.abc import Iterable
from operator import itemgetter
from typing import Final, Generic, TypeVar

from producer.errors import InvalidEvent, SubscriptionError

#: Longest event name and pattern, in characters.
MAX_NAME_LENGTH: Final = 255
#: Names under this prefix are the system's own news; a plain ``*`` does not ask for them.
RESERVED_PREFIX: Final = "thorn."

_SEGMENTS = r"[!-)+\-/-~]+(?:\.[!-)+\-/-~]+)*"  # visible ASCII without "*", and "." only between segments
_NAME = re.compile(_SEGMENTS)
_PATTERN = re.compile(rf"\*|{_SEGMENTS}(?:\.\*)?|\*\.{_SEGMENTS}")

T = TypeVar("T")


def validate_event_name(name: str) -> None:
    """Raise `InvalidEvent` unless `name` is 1-255 visible ASCII characters, no ``*``, no empty segment."""
    if not isinstance(name, str):
        raise InvalidEvent(f"An event name must be text, not {type(name).__name__}.")
    if not (len(name) <= MAX_NAME_LENGTH and _NAME.fullmatch(name)):
        raise InvalidEvent(
            f"The event name {_cut(name)!r} is refused: use 1 to {MAX_NAME_LENGTH} visible ASCII characters "
            "without *, in segments separated by single dots, such as order.created."
        )


def validate_pattern(pattern: str) -> None:
    """Raise `SubscriptionError` unless `pattern` is an event name, ``*``, ``name.*`` or ``*.name``."""
    if not isinstance(pattern, str):
        raise SubscriptionError(f"A pattern must be text, not {type(pattern).__name__}.")
    if not (len(pattern) <= MAX_NAME_LENGTH and _PATTERN.fullmatch(pattern)):
        raise SubscriptionError(
            f"The pattern {_cut(pattern)!r} is refused: use an event name, *, or one * as the whole first or "
            f"last segment (order.*, *.created), at most {MAX_NAME_LENGTH} visible ASCII characters."
        )


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:79] + "\u2026"


class Index(Generic[T]):
    """Values under patterns. A look-up reads two dictionaries per segment, for any number of patterns."""

    __slots__ = ("_everything", "_exact", "_prefix", "_suffix")

    def __init__(self, entries: Iterable[tuple[str, T]]) -> None:
        """Take (pattern, value) pairs in the order that `match` keeps. Raises `SubscriptionError`."""
        self._exact: dict[str, list[tuple[int, T]]] = {}
        self._prefix: dict[str, list[tuple[int, T]]] = {}
        self._suffix: dict[str, list[tuple[int, T]]] = {}
        self._everything: list[tuple[int, T]] = []
        for position, (pattern, value) in enumerate(entries):
            validate_pattern(pattern)
            self._slot(pattern).append((position, value))

    def _slot(self, pattern: str) -> list[tuple[int, T]]:
        if pattern == "*":
            return self._everything
        if pattern.endswith(".*"):
            return self._prefix.setdefault(pattern[:-2], [])
        if pattern.startswith("*."):
            return self._suffix.setdefault(pattern[2:], [])
        return self._exact.setdefault(pattern, [])

    def match(self, name: str) -> list[T]:
        """The values whose pattern matches `name`, in the order in which they were given."""
        found = list(self._exact.get(name, ()))
        if not name.startswith(RESERVED_PREFIX):
            found += self._everything
        dot = name.find(".")
        while dot >= 0:
            found += self._prefix.get(name[:dot], ())
            found += self._suffix.get(name[dot + 1 :], ())
            dot = name.find(".", dot + 1)
        found.sort(key=itemgetter(0))
        return [value for _, value in found]
