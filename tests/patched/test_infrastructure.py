"""The process that these tests run in: patched before anything else, as the worker's is."""

import pytest
from gevent import monkey

from deploy.kafka import Cluster
from producer.log.kafka_options import check_library
from tests.kafka.clients import create_topic, put, values

pytestmark = pytest.mark.kafka


def test_the_client_library_runs_on_the_hub(broker: Cluster, prefix: str) -> None:
    assert monkey.is_module_patched("selectors")
    check_library()
    create_topic(broker.bootstrap, prefix)
    put(broker.bootstrap, prefix, b"one")
    assert values(broker.bootstrap, prefix) == [b"one"]
