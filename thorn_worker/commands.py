"""Writing to the log from outside the owners of its partitions: commands, and new lives of dead letters.

Only the owner of a partition writes its state; everybody else appends records that the owner reads.
"""

import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

from producer.config import Settings
from producer.errors import LogError, NotAcknowledged
from producer.log import open_writer
from producer.log.contract import LogWriter, NewRecord
from producer.model import Command, Delivery
from producer.wire import encode_batches, encode_command
from thorn_worker.inspector import Inspector
from thorn_worker.store.contract import DeadLetter

#: The log must take what an operator appends within this time.
ACKNOWLEDGE_S: Final = 30.0
#: Letters replayed per round, and about how many bytes of bodies: each round is acknowledged before the next.
ROUND_LETTERS: Final = 500
ROUND_BYTES: Final = 8 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Order:
    """A command and the partitions whose owners it is for; None: all of them."""

    command: Command
    partitions: Sequence[int] | None = None


def submit(settings: Settings, inspector: Inspector, orders: Sequence[Order]) -> list[tuple[int, int]]:
    """Append commands; durable on return.

    Returns for each partition that was given any an offset at or behind the last one's: once the reader has
    passed it, the commands were applied. Raises `LogError`.
    """
    if not orders:
        return []
    records = []
    with writing(settings) as writer:
        for order in orders:
            value = encode_command(order.command)
            chosen = range(writer.partitions()) if order.partitions is None else order.partitions
            records += [NewRecord("", value, partition, bounded=False) for partition in chosen]
        append(writer, records)
    given = {record.partition for record in records}
    return [
        (status.partition, status.end - 1) for status in inspector.partitions() if status.partition in given
    ]


def replay(settings: Settings, inspector: Inspector, letters: Iterable[DeadLetter], keep_expiry: bool) -> int:
    """Begin a new life for each of these dead letters, then forget the letters; returns how many.

    The new life is acknowledged before its letter goes, so a crash in between leaves both: at worst a repeat,
    never a loss. Raises `LogError`.
    """
    done = 0
    with writing(settings) as writer:
        for some in _rounds(filter(can_be_replayed, letters)):
            append(writer, list(_new_lives(some, keep_expiry, settings.chunk_size)))
            inspector.forget(some)
            done += len(some)
    return done


def can_be_replayed(letter: DeadLetter) -> bool:
    """Letters of unreadable records, and those whose body was cut, hold nothing to deliver."""
    return letter.delivery is not None and not letter.raw_bytes


def append(writer: LogWriter, records: Sequence[NewRecord]) -> None:
    """Append and wait for the log's acknowledgement. Raises its `LogError`."""
    finished = threading.Event()
    failures: list[LogError] = []

    def on_done(error: LogError | None) -> None:
        if error is not None:
            failures.append(error)
        finished.set()

    if not records:
        return
    writer.append(records, on_done)
    if not finished.wait(ACKNOWLEDGE_S):
        raise NotAcknowledged(
            f"the log did not acknowledge {len(records)} records within {ACKNOWLEDGE_S:g} s: try again"
        )
    if failures:
        raise failures[0]


@contextmanager
def writing(settings: Settings) -> Iterator[LogWriter]:
    """The log's writing half, opened and in the end closed.

    Raises `LogError` at once for a log that can't be written just now, where the writer by itself would wait.
    """
    writer = open_writer(settings)
    try:
        writer.partitions()
        yield writer
    finally:
        writer.close(ACKNOWLEDGE_S)


def _rounds(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    some: list[DeadLetter] = []
    size = 0
    for letter in letters:
        assert letter.delivery is not None
        some.append(letter)
        size += len(letter.delivery.body)
        if len(some) == ROUND_LETTERS or size >= ROUND_BYTES:
            yield some
            some, size = [], 0
    if some:
        yield some


def _new_lives(letters: Iterable[DeadLetter], keep_expiry: bool, chunk_size: int) -> Iterator[NewRecord]:
    """Records of these letters' deliveries by host, each at the beginning of its schedule."""
    by_host: dict[str, list[Delivery]] = {}
    for letter in letters:
        assert letter.delivery is not None
        expires_at = letter.delivery.expires_at if keep_expiry else None
        reborn = replace(letter.delivery, attempts=0, first_at=None, not_before=None, expires_at=expires_at)
        by_host.setdefault(letter.host, []).append(reborn)
    for host, deliveries in by_host.items():
        for _, value in encode_batches(deliveries, chunk_size):
            yield NewRecord(host, value, bounded=False)
