"""The Kafka log's writing half: records go to ``<prefix>.deliveries``, keyed and partitioned by their host.

Where SQLite commits one group after another, Kafka acknowledges each partition at its own pace, and one whose
leader is missing must not hold up the others. So the sender hands calls over as they come, at most
`WINDOW_BYTES` ahead of the acknowledgements, and settles each once the last of its records is acknowledged.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Final

from producer.errors import LogError, LogUnavailable, NotAcknowledged
from producer.log.buffer import TEND_S, WRITE_BYTES, WriteBuffer
from producer.log.buffer_state import BufferLimits, Call, State
from producer.log.contract import NewRecord, OnDone
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_sender import KafkaSender, Outgoing
from producer.log.partition import partition_of
from producer.log.process import end_inherited

#: So much of the buffer may be with kafka-python, which can not give it back.
WINDOW_BYTES: Final = WRITE_BYTES
#: The client is looked after this often.
CHECK_S: Final = 0.5
#: Without an acknowledgement for this long something is wrong, and worth a line.
SILENT_S: Final = 5.0
#: The number of partitions is looked at this often.
COUNT_S: Final = 5.0


@dataclass(slots=True, eq=False)
class _HandedOver:
    """A call whose records are with the sender. left: those without a report."""

    call: Call
    left: int
    report: Callable[["_HandedOver", LogError | None], None]
    error: LogError | None = None

    def on_sent(self, _offset: int | None, error: LogError | None) -> None:
        """Runs on kafka-python's thread."""
        self.report(self, error)


class _Opener(threading.Thread):
    """Opens the log for a caller that can't wait for the end of it."""

    def __init__(self, work: Callable[[], None]) -> None:
        super().__init__(name="thorn-log-opener", daemon=True)
        self._work = work
        self.error: LogError | None = None

    def run(self) -> None:
        try:
            self._work()
        except LogError as error:
            self.error = error


class KafkaWriter(WriteBuffer):
    """Appends to the deliveries topic of one Kafka.

    The first `append` raises `LogUnusable` if Kafka refuses within `max_block_s`; with the brokers away,
    records wait in the buffer. kafka-python works on threads of its own; where gevent has patched threads
    those are greenlets, so it is used from greenlets too, not from gevent's thread pool. sender: one with
    other timeouts.
    """

    def __init__(
        self, options: KafkaOptions, limits: BufferLimits, sender: KafkaSender | None = None
    ) -> None:
        self._options = options
        self._sender = sender or KafkaSender(options)
        self._partitions = 0
        self._counted_at = 0.0
        #: Whether the topic has to be looked at before anything else is sent.
        self._in_doubt = True
        self._checked_at = 0.0
        self._reports: deque[tuple[_HandedOver, LogError | None]] = deque()
        self._opener: _Opener | None = None
        super().__init__(limits)

    def __repr__(self) -> str:
        return f"<KafkaWriter {self._options.place} buffered={self.buffered_bytes}>"

    def partitions(self) -> int:
        if not self._partitions:
            self.open()
        return self._partitions

    def append(self, records: Sequence[NewRecord], on_done: OnDone) -> None:
        for record in records:
            if record.partition is not None and not 0 <= record.partition < self.partitions():
                raise ValueError(
                    f"partition {record.partition} does not exist: "
                    f"{self._options.deliveries} has 0 to {self._partitions - 1}"
                )
        super().append(records, on_done)

    def _open(self) -> None:
        self._sender.open()
        now = time.monotonic()
        if not self._in_doubt and now - self._counted_at < COUNT_S:
            return
        try:
            self._partitions = self._sender.partitions(self._options.deliveries)
            self._in_doubt = False
        except LogError:
            if self._in_doubt:
                raise
        self._counted_at = now

    def _open_for_append(self) -> None:
        opener = self._opener
        if opener is None or not opener.is_alive():
            self._opener = opener = _Opener(self.open)
            opener.start()
        opener.join(self._limits.max_block_s)
        if opener.is_alive():
            raise LogUnavailable(f"{self._options.place} has not answered yet")
        if opener.error is not None:
            raise opener.error

    def _send(self, state: State, calls: Sequence[Call]) -> None:
        self._use_log(self._open)
        state.refuse_no_more(calls)
        for call in calls:
            self._wait_for_window(state)
            if call.settled:
                continue
            if not call.records:
                state.settle([call], None)
            handed_over = _HandedOver(call, len(call.records), self._report)
            for record in call.records:
                partition = record.partition
                if partition is None:
                    partition = partition_of(record.key, self._partitions)
                out = Outgoing(self._options.deliveries, partition, record.key.encode(), record.value)
                self._sender.send(out, handed_over.on_sent)

    def _wait_for_window(self, state: State) -> None:
        while self._sender.unacknowledged_bytes >= WINDOW_BYTES and not state.gave_up:
            with state.lock:
                if not state.news:
                    state.work.wait(TEND_S)
                state.news = False
            self._tend(state)

    def _tend(self, state: State) -> None:
        self._settle_reported(state)
        self._settle_late(state)
        now = time.monotonic()
        if now - self._checked_at < CHECK_S:
            return
        self._checked_at = now
        self._sender.check()
        silent_s = self._sender.oldest_s
        if silent_s is not None and silent_s > SILENT_S:
            state.warn("the log does not take records, trying again: %s", self._silence(silent_s))

    def _report(self, handed_over: _HandedOver, error: LogError | None) -> None:
        """Tell the sender's thread, which settles what comes together in one go."""
        state = self._state
        self._reports.append((handed_over, error))
        if not state.news:
            with state.lock:
                state.news = True
                state.work.notify()

    def _settle_reported(self, state: State) -> None:
        done: list[Call] = []
        while self._reports:
            handed_over, error = self._reports.popleft()
            handed_over.left -= 1
            handed_over.error = handed_over.error or error
            if handed_over.left:
                continue
            if handed_over.error is None:
                done.append(handed_over.call)
            else:
                self._in_doubt = True  # perhaps the topic is gone
                state.settle([handed_over.call], handed_over.error)
        if done:
            state.settle(done, None)

    def _settle_late(self, state: State) -> None:
        now = time.monotonic()
        with state.lock:
            late = list(takewhile(lambda call: call.deadline < now, state.unsettled))
        if late:
            trouble = self._sender.trouble or self._options.place
            text = f"the log did not acknowledge within {self._limits.deadline_s:g} s: {trouble}"
            state.settle(late, NotAcknowledged(text))

    def _silence(self, silent_s: float) -> LogUnavailable:
        trouble = self._sender.trouble
        return LogUnavailable(trouble or f"{self._options.place} has not acknowledged for {silent_s:.0f} s")

    def _close(self) -> None:
        self._sender.close(0.0)

    def _forget(self) -> None:
        if self._opener is not None:
            end_inherited(self._opener)
            self._opener = None
        self._reports = deque()
        self._sender.forget()
