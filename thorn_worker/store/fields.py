"""Reading a msgpack map with checked types, so that a damaged row fails with a sentence and not with a
KeyError."""

from collections.abc import Container
from enum import StrEnum
from typing import Any, Self, TypeVar

import msgpack

from producer.errors import MalformedRecord, UnsupportedRecord

Word = TypeVar("Word", bound=StrEnum)


class Fields:
    """A decoded map.

    Every reader raises `MalformedRecord` with the key that is missing or of the wrong type.
    """

    __slots__ = ("_map",)

    def __init__(self, mapping: dict[str, Any]) -> None:
        self._map = mapping

    @classmethod
    def of_row(cls, value: bytes, version: int) -> Self:
        """The map in `value`, whose ``v`` must be from 1 to `version`.

        Raises `UnsupportedRecord` beyond that.
        """
        try:
            decoded = msgpack.unpackb(value, strict_map_key=False)
        except Exception as error:  # whatever its C core meets: ValueError, TypeError, UnicodeDecodeError
            raise MalformedRecord(f"a row of {len(value)} bytes is not msgpack: {error}") from error
        fields = cls.of_map(decoded)
        written = fields.take("v", int)
        if written > version:
            raise UnsupportedRecord(
                f"a row has v = {written} and this release reads up to {version}: upgrade the worker"
            )
        if written < 1:
            raise MalformedRecord(f"a row has v = {written}: versions count from 1")
        return fields

    @classmethod
    def of_map(cls, value: object) -> Self:
        if not isinstance(value, dict):
            raise MalformedRecord(f"a {type(value).__name__} stands where a map must be")
        return cls(value)

    def get(self, key: str) -> Any:
        """The value of `key`, None if it is absent."""
        return self._map.get(key)

    def beyond(self, known: Container[str]) -> dict[str, Any]:
        """What the map holds besides the keys in `known`."""
        return {key: value for key, value in self._map.items() if key not in known}

    def take(self, key: str, *types: type) -> Any:
        """The value of `key`, of one of `types`; a bool is no int here."""
        value = self._map.get(key)
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            names = " or ".join(kind.__name__ for kind in types)
            raise MalformedRecord(f"{key} is {type(value).__name__} and must be {names}")
        return value

    def text(self, key: str) -> str:
        value: str = self.take(key, str)
        return value

    def number(self, key: str) -> float:
        return float(self.take(key, int, float))

    def maybe_number(self, key: str) -> float | None:
        return None if self._map.get(key) is None else self.number(key)

    def map(self, key: str) -> Self:
        return self.of_map(self._map.get(key))

    def word(self, key: str, words: type[Word]) -> Word:
        """A word of a closed set."""
        value = self.text(key)
        try:
            return words(value)
        except ValueError as error:
            raise MalformedRecord(f"{key} = {value!r} is none of {', '.join(words)}") from error
