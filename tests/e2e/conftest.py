"""Fixtures of tests with real processes."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.sink import RecordingSink


@pytest.fixture
def sink(tmp_path: Path) -> Iterator[RecordingSink]:
    """A receiver on four loopback addresses that keeps heads and bodies."""
    with RecordingSink(tmp_path / "ledger", addresses=4, keep=True) as sink:
        yield sink
