"""One and three brokers of Apache Kafka: started, stopped, hurt and healed."""

import os
import sys
from pathlib import Path

import pytest

from deploy.kafka import Cluster, ClusterError, Options
from deploy.kafka.probe import listed_brokers
from tests.kafka import clients
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.long]


def states(cluster: Cluster) -> list[str]:
    return [broker.state for broker in cluster.status()]


def test_a_started_broker_takes_and_gives_records(broker: Cluster, prefix: str) -> None:
    # Given a broker that has just been started
    assert states(broker) == ["answers"]

    # When a client uses it with the address it was told
    clients.create_topic(broker.bootstrap, prefix)
    clients.put(broker.bootstrap, prefix, b"first")

    # Then it holds the record
    assert clients.values(broker.bootstrap, prefix) == [b"first"]
    assert broker.log_url("shop") == f"kafka://{broker.bootstrap}/shop"


def test_a_clean_restart_keeps_the_data(broker: Cluster, prefix: str) -> None:
    clients.create_topic(broker.bootstrap, prefix)
    clients.put(broker.bootstrap, prefix, b"kept")

    broker.stop()
    assert states(broker) == ["stopped"]
    broker.start()

    assert clients.values(broker.bootstrap, prefix) == [b"kept"]


def test_a_killed_broker_comes_up_with_what_it_acknowledged(broker: Cluster, prefix: str) -> None:
    clients.create_topic(broker.bootstrap, prefix)
    clients.put(broker.bootstrap, prefix, b"acknowledged")

    broker.kill(1)
    assert states(broker) == ["stopped"]
    broker.up(1)

    assert clients.values(broker.bootstrap, prefix) == [b"acknowledged"]


def test_a_frozen_broker_is_silent_until_it_is_thawed(broker: Cluster) -> None:
    # Given a frozen broker: its port is still open
    broker.freeze(1)
    host, port = broker.bootstrap.split(":")
    assert states(broker) == ["frozen"]
    assert listed_brokers(host, int(port), timeout_s=0.3) == frozenset()

    # When it is thawed, then it goes on
    broker.thaw(1)
    wait_for(lambda: states(broker) == ["answers"], what="the thawed broker to answer", poll_s=0.1)


def test_a_frozen_broker_can_be_stopped(broker: Cluster) -> None:
    broker.freeze(1)
    broker.stop()
    assert states(broker) == ["stopped"]


def test_healing_undoes_every_fault(broker: Cluster) -> None:
    broker.kill(1)
    broker.heal()
    assert states(broker) == ["answers"]

    broker.freeze(1)
    broker.heal()
    assert states(broker) == ["answers"]


def test_start_leaves_a_running_broker_alone(broker: Cluster) -> None:
    before = broker.status()
    broker.start()
    assert broker.status() == before


def test_a_later_process_finds_the_broker_by_its_folder(broker: Cluster) -> None:
    other = Cluster(broker.folder)
    assert other.bootstrap == broker.bootstrap
    assert other.status() == broker.status()


def test_a_fault_on_a_broker_that_is_down_is_refused(broker: Cluster) -> None:
    broker.kill(1)
    with pytest.raises(ClusterError, match="broker 1 is not running: start it with up 1"):
        broker.freeze(1)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks into /proc")
def test_a_broker_holds_nothing_of_who_started_it(broker: Cluster, tmp_path: Path) -> None:
    # Given a process that would pass a descriptor on to its children, as flock(1) does with its lock
    with (tmp_path / "lock").open("w") as lock:
        os.set_inheritable(lock.fileno(), True)

        # When it starts a broker
        broker.kill(1)
        broker.up(1)

    # Then the broker hasn't got it, and signals to the starter's terminal or group don't reach the broker
    pid = broker.status()[0].pid
    assert pid is not None
    # The broker opens and closes files meanwhile; what is gone resolves to itself.
    held = {entry.resolve() for entry in Path(f"/proc/{pid}/fd").iterdir()}
    assert (tmp_path / "lock").resolve() not in held
    assert os.getsid(pid) != os.getsid(0)
    assert os.getpgid(pid) != os.getpgrp()


def test_a_wiped_broker_comes_back_empty_on_the_same_port(
    needs_kafka: None, tmp_path: Path, prefix: str
) -> None:
    # Given a broker with a topic, in a folder with a file of somebody else
    (tmp_path / "notes.txt").write_text("not Kafka's")
    with Cluster(tmp_path) as cluster:
        bootstrap, cluster_id = cluster.bootstrap, cluster.cluster_id
        clients.create_topic(bootstrap, prefix)

        # When it is wiped
        cluster.wipe()

        # Then nothing of it is left, but the stranger's file is; and the next start is a new cluster
        assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]
        cluster.start()
        assert cluster.bootstrap == bootstrap
        assert cluster.cluster_id != cluster_id
        assert prefix not in clients.topics(bootstrap)


def test_a_broker_that_dies_at_start_says_why(needs_kafka: None, tmp_path: Path) -> None:
    options = Options(extra={"authorizer.class.name": "no.such.Authorizer"})
    with pytest.raises(ClusterError) as caught, Cluster(tmp_path / "kafka", options):
        pass
    message = str(caught.value)
    assert message.startswith("broker 1 ended while it started; the end of ")
    assert "no.such.Authorizer" in message
    assert not (tmp_path / "kafka").exists()


def test_a_setting_that_kafka_refuses_is_told_before_the_start(needs_kafka: None, tmp_path: Path) -> None:
    options = Options(extra={"num.io.threads": "several"})
    with pytest.raises(ClusterError, match=r"(?s)could not be formatted \(exit 1\).*num\.io\.threads"):
        Cluster(tmp_path / "kafka", options).start()


def test_three_brokers_serve_without_one_of_them(cluster3: Cluster, prefix: str) -> None:
    # Given a record on all three
    clients.create_topic(cluster3.bootstrap, prefix)
    clients.put(cluster3.bootstrap, prefix, b"by three")

    # When one is killed
    cluster3.kill(2)

    # Then the others take the next record and have both
    clients.put(cluster3.bootstrap, prefix, b"by two")
    assert states(cluster3) == ["answers", "stopped", "answers"]
    assert clients.values(cluster3.bootstrap, prefix) == [b"by three", b"by two"]


def test_three_brokers_come_back_from_the_loss_of_two(cluster3: Cluster, prefix: str) -> None:
    clients.create_topic(cluster3.bootstrap, prefix)
    clients.put(cluster3.bootstrap, prefix, b"acknowledged")

    cluster3.kill(1, 3)
    cluster3.up(1, 3)

    assert states(cluster3) == ["answers", "answers", "answers"]
    assert clients.values(cluster3.bootstrap, prefix) == [b"acknowledged"]
