"""The writing half of a log: what a dispatcher may rely on, told once.

Every implementation passes `tests/contract/writer.py`.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from producer.errors import LogError

#: Called once per `append`: None when every record of the call is durable, else the first failure.
OnDone = Callable[[LogError | None], None]


@dataclass(frozen=True, slots=True)
class NewRecord:
    """One record to append.

    key: the Host; it chooses the partition (murmur2, as Kafka's Java client does) unless `partition` is
    given. partition: explicit, for commands only. bounded: False for what must get through when the log is
    full (commands, replays, retries of an in-process dispatcher).
    """

    key: str
    value: bytes
    partition: int | None = None
    bounded: bool = True


class LogWriter(ABC):
    """Appends records to a log, in order, from any thread or greenlet.

    Order: two calls of `append` from one thread reach a partition in the order of the calls; what failed to
    leave stays ahead of what comes later.

    Fork: a child process starts with an empty buffer, new locks and no receipts; the parent keeps its own.
    """

    @abstractmethod
    def append(self, records: Sequence[NewRecord], on_done: OnDone) -> None:
        """Take all of `records` or none, and return before they are durable.

        Blocks at most ``max_block_s`` for room in the buffer, then raises `BufferFull`. Raises `LogUnusable`
        if the log cannot be opened, `LogFull` if it takes no more. `on_done` runs once, on the sender's own
        thread, and must not block; it is not called when this method raised.
        """

    @abstractmethod
    def partitions(self) -> int:
        """Number of partitions, fixed for the life of a log. Opens the log; raises `LogError`."""

    @abstractmethod
    def flush(self, timeout_s: float) -> bool:
        """Wait until everything appended before this call is durable or failed.

        False if time ran out first.
        """

    @abstractmethod
    def close(self, timeout_s: float) -> None:
        """Flush within `timeout_s`, then fail what is left with `NotAcknowledged` and release everything."""

    @property
    @abstractmethod
    def buffered_bytes(self) -> int:
        """Bytes taken but not yet durable."""

    @property
    @abstractmethod
    def blocked_s(self) -> float:
        """Seconds that callers of `append` have waited for room, in all."""
