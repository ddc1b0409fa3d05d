"""The reading half of a log: what the worker may rely on, told once.

Every implementation passes `tests/contract/reader.py`. Methods are called from greenlets of one hub; a method
that waits, waits cooperatively. Implementations keep blocking I/O off the hub for more than 5 ms.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True, slots=True)
class LogInfo:
    """What was opened.

    place: absolute path or broker list, for the banner. topic_id: names lives (`producer.model.Life`).
    state_id: of the store; where both lie in one file it is the same.
    """

    place: str
    topic_id: str
    state_id: str
    partitions: int


@dataclass(frozen=True, slots=True)
class Assignment:
    """One partition given to this process. `epoch` grows with each assignment of the partition, to anybody.

    committed: next offset to read, i.e. everything below it is complete. metadata: text of the last commit
    (`thorn_worker.offsets.Progress`), "" if there was none. trouble: why nothing of it may be delivered until
    an operator has decided (a topic was made anew, records are gone), in one sentence; None as a rule.
    """

    partition: int
    epoch: int
    committed: int
    metadata: str
    trouble: str | None = None


@dataclass(frozen=True, slots=True)
class Consent:
    """What the operator of a worker allows at its start.

    create_topics: make what is missing. new_log: read a log that is another than the one last worked on (or
    whose records are gone) from its first record. lost_state: go on although the stored deliveries are gone.
    """

    create_topics: bool = False
    new_log: bool = False
    lost_state: bool = False


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One record as read. appended_at: Unix seconds, by the log. value: None for a null value."""

    partition: int
    epoch: int
    offset: int
    key: bytes
    value: bytes | None
    appended_at: float


@dataclass(frozen=True, slots=True)
class CommitRequest:
    """`offset`: the watermark (lowest incomplete offset) of a partition in an epoch."""

    partition: int
    epoch: int
    offset: int
    metadata: str


class AssignmentListener(Protocol):
    """Told of changes from inside `LogReader.poll`; the reader waits for each call to return."""

    def assigned(self, assignments: Sequence[Assignment]) -> None:
        """These partitions are ours from now on. Must not wait for a restore: start it and return."""

    def revoked(self, assignments: Sequence[Assignment]) -> None:
        """These are about to move.

        May wait up to 3 s for what is in flight; commits made in here still count.
        """

    def lost(self, assignments: Sequence[Assignment]) -> None:
        """These are gone already: commit nothing, write nothing."""


class LogReader(ABC):
    """Reads the partitions that it is assigned, and commits.

    Records of a partition come in offset order, from `Assignment.committed` on, each once per epoch.
    A commit, put, delete or dead letter of an epoch that is no longer ours has no effect.
    """

    @abstractmethod
    def open(self) -> LogInfo:
        """Open and check the log; join nothing yet. Raises `LogUnusable` with one sentence."""

    @abstractmethod
    def join(self, listener: AssignmentListener) -> None:
        """Become a member; assignments arrive through the next calls of `poll`."""

    @abstractmethod
    def poll(self, timeout_s: float) -> list[RawRecord]:
        """Up to a few hundred records of partitions that are not paused, waiting at most `timeout_s` for the
        first.

        Must be called at least every few seconds for as long as membership is wanted, also with everything
        paused. Transient trouble (busy file, broker away) is logged, counted, and returns [].
        """

    @abstractmethod
    def pause(self, partition: int) -> None:
        """Return no more records of it until `resume`; membership and position stay.

        A new assignment starts unpaused.
        """

    @abstractmethod
    def resume(self, partition: int) -> None:
        """Undo `pause`."""

    @abstractmethod
    def commit(self, requests: Sequence[CommitRequest]) -> Mapping[int, bool]:
        """Make watermarks durable; waits. Per partition: True if stored, False if it is no longer ours or the
        log could not tell (try again at the next tick).
        """

    @abstractmethod
    def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        """Per partition the offset that the next appended record gets: lag = end offset - watermark."""

    @abstractmethod
    def confirmed(self) -> bool:
        """What is assigned is still ours: the log has said so within the time that it grants an owner.

        False after this process stood still for longer, until the log was asked again: what starts then could
        repeat what somebody else has delivered meanwhile.
        """

    @property
    @abstractmethod
    def errors(self) -> int:
        """Reads, writes and commits that failed and were, or are being, tried again."""

    @property
    @abstractmethod
    def trouble(self) -> str | None:
        """Why the log does not take what it is given just now, in one sentence; None while it does."""

    @property
    @abstractmethod
    def lost_records(self) -> int:
        """Records that the log has deleted or lost before they were completed, as far as this process saw."""

    @abstractmethod
    def close(self) -> None:
        """Leave: `revoked` is called for what is still held, then everything is released."""
