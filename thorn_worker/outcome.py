"""What an attempt means. Pure: no I/O, no clock.

The table is the contract: status and phase decide the `Outcome`, the Outcome decides whether the
delivery is tried again and whom the failure is held against.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeAlias


class Outcome(StrEnum):
    """The closed set of meanings. The values are metric labels and words in lists."""

    DELIVERED = "delivered"
    THROTTLED = "throttled"
    FAILED = "failed"
    UNREACHABLE = "unreachable"
    GONE = "gone"
    BLOCKED = "blocked"


class Phase(StrEnum):
    """How far an attempt came. The value of a finished attempt is the phase in which it ended."""

    GUARD = "guard"
    DNS = "dns"
    CONNECT = "connect"
    TLS = "tls"
    SEND = "send"
    WAIT = "wait"
    BODY = "body"


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One HTTP request and what came of it.

    number: 1 for the first. started_at: Unix seconds. duration_s: until the outcome was known. status: the
    final status line's code, None if none came. error: one short sentence without query or secret.
    retry_after_s: the receiver's Retry-After counted from the answer, clamped to 0 … 24 h; None if it sent
    none. excerpt: at most 4 KiB of the response body.
    """

    number: int
    started_at: float
    duration_s: float
    outcome: Outcome
    phase: Phase
    status: int | None = None
    error: str | None = None
    retry_after_s: float | None = None
    excerpt: bytes = b""


@dataclass(frozen=True, slots=True)
class LocalTrouble:
    """Our own machine failed the attempt (no files, memory or ports left): no Outcome, nobody is to blame."""

    error: str


#: What a driver reports for a started attempt.
Report: TypeAlias = Attempt | LocalTrouble

#: 429 and 503 ask for patience and say nothing against the host (RFC 6585 section 4, RFC 9110 section
#: 15.6.4).
THROTTLING_STATUSES: Final = frozenset({429, 503})


def of_status(status: int) -> Outcome:
    """The Outcome of a complete header block with this final status code.

    >>> of_status(204), of_status(302), of_status(410), of_status(503)
    (<Outcome.DELIVERED: 'delivered'>, <Outcome.FAILED: 'failed'>, <Outcome.GONE: 'gone'>, <Outcome.THROTTLED:
    'throttled'>)
    """
    if 200 <= status < 300:
        return Outcome.DELIVERED
    if status == 410:
        return Outcome.GONE
    if status in THROTTLING_STATUSES:
        return Outcome.THROTTLED
    return Outcome.FAILED


class Death(StrEnum):
    """Why a delivery was given up: the ``reason`` of a dead letter and of its metric."""

    EXHAUSTED = "exhausted"
    EXPIRED = "expired"
    BLOCKED = "blocked"
    GONE = "gone"
    DISABLED = "disabled"
    UNRESOLVED = "unresolved"
    MALFORMED = "malformed"
    UNSUPPORTED = "unsupported"
