"""What a `WriteBuffer` holds: limits, calls, and the state that a forked child must not share."""

import os
import threading
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field

from producer.errors import LogError
from producer.log.contract import NewRecord, OnDone


@dataclass(frozen=True, slots=True, kw_only=True)
class BufferLimits:
    """How much a writer holds and how long it is patient.

    linger_s: how long the first record of a write waits for company.
    deadline_s: from `append` on; a record not durable by then fails with `NotAcknowledged`.
    """

    max_buffered_bytes: int = 32 * 1024 * 1024
    max_block_s: float = 1.0
    linger_s: float = 0.005
    deadline_s: float = 60.0


@dataclass(slots=True, eq=False)
class Call:
    """One `append`: taken whole, settled whole.

    deadline: on the monotonic clock. number: counts calls from 1.
    """

    records: Sequence[NewRecord]
    on_done: OnDone
    size: int
    bounded: bool
    deadline: float
    number: int = 0
    settled: bool = False


@dataclass(slots=True, eq=False)
class Refusal:
    """The log said no: what `append` raises, to whom, and when one call may find out whether it still
    holds."""

    error: LogError
    bounded_only: bool
    retry_at: float


@dataclass(slots=True, eq=False)
class State:
    """One process's buffer. Fields are read and written under `lock`.

    writing: calls that the sender has taken. taken, finished: numbers of the last call taken and the last
    done with.
    gave_up: `close` ran out of time and settled what was left.
    """

    pid: int = field(default_factory=os.getpid)
    lock: threading.Lock = field(default_factory=threading.Lock)
    #: Held while the log itself is used.
    using_log: threading.Lock = field(default_factory=threading.Lock)
    queue: deque[Call] = field(default_factory=deque)
    writing: list[Call] = field(default_factory=list)
    sender: threading.Thread | None = None
    refusal: Refusal | None = None
    idle: bool = False
    closing: bool = False
    gave_up: bool = False
    flushing: int = 0
    bytes: int = 0
    taken: int = 0
    finished: int = 0
    blocked_s: float = 0.0
    warned_at: float = float("-inf")
    #: Told to the sender: there is work. Told to everybody else: there is room, or something finished.
    work: threading.Condition = field(init=False)
    room: threading.Condition = field(init=False)

    def __post_init__(self) -> None:
        self.work = threading.Condition(self.lock)
        self.room = threading.Condition(self.lock)
