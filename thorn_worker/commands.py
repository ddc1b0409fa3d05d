"""Writing to the log from outside the owners of its partitions: commands, and new lives of dead letters.

Only the owner of a partition writes its state; everybody else appends records that the owner reads.
"""

import threading
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Final

from producer.config import Settings
from producer.errors import LogError, NotAcknowledged
from producer.log import open_writer
from producer.log.contract import LogWriter, NewRecord
from producer.model import Command, Delivery
from producer.wire import encode_batches, encode_command
from thorn_worker.log.open import open_inspector
from thorn_worker.store.contract import DeadLetter

#: The log must take what an operator appends within this time.
ACKNOWLEDGE_S: Final = 30.0


def submit(settings: Settings, command: Command, partitions: Sequence[int] | None) -> list[tuple[int, int]]:
    """Append a command to these partitions (None: all of them); durable on return.

    Returns per partition an offset at or behind the command's: once the reader has passed it, the command was
    applied. Raises `LogError`.
    """
    writer = open_writer(settings)
    try:
        chosen = range(writer.partitions()) if partitions is None else partitions
        value = encode_command(command)
        append(writer, [NewRecord("", value, partition, bounded=False) for partition in chosen])
    finally:
        writer.close(ACKNOWLEDGE_S)
    inspector = open_inspector(settings)
    try:
        ends = {status.partition: status.end for status in inspector.partitions()}
    finally:
        inspector.close()
    return [(partition, ends[partition] - 1) for partition in chosen]


def replay(settings: Settings, letters: Iterable[DeadLetter], keep_expiry: bool) -> int:
    """Begin a new life for each of these dead letters, then forget the letters; returns how many.

    The new life is acknowledged before its letter goes, so a crash in between leaves both: at worst a repeat,
    never a loss. Letters of unreadable records, and those whose body was cut, hold nothing to deliver and are
    left. Raises `LogError`.
    """
    chosen: list[DeadLetter] = []
    by_host: dict[str, list[Delivery]] = {}
    for letter in letters:
        if letter.delivery is not None and not letter.raw_bytes:
            chosen.append(letter)
            by_host.setdefault(letter.host, []).append(_reborn(letter.delivery, keep_expiry))
    records = [
        NewRecord(host, value, bounded=False)
        for host, deliveries in by_host.items()
        for _, value in encode_batches(deliveries, settings.chunk_size)
    ]
    writer = open_writer(settings)
    try:
        append(writer, records)
    finally:
        writer.close(ACKNOWLEDGE_S)
    inspector = open_inspector(settings)
    try:
        inspector.forget([letter.life for letter in chosen])
    finally:
        inspector.close()
    return len(chosen)


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


def _reborn(delivery: Delivery, keep_expiry: bool) -> Delivery:
    """The same delivery at the beginning of its schedule."""
    expires_at = delivery.expires_at if keep_expiry else None
    return replace(delivery, attempts=0, first_at=None, not_before=None, expires_at=expires_at)
