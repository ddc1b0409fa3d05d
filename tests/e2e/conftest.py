"""Fixtures of tests with real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sink import RecordingSink
from tests.support.system_log import SqliteLog, SystemLog


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[RecordingSink]:
    """A receiver on four loopback addresses that keeps heads and bodies."""
    with RecordingSink(tmp_path / "ledger", addresses=4, keep=True) as sink:
        yield sink


@pytest.fixture(params=["sqlite", pytest.param("kafka", marks=[pytest.mark.kafka, pytest.mark.long])])
def log(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[SystemLog]:
    """Every kind of log in turn."""
    if request.param == "sqlite":
        yield SqliteLog(tmp_path)
        return
    from tests.support.kafka_log import KafkaLog

    broker, prefix = request.getfixturevalue("broker"), request.getfixturevalue("prefix")
    yield KafkaLog(broker.bootstrap, prefix, tmp_path / "state")
