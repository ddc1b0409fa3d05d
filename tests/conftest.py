"""Real brokers, for whoever asks. Without Java and Maven the tests that need them are skipped, or fail where
``CI=true``."""

import uuid
from collections.abc import Iterator

import pytest

from deploy.kafka import Cluster, Options
from tests.support.brokers import BROKER, CLUSTER3, lent_or_started
from tests.support.tools import require_tool


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests run side by side; those that want three brokers stay together, for twelve would be too many."""
    for item in items:
        if "cluster3" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("cluster3"))


@pytest.fixture(scope="session")
def needs_kafka() -> None:
    """What has to be there before a broker can start."""
    require_tool("java")
    require_tool("mvn")


@pytest.fixture(scope="session")
def broker(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """One broker, for all tests of a run: each uses topics of its own (`prefix`)."""
    with lent_or_started(BROKER, tmp_path_factory.mktemp("broker"), Options()) as cluster:
        yield cluster


@pytest.fixture(scope="session")
def cluster3(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Three brokers, for all tests of a run that want to lose some. Started by the first of them."""
    with lent_or_started(CLUSTER3, tmp_path_factory.mktemp("cluster3"), Options(brokers=3)) as cluster:
        yield cluster


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
