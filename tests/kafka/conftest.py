"""What tests that use kafka-python need."""

import gc
import warnings
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True)
def untidy_client(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """kafka-python leaves the sockets of connections that failed to the garbage collector, and what it logs
    of them keeps them alive."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <", ResourceWarning)
        yield
        caplog.get_records("call").clear()
        gc.collect()
