"""Real brokers. Without Java and Maven the tests that need them are skipped, or fail where ``CI=true``."""

import gc
import uuid
import warnings
from collections.abc import Iterator

import pytest

from deploy.kafka import Cluster, Options
from tests.support.tools import require_tool


@pytest.fixture(scope="session")
def needs_kafka() -> None:
    """What has to be there before a broker can start."""
    require_tool("java")
    require_tool("mvn")


@pytest.fixture(scope="session")
def broker(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One broker, for all tests of a run: each uses topics of its own (`prefix`)."""
    with Cluster(tmp_path_factory.mktemp("broker")) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster3(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers, for all tests of a run that want to lose some. Started by the first of them."""
    with Cluster(tmp_path_factory.mktemp("cluster3"), Options(brokers=3)) as cluster:
        yield cluster


@pytest.fixture(autouse=True)
def untidy_client() -> Iterator[None]:
    """kafka-python leaves the sockets of connections that failed to the garbage collector."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "unclosed <", ResourceWarning)
        yield
        gc.collect()


@pytest.fixture(autouse=True)
def healed(request: pytest.FixtureRequest) -> Iterator[None]:
    """No test leaves a broker dead or frozen to the next one."""
    yield
    for name in ("broker", "cluster3"):
        if name in request.fixturenames:
            cluster: Cluster = request.getfixturevalue(name)
            cluster.heal()


@pytest.fixture
def prefix() -> str:
    """The beginning of topic and group names that no other test uses."""
    return f"t{uuid.uuid4().hex[:12]}"
