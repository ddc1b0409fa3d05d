"""Workers and brokers that die, freeze or go away while three workers share a Kafka log: nothing is lost."""

import itertools
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.kafka import Cluster
from producer.hosts import host_of
from producer.log.partition import partition_of
from tests.support.kafka_log import KafkaLog
from tests.support.ledger import Account
from tests.support.sink import RecordingSink
from tests.support.system import ProducerProcess, System, WorkerProcess
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.e2e, pytest.mark.kafka, pytest.mark.timeout(240)]

#: One event goes to each of the sink's four addresses.
HOSTS = 4
EVENTS_PER_S = 50.0
#: What one kill may repeat: a commit interval (1 s) of deliveries, even if all were the dead worker's.
REPEATS_PER_KILL = int(HOSTS * EVENTS_PER_S * 1.5)


def system_on(cluster: Cluster, prefix: str, folder: Path, sink: RecordingSink) -> System:
    return System(
        folder,
        sink,
        KafkaLog(cluster.bootstrap, prefix, folder / "state"),
        subscribers={"order.*": [sink.url(number) for number in range(HOSTS)]},
        retry_schedule=["0.5s", "1s", "2s"],
        drain_timeout="10s",
    )


@pytest.fixture
def system(broker: Cluster, prefix: str, tmp_path: Path, sink: RecordingSink) -> Iterator[System]:
    with system_on(broker, prefix, tmp_path, sink) as system:
        yield system


@pytest.fixture
def system3(cluster3: Cluster, prefix: str, tmp_path: Path, sink: RecordingSink) -> Iterator[System]:
    """On three brokers, each topic with three replicas of which two must answer."""
    with system_on(cluster3, prefix, tmp_path, sink) as system:
        yield system


def three_workers(system: System) -> list[WorkerProcess]:
    workers = [system.new_worker().launch() for _ in range(3)]
    for worker in workers:
        worker.wait_until_ready()
    system.wait_for_owners(*workers)
    return workers


def sending(system: System, seconds: float) -> ProducerProcess:
    return system.producer(int(seconds * EVENTS_PER_S), per_s=EVENTS_PER_S, group=5, stubborn=True)


def settled(system: System, what: str) -> Account:
    for producer in system.producers:
        producer.finish(400)
    account = system.settle(90)
    print(f"{what}: {account}")
    assert (account.lost, account.unknown, account.dead) == ([], [], {})
    assert account.delivered == account.owed
    return account


def flow_gap_s(sink: RecordingSink, since: float) -> float:
    """The longest time that any address got nothing."""
    gaps = []
    for address in sink.addresses:
        times = sorted(one.at for one in sink.requests() if one.address == address and one.at >= since)
        gaps += [later - earlier for earlier, later in itertools.pairwise(times)]
    return max(gaps)


def test_a_killed_worker_repeats_about_a_second_and_loses_nothing(system: System) -> None:
    # Given three workers that share the partitions, and a service that sends
    workers = three_workers(system)
    service = sending(system, 14)
    wait_for(lambda: len(system.sink.delivered()) > 200, 40, what="a steady flow")

    # When one of them is killed and does not come back
    workers[0].kill()
    killed_at = time.time()
    wait_for(lambda: workers[1].owned() + workers[2].owned() == 12, 40, what="the others to own everything")
    took_s = time.time() - killed_at
    assert service.alive or service.owed()

    # Then the others have everything within the session's timeout and a few seconds
    account = settled(system, f"one of three killed, taken over after {took_s:.1f} s")
    assert took_s < 15 + 6
    assert account.repeats <= REPEATS_PER_KILL


def test_a_rolling_restart_repeats_next_to_nothing_and_hardly_stops_the_flow(system: System) -> None:
    # Given three workers under load
    workers = three_workers(system)
    service = sending(system, 20)
    wait_for(lambda: len(system.sink.delivered()) > 200, 40, what="a steady flow")
    began = time.time()

    # When one after the other is stopped and started
    for worker in workers:
        assert worker.stop() == 0, worker.said()
        worker.start()
        system.wait_for_owners(*workers)
    lasted_s = time.time() - began
    wait_for(lambda: not service.alive, 60, what="the service to end")

    # Then at most one delivery in a thousand was repeated, and no host waited for 5 s
    gap_s = flow_gap_s(system.sink, began)
    account = settled(system, f"three restarts in {lasted_s:.1f} s, longest gap of a host {gap_s:.2f} s")
    assert account.repeats <= account.owed / 1000
    assert gap_s < 5.0


def test_workers_wait_for_a_broker_that_is_away_at_their_start(system: System, broker: Cluster) -> None:
    # Given a broker that is down
    owed = system.send(5)
    broker.kill(1)
    worker = system.new_worker().launch()

    # When a worker starts, then it lives, is not ready, and says what it waits for
    worker.wait_until_serving()
    wait_for(lambda: "waiting for the log" in worker.said(), what="a line that says so")
    assert worker.get("healthz")[0] == 200
    code, why = worker.get("readyz")
    assert code == 503
    assert "127.0.0.1" in why, why

    # And it delivers as soon as the broker is back
    broker.up(1)
    worker.wait_until_ready()
    system.sink.wait_for_ids(owed)
    assert worker.stop() == 0
    assert "Traceback" not in worker.said()


@pytest.mark.long
def test_a_broker_that_is_away_for_half_a_minute_stops_nobody_for_good(
    needs_kafka: None, prefix: str, tmp_path: Path, sink: RecordingSink
) -> None:
    # A broker of its own: one with the topics of many tests takes long to come back.
    with Cluster(tmp_path / "broker") as broker, system_on(broker, prefix, tmp_path, sink) as system:
        outlasts_an_outage(system, broker, 15)


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_broker_that_is_away_for_five_minutes_stops_nobody_for_good(
    needs_kafka: None, prefix: str, tmp_path: Path, sink: RecordingSink
) -> None:
    with Cluster(tmp_path / "broker") as broker, system_on(broker, prefix, tmp_path, sink) as system:
        outlasts_an_outage(system, broker, 300)


def outlasts_an_outage(system: System, broker: Cluster, away_s: float) -> None:
    # Given a worker and a service in full flow
    worker = system.worker()
    service = sending(system, 45)
    wait_for(lambda: len(system.sink.delivered()) > 200, 40, what="a steady flow")

    # When the broker dies and comes back after a while
    broker.kill(1)
    wait_for(lambda: worker.get("readyz")[0] == 503, 60, what="the worker to say that it is not ready")
    print(worker.get("readyz")[1])
    assert worker.get("healthz")[0] == 200
    time.sleep(away_s)  # how long it is away is what is tried here
    broker.up(1)

    # Then everything that was acknowledged arrives, by itself
    wait_for(worker.ready, 60, what="the worker to be ready again")
    account = settled(system, f"one broker away for {away_s + 15:.0f} s")
    assert service.finish() == service.owed()
    assert account.repeats <= 2 * REPEATS_PER_KILL


@pytest.mark.chaos
@pytest.mark.timeout(900)
def test_a_broker_of_three_that_is_frozen_for_a_minute_loses_nothing(
    system3: System, cluster3: Cluster
) -> None:
    one_after_the_other(system3, cluster3, "freeze", 60)


@pytest.mark.long
@pytest.mark.parametrize("fault", ["kill", "freeze"])
def test_one_of_three_brokers_fails_and_nothing_is_lost(
    system3: System, cluster3: Cluster, fault: str
) -> None:
    one_after_the_other(system3, cluster3, fault, 8)


def one_after_the_other(system3: System, cluster3: Cluster, fault: str, away_s: float) -> None:
    # Given three workers on three brokers, and a service that sends
    workers = three_workers(system3)
    sending(system3, 3 * away_s + 20)
    wait_for(lambda: len(system3.sink.delivered()) > 200, 40, what="a steady flow")

    # When each broker in turn is killed, or frozen for longer than a session
    for number in (1, 2, 3):
        if fault == "kill":
            cluster3.kill(number)
        else:
            cluster3.freeze(number)
        time.sleep(away_s)  # how long it is away is what is tried here
        cluster3.heal()

    # Then the workers go on by themselves
    for worker in workers:
        wait_for(worker.ready, 60, what="every worker to be ready")
    account = settled(system3, f"{fault} of each of three brokers in turn for {away_s:g} s")
    assert account.repeats <= 6 * REPEATS_PER_KILL


@pytest.mark.long
def test_state_that_cannot_be_written_holds_offsets_back_and_drops_nothing(
    system3: System, cluster3: Cluster
) -> None:
    # Given the state on one broker alone, which is down, and one host of four that fails
    log, sink = system3.log, system3.sink
    assert isinstance(log, KafkaLog)
    log.keep_state_on(3)
    worker = system3.worker()
    system3.wait_for_owners(worker)
    wait_for(worker.ready, 30, what="everything to be restored")
    sink.fail(0)
    cluster3.term(3)  # a kill would leave the only copy without a leader until an operator says otherwise

    # When deliveries fail, then those of the healthy hosts go on, and no offset of a failed one is complete
    owed = system3.send(300, patience_s=59)
    wait_for(
        lambda: sum(one.status == 200 for one in sink.requests()) >= 900,
        60,
        what="the healthy hosts' deliveries",
    )
    assert worker.metric("thorn_store_unacknowledged") > 0
    failed = {one.id for one in sink.requests() if one.status == 500}
    assert len(failed) == sum(one.status == 500 for one in sink.requests())  # none is tried a second time

    # And when it takes state again, they are stored, retried and delivered
    sink.set_rules([])
    cluster3.up(3)
    sink.wait_for_ids(owed, 60)
    settled(system3, "a state topic that was away")


@pytest.mark.long
def test_a_kill_under_load_repeats_one_commit_interval_and_what_was_in_flight(system: System) -> None:
    # Given two workers that deliver 2,000/s between them
    victim, heir = system.new_worker().launch(), system.new_worker().launch()
    for worker in (victim, heir):
        worker.wait_until_ready()
    system.wait_for_owners(victim, heir)
    services = [system.producer(3_000, per_s=250, group=25) for _ in range(2)]
    wait_for(lambda: len(system.sink.delivered()) > 6_000, 20, what="a steady flow")

    # When one is killed
    before, began = victim.metrics(), time.monotonic()
    wait_for(lambda: time.monotonic() - began > 1.0, what="a second to count in")
    after = victim.metrics()
    delivered = ("thorn_deliveries_total", "delivered")
    per_s = (after[delivered] - before[delivered]) / (time.monotonic() - began)
    in_flight = victim.metric("thorn_in_flight")
    victim.kill()

    # Then about one commit interval of what it completed is repeated, and what was in flight
    for service in services:
        service.finish(60)
    account = settled(system, f"killed at {per_s:.0f}/s of its own with {in_flight:.0f} in flight")
    assert account.owed == 2 * 3_000 * HOSTS
    assert account.repeats <= 1.25 * per_s + in_flight + 25


@pytest.mark.long
def test_partitions_that_are_added_are_noticed_by_running_workers_and_services(system: System) -> None:
    # Given a worker and a service that are at work
    worker = system.worker()
    service = sending(system, 60)
    wait_for(lambda: len(system.sink.delivered()) > 200, 40, what="a steady flow")

    # When the topics grow
    assert "more partitions" in system.ok("topics", "create", "--partitions", "18").out

    # Then the worker owns the new partitions too, and what is sent there arrives
    wait_for(lambda: worker.owned() == 18, 60, what="the worker to own all partitions")
    account = settled(system, "six partitions added")
    assert not service.alive
    assert account.repeats == 0
    urls = [system.sink.url(number) for number in range(HOSTS)]
    expected = {partition_of(host_of(url), 18) for url in urls}
    used = {status.partition for status in system.standing().partitions if status.committed}
    print(f"before and after: partitions {sorted(used)}")
    assert used >= expected
