"""When a failed delivery is tried again."""

from hypothesis import given
from hypothesis import strategies as st

from thorn_worker.outcome import Attempt, Death, Outcome, Phase, of_status
from thorn_worker.retry import JITTER, GiveUp, Retry, RetryPolicy

POLICY = RetryPolicy(schedule_s=(5.0, 300.0), max_age_s=86_400.0)


def failed(number: int = 1, outcome: Outcome = Outcome.FAILED, **fields: object) -> Attempt:
    known: dict[str, object] = {"started_at": 99.0, "duration_s": 1.0, "phase": Phase.BODY, **fields}
    return Attempt(number=number, outcome=outcome, **known)  # type: ignore[arg-type]


def test_the_worked_example() -> None:
    first, second = failed(1), failed(1, Outcome.THROTTLED, retry_after_s=60.0)

    assert POLICY.decide(first, 100.0, 0.0, None, dice=0.0) == Retry(105.0)
    assert POLICY.decide(first, 100.0, 0.0, None, dice=1.0) == Retry(105.5)
    assert POLICY.decide(second, 100.0, 0.0, None, dice=1.0) == Retry(160.0)
    assert POLICY.decide(failed(3), 100.0, 0.0, None, dice=0.0) == GiveUp(Death.EXHAUSTED)


def test_n_delays_mean_n_plus_1_attempts() -> None:
    decisions = [POLICY.decide(failed(number), 100.0, 0.0, None, 0.0) for number in (1, 2, 3)]

    assert [type(decision) for decision in decisions] == [Retry, Retry, GiveUp]


def test_gone_ends_at_once() -> None:
    assert POLICY.decide(failed(1, Outcome.GONE, status=410), 100.0, 0.0, None, 0.0) == GiveUp(Death.GONE)


def test_a_literal_address_that_is_refused_dies_at_once_and_a_name_at_the_end_of_its_schedule() -> None:
    literal = failed(1, Outcome.BLOCKED, phase=Phase.GUARD)
    name_first = failed(1, Outcome.BLOCKED, phase=Phase.DNS)
    name_last = failed(3, Outcome.BLOCKED, phase=Phase.DNS)

    assert POLICY.decide(literal, 100.0, 0.0, None, 0.0) == GiveUp(Death.BLOCKED)
    assert POLICY.decide(name_first, 100.0, 0.0, None, 0.0) == Retry(105.0)
    assert POLICY.decide(name_last, 100.0, 0.0, None, 0.0) == GiveUp(Death.BLOCKED)


def test_what_would_be_due_after_its_end_expires_now() -> None:
    late = 86_400.0 - 4.0

    assert POLICY.decide(failed(1), late, 0.0, None, 0.0) == GiveUp(Death.EXPIRED)
    assert POLICY.decide(failed(1), 100.0, 0.0, 104.0, 0.0) == GiveUp(Death.EXPIRED)
    assert POLICY.decide(failed(1), 100.0, 0.0, 105.0, 0.0) == Retry(105.0)


@given(
    number=st.integers(1, 2),
    now=st.floats(0, 1e6),
    retry_after_s=st.none() | st.floats(0, 86_400),
    dice=st.floats(0, 1),
)
def test_never_early_and_at_most_a_tenth_late(
    number: int, now: float, retry_after_s: float | None, dice: float
) -> None:
    attempt = failed(number, Outcome.THROTTLED, retry_after_s=retry_after_s)

    decision = RetryPolicy((5.0, 300.0), max_age_s=1e9).decide(attempt, now, now, None, dice)

    assert isinstance(decision, Retry)
    step_s = (5.0, 300.0)[number - 1]
    assert decision.due_at >= now + max(step_s, retry_after_s or 0.0)
    assert decision.due_at <= now + max(step_s * (1 + JITTER), retry_after_s or 0.0) + 1e-6


def test_what_a_status_means() -> None:
    meanings = {
        200: "delivered",
        299: "delivered",
        304: "failed",
        302: "failed",
        404: "failed",
        408: "failed",
        410: "gone",
    }
    meanings |= {
        429: "throttled",
        500: "failed",
        502: "failed",
        503: "throttled",
        599: "failed",
        700: "failed",
    }

    assert {status: of_status(status).value for status in meanings} == meanings
