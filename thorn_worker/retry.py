"""When a failed delivery is tried again, or why it is given up. Pure: `now` and the dice are parameters."""

from dataclasses import dataclass
from typing import Final, TypeAlias

from thorn_worker.outcome import Attempt, Death, Outcome, Phase

#: Jitter lengthens a delay by up to this share, and never shortens it.
JITTER: Final = 0.1


@dataclass(frozen=True, slots=True)
class Retry:
    """Try again at `due_at`, not earlier."""

    due_at: float


@dataclass(frozen=True, slots=True)
class GiveUp:
    """No further attempt."""

    reason: Death


Decision: TypeAlias = Retry | GiveUp


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """n delays mean n + 1 attempts.

    schedule_s: seconds after each failed attempt. max_age_s: oldest a life gets, counted from its append to
    the log.
    """

    schedule_s: tuple[float, ...]
    max_age_s: float

    def decide(
        self, attempt: Attempt, now: float, appended_at: float, expires_at: float | None, dice: float
    ) -> Decision:
        """What follows a failed attempt (`attempt.number` is how many were made).

        now: when its outcome was known. dice: uniform in 0 … 1.

        With the delays 5 s and 5 min, attempt 1 failing at t=100 is due at 105 … 105.5; a Retry-After of 60 s
        makes that 160 exactly; attempt 3 failing gives up as ``exhausted``.
        """
        if attempt.outcome is Outcome.GONE:
            return GiveUp(Death.GONE)
        blocked = attempt.outcome is Outcome.BLOCKED
        if blocked and attempt.phase is Phase.GUARD:  # a literal address never becomes a public one
            return GiveUp(Death.BLOCKED)
        if attempt.number > len(self.schedule_s):
            return GiveUp(Death.BLOCKED if blocked else Death.EXHAUSTED)
        step_s = self.schedule_s[attempt.number - 1] * (1 + JITTER * dice)
        due_at = now + max(step_s, attempt.retry_after_s or 0.0)
        if due_at > self.dies_at(appended_at, expires_at):
            return GiveUp(Death.EXPIRED)
        return Retry(due_at)

    def dies_at(self, appended_at: float, expires_at: float | None) -> float:
        """The instant after which no attempt is made."""
        oldest_at = appended_at + self.max_age_s
        return oldest_at if expires_at is None else min(oldest_at, expires_at)
