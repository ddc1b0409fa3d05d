"""What `send` costs a service, in CPU.

The caller's thread is measured twice, with the `disabled` dispatcher and with the log: the first is matching
and encoding, the difference is grouping, packing and handing over. Other threads' share is the sender, which
writes to SQLite.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.load import data_of
from producer import Producer

#: The buffer is emptied outside of what is measured whenever so many deliveries were sent.
_FLUSH_EVERY: Final = 5_000

_EVENT: Final = "bench.order"


@dataclass(frozen=True, slots=True)
class SendCost:
    """Microseconds of CPU per `send` of one event. sender_us: on the thread that writes to the log."""

    subscribers: int
    hosts: int
    sends: int
    prepare_us: float
    dispatch_us: float
    sender_us: float

    @property
    def caller_us(self) -> float:
        """What the thread that calls `send` spends."""
        return self.prepare_us + self.dispatch_us


def send_cost(log: Path, subscribers: int, hosts: int, sends: int) -> SendCost:
    """Measure `send` of one event to this many subscribers, spread over this many hosts."""
    wanted = {
        _EVENT: [
            {"url": f"https://h{number % hosts}.example/hook/{number}", "hmac_secret": f"secret-{number}"}
            for number in range(subscribers)
        ]
    }
    prepare_s, _ = _caller_and_others_s({"dispatcher": "disabled", "subscribers": wanted}, subscribers, sends)
    caller_s, others_s = _caller_and_others_s(
        {"log": f"sqlite:///{log}", "subscribers": wanted}, subscribers, sends
    )
    per_send = 1e6 / sends
    return SendCost(
        subscribers,
        hosts,
        sends,
        prepare_s * per_send,
        (caller_s - prepare_s) * per_send,
        others_s * per_send,
    )


def _caller_and_others_s(settings: Mapping[str, Any], subscribers: int, sends: int) -> tuple[float, float]:
    """CPU seconds of these sends on this thread, and of all other threads until the log acknowledged."""
    caller_s = flushing_s = 0.0
    flush_every = max(1, _FLUSH_EVERY // subscribers)
    events = [data_of(number) for number in range(sends)]
    with Producer(**settings) as producer:
        producer.send(_EVENT, data_of(0)).wait(timeout_s=10.0)  # opens the log
        process_before_s = time.process_time()
        for start in range(0, sends, flush_every):
            began_s = time.thread_time()
            for data in events[start : start + flush_every]:
                producer.send(_EVENT, data)
            sent_s = time.thread_time()
            assert producer.flush(timeout_s=30.0), "the log did not acknowledge within 30 s"
            caller_s += sent_s - began_s
            flushing_s += time.thread_time() - sent_s
        others_s = time.process_time() - process_before_s - caller_s - flushing_s
    return caller_s, max(0.0, others_s)
