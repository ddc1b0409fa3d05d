"""Which partitions are ours, from which offset each is read, and what of it is told to the worker.

A partition that the group gives us is *coming* until a greenlet has looked up where it begins; then it is
told as assigned, from inside the poll, and *held*. Partitions that were kept in a rebalance wait for none of
this.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import gevent

from producer.errors import LogUnavailable, ThornError
from thorn_worker.log.contract import Assignment, AssignmentListener, CommitRequest, Consent, RawRecord
from thorn_worker.log.kafka_member import Member
from thorn_worker.log.kafka_positions import Committed, Position, TopicIds, next_epoch, position_of

#: How long one question for offsets may take, and the pause after one that was not answered.
ASK_S: Final = 5.0
AGAIN_S: Final = 0.2

_logger = logging.getLogger("thorn_worker.log.kafka")


@dataclass(slots=True)
class OffsetCounts:
    """lost: deleted by the log's retention before they were completed. replaced: completed, then lost by the
    brokers. troubles: questions for offsets that were not answered.
    """

    lost: int = 0
    replaced: int = 0
    troubles: int = 0


@dataclass(slots=True)
class _Holding:
    """A partition that the worker knows to be its own. back: records that came while it was paused."""

    assignment: Assignment
    paused: bool = False
    back: list[RawRecord] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class _Coming:
    """diverged: as `position_of` takes it. position: None until looked up. error: why it can't be."""

    diverged: int | None = None
    position: Position | None = None
    error: ThornError | None = None


class Assignments:
    """Ownership as the worker sees it; an `thorn_worker.log.kafka_member.Owner`."""

    def __init__(self, listener: AssignmentListener, topics: TopicIds, consent: Consent) -> None:
        self._listener = listener
        self._topics = topics
        self._consent = consent
        self._member: Member | None = None
        self._held: dict[int, _Holding] = {}
        self._coming: dict[int, _Coming] = {}
        self._epochs: dict[int, int] = {}
        self.counts = OffsetCounts()

    def __repr__(self) -> str:
        return f"<Assignments held {sorted(self._held)}, coming {sorted(self._coming)}>"

    def follow(self, member: Member) -> None:
        """Assignments are this member's from now on."""
        self._member = member

    @property
    def is_coming(self) -> bool:
        """Whether a partition waits to be told."""
        return bool(self._coming)

    @property
    def is_settled(self) -> bool:
        """Whether every partition is held and read."""
        return not self._coming and not any(holding.paused for holding in self._held.values())

    # -- told by the member ------------------------------------------------------------------------

    def given(self, partitions: Sequence[int]) -> None:
        """`Owner.given`."""
        self._look_up({partition: _Coming() for partition in partitions})

    def taken(self, partitions: Sequence[int]) -> None:
        """`Owner.taken`."""
        self._let_go(partitions, self._listener.revoked)

    def gone(self, partitions: Sequence[int]) -> None:
        """`Owner.gone`."""
        self._let_go(partitions, self._listener.lost)

    def _let_go(self, partitions: Iterable[int], tell: Callable[[Sequence[Assignment]], None]) -> None:
        """Until `tell` has returned, commits count; what was not told yet just goes."""
        leaving = [self._held[partition].assignment for partition in partitions if partition in self._held]
        for partition in partitions:
            self._coming.pop(partition, None)
        try:
            if leaving:
                tell(leaving)
        finally:
            for assignment in leaving:
                self._held.pop(assignment.partition, None)

    # -- from inside the poll ----------------------------------------------------------------------

    def announce(self) -> None:
        """Tell of what was looked up by now, and let it be read. Raises what kept it from being looked up."""
        member = self._member
        ready = {
            partition: coming
            for partition, coming in self._coming.items()
            if coming.position is not None or coming.error is not None
        }
        if not ready or member is None:
            return
        told = []
        for partition, coming in ready.items():
            if coming.error is not None:
                raise coming.error
            assert coming.position is not None
            del self._coming[partition]
            told.append(self._assignment(member, partition, coming.position))
        self._listener.assigned(told)
        for assignment in told:
            holding = self._held.get(assignment.partition)
            if holding is not None and not holding.paused and assignment.trouble is None:
                member.resume(assignment.partition)

    def _assignment(self, member: Member, partition: int, position: Position) -> Assignment:
        epoch = next_epoch(member.generation, self._epochs.get(partition, 0))
        self._epochs[partition] = epoch
        self.counts.lost += position.gone
        self.counts.replaced += position.replaced
        if position.gone:
            _logger.error(
                "%d offsets of partition %d were deleted by the retention of %s before they were completed:"
                " reading goes on at offset %d, and what they held is not delivered",
                *(position.gone, partition, self._topics.deliveries, position.offset),
            )
        if position.replaced:
            _logger.error(
                "the brokers lost %d offsets of partition %d that had been read, and hold other records"
                " there: these are read, from offset %d on",
                *(position.replaced, partition, position.offset),
            )
        assignment = Assignment(partition, epoch, position.offset, position.metadata, position.trouble)
        self._held[partition] = _Holding(assignment)
        member.begin(partition, position.offset, epoch)
        return assignment

    def begin_anew(self, diverged: Mapping[int, int | None]) -> None:
        """The log does not hold what is to be read next of these: commit, and begin them by the rules."""
        member = self._member
        partitions = [partition for partition in diverged if partition in self._held]
        if member is None or not partitions:
            return
        for partition in partitions:
            member.pause(partition)
        self._let_go(partitions, self._listener.revoked)
        self._look_up({partition: _Coming(diverged[partition]) for partition in partitions})

    def give_up(self) -> None:
        """The member ends: commit what still can be, and let everything go."""
        member, self._member = self._member, None
        if member is not None:
            everything = [*self._held, *self._coming]
            self._let_go(everything, self._listener.lost if member.is_lost else self._listener.revoked)

    # -- records -----------------------------------------------------------------------------------

    def accept(self, records: Iterable[RawRecord]) -> list[RawRecord]:
        """Those that are still ours; records of what was paused meanwhile are held back."""
        accepted = []
        held = self._held
        for record in records:
            holding = held.get(record.partition)
            if holding is None or holding.assignment.epoch != record.epoch:
                continue
            if holding.paused or holding.back:  # what was held back comes first
                holding.back.append(record)
            else:
                accepted.append(record)
        return accepted

    def released(self) -> list[RawRecord]:
        """What was held back of partitions that are not paused any more."""
        released: list[RawRecord] = []
        for holding in self._held.values():
            if holding.back and not holding.paused:
                released += holding.back
                holding.back = []
        return released

    def pause(self, partition: int) -> None:
        """Hand out nothing more of it."""
        holding = self._held.get(partition)
        if holding is not None and self._member is not None:
            holding.paused = True
            self._member.pause(partition)

    def resume(self, partition: int) -> None:
        """Undo `pause`; what stands by a trouble goes on standing."""
        holding = self._held.get(partition)
        if holding is not None and self._member is not None and holding.assignment.trouble is None:
            holding.paused = False
            self._member.resume(partition)

    def ours(self, requests: Iterable[CommitRequest]) -> dict[int, Committed]:
        """What of these may be committed: partitions that are held in the same epoch."""
        return {
            request.partition: Committed(request.offset, request.metadata)
            for request in requests
            if (holding := self._held.get(request.partition)) is not None
            and holding.assignment.epoch == request.epoch
        }

    # -- looking up --------------------------------------------------------------------------------

    def _look_up(self, coming: dict[int, _Coming]) -> None:
        self._coming.update(coming)
        gevent.spawn(self._positions, coming)

    def _positions(self, coming: Mapping[int, _Coming]) -> None:
        """Ask until all is known or nothing of it is ours any more."""
        while True:
            asked = [partition for partition, one in coming.items() if self._coming.get(partition) is one]
            member = self._member
            if not asked or member is None:
                return
            try:
                committed = member.committed(asked, ASK_S)
                extents = member.extents(asked, ASK_S)
            except LogUnavailable:
                self.counts.troubles += 1
                gevent.sleep(AGAIN_S)
                continue
            except ThornError as error:
                for partition in asked:
                    coming[partition].error = error
                return
            for partition in asked:
                one = coming[partition]
                one.position = position_of(
                    partition,
                    committed.get(partition),
                    extents[partition],
                    self._topics,
                    self._consent,
                    one.diverged,
                )
            return
