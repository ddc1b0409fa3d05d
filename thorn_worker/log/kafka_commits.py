"""Commits of a member, one at a time, and what counts as one that was stored."""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Final

from gevent.lock import BoundedSemaphore
from kafka.errors import InvalidCommitOffsetSizeError, OffsetMetadataTooLargeError

from producer.errors import LogError
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_trouble import explain
from thorn_worker.log.kafka_member import FINAL, Member
from thorn_worker.log.kafka_positions import Committed
from thorn_worker.log.kafka_rebalance import Answer
from thorn_worker.logs import RateLimited
from thorn_worker.offsets import Progress, decode

#: How long a commit is waited for; then nobody knows whether it was stored, and it is made again.
WAIT_S: Final = 5.0

_logger = logging.getLogger("thorn_worker.log.kafka")


class Commits:
    """Sends the commits of one member. trouble: called for each that was not stored, as far as anybody can
    tell. fatal: an error that no later commit will survive.
    """

    def __init__(self, member: Member, options: KafkaOptions, trouble: Callable[[], None]) -> None:
        self._member = member
        self._options = options
        self._trouble = trouble
        self._turn = BoundedSemaphore(1)
        self._unanswered: Answer | None = None
        self._complaints = RateLimited(_logger)
        self.fatal: LogError | None = None

    def store(self, wanted: Callable[[], Mapping[int, Committed]]) -> Mapping[int, bool]:
        """Commit what `wanted` returns once it is this commit's turn; waits.

        Per partition: False if it was not stored, or nobody can tell. At most one commit is under way, also
        after one was not answered in time: two could be stored in the wrong order.
        """
        with self._turn:
            until = time.monotonic() + WAIT_S
            if self._unanswered is not None and not self._unanswered.wait(WAIT_S):
                return dict.fromkeys(wanted(), False)
            offsets = wanted()
            while offsets:
                error = self._send(offsets, until)
                if error is None:
                    break
                shorter = cut(offsets) if isinstance(error, _TOO_LARGE) else None
                if shorter is None:
                    self._failed(error)
                    return dict.fromkeys(offsets, False)
                offsets = shorter
            return dict.fromkeys(offsets, True)

    def _send(self, offsets: Mapping[int, Committed], until: float) -> Exception | None:
        """None if the commit was stored, else why that is not known."""
        try:
            answer = self._member.commit(offsets)
        except Exception as error:
            return error
        self._unanswered = answer
        if not answer.wait(max(0.0, until - time.monotonic())):
            return TimeoutError(f"no answer within {WAIT_S:g} s")
        self._unanswered = None
        self._member.heard()
        return answer.error

    def _failed(self, error: Exception) -> None:
        """Most errors pass: the offsets stay to be committed, and the next commit tells. A member that was
        evicted learns it at its next poll.
        """
        self._trouble()
        if isinstance(error, FINAL):
            self.fatal = explain(error, self._options, "committing as one of the workers")
        self._complaints.warning(
            type(error).__name__,
            "a commit was not stored and is made again: %s: %s",
            type(error).__name__,
            error,
        )


_TOO_LARGE: Final = (OffsetMetadataTooLargeError, InvalidCommitOffsetSizeError)


def cut(offsets: Mapping[int, Committed]) -> dict[int, Committed] | None:
    """The same offsets with less metadata, None if none is left: a broker may take less than Kafka's default.

    What is left out may be delivered again after a crash, the offsets matter more.
    """
    shorter = {partition: Committed(one.offset, _shorter(one.metadata)) for partition, one in offsets.items()}
    return shorter if shorter != offsets else None


def _shorter(metadata: str) -> str:
    """First the partly done records are left out, then the gap map, then the ids."""
    progress = decode(metadata)
    if progress.partial:
        return Progress(progress.topic_id, progress.state_id, progress.complete).encode()
    if progress.complete:
        return Progress(progress.topic_id, progress.state_id).encode()
    return ""
