"""One member of the workers' group: a KafkaConsumer, with types, and what has to be known of its inside.

Its network greenlet (the "IO loop") runs heartbeats and calls the rebalance listener; everything else happens
in the greenlets of the callers. A member that raised `Broken` must be closed and replaced: asking it again
may never return.
"""

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any, Final

import gevent
from kafka import TopicPartition
from kafka.coordinator.assignors.cooperative_sticky import CooperativeStickyAssignor
from kafka.errors import (
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    LogTruncationError,
    NoOffsetForPartitionError,
    OffsetOutOfRangeError,
    TopicAuthorizationFailedError,
)
from kafka.protocol.metadata import MetadataRequest
from kafka.structs import OffsetAndMetadata

from producer.errors import LogUnavailable
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_trouble import explain
from thorn_worker.clock import boot_time
from thorn_worker.log.contract import RawRecord
from thorn_worker.log.kafka_confirmation import Confirmation
from thorn_worker.log.kafka_consumer import FETCH_WAIT_S, IDLE_FETCH_WAIT_S, Identity, connect
from thorn_worker.log.kafka_positions import Committed, Extent
from thorn_worker.log.kafka_rebalance import Answer, Beats, Listener, Owner, numbers_of
from thorn_worker.log.kafka_records import Records

#: Long enough for a poll to begin, and for one to end what another began.
_SOON_S: Final = 0.005
_JOIN_S: Final = 0.05

#: What no waiting cures: the operator must act.
FINAL: Final = (
    FencedInstanceIdError,
    GroupAuthorizationFailedError,
    GroupMaxSizeReachedError,
    InconsistentGroupProtocolError,
    InvalidGroupIdError,
    InvalidSessionTimeoutError,
    TopicAuthorizationFailedError,
)

_logger = logging.getLogger("thorn_worker.log.kafka")


class OffsetsWrong(Exception):
    """The log does not hold what is to be read next of these partitions.

    diverged: per partition the first offset that was replaced by another record; None if that is not known,
    or if it is not replaced but gone.
    """

    def __init__(self, diverged: Mapping[int, int | None]) -> None:
        super().__init__(f"partitions {sorted(diverged)}")
        self.diverged = diverged


class Broken(Exception):
    """The client can't go on; its cause is the error."""


class Member:
    """Connects at once; joins with the first `poll`. Raises `LogUnavailable` or `LogUnusable`."""

    def __init__(self, options: KafkaOptions, identity: Identity, owner: Owner) -> None:
        self._topic = options.deliveries
        self._options = options
        self._confirmation = Confirmation(identity.timing.session_s)
        self._heard_at = boot_time()
        #: Epoch per partition, as records are to be marked.
        self.epochs: dict[int, int] = {}
        self._assignor = CooperativeStickyAssignor()
        self._consumer = connect(options, identity, self._assignor)
        self._coordinator = self._consumer._coordinator
        self._coordinator.heartbeat = Beats(self._confirmation, self.heard, **self._coordinator.config)
        self._consumer._fetcher.PartitionRecords = partial(Records, self.epochs, identity.unreadable)
        self._listener = Listener(owner, self._hold_back, self._disown, self._consumer._net.sleep)
        self._consumer.subscribe([self._topic], listener=self._listener)

    def __repr__(self) -> str:
        return f"<Member of {self._options.group} in generation {self.generation}>"

    # -- membership --------------------------------------------------------------------------------

    @property
    def generation(self) -> int:
        """Of the group, as we know it; it grows with every rebalance."""
        return int(self._consumer.group_metadata().generation_id)

    @property
    def is_lost(self) -> bool:
        """The group does not count us as a member (not yet, or not any more)."""
        return bool(self._coordinator._generation.is_lost())

    @property
    def joining(self) -> bool:
        """The coordinator holds our request to join, until the others have joined."""
        task = self._coordinator._join_task
        return task is not None and not task.is_done

    def confirmed(self) -> bool:
        """Whether nobody else can own what is ours."""
        return not self.is_lost and self._confirmation.holds(boot_time())

    def heard(self) -> None:
        """A broker has answered something."""
        self._heard_at = boot_time()

    @property
    def silent_s(self) -> float:
        """Seconds since a broker has answered anything."""
        return boot_time() - self._heard_at

    # -- records -----------------------------------------------------------------------------------

    def poll(self, timeout_s: float) -> list[RawRecord]:
        """Records of partitions that were begun and are not paused; rebalances happen in here.

        Raises `OffsetsWrong`, `Broken`, `LogUnusable`, and what the owner has raised.
        """
        began_at, generation = boot_time(), self.generation
        if self._keep_joining():
            timeout_s = max(timeout_s, _JOIN_S)
        self._take_up_what_was_parked()
        try:
            found = self._consumer.poll(timeout_ms=timeout_s * 1000)
        except (OffsetOutOfRangeError, NoOffsetForPartitionError) as error:
            raise OffsetsWrong(dict.fromkeys(numbers_of(error.args[0]))) from error
        except LogTruncationError as error:
            found_at = error.divergent_offsets.items()
            raise OffsetsWrong({tp.partition: one.offset if one else None for tp, one in found_at}) from error
        except FINAL as error:
            raise explain(error, self._options, "staying one of the workers") from error
        except Exception as error:
            self._raise_ours()
            raise Broken(f"{type(error).__name__}: {error}") from error
        self._raise_ours()
        self._raise_if_fenced()
        joined = self.joining or self.generation != generation
        self._confirmation.polled(began_at, boot_time(), joining=joined)
        if found:
            self.heard()
        return [record for records in found.values() for record in records]

    def _take_up_what_was_parked(self) -> None:
        """Let what was fetched of a paused partition be read once it is resumed.

        kafka-python parks it, and takes it up again only while it has no other fetch in hand; but a fetch
        that is used up counts as one until the next arrives. With the other partitions read to their ends,
        none does: what is parked, and all that comes behind it, would never be read.
        """
        fetcher = self._consumer._fetcher
        if not fetcher._next_partition_records:
            fetcher._next_partition_records = None

    def _raise_ours(self) -> None:
        error, self._listener.error = self._listener.error, None
        if error is not None:
            raise error

    def _raise_if_fenced(self) -> None:
        """kafka-python only stops the heartbeats of a member whose worker id somebody else has taken, and
        raises no sooner than at its next commit.
        """
        member = self._coordinator
        if member.stable() and not member._heartbeat_enabled and member._join_task is None:
            raise explain(FencedInstanceIdError(), self._options, "staying one of the workers")

    def begin(self, partition: int, offset: int, epoch: int) -> None:
        """Read a partition from `offset` on, once it is not paused."""
        self.epochs[partition] = epoch
        self._consumer.seek(self._tp(partition), offset)

    def expect(self, *, records: bool) -> None:
        """Fetch from now on as suits a worker that is busy, or an idle one."""
        wait_s = FETCH_WAIT_S if records else IDLE_FETCH_WAIT_S
        self._consumer._fetcher.config["fetch_max_wait_ms"] = int(wait_s * 1000)

    def pause(self, partition: int) -> None:
        """Fetch no more of it; what is fetched already is kept. What the client does not own is left alone:
        while a rebalance goes on, it has given up a partition before our listener hears of that.
        """
        with suppress(KeyError):
            self._consumer.pause(self._tp(partition))

    def resume(self, partition: int) -> None:
        """Undo `pause`."""
        with suppress(KeyError):
            self._consumer.resume(self._tp(partition))

    # -- offsets -----------------------------------------------------------------------------------

    def commit(self, offsets: Mapping[int, Committed]) -> Answer:
        """Send a commit. Raises kafka-python's errors."""
        stored = {self._tp(p): OffsetAndMetadata(one.offset, one.metadata, -1) for p, one in offsets.items()}
        return Answer(self._consumer.commit_async(stored, callback=_ignore))

    def committed(self, partitions: Sequence[int], timeout_s: float) -> dict[int, Committed]:
        """What the group has stored. Raises `LogUnavailable`, `LogUnusable`."""
        wanted = [self._tp(partition) for partition in partitions]
        found = self._asked(self._coordinator.fetch_committed_offsets, wanted, timeout_ms=timeout_s * 1000)
        return {tp.partition: Committed(one.offset, one.metadata or "") for tp, one in found.items()}

    def extents(self, partitions: Sequence[int], timeout_s: float) -> dict[int, Extent]:
        """What the partitions hold. Raises `LogUnavailable`, `LogUnusable`."""
        wanted = [self._tp(partition) for partition in partitions]
        starts = self._asked(self._consumer.beginning_offsets, wanted, timeout_ms=timeout_s * 1000)
        ends = self._asked(self._consumer.end_offsets, wanted, timeout_ms=timeout_s * 1000)
        return {tp.partition: Extent(starts[tp], ends[tp]) for tp in wanted}

    def ends(self, partitions: Sequence[int], timeout_s: float) -> dict[int, int]:
        """Offset of the next record of each partition. Raises `LogUnavailable`, `LogUnusable`."""
        wanted = [self._tp(partition) for partition in partitions]
        found = self._asked(self._consumer.end_offsets, wanted, timeout_ms=timeout_s * 1000)
        return {tp.partition: end for tp, end in found.items()}

    def topic_ids(self, names: Sequence[str], timeout_s: float) -> dict[str, str | None]:
        """The id of each topic, None where there is none. Raises `LogUnavailable`, `LogUnusable`."""
        request = MetadataRequest(
            topics=[MetadataRequest.MetadataRequestTopic(name=name) for name in names],
            allow_auto_topic_creation=False,
            include_cluster_authorized_operations=False,
            include_topic_authorized_operations=False,
        )
        manager = self._consumer._manager

        async def ask() -> Any:
            return await manager.wait_for(manager.send(request), timeout_s * 1000)

        response = self._asked(manager.run, ask)
        return {topic.name: None if topic.error_code else str(topic.topic_id) for topic in response.topics}

    def _asked(self, call: Callable[..., Any], *arguments: Any, **keywords: Any) -> Any:
        try:
            answer = call(*arguments, **keywords)
        except FINAL as error:
            raise explain(error, self._options, "staying one of the workers") from error
        except Exception as error:  # a client that is being closed raises RuntimeError and others
            raise LogUnavailable(
                f"{self._options.place} does not answer ({type(error).__name__}: {error}): check the brokers"
            ) from error
        self.heard()
        return answer

    def close(self, timeout_s: float) -> None:
        """Leave the group, unless under a worker id of its own, and release everything within `timeout_s`."""
        self._listener.detach()
        timer = gevent.Timeout(timeout_s)
        try:
            with timer:
                self._consumer.close(autocommit=False, timeout_ms=timeout_s * 1000 / 2)
        except (Exception, gevent.Timeout) as error:
            if isinstance(error, gevent.Timeout) and error is not timer:
                raise
            _logger.warning("a Kafka client was dropped without leaving its group: %s", error)
        finally:
            self._consumer._client.close()

    def _hold_back(self, assigned: Iterable[Any]) -> None:
        """Fetch nothing of these yet. Any position will do: with none, kafka-python would look for one itself
        and raise where there is no commit.
        """
        for tp in assigned:
            self._consumer.seek(tp, 0)
            self._consumer.pause(tp)

    def _disown(self) -> None:
        """Forget what was ours. The assignor would claim it when joining again, while somebody else has it,
        and the leader would give it to both.
        """
        self._assignor.member_assignment = None
        self._confirmation.lost()

    def _keep_joining(self) -> bool:
        """Let the next poll take up a join that the last one had no time to finish, if there is one.

        kafka-python forgets one that a change of metadata began: the member then stays without partitions and
        heartbeats, and ``poll`` spins. It also throws away an answer that came between two polls and joins
        once more, which under load never ends. So a finished join is put before the next poll as one that
        ends soon.
        """
        task = self._coordinator._join_task
        if task is None:
            return False
        self._coordinator.request_rejoin()
        if task.is_done:
            sleep = self._consumer._net.sleep

            async def soon() -> Any:
                await sleep(_SOON_S)
                return await task

            self._coordinator._join_task = self._consumer._manager.call_soon(soon)
        return True

    def _tp(self, partition: int) -> Any:
        return TopicPartition(self._topic, partition)


def _ignore(_offsets: object, _answer: object) -> None:
    """The future tells; kafka-python would log a warning."""
