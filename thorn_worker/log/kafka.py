"""The Kafka log's reading half: any number of workers share the partitions as one consumer group.

Offsets of the group say where to read on; what is done above them, and in which topics, travels in the
metadata of the commits (`thorn_worker.offsets`). `kafka_link` keeps a client connected, `kafka_member` is
that client, `kafka_assignments` knows what is ours, `kafka_positions` where reading begins, `kafka_commits`
what a commit's answer means, `kafka_records` how a batch that can't be read becomes a dead letter.
"""

import logging
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from producer.errors import ConfigurationError, LogUnavailable
from producer.log.kafka_options import KafkaOptions, check_library
from producer.log.kafka_trouble import quiet_client_logs
from thorn_worker.log.contract import (
    AssignmentListener,
    CommitRequest,
    Consent,
    LogInfo,
    LogReader,
    RawRecord,
)
from thorn_worker.log.kafka_assignments import Assignments
from thorn_worker.log.kafka_consumer import Identity, Timing
from thorn_worker.log.kafka_link import Link
from thorn_worker.log.kafka_member import Broken, Member, OffsetsWrong
from thorn_worker.log.kafka_positions import TopicIds
from thorn_worker.log.kafka_records import Unreadable
from thorn_worker.log.kafka_topics import Topics, check_topics, create_topics

#: Longest single wait for records: after it, what was resumed or assigned meanwhile is looked at.
SLICE_S: Final = 0.1
#: The same while an assignment is being looked up.
SHORT_SLICE_S: Final = 0.02
#: A worker that has read nothing for so long is idle.
IDLE_AFTER_S: Final = 1.0
#: How long the brokers may take to say where the partitions end.
ENDS_S: Final = 5.0

#: What Kafka takes as the name of a static member.
_WORKER_ID: Final = re.compile(r"[A-Za-z0-9._-]{1,249}")

_logger = logging.getLogger("thorn_worker.log.kafka")


@dataclass(frozen=True, slots=True)
class Membership:
    """How this process joins. worker_id: for static membership; two processes with the same id push each
    other out. partitions: of topics that are made.
    """

    worker_id: str | None
    partitions: int

    def __post_init__(self) -> None:
        if self.worker_id is not None and not _WORKER_ID.fullmatch(self.worker_id):
            raise ConfigurationError(
                f"THORN_WORKER_ID is {self.worker_id!r}: with Kafka use 1 to 249 letters, digits and . _ -"
            )


@dataclass(frozen=True, slots=True)
class ReaderStats:
    """Numbers for metrics, since the start.

    lost_offsets: deleted by the log's retention before they were completed. replaced_offsets: completed, then
    lost by the brokers. unreadable_batches: became dead letters. clients_replaced: ended in an error of their
    own. silent_s: since a broker has answered anything; None without a client.
    """

    lost_offsets: int
    replaced_offsets: int
    unreadable_batches: int
    clients_replaced: int
    silent_s: float | None


class KafkaReader(LogReader):
    """A member of the group ``<prefix>.workers``. For the greenlets of one hub, in a patched process.

    `open` raises `LogUnavailable` for what may pass and `LogUnusable` for what no waiting cures, as `poll`
    does later: another process took our worker id, a topic was made anew, access was withdrawn.
    """

    def __init__(
        self, options: KafkaOptions, membership: Membership, consent: Consent, timing: Timing | None = None
    ) -> None:
        self._options = options
        self._membership = membership
        self._consent = consent
        self._unreadable = Unreadable()
        self._identity = Identity(membership.worker_id, timing or Timing(), self._unreadable)
        self._topics: Topics | None = None
        self._assignments: Assignments | None = None
        self._link: Link | None = None
        self._read_at = time.monotonic()

    def __repr__(self) -> str:
        return f"<KafkaReader of {self._options.place}: {self._assignments}>"

    # -- opening and closing -----------------------------------------------------------------------

    def open(self) -> LogInfo:
        check_library()
        quiet_client_logs()
        self._topics = topics = self._checked_topics()
        return LogInfo(self._options.place, topics.deliveries_id, topics.state_id, topics.partitions)

    def _checked_topics(self) -> Topics:
        if self._consent.create_topics:
            made = create_topics(self._options, self._membership.partitions)
            if made:
                _logger.info("made the topics %s", ", ".join(made))
        return check_topics(self._options)

    @property
    def topics(self) -> Topics:
        """The topics as `open` found them."""
        if self._topics is None:
            raise RuntimeError(f"{self!r} is not open")
        return self._topics

    def join(self, listener: AssignmentListener) -> None:
        options, topics = self._options, self.topics
        ids = TopicIds(options.deliveries, topics.deliveries_id, options.state, topics.state_id)
        self._assignments = Assignments(listener, ids, self._consent)
        self._link = Link(options, self._identity, self._assignments, ids)

    def close(self) -> None:
        if self._assignments is not None:
            self._assignments.give_up()
        if self._link is not None:
            self._link.close()

    # -- reading -----------------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> list[RawRecord]:
        link, ours = self._link, self._assignments
        until = time.monotonic() + timeout_s
        while link is not None and ours is not None:
            member = link.current(max(0.0, until - time.monotonic()))
            if member is not None:
                ours.follow(member)
                ours.announce()
                records = ours.released() or self._read(link, ours, member, until)
                if records:
                    self._read_at = time.monotonic()
                    return records
            if time.monotonic() >= until:
                break
        return []

    def _read(self, link: Link, ours: Assignments, member: Member, until: float) -> list[RawRecord]:
        slice_s = SHORT_SLICE_S if ours.is_coming else SLICE_S
        idle = ours.is_settled and time.monotonic() - self._read_at > IDLE_AFTER_S
        member.expect(records=not idle)
        try:
            return ours.accept(member.poll(min(slice_s, max(0.0, until - time.monotonic()))))
        except OffsetsWrong as error:
            link.note_trouble()
            link.check_topics_now()
            ours.begin_anew(error.diverged)
        except Broken as error:
            ours.give_up()
            link.replace(error)
        finally:
            link.polled()
        return []

    def pause(self, partition: int) -> None:
        if self._assignments is not None:
            self._assignments.pause(partition)

    def resume(self, partition: int) -> None:
        if self._assignments is not None:
            self._assignments.resume(partition)

    # -- offsets -----------------------------------------------------------------------------------

    def commit(self, requests: Sequence[CommitRequest]) -> Mapping[int, bool]:
        stored = dict.fromkeys((request.partition for request in requests), False)
        commits = self._link.commits if self._link is not None else None
        ours = self._assignments
        if commits is not None and ours is not None:
            stored.update(commits.store(lambda: ours.ours(requests)))
        return stored

    def end_offsets(self, partitions: Sequence[int]) -> Mapping[int, int]:
        member = self._link.member if self._link is not None else None
        if member is None:
            raise LogUnavailable(
                f"{self._options.place} is not connected: {self.trouble or 'it is joined soon'}"
            )
        return member.ends(partitions, ENDS_S)

    # -- what it says of itself --------------------------------------------------------------------

    def confirmed(self) -> bool:
        member = self._link.member if self._link is not None else None
        return member is not None and member.confirmed()

    @property
    def errors(self) -> int:
        link, ours = self._link, self._assignments
        if link is None or ours is None:
            return 0
        return link.counts.troubles + link.counts.replaced + ours.counts.troubles

    @property
    def trouble(self) -> str | None:
        return self._link.trouble if self._link is not None else None

    @property
    def lost_records(self) -> int:
        return self._assignments.counts.lost if self._assignments is not None else 0

    @property
    def stats(self) -> ReaderStats:
        """What happened so far."""
        link, ours = self._link, self._assignments
        member = link.member if link is not None else None
        return ReaderStats(
            lost_offsets=ours.counts.lost if ours is not None else 0,
            replaced_offsets=ours.counts.replaced if ours is not None else 0,
            unreadable_batches=self._unreadable.batches,
            clients_replaced=link.counts.replaced if link is not None else 0,
            silent_s=member.silent_s if member is not None else None,
        )
