"""Fetched batches -> records. What can't be read becomes one record that says so, and never an error.

An error that leaves kafka-python's own unpacking (a checksum, a missing codec, a broken record) is raised
once by ``poll``; the next ``poll`` then turns in a loop that nothing in this process can end. So the
unpacking is ours.
"""

import logging
import time
from collections.abc import Iterator, Mapping
from typing import Any

from kafka.consumer.fetcher import Fetcher
from kafka.errors import CorruptRecordError

from thorn_worker.log.contract import RawRecord
from thorn_worker.logs import RateLimited

_logger = logging.getLogger("thorn_worker.log.kafka")


class Unreadable:
    """Counts and reports the batches of one member that could not be read."""

    def __init__(self) -> None:
        self.batches = 0
        self._complaints = RateLimited(_logger)

    def report(self, partition: int, first: int, after: int, error: Exception) -> None:
        """Say which offsets become one dead letter."""
        self.batches += 1
        self._complaints.error(
            f"partition {partition}",
            "offsets %d to %d of partition %d can't be read and become one dead letter: %s: %s",
            *(first, after - 1, partition, type(error).__name__, error),
        )


class Records(Fetcher.PartitionRecords):  # type: ignore[misc]
    """What one fetch has brought of one partition, as `RawRecord`.

    epochs: the epoch of each partition that is ours, as it is when a record is taken.
    """

    def __init__(
        self, epochs: Mapping[int, int], unreadable: Unreadable, *arguments: Any, **keywords: Any
    ) -> None:
        self._epochs = epochs
        self._unreadable = unreadable
        super().__init__(*arguments, **keywords)

    def _unpack_records(self, tp: Any, records: Any, *_deserializers: Any) -> Iterator[RawRecord]:
        """Replaces kafka-python's generator; `next_fetch_offset` must be right at each yield."""
        epochs, partition = self._epochs, tp.partition
        whole = True
        while whole:
            batch = None
            try:
                batch = records.next_batch()
                if batch is None:
                    break
                if not batch.validate_crc():
                    raise CorruptRecordError("its checksum does not match")
                self.leader_epoch = batch.leader_epoch
                for record in () if batch.is_control_batch else batch:
                    self.next_fetch_offset = record.offset + 1
                    yield RawRecord(
                        partition,
                        epochs[partition],
                        record.offset,
                        record.key or b"",
                        record.value,
                        record.timestamp / 1000 if record.timestamp >= 0 else time.time(),
                    )
                self.next_fetch_offset = batch.next_offset
            except Exception as error:
                # What lies below the offset that was asked for, kafka-python drops unseen.
                first = max(self.next_fetch_offset, self.fetch_offset)
                first = first if batch is None else max(first, batch.base_offset)
                after, whole = offset_after(batch, first)
                self.next_fetch_offset = after
                self._unreadable.report(partition, first, after, error)
                yield RawRecord(
                    partition, epochs[partition], first, b"", _stand_in(batch, after, error), time.time()
                )
        self.drain()


def offset_after(batch: Any, first: int) -> tuple[int, bool]:
    """Where to read on behind a batch that can't be read, and whether that is known to be its end.

    The header of a damaged batch may be damaged itself, and believing it could skip good records. Two of its
    fields say how many records it has: if they agree, its end is known. Else only `first` is skipped; the
    next fetch then brings the same batch again, until its real end is passed.

        first 20 of a batch from 20 on with 50 records -> 70, True;  fields differ -> 21, False
    """
    if batch is not None and batch.last_offset_delta == batch.records_count - 1 and batch.next_offset > first:
        return batch.next_offset, True
    return first + 1, False


def _stand_in(batch: Any, after: int, error: Exception) -> bytes:
    """A value that no decoder takes for a record: it says why, then has the batch's bytes."""
    why = f"unreadable up to offset {after - 1}: {type(error).__name__}: {error}\n"
    return why.encode() + (b"" if batch is None else bytes(batch._buffer))
