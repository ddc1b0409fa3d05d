"""What the answer to a commit means, and what is left out of one that a broker finds too large."""

import pytest
from kafka.errors import NotCoordinatorError, RebalanceInProgressError

from thorn_worker.log.kafka_commits import cut
from thorn_worker.log.kafka_positions import Committed
from thorn_worker.log.kafka_rebalance import Unknown, error_of
from thorn_worker.offsets import Progress


def test_rule_2_only_the_value_none_is_a_stored_commit() -> None:
    assert error_of(None, None) is None
    # what kafka-python answers when it had to look for the coordinator first
    assert isinstance(error_of(None, "coordinator-1"), Unknown)


@pytest.mark.parametrize("error", [RebalanceInProgressError(), NotCoordinatorError()])
def test_rule_2_an_error_stays_the_error(error: Exception) -> None:
    assert error_of(error, None) is error


def test_rule_2_metadata_that_is_too_large_is_cut_step_by_step() -> None:
    full = Progress("D", "S", 0b1010, {1: 1, 3: 5})
    steps = [{0: Committed(7, full.encode()), 1: Committed(8, "")}]
    while (shorter := cut(steps[-1])) is not None:
        steps.append(shorter)
    assert [step[0] for step in steps] == [
        Committed(7, full.encode()),
        Committed(7, Progress("D", "S", 0b1010).encode()),
        Committed(7, Progress("D", "S").encode()),
        Committed(7, ""),
    ]
    assert {step[1] for step in steps} == {Committed(8, "")}
