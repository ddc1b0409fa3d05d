"""Reading a topic from its beginning to its present end, for one command."""

import logging
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from producer.errors import LogUnavailable
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_trouble import explain, quiet_client_logs
from thorn_worker.log.kafka_admin import explained
from thorn_worker.log.kafka_mirror import Keyed

#: Smaller fetches are slower: with 256 KiB a third of the pace is lost.
FETCH_BYTES: Final = 1024 * 1024
#: Records taken at once: enough for the pace, and a few milliseconds of work.
POLL_RECORDS: Final = 2_000
#: How long one look waits for records; a read that gets nowhere for `STALL_S` is given up.
POLL_MS: Final = 500
STALL_S: Final = 10.0
#: A read that takes longer than this shows how far it is, this often.
QUIET_S: Final = 2.0
_SHOW_S: Final = 0.2

_logger: Final = logging.getLogger(__name__)

#: What becomes of the records of a partition.
Take = Callable[[int, list[Keyed]], None]


class Progress:
    """One line on a terminal's stderr for a read that takes long: ``reading thorn.state: 45 %``."""

    def __init__(self, topic: str, records: int) -> None:
        self._topic = topic
        self._records = records
        self._done = 0
        self._due_at = time.monotonic() + QUIET_S
        self._shown = False
        self._stream = sys.stderr if sys.stderr is not None and sys.stderr.isatty() else None

    def advance(self, records: int) -> None:
        """So many offsets more are behind us."""
        self._done += records
        now = time.monotonic()
        if self._stream is not None and now >= self._due_at:
            self._due_at = now + _SHOW_S
            self._shown = True
            percent = 100 * self._done // max(self._records, 1)
            self._stream.write(f"\rreading {self._topic}: {percent} %")
            self._stream.flush()

    def finish(self) -> None:
        """Leave the line empty for what comes next."""
        if self._stream is not None and self._shown:
            self._stream.write("\r\x1b[K")
            self._stream.flush()


class TopicScan:
    """Reads a topic from its first record to where it ends now, partition by partition.

    It goes by position, since offsets have holes: compaction removes records, and control records are never
    shown. A batch that can't be unpacked is left out, and told of in the log. Raises `LogError`.
    """

    def __init__(self, options: KafkaOptions, topic: str) -> None:
        from kafka import KafkaConsumer

        self._options = options
        self._topic = topic
        self._skipped = 0
        self._defect: Exception | None = None
        quiet_client_logs()
        with explained(options, "connecting"):
            self._consumer = KafkaConsumer(
                **options.connection(),
                group_id=None,
                enable_auto_commit=False,
                # Retention may remove the first records while we are on our way to them.
                auto_offset_reset="earliest",
                allow_auto_create_topics=False,
                max_partition_fetch_bytes=FETCH_BYTES,
                max_poll_records=POLL_RECORDS,
            )

    def __repr__(self) -> str:
        return f"<TopicScan of {self._topic}, {self._skipped} skipped>"

    def read(self, bounds: Mapping[int, tuple[int, int]], take: Take) -> None:
        """Give every record between `bounds` to ``take(partition, records)``, in order per partition."""
        progress = Progress(self._topic, sum(end - first for first, end in bounds.values()))
        try:
            for partition, (first, end) in bounds.items():
                if first < end:
                    self._read_partition(partition, (first, end), take, progress)
        finally:
            progress.finish()
        if self._defect is not None:
            _logger.warning(
                "%d offsets of %s can't be unpacked and are left out: %s: %s",
                *(self._skipped, self._topic, type(self._defect).__name__, self._defect),
            )

    def close(self) -> None:
        """Disconnect."""
        self._consumer.close()

    def _read_partition(
        self, partition: int, bounds: tuple[int, int], take: Take, progress: Progress
    ) -> None:
        from kafka import TopicPartition

        place = TopicPartition(self._topic, partition)
        position, end = bounds
        self._consumer.assign([place])
        self._consumer.seek(place, position)
        while position < end:
            records = self._next(place, position)
            if records is None:
                reached = self._behind_broken(place, position, end)
                self._skipped += reached - position
                self._consumer.seek(place, reached)
            else:
                take(partition, [(record.key, record.value) for record in records])
                reached = self._position(place, position)
            progress.advance(reached - position)
            position = reached

    def _next(self, place: Any, position: int) -> list[Any] | None:
        """The records from `position` on, none if it moved over a hole; None if they can't be unpacked."""
        deadline = time.monotonic() + STALL_S
        while True:
            try:
                found: list[Any] = self._consumer.poll(timeout_ms=POLL_MS).get(place, [])
            except Exception as error:
                if not _is_broken(error):
                    raise explain(error, self._options, f"reading {self._topic}") from error
                self._defect = self._defect or error
                return None
            if found or self._position(place, position) != position:
                return found
            if time.monotonic() >= deadline:
                raise LogUnavailable(
                    f"{self._options.place}: partition {place.partition} of {self._topic} gave no record for "
                    f"{STALL_S:g} s: check its brokers, then try again"
                )

    def _position(self, place: Any, known: int) -> int:
        """Where the next record will be read; `known` while the consumer looks for it itself."""
        with explained(self._options, f"reading {self._topic}"):
            position: int | None = self._consumer.position(place, timeout_ms=POLL_MS)
        return known if position is None else position

    def _behind_broken(self, place: Any, broken: int, end: int) -> int:
        """The first offset behind a broken batch, found by doubling steps and then by halves.

        After such an error the consumer must be sought elsewhere before the next poll: at the same position
        ``poll`` never returns. Neither half ever tries an offset twice.
        """
        low, high, step = broken, min(broken + 1, end), 1
        while high < end and not self._can_read(place, high):
            step *= 2
            low, high = high, min(high + step, end)
        while high - low > 1:
            middle = (low + high) // 2
            if self._can_read(place, middle):
                high = middle
            else:
                low = middle
        return high

    def _can_read(self, place: Any, offset: int) -> bool:
        self._consumer.seek(place, offset)
        return self._next(place, offset) is not None


def _is_broken(error: Exception) -> bool:
    """True if a batch was fetched but can't be unpacked: by its checksum, or for want of a library."""
    from kafka.errors import CorruptRecordError, KafkaError, UnsupportedCodecError

    return not isinstance(error, KafkaError) or isinstance(error, CorruptRecordError | UnsupportedCodecError)
