"""Records written straight into a log, as no producer of ours would write them."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from producer.config import load
from producer.log import open_writer
from producer.log.contract import LogWriter, NewRecord
from thorn_worker.commands import append


@contextmanager
def raw_writer(log: str) -> Iterator[LogWriter]:
    """The writing half of the log with this URL."""
    writer = open_writer(load({"log": log}, {}).settings)
    try:
        yield writer
    finally:
        writer.close(10.0)


def append_raw(log: str, values: Sequence[bytes], *, key: str, partition: int | None = None) -> None:
    """Append these values; durable on return."""
    with raw_writer(log) as writer:
        append(writer, [NewRecord(key, value, partition) for value in values])
