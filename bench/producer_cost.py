"""What `send` costs a service, in CPU, and who takes it.

Three producers take turns in sending the same events, each to a later point: one matches and encodes (the
`disabled` dispatcher), one also groups and packs (the `log` dispatcher in front of a writer that forgets),
one writes to the log. The differences are the parts. What other threads use is the log's: SQLite's, or
kafka-python's.
"""

import statistics
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final

from bench.load import data_of
from producer import Producer
from producer.config import Settings
from producer.dispatch.log import LogDispatcher
from producer.log.contract import LogWriter, NewRecord, OnDone

#: Turns of each producer; a figure is the median.
_TURNS: Final = 9

_EVENT: Final = "bench.order"
_PATIENCE_S: Final = 60.0
_NOT_ACKNOWLEDGED: Final = f"the log did not acknowledge within {_PATIENCE_S:g} s"


class ForgettingWriter(LogWriter):
    """Takes everything and writes nothing."""

    buffered_bytes = 0
    blocked_s = 0.0

    def append(self, records: Sequence[NewRecord], on_done: OnDone) -> None:
        """Forget them."""

    def partitions(self) -> int:
        """As many as one needs."""
        return 1

    def flush(self, timeout_s: float) -> bool:
        """There is nothing to wait for."""
        return timeout_s >= 0

    def close(self, timeout_s: float) -> None:
        """There is nothing to close."""


class PackingDispatcher(LogDispatcher):
    """All of the `log` dispatcher but the log."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, ForgettingWriter())


@dataclass(frozen=True, slots=True)
class SendCost:
    """Microseconds of CPU per `send` of one event, medians over turns.

    prepare_us: match and encode. pack_us: group by host and pack. hand_over_us: give the records to the log's
    writer. These three are the caller's. log_us: all other threads of the process, until the log has
    acknowledged.
    """

    subscribers: int
    hosts: int
    sends: int
    prepare_us: float
    pack_us: float
    hand_over_us: float
    log_us: float

    @property
    def ours_us(self) -> float:
        """Our share, whatever the log: match, encode, group and pack."""
        return self.prepare_us + self.pack_us

    @property
    def caller_us(self) -> float:
        """What the thread that calls `send` spends."""
        return self.ours_us + self.hand_over_us


def send_cost(log: str, subscribers: int, hosts: int, sends: int) -> SendCost:
    """Measure `send` of one event to this many subscribers, spread over this many hosts.

    log: a URL. sends: of each producer, in all. Raises AssertionError if the log does not acknowledge.
    """
    wanted = {
        _EVENT: [
            {"url": f"https://h{number % hosts}.example/hook/{number}", "hmac_secret": f"secret-{number}"}
            for number in range(subscribers)
        ]
    }
    stages: tuple[Mapping[str, Any], ...] = (
        {"dispatcher": "disabled"},
        {"dispatcher": f"{__name__}:{PackingDispatcher.__name__}"},
        {"log": log},
    )
    with ExitStack() as stack:
        producers = [stack.enter_context(Producer(subscribers=wanted, **settings)) for settings in stages]
        turns = [[_turn(producer, max(1, sends // _TURNS)) for producer in producers] for _ in range(_TURNS)]
    prepared, packed, handed_over = zip(*turns, strict=True)
    prepare_us, pack_us, caller_us = (
        statistics.median(turn.caller_us for turn in of_stage) for of_stage in (prepared, packed, handed_over)
    )
    return SendCost(
        subscribers,
        hosts,
        sends,
        prepare_us,
        pack_us - prepare_us,
        caller_us - pack_us,
        statistics.median(turn.others_us for turn in handed_over),
    )


@dataclass(frozen=True, slots=True)
class _Turn:
    """Microseconds of CPU per `send`."""

    caller_us: float
    others_us: float


def _turn(producer: Producer, sends: int) -> _Turn:
    """Send so many events, one by one, and wait for the log. Waiting does not count as the caller's."""
    producer.send(_EVENT, data_of(0))  # the first one opens the log
    assert producer.flush(_PATIENCE_S), _NOT_ACKNOWLEDGED
    events = [data_of(number) for number in range(sends)]
    process_began_s, began_s = time.process_time(), time.thread_time()
    for data in events:
        producer.send(_EVENT, data)
    caller_s = time.thread_time() - began_s
    assert producer.flush(_PATIENCE_S), _NOT_ACKNOWLEDGED
    others_s = time.process_time() - process_began_s - (time.thread_time() - began_s)
    return _Turn(caller_s / sends * 1e6, max(0.0, others_s) / sends * 1e6)
