"""The ``log`` dispatcher: groups deliveries by host into records and appends them to the log, keyed by host.

`send` returns once the records are in the writer's buffer; the log's acknowledgement resolves the Receipt.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final, TypeAlias

from producer.config import Settings
from producer.dispatch.contract import Dispatcher, NotDispatched
from producer.errors import DispatcherError, LogError
from producer.log import open_writer
from producer.log.contract import LogWriter, NewRecord
from producer.packing import Parcel, join_batches
from producer.sending import Sending

#: A flush hands its records to the writer in slices of about this size, so that a full buffer keeps only the
#: rest.
SLICE_BYTES: Final = 1024 * 1024


#: A delivery by its sending, and its position among the deliveries of that.
_Owed: TypeAlias = tuple[Sending, int]


@dataclass(frozen=True, slots=True)
class _Part:
    """One record to append, and what it carries."""

    record: NewRecord
    owed: Sequence[_Owed]


class LogDispatcher(Dispatcher):
    """Appends to the log that the settings name: SQLite or Kafka."""

    name = "log"

    def __init__(self, settings: Settings, writer: LogWriter | None = None) -> None:
        if settings.log is None and writer is None:
            raise DispatcherError("the dispatcher 'log' needs a log: set THORN_LOG, e.g. sqlite:///thorn.db")
        self._chunk_size = settings.chunk_size
        self.writer = writer or open_writer(settings)

    def dispatch(self, sendings: Sequence[Sending]) -> None:
        if len(sendings) == 1:
            self._dispatch_whole(sendings[0])
            return
        parts = list(self._parts(sendings))
        start = 0
        for end in _slice_ends(parts):
            try:
                self._append(parts[start:end])
            except LogError as error:
                raise NotDispatched(_regroup(sendings, parts[start:])) from error
            start = end

    def flush(self, timeout_s: float) -> bool:
        return self.writer.flush(timeout_s)

    def close(self, timeout_s: float) -> None:
        self.writer.close(timeout_s)

    @property
    def buffered_bytes(self) -> int:
        return self.writer.buffered_bytes

    @property
    def blocked_s(self) -> float:
        return self.writer.blocked_s

    def _dispatch_whole(self, sending: Sending) -> None:
        parcels = sending.parcels()
        records = [
            NewRecord(host, value)
            for host, positions in sending.recipients.by_host
            for _, value in join_batches([parcels[position] for position in positions], self._chunk_size)
        ]
        sending.receipt.handed_over()
        try:
            self.writer.append(records, partial(sending.receipt.settled, len(parcels)))
        except LogError as error:
            raise NotDispatched([sending]) from error

    def _parts(self, sendings: Sequence[Sending]) -> Iterator[_Part]:
        """Records in order per host.

        A record holds at most `chunk_size` deliveries, of any sendings, to one host.
        """
        by_host: dict[str, tuple[list[Parcel], list[_Owed]]] = {}
        for sending in sendings:
            parcels = sending.parcels()
            for host, positions in sending.recipients.by_host:
                of_host, owed = by_host.setdefault(host, ([], []))
                of_host += [parcels[position] for position in positions]
                owed += [(sending, position) for position in positions]
        for host, (of_host, owed) in by_host.items():
            start = 0
            for count, value in join_batches(of_host, self._chunk_size):
                yield _Part(NewRecord(host, value), owed[start : start + count])
                start += count

    def _append(self, parts: Sequence[_Part]) -> None:
        deliveries = Counter(sending.receipt for part in parts for sending, _ in part.owed)

        def on_done(error: LogError | None) -> None:
            for receipt, count in deliveries.items():
                receipt.settled(count, error)

        for receipt in deliveries:
            receipt.handed_over()
        self.writer.append([part.record for part in parts], on_done)


def _slice_ends(parts: Sequence[_Part]) -> Iterator[int]:
    size_bytes = 0
    for position, part in enumerate(parts, start=1):
        size_bytes += len(part.record.value)
        if size_bytes >= SLICE_BYTES or position == len(parts):
            yield position
            size_bytes = 0


def _regroup(sendings: Sequence[Sending], parts: Sequence[_Part]) -> list[Sending]:
    """What `parts` carry, as sendings in their first order."""
    left: dict[Sending, list[int]] = {sending: [] for sending in sendings}
    for part in parts:
        for sending, position in part.owed:
            left[sending].append(position)
    return [sending.part(positions) for sending, positions in left.items() if positions]
