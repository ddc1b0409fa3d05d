"""Where reading of a Kafka partition begins, and when it must not begin. Pure: no I/O, no clock.

Nothing is ever skipped or read from another place in silence: either the position follows from what was
committed, or what is gone is counted and said, or the partition stands until an operator has decided.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from thorn_worker.log.contract import Consent
from thorn_worker.offsets import Progress, decode

#: Part of an epoch that counts the assignments of a partition within one generation of the group.
_EPOCH_BITS: Final = 16


@dataclass(frozen=True, slots=True)
class Committed:
    """What the group has stored for a partition. offset: the next one to read."""

    offset: int
    metadata: str


@dataclass(frozen=True, slots=True)
class Extent:
    """Which offsets a partition holds: from `start` to before `end`."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class TopicIds:
    """Name and id of the topics of the records and of the state, as they are now."""

    deliveries: str
    deliveries_id: str
    state: str
    state_id: str


@dataclass(frozen=True, slots=True)
class Position:
    """Where to read on. metadata: what is done from `offset` on.

    gone: so many offsets were deleted by the log's retention before anybody completed them. replaced: so many
    were completed, and the broker has lost them and holds others in their place. trouble: why nothing may be
    read yet, in one sentence.
    """

    offset: int
    metadata: str
    gone: int = 0
    replaced: int = 0
    trouble: str | None = None


def position_of(
    partition: int,
    committed: Committed | None,
    extent: Extent,
    topics: TopicIds,
    consent: Consent,
    diverged: int | None = None,
) -> Position:
    """The rules, on a partition that holds the offsets 10 to 99:

        committed                       position
        nothing                         10: the first record
        50                              50
        100                             100: the end, nothing to do
        4                               10, and 6 offsets are gone
        120                             trouble, until --accept-new-log: 10
        50, made in another topic       trouble, until --accept-new-log: 10
        50, made with another state     trouble, until --accept-lost-state: 50
        50, diverged at 45              45, and 5 offsets were replaced

    diverged: the first offset at which the broker holds another record than the one that was read.
    """
    if committed is None:
        return Position(extent.start, "")
    progress = decode(committed.metadata)
    foreign = bool(progress.topic_id) and progress.topic_id != topics.deliveries_id
    beyond = committed.offset > extent.end
    lost_state = bool(progress.state_id) and progress.state_id != topics.state_id
    refusals = []
    if (foreign or beyond) and not consent.new_log:
        what = _foreign(progress, topics) if foreign else _beyond(committed, extent, topics)
        refusals.append((what, "--accept-new-log", "reads it from its first record"))
    if lost_state and not consent.lost_state:
        what = (
            f"the waiting deliveries were kept in topic {topics.state} with the id {progress.state_id}, which"
            f" is gone: now it is {topics.state_id}"
        )
        refusals.append((what, "--accept-lost-state", "goes on without them"))
    if refusals:
        return Position(committed.offset, committed.metadata, trouble=_sentence(partition, refusals))
    if foreign or beyond:
        return Position(extent.start, "")
    if diverged is not None and diverged < committed.offset:
        ids = Progress(progress.topic_id, progress.state_id).encode()
        return Position(max(diverged, extent.start), ids, replaced=committed.offset - diverged)
    gone = max(0, extent.start - committed.offset)
    return Position(committed.offset + gone, _moved(progress, committed.metadata, gone), gone)


def _foreign(progress: Progress, topics: TopicIds) -> str:
    return (
        f"its last commit was made in a topic {topics.deliveries} with the id {progress.topic_id}, and the"
        f" topic of that name now is another one with the id {topics.deliveries_id}"
    )


def _beyond(committed: Committed, extent: Extent, topics: TopicIds) -> str:
    return (
        f"its last commit says offset {committed.offset}, and topic {topics.deliveries} now ends at offset"
        f" {extent.end}: the broker has lost records"
    )


def _sentence(partition: int, refusals: list[tuple[str, str, str]]) -> str:
    """What is wrong, and the one command that accepts all of it."""
    what = ", and ".join(what for what, _option, _effect in refusals)
    options = " ".join(option for _what, option, _effect in refusals)
    effects = " and ".join(effect for _what, _option, effect in refusals)
    return (
        f"partition {partition} is not read, since {what}: if that is as intended, start"
        f" `thorn-worker run {options}`, which {effects}"
    )


def _moved(progress: Progress, metadata: str, offsets: int) -> str:
    """`metadata` as told from `offsets` further on: bit 5 becomes bit 3 if 2 offsets are gone."""
    if not offsets:
        return metadata
    partial = {index - offsets: mask for index, mask in progress.partial.items() if index >= offsets}
    return Progress(progress.topic_id, progress.state_id, progress.complete >> offsets, partial).encode()


def next_epoch(generation: int, last: int) -> int:
    """The epoch of a new assignment, greater than that of every earlier one, here or elsewhere.

    A generation of the group has one owner per partition, so the generation leads; within one generation this
    process may give a partition to itself anew (`last`: the epoch that it had, 0 if none).

        generation 7, not owned before -> 7 * 65,536; given anew in generation 7 -> 7 * 65,536 + 1
    """
    return max(generation << _EPOCH_BITS, last + 1)


def changed(topics: TopicIds, found: Mapping[str, str | None]) -> str | None:
    """Why work must stop, if the ids `found` by name are not those that it began with; else None."""
    began = {topics.deliveries: topics.deliveries_id, topics.state: topics.state_id}
    for name, known in began.items():
        now = found[name]
        if now is None:
            return (
                f"topic {name} is gone, which this worker had open: make it again, or restore it"
                " (`thorn-worker topics create`), then start the worker"
            )
        if now != known:
            return (
                f"topic {name} was made anew while it was being worked on (its id was {known} and is {now}):"
                " start the worker again, which begins it at its first record or says what to do"
            )
    return None
