"""The bench on a real broker. No figure is tested."""

from pathlib import Path

import pytest

from bench.logs import KafkaLogs
from bench.machine import Cores
from bench.producer_cost import send_cost
from bench.runs import KAFKA_WORKER, deliver
from bench.sinks import Sink
from deploy.kafka import Cluster

pytestmark = [pytest.mark.kafka, pytest.mark.long]

CORES = Cores.of_this_machine()


@pytest.mark.e2e
def test_every_delivery_of_a_run_is_counted_and_kafkas_share_is_known(
    tmp_path: Path, broker: Cluster, prefix: str
) -> None:
    logs = KafkaLogs(f"kafka://{broker.bootstrap}/{prefix}")
    with Sink(tmp_path, CORES.others) as sink:
        run = deliver(KAFKA_WORKER, logs.filled(sink.hosts(), 2_000, per_record=1), sink, CORES)

    assert (run.deliveries, run.lost, run.repeated) == (2_000, 0, 0)
    assert run.shares is not None
    assert 0 < run.shares.kafka < 1
    assert run.kafka_us + run.log_us < run.cpu_us


def test_the_cost_of_send_is_split_on_kafka_too(broker: Cluster, prefix: str) -> None:
    logs = KafkaLogs(f"kafka://{broker.bootstrap}/{prefix}")

    cost = send_cost(logs.fresh(), subscribers=10, hosts=2, sends=200)

    assert cost.log_us > 0
