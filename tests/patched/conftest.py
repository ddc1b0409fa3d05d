"""Ignores the tests of this folder unless the process is patched, and ends those that hang."""

from collections.abc import Iterator
from typing import Final

import gevent
import pytest
from gevent import monkey

collect_ignore_glob = [] if monkey.is_module_patched("socket") else ["test_*.py"]

#: Sooner than pytest-timeout: its signal arrives in whatever greenlet runs, most often in none.
PATIENCE_S: Final = 110.0


@pytest.fixture(autouse=True)
def ends(request: pytest.FixtureRequest) -> Iterator[None]:
    """A test that waits for ever, cooperatively, is ended; one that spins is left to pytest-timeout."""
    marker = request.node.get_closest_marker("timeout")
    patience_s = float(marker.args[0]) - 10.0 if marker is not None else PATIENCE_S
    with gevent.Timeout(patience_s, AssertionError(f"the test was not through after {patience_s:g} s")):
        yield
