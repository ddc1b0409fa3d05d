"""Ownership as the coordinator's answers grant it, with instants as plain numbers."""

from thorn_worker.log.kafka_confirmation import Confirmation


def joined(at: float = 100.0) -> Confirmation:
    """Session 15 s, a member since `at`."""
    confirmation = Confirmation(session_s=15.0)
    confirmation.polled(at, at, joining=True)
    return confirmation


def poll(confirmation: Confirmation, *instants: float) -> None:
    for now in instants:
        confirmation.polled(now - 0.1, now, joining=False)


def test_nothing_is_ours_before_the_group_was_joined() -> None:
    confirmation = Confirmation(session_s=15.0)
    poll(confirmation, 100.0)
    assert not confirmation.holds(100.0)


def test_a_heartbeat_grants_one_session_from_its_sending() -> None:
    confirmation = joined()
    confirmation.asked(105.0)
    poll(confirmation, 110.0, 119.0)
    assert not confirmation.holds(119.0)  # granted until 115 by the join
    confirmation.answered()
    assert confirmation.holds(119.0)
    poll(confirmation, 120.0, 121.0)
    assert confirmation.holds(120.0)
    assert not confirmation.holds(120.1)


def test_rule_6_loss_is_told_late_so_a_poll_that_is_too_old_confirms_nothing() -> None:
    # Given a process whose heartbeats go on while nobody polls
    confirmation = joined()
    for now in (105.0, 110.0, 116.0):
        confirmation.asked(now)
        confirmation.answered()
    # Then what is held counts as uncertain, although the coordinator answers
    assert confirmation.holds(115.0)
    assert not confirmation.holds(116.0)
    poll(confirmation, 117.0)
    assert confirmation.holds(117.0)


def test_a_join_that_the_coordinator_holds_open_confirms_what_is_kept() -> None:
    confirmation = joined()
    for now in range(101, 160):  # another worker takes its time
        confirmation.polled(now - 0.5, float(now), joining=True)
        assert confirmation.holds(float(now))


def test_a_process_that_stood_still_is_confirmed_by_no_old_answer() -> None:
    # Given a process that stood still from 100 to 200 while the coordinator's answer lay in its socket
    between_polls, inside_of_one = joined(), joined()
    between_polls.polled(200.0, 200.1, joining=True)
    inside_of_one.polled(100.1, 200.1, joining=True)
    # Then the answer is worth nothing, and the next one counts
    for confirmation in (between_polls, inside_of_one):
        assert not confirmation.holds(200.1)
        confirmation.asked(200.2)
        confirmation.answered()
        assert confirmation.holds(200.2)


def test_an_eviction_ends_it_at_once() -> None:
    confirmation = joined()
    confirmation.lost()
    assert not confirmation.holds(100.0)
