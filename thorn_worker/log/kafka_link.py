"""A member of the group for as long as it is wanted: connected, watched, and replaced when it can't go on."""

import logging
import time
from dataclasses import dataclass
from typing import Final

import gevent

from producer.errors import LogUnavailable, LogUnusable, ThornError
from producer.log.kafka_options import KafkaOptions
from thorn_worker.log.kafka_commits import Commits
from thorn_worker.log.kafka_consumer import Identity
from thorn_worker.log.kafka_member import Broken, Member
from thorn_worker.log.kafka_positions import TopicIds, changed
from thorn_worker.log.kafka_rebalance import Owner
from thorn_worker.logs import RateLimited

#: Pause before a client that could not connect, or had to be dropped, is replaced.
AGAIN_S: Final = 1.0
#: The topics are looked at this often; one that was made anew is noticed within this.
WATCH_S: Final = 5.0
#: A topic must be missing so often in a row: a broker that has just started may not know all yet.
MISSING_TIMES: Final = 2
#: Brokers that are silent for so long are said to be; a look at the topics alone breaks the silence earlier.
SILENT_S: Final = 2 * WATCH_S
#: A rebalance that takes longer is said to; others may take the time to finish what is in flight.
REBALANCE_S: Final = 10.0
#: Bound of a goodbye.
CLOSE_S: Final = 3.0

_logger = logging.getLogger("thorn_worker.log.kafka")


@dataclass(slots=True)
class LinkCounts:
    """troubles: questions and commits that brokers did not answer, or refused. replaced: clients that
    ended.
    """

    troubles: int = 0
    replaced: int = 0


class Link:
    """Gives the current member. Connecting happens in a greenlet of its own: `current` waits no longer than
    it is told to.
    """

    def __init__(self, options: KafkaOptions, identity: Identity, owner: Owner, topics: TopicIds) -> None:
        self._options = options
        self._identity = identity
        self._owner = owner
        self._topics = topics
        self._complaints = RateLimited(_logger)
        self._connecting: gevent.Greenlet | None = None
        self._due_at = float("-inf")
        self._unreachable: str | None = None
        self._joining_since: float | None = None
        self._fatal: ThornError | None = None
        self._watching = gevent.spawn(self._watch)
        self.member: Member | None = None
        self.commits: Commits | None = None
        self.counts = LinkCounts()

    def __repr__(self) -> str:
        return f"<Link {self.trouble or self.member}>"

    def current(self, wait_s: float) -> Member | None:
        """The member, or None if none is connected after `wait_s`.

        Raises `LogUnusable` (or a `ConfigurationError`) once nothing will help any more.
        """
        self._check()
        if self.member is None:
            self._connect(time.monotonic() + wait_s)
            self._check()
        return self.member

    def _check(self) -> None:
        fatal = self._fatal or (self.commits.fatal if self.commits is not None else None)
        if fatal is not None:
            raise fatal

    def fail(self, error: ThornError) -> None:
        """Let `current` raise this from now on."""
        self._fatal = self._fatal or error

    def note_trouble(self) -> None:
        """Count something that is tried again."""
        self.counts.troubles += 1

    def polled(self) -> None:
        """A poll has returned: note how long the group has been rebalancing."""
        if self.member is None or not self.member.joining:
            self._joining_since = None
        elif self._joining_since is None:
            self._joining_since = time.monotonic()

    def replace(self, error: Broken) -> None:
        """Drop the member, which nobody may ask again; the next one joins in its place."""
        self.counts.replaced += 1
        self._complaints.error(
            "replaced", "the Kafka client ended in an error and is replaced: %s", error.__cause__ or error
        )
        _logger.debug("what ended the Kafka client", exc_info=error)
        member, self.member, self.commits = self.member, None, None
        self._due_at = time.monotonic() + AGAIN_S
        if member is not None:
            gevent.spawn(member.close, CLOSE_S)

    @property
    def trouble(self) -> str | None:
        """Why nothing can be read or committed just now, in one sentence."""
        member = self.member
        if member is None:
            return self._unreachable
        if member.silent_s > SILENT_S:
            return f"{self._options.place} has not answered for {member.silent_s:.0f} s: check the brokers"
        since = self._joining_since
        if since is not None and time.monotonic() - since > REBALANCE_S:
            return (
                f"the group {self._options.group} has been rebalancing for {time.monotonic() - since:.0f} s:"
                " another worker is slow to let its partitions go"
            )
        if not member.is_lost and not member.confirmed():
            return (
                f"the coordinator of the group {self._options.group} has not confirmed for a whole session"
                " that the partitions are still ours: check the brokers"
            )
        return None

    def close(self) -> None:
        """Leave the group and release everything, within about `CLOSE_S`."""
        self._watching.kill()
        if self._connecting is not None:
            self._connecting.kill()
        member, self.member, self.commits = self.member, None, None
        if member is not None:
            member.close(CLOSE_S)

    # -- connecting --------------------------------------------------------------------------------

    def _connect(self, until: float) -> None:
        if self._connecting is None:
            pause_s = self._due_at - time.monotonic()
            if pause_s > 0:
                gevent.sleep(min(pause_s, max(0.0, until - time.monotonic())))
                if time.monotonic() < self._due_at:
                    return
            self._connecting = gevent.spawn(self._new_member)
        self._connecting.join(max(0.0, until - time.monotonic()))
        if self._connecting.ready():
            self._connecting = None

    def _new_member(self) -> None:
        try:
            member = Member(self._options, self._identity, self._owner)
        except LogUnavailable as error:
            self.note_trouble()
            self._unreachable = str(error)
            self._due_at = time.monotonic() + AGAIN_S
            self._complaints.warning("connect", "waiting for the log: %s", error)
        except ThornError as error:
            self.fail(error)
        else:
            self._unreachable = None
            self.commits = Commits(member, self._options, self.note_trouble)
            self.member = member

    # -- watching ----------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Work on topics that were made anew would be committed into the void."""
        missing = 0
        while self._fatal is None:
            gevent.sleep(WATCH_S)
            try:
                what, gone = self._look()
            except LogUnavailable:
                self.note_trouble()  # it shows as silence
                continue
            except ThornError as error:
                self.fail(error)
                return
            missing = missing + 1 if gone else 0
            if what is not None and (not gone or missing >= MISSING_TIMES):
                self.fail(LogUnusable(what))

    def _look(self) -> tuple[str | None, bool]:
        """What has changed, and whether a topic is missing."""
        if self.member is None:
            return None, False
        found = self.member.topic_ids([self._topics.deliveries, self._topics.state], WATCH_S)
        return changed(self._topics, found), None in found.values()

    def check_topics_now(self) -> None:
        """Look at once, since something does not fit. Raises `LogUnusable` if a topic was made anew."""
        try:
            what, gone = self._look()
        except LogUnavailable:
            return  # the watch goes on
        if what is not None and not gone:
            raise LogUnusable(what)
