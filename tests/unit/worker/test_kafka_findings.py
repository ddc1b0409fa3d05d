"""What is wrong with topics, found from what a cluster says of them."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import pytest

from producer.log.kafka_options import KafkaOptions
from thorn_worker.log.kafka_admin import Described
from thorn_worker.log.kafka_findings import Finding, examine
from thorn_worker.log.kafka_topics import wanted_settings

OPTIONS: Final = KafkaOptions(servers=("k1:9092",), prefix="thorn")
GRANT_ALL: Final = "grant it Describe, DescribeConfigs, Read and Write"
NAMES: Final = ("thorn.deliveries", "thorn.state", "thorn.dead")


def topics(replication: int = 3) -> dict[str, Described]:
    """As `topics create` makes them."""
    settings = wanted_settings(OPTIONS, replication)
    rights = frozenset({"READ", "WRITE", "DESCRIBE"})
    return {
        name: Described(
            name,
            topic_id=f"id of {name}",
            partitions=12,
            replication=replication,
            allowed=rights,
            # A cluster also says what nobody has set.
            settings={"retention.ms": "604800000", "retention.bytes": "-1"} | dict(settings[name]),
        )
        for name in NAMES
    }


def with_settings(name: str, settings: Mapping[str, str], replication: int = 3) -> dict[str, Described]:
    found = topics(replication)
    found[name] = replace(found[name], settings=dict(found[name].settings) | dict(settings))
    return found


def findings(found: Mapping[str, Described], brokers: int = 3) -> list[Finding]:
    return examine(OPTIONS, found, brokers)


@pytest.mark.parametrize("brokers", [1, 2, 3, 9])
def test_topics_as_they_are_made_are_right(brokers: int) -> None:
    assert findings(topics(min(3, brokers)), brokers) == []


def test_a_missing_topic_is_to_be_made() -> None:
    found = topics()
    del found["thorn.state"]
    assert findings(found) == [
        Finding("thorn.state", "missing", "run thorn-worker topics create", fatal=True),
    ]


def test_unequal_partition_counts_are_to_be_grown_to_the_largest() -> None:
    found = topics()
    found["thorn.dead"] = replace(found["thorn.dead"], partitions=6)
    (finding,) = findings(found)
    assert str(finding) == (
        "thorn.dead: 6 partitions, where another topic has 12: run thorn-worker topics create --partitions 12"
    )
    assert finding.fatal


@pytest.mark.parametrize(
    "topic,policy,better",
    [
        ("thorn.deliveries", "compact", "delete"),
        ("thorn.deliveries", "compact,delete", "delete"),
        ("thorn.state", "delete", "compact"),
        ("thorn.state", "delete, compact", "compact"),
    ],
)
def test_a_policy_that_loses_deliveries_is_fatal(topic: str, policy: str, better: str) -> None:
    (finding,) = findings(with_settings(topic, {"cleanup.policy": policy}))
    assert finding.fatal
    assert f"cleanup.policy = {policy}, and " in finding.problem
    assert finding.advice == f"set it to {better}"


@pytest.mark.parametrize(
    "topic,setting,value,better",
    [
        ("thorn.dead", "cleanup.policy", "delete", "compact,delete"),
        ("thorn.dead", "cleanup.policy", "compact", "compact,delete"),
        ("thorn.deliveries", "retention.ms", "3600000", "at least 86400000"),
        ("thorn.dead", "retention.ms", "3600000", "at least 86400000"),
        ("thorn.deliveries", "retention.bytes", "1000000", "-1"),
        ("thorn.state", "delete.retention.ms", "3600000", "172800000"),
        ("thorn.deliveries", "max.message.bytes", "900000", "at least 9"),
        ("thorn.state", "max.message.bytes", "1048588", "at least 2097152"),
        ("thorn.dead", "max.message.bytes", "1048588", "at least 2097152"),
        ("thorn.deliveries", "min.insync.replicas", "1", "2"),
        ("thorn.deliveries", "min.insync.replicas", "3", "2"),
    ],
)
def test_a_doubtful_setting_is_a_warning(topic: str, setting: str, value: str, better: str) -> None:
    (finding,) = findings(with_settings(topic, {setting: value}))
    assert not finding.fatal
    assert finding.topic == topic
    assert f"{setting} = {value}, and " in finding.problem
    assert finding.advice.startswith(f"set it to {better}")


def test_a_topic_may_keep_its_records_for_ever() -> None:
    assert findings(with_settings("thorn.deliveries", {"retention.ms": "-1"})) == []


def test_one_copy_where_three_brokers_could_keep_three() -> None:
    one_copy = findings(topics(replication=1), brokers=3)
    assert [finding.topic for finding in one_copy] == list(NAMES)
    assert all("1 of the 3 copies" in finding.problem and not finding.fatal for finding in one_copy)


def test_rights_that_a_worker_needs() -> None:
    found = topics()
    found["thorn.state"] = replace(found["thorn.state"], allowed=frozenset({"READ", "DESCRIBE"}))
    found["thorn.dead"] = Described("thorn.dead", "", 0, 0, frozenset(), {}, visible=False)
    assert [(str(finding), finding.fatal) for finding in findings(found)] == [
        ("thorn.state: not for this client to write: grant it Write", True),
        (f"thorn.dead: hidden, since this client is not authorised: {GRANT_ALL}", True),
    ]


def test_settings_that_may_not_be_seen_are_not_guessed() -> None:
    found = topics()
    found["thorn.state"] = replace(found["thorn.state"], settings={})
    (finding,) = findings(found)
    assert str(finding) == "thorn.state: its settings are hidden from this client: grant it DescribeConfigs"
    assert not finding.fatal


def test_a_broker_that_says_nothing_of_rights_is_believed_to_grant_them() -> None:
    found = {name: replace(topic, allowed=frozenset()) for name, topic in topics().items()}
    assert findings(found) == []
