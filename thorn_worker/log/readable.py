"""Rows that others wrote, for a list: what can't be read is said and left out, and ends nothing."""

import logging
from collections.abc import Callable, Iterable, Iterator
from typing import Final, TypeVar

from producer.errors import WireError

Stored = TypeVar("Stored")
Row = TypeVar("Row")

_logger: Final = logging.getLogger(__name__)


def readable(stored: Iterable[Stored], decode: Callable[[Stored], Row], where: str) -> Iterator[Row]:
    """What `decode` makes of each of `stored`, without those of which it raises a `WireError`.

    One line of the log says at the end how many those were, in `where`, and what is wrong with the first.
    """
    unreadable = 0
    first: WireError | None = None
    try:
        for one in stored:
            try:
                row = decode(one)
            except WireError as error:
                first = first or error
                unreadable += 1
                continue
            yield row
    finally:
        if first is not None:
            _logger.warning(
                "%d row%s of %s can't be read and %s left out; %s: %s",
                unreadable,
                "" if unreadable == 1 else "s",
                where,
                "is" if unreadable == 1 else "are",
                "it says" if unreadable == 1 else "the first says",
                first,
            )
