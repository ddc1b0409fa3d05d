"""Making, checking and growing the topics of a log, by function and by command line, on real brokers."""

import json
import logging
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from kafka import KafkaAdminClient
from kafka.admin import (
    ACL,
    ACLOperation,
    ACLPermissionType,
    ConfigResource,
    ConfigResourceType,
    ResourcePattern,
    ResourceType,
)

from deploy.kafka import Cluster, Options, Security
from producer.errors import LogUnavailable, LogUnusable
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_sender import KafkaSender, Outgoing
from producer.model import Delivery, Life, Subscription
from tests.kafka import clients
from tests.support.logging import logging_restored
from tests.support.waiting import wait_for
from thorn_worker.cli.app import execute
from thorn_worker.log.kafka_admin import connected
from thorn_worker.log.kafka_growth import refuse_ordered
from thorn_worker.log.kafka_topics import check_topics, create_topics, grow_topics
from thorn_worker.store.contract import EndpointState, Pending
from thorn_worker.store.rows import encode_endpoint, encode_pending, endpoint_key, pending_key

pytestmark = pytest.mark.kafka

SUB: Final = "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10"
HOST: Final = "https://example.com:443"

Run = Callable[..., tuple[int, str, str]]


def options_of(cluster: Cluster, prefix: str) -> KafkaOptions:
    return KafkaOptions(servers=tuple(cluster.bootstrap.split(",")), prefix=prefix)


@pytest.fixture
def options(broker: Cluster, prefix: str) -> KafkaOptions:
    """A log on one broker, without topics yet."""
    return options_of(broker, prefix)


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs `thorn-worker topics` on a log: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith("THORN_")]:
        monkeypatch.delenv(name)

    def command(log: KafkaOptions, *arguments: str) -> tuple[int, str, str]:
        code = execute(["topics", *arguments, "--log", log.place])
        return code, *capsys.readouterr()

    with logging_restored():
        yield command


def configure(options: KafkaOptions, topic: str, settings: Mapping[str, str]) -> None:
    """As an administrator does it by hand."""
    with closing(KafkaAdminClient(bootstrap_servers=list(options.servers))) as admin:
        admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, dict(settings))])


def make(options: KafkaOptions, topic: str, partitions: int) -> None:
    with closing(KafkaAdminClient(bootstrap_servers=list(options.servers))) as admin:
        admin.create_topics({topic: {"num_partitions": partitions}}, wait_for_metadata=True)


def put(options: KafkaOptions, partition: int, key: bytes, value: bytes | None) -> None:
    """Write a row into the state, as the partition's owner does."""
    sender = KafkaSender(options)
    sender.open()
    done: list[object] = []
    sender.send(
        Outgoing(options.state, partition, key, value), lambda offset, error: done.append(error or offset)
    )
    wait_for(lambda: done, what="the acknowledgement of a row")
    sender.close(5.0)
    assert isinstance(done[0], int)


# -- making and checking -----------------------------------------------------------------------------


def test_a_log_without_topics_is_told_how_to_make_them(options: KafkaOptions) -> None:
    with pytest.raises(LogUnusable) as caught:
        check_topics(options)
    names = f"{options.deliveries}, {options.state}, {options.dead}"
    assert str(caught.value) == (
        f"the topics of {options.place} can't be used: {names}: missing: run thorn-worker topics create"
    )


def test_topics_are_made_once_and_are_right(options: KafkaOptions, caplog: pytest.LogCaptureFixture) -> None:
    assert create_topics(options, 5) == [options.dead, options.deliveries, options.state]
    topics = check_topics(options)
    assert topics.partitions == 5
    assert len({topics.deliveries_id, topics.state_id, topics.dead_id}) == 3
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]

    assert create_topics(options, 7) == []
    assert check_topics(options) == topics


def test_a_topic_made_anew_has_another_id(options: KafkaOptions) -> None:
    create_topics(options, 1)
    before = check_topics(options)
    with closing(KafkaAdminClient(bootstrap_servers=list(options.servers))) as admin:
        admin.delete_topics([options.deliveries])
    wait_for(lambda: options.deliveries not in clients.topics(options.servers[0]), what="the deletion")

    assert create_topics(options, 9) == [options.deliveries]
    after = check_topics(options)
    assert after.deliveries_id != before.deliveries_id
    assert (after.state_id, after.partitions) == (before.state_id, 1)


def test_three_brokers_keep_three_copies_and_ask_for_two(cluster3: Cluster, prefix: str) -> None:
    options = options_of(cluster3, prefix)
    create_topics(options, 2)
    with connected(options) as admin:
        found = admin.describe([options.deliveries, options.state, options.dead])
    assert {topic.replication for topic in found.values()} == {3}
    assert {topic.settings["min.insync.replicas"] for topic in found.values()} == {"2"}


def test_one_copy_on_three_brokers_is_what_was_asked_for_and_a_warning(
    cluster3: Cluster, prefix: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    options = options_of(cluster3, prefix)
    assert run(options, "create", "--partitions", "1", "--replication", "1")[0] == 0
    check_topics(options)
    assert sum("1 of the 3 copies" in record.getMessage() for record in caplog.records) == 3


def test_more_copies_than_brokers_are_refused_in_the_brokers_words(options: KafkaOptions) -> None:
    with pytest.raises(
        LogUnusable, match=r"replication factor of 3 cannot be reached .* choose a --replication"
    ):
        create_topics(options, 1, replication=3)


def test_what_makes_the_log_wrong_is_said_in_one_sentence(options: KafkaOptions) -> None:
    make(options, options.deliveries, 2)
    make(options, options.state, 3)
    configure(options, options.deliveries, {"cleanup.policy": "compact"})
    with pytest.raises(LogUnusable) as caught:
        check_topics(options)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert f"{options.deliveries}: cleanup.policy = compact, and a record is lost" in sentence
    assert f"{options.state}: cleanup.policy = delete, and deliveries that wait" in sentence
    assert f"{options.dead}: missing" in sentence
    assert f"{options.deliveries}: 2 partitions, where another topic has 3" in sentence


def test_unequal_topics_are_not_completed_by_a_third_one(options: KafkaOptions) -> None:
    make(options, options.deliveries, 2)
    make(options, options.state, 3)
    with pytest.raises(
        LogUnusable, match=r"has 2 partitions, which must be equally many: run .* --partitions 3"
    ):
        create_topics(options, 4)
    assert clients.topics(options.servers[0]).isdisjoint({options.dead})


def test_a_broker_that_is_away_is_not_a_wrong_log(broker: Cluster, options: KafkaOptions) -> None:
    broker.kill(1)
    for call in (check_topics, lambda log: create_topics(log, 1)):
        began = time.monotonic()
        with pytest.raises(LogUnavailable, match="refuses connections: start the brokers"):
            call(options)
        assert time.monotonic() - began < 15


# -- the command line --------------------------------------------------------------------------------


def test_create_says_what_it_made_and_what_it_left(options: KafkaOptions, run: Run) -> None:
    make(options, options.deliveries, 4)
    assert run(options, "create") == (
        0,
        f"{options.dead}: made\n{options.deliveries}: was there, left as it is\n{options.state}: made\n",
        "",
    )
    assert check_topics(options).partitions == 4


def test_check_lists_one_finding_a_line(options: KafkaOptions, run: Run) -> None:
    code, out, err = run(options, "check")
    assert (code, err) == (1, "")
    assert out == "".join(
        f"error: {name}: missing: run thorn-worker topics create\n"
        for name in (options.deliveries, options.state, options.dead)
    )

    create_topics(options, 2)
    code, out, err = run(options, "check")
    assert (code, err) == (0, "")
    assert out.startswith("nothing is wrong with ")
    assert out.endswith(": 2 partitions each\n")

    configure(options, options.deliveries, {"retention.ms": "60000"})
    code, out, err = run(options, "check", "--json")
    assert (code, err) == (1, "")
    (finding,) = json.loads(out)
    assert finding == {
        "topic": options.deliveries,
        "state": "warning",
        "problem": "retention.ms = 60000, and an outage of workers for longer than that loses deliveries",
        "advice": "set it to at least 86400000",
    }


@pytest.mark.parametrize("arguments", [("create",), ("check",), ("check", "--json")])
def test_a_broker_that_refuses_connections_is_exit_4_and_one_sentence(
    arguments: tuple[str, ...], tmp_path: Path
) -> None:
    began = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "thorn_worker", "topics", *arguments, "--log", "kafka://127.0.0.1:1/thorn"],
        capture_output=True,
        text=True,
        timeout=60,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
    )
    assert time.monotonic() - began < 15
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == (
        "thorn-worker: kafka://127.0.0.1:1/thorn can't be reached: 127.0.0.1:1 refuses connections: "
        "start the brokers, or correct THORN_LOG\n"
    )


def test_a_log_that_is_a_file_has_no_topics(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert execute(["topics", "check", "--log", "sqlite:///thorn.db"]) == 3
    assert "which has no topics: they belong to a log at kafka://" in capsys.readouterr().err


def test_a_password_file_that_is_missing_is_exit_3(
    options: KafkaOptions, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        ("SECURITY", "sasl_plaintext"),
        ("SASL_MECHANISM", "PLAIN"),
        ("SASL_USERNAME", "alice"),
        ("SASL_PASSWORD_FILE", "/nowhere/password"),
    ):
        monkeypatch.setenv(f"THORN_KAFKA_{name}", value)
    code, out, err = run(options, "check")
    assert (code, out) == (3, "")
    assert "kafka_sasl_password_file = '/nowhere/password' can't be read" in err
    assert err.count("\n") == 1


def test_doctor_looks_at_brokers_and_topics(
    options: KafkaOptions, run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    def doctor() -> tuple[int, list[dict[str, str]]]:
        code = execute(["doctor", "--json", "--log", options.place])
        return code, json.loads(capsys.readouterr().out)

    code, rows = doctor()
    assert code == 1
    assert [row["state"] for row in rows if row["check"] == "topics"] == ["fail"] * 3

    create_topics(options, 2)
    code, rows = doctor()
    assert code == 0
    found = {row["check"]: row["finding"] for row in rows}
    assert found["brokers"] == f"{options.servers[0]} by plaintext"
    assert found["log"] == f"{options.place}: 2 partitions, 0 records not yet complete"


# -- growing -----------------------------------------------------------------------------------------


def test_topics_grow_all_three(options: KafkaOptions, run: Run) -> None:
    create_topics(options, 2)
    before = check_topics(options)
    code, out, err = run(options, "create", "--partitions", "6")
    assert (code, err) == (0, "")
    assert out == "".join(
        f"{name}: has more partitions now\n" for name in (options.dead, options.deliveries, options.state)
    )
    assert check_topics(options) == replace(before, partitions=6)

    assert run(options, "create", "--partitions", "6")[1].count("was there, left as it is") == 3


def test_a_growth_that_was_cut_short_is_finished_by_the_next(options: KafkaOptions, run: Run) -> None:
    create_topics(options, 2)
    with connected(options) as admin:
        admin.grow({options.state: 4})
    with pytest.raises(
        LogUnusable, match="2 partitions, where another topic has 4: run thorn-worker topics cr"
    ):
        check_topics(options)

    assert run(options, "create", "--partitions", "4")[0] == 0
    assert check_topics(options).partitions == 4


def test_topics_do_not_shrink(options: KafkaOptions, run: Run) -> None:
    create_topics(options, 3)
    code, _, err = run(options, "create", "--partitions", "2")
    assert code == 4
    assert "have 3 partitions, and Kafka takes none away: choose --partitions of at least 3" in err
    with pytest.raises(LogUnusable, match="Kafka takes none away"):
        grow_topics(options, 2)


def test_an_ordered_subscription_forbids_to_grow() -> None:
    options = KafkaOptions(servers=("k1:9092",), prefix="thorn")
    plain = Subscription(id="0", pattern="*", url="https://example.com/in")
    refuse_ordered(options, 4, [plain])
    with pytest.raises(LogUnusable) as caught:
        refuse_ordered(options, 4, [plain, replace(plain, id=SUB, ordered=True)])
    assert f"the subscription {SUB} is ordered, and its host may move to another partition" in str(
        caught.value
    )


def test_a_delivery_that_waits_forbids_to_grow_until_it_is_through(options: KafkaOptions, run: Run) -> None:
    # Given a delivery that waits in partition 1
    create_topics(options, 2)
    life = Life(check_topics(options).deliveries_id, 1, 7, 0)
    delivery = Delivery(
        id="d-1",
        event="order.created",
        event_id="e-1",
        at=0.0,
        sub=SUB,
        url="https://example.com/in",
        type="application/json",
        body=b"{}",
    )
    row = Pending(
        life=life, host=HOST, delivery=delivery, appended_at=0.0, due_at=time.time() + 60, reason="failed"
    )
    put(options, 1, pending_key(life), encode_pending(row))

    # When asked to grow, then it is refused and named
    code, _, err = run(options, "create", "--partitions", "4")
    assert code == 4
    assert f"can't grow to 4 partitions while deliveries wait in its store, as d-1 for {HOST} does" in err
    assert check_topics(options).partitions == 2

    # When it was delivered, then nothing is in the way
    put(options, 1, pending_key(life), None)
    assert run(options, "create", "--partitions", "4")[0] == 0
    assert check_topics(options).partitions == 4


def test_a_disabled_endpoint_stays_disabled_wherever_its_host_moves(options: KafkaOptions, run: Run) -> None:
    # Given an endpoint that is disabled in the one partition of its host, and one that is only failing
    create_topics(options, 2)
    put(
        options,
        0,
        endpoint_key(SUB),
        encode_endpoint(EndpointState(sub=SUB, host=HOST, disabled_at=1.0, reason="gone")),
    )
    failing = EndpointState(sub=SUB.replace("0b", "1c", 1), host=HOST, failing_since=1.0, failures=3)
    put(options, 1, endpoint_key(failing.sub), encode_endpoint(failing))

    # When the topics grow, then every partition is told, the new ones too
    assert run(options, "create", "--partitions", "3")[0] == 0
    commands = [
        (record.partition, record.value)
        for record in clients.records(options.servers[0], options.deliveries, 3)
    ]
    assert [partition for partition, _ in commands] == [0, 1, 2]
    assert all(b"disable" in value and SUB.encode() in value for _, value in commands)
    assert not any(failing.sub.encode() in value for _, value in commands)


# -- rights ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Brokers that ask who may do what: alice may all, bob what `grant` says."""
    options = Options(
        security=Security.SASL,
        users={"alice": "alice-secret", "bob": "bob-secret"},
        extra={
            "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
            # The brokers themselves come in by their own, plaintext listener.
            "super.users": "User:alice;User:ANONYMOUS",
        },
    )
    with Cluster(tmp_path_factory.mktemp("guarded"), options) as cluster:
        yield cluster


def as_user(cluster: Cluster, prefix: str, user: str, folder: Path) -> KafkaOptions:
    path = folder / user
    path.write_text(f"{user}-secret")
    return replace(
        options_of(cluster, prefix),
        security="sasl_plaintext",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username=user,
        sasl_password_file=str(path),
    )


def grant(cluster: Cluster, topics: tuple[str, ...], *operations: ACLOperation) -> None:
    """Let bob do these things, and wait until the brokers know."""
    allow = ACLPermissionType.ALLOW
    acls = [
        ACL("User:bob", "*", operation, allow, ResourcePattern(ResourceType.TOPIC, topic))
        for topic in topics
        for operation in operations
    ]
    with closing(KafkaAdminClient(bootstrap_servers=cluster.internal_bootstrap)) as admin:
        admin.create_acls(acls)


def test_a_user_without_rights_is_told_which_to_ask_for(
    guarded: Cluster, prefix: str, tmp_path: Path
) -> None:
    alice, bob = as_user(guarded, prefix, "alice", tmp_path), as_user(guarded, prefix, "bob", tmp_path)
    names = (bob.deliveries, bob.state, bob.dead)

    # Who may not see a topic isn't told whether it exists
    everything = "grant it Describe, DescribeConfigs, Read and Write"
    for call in (check_topics, lambda log: create_topics(log, 1), lambda log: grow_topics(log, 2)):
        with pytest.raises(LogUnusable, match=f"not authorised.*: {everything}"):
            call(bob)

    # Who may only see the topics may not make them
    grant(guarded, names, ACLOperation.DESCRIBE, ACLOperation.DESCRIBE_CONFIGS)
    wait_for(lambda: refused(bob).endswith("run thorn-worker topics create"), what="the rights to see")
    with pytest.raises(
        LogUnusable, match="user 'bob' is not authorised: grant it Create and Alter on the topic"
    ):
        create_topics(bob, 1)

    # nor read and write them
    assert len(create_topics(alice, 1)) == 3
    assert refused(bob).endswith("not for this client to read and write: grant it Read and Write")
    with pytest.raises(
        LogUnusable, match="user 'bob' is not authorised: grant it Create and Alter on the topic"
    ):
        grow_topics(bob, 2)

    # Who may read and write sees the same as everybody
    grant(guarded, names, ACLOperation.READ, ACLOperation.WRITE)
    wait_for(lambda: refused(bob) == "", what="the rights to read and write")
    assert check_topics(bob) == check_topics(alice)


def refused(options: KafkaOptions) -> str:
    """Why these topics can't be used; "" if they can."""
    try:
        check_topics(options)
    except LogUnusable as error:
        return str(error)
    return ""
