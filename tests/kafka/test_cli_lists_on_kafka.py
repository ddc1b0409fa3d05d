"""Lists and commands on a Kafka log: the same as on any, and what only Kafka can get wrong."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final
from uuid import NAMESPACE_URL, uuid5

import pytest

from deploy.kafka import Cluster, Options, Security
from producer import Producer
from producer.model import Batch, Command, Life
from producer.wire import decode
from tests.contract.cli_lists import ONE, SUB, TWO, CliLists, Run, delivery, ids, letter_on, rows_on
from tests.support.deliveries import letter, pending
from tests.support.kafka_rows import KafkaRows, records
from tests.support.logging import logging_restored
from tests.support.waiting import wait_for
from thorn_worker.cli.app import execute
from thorn_worker.outcome import Death

pytestmark = [pytest.mark.kafka, pytest.mark.long]

ROOT: Final = Path(__file__).parents[2]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Iterator[Run]:
    """Runs a command line in an empty folder: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = execute(arguments)
        return code, *capsys.readouterr()

    with logging_restored():
        yield run


class TestOnKafka(CliLists):
    @pytest.fixture
    def run(self, broker: Cluster, prefix: str, command: Run, monkeypatch: pytest.MonkeyPatch) -> Run:
        """On a log with `rows_on`."""
        log = KafkaRows(broker.bootstrap, prefix, 1)
        subscribers = {"*": {"url": f"{ONE}/in", "id": SUB}}
        with Producer(log=log.url, subscribers=subscribers) as service:
            for number in range(5):
                service.send("order.created", {"id": number})
        rows = rows_on(log.topic_id)
        with log:
            for row in rows.pendings:
                log.put(row)
            for one in rows.letters:
                log.bury(one)
            log.save(0, rows.endpoint)
        monkeypatch.setenv("THORN_LOG", log.url)
        return command


@pytest.fixture
def log(broker: Cluster, prefix: str, monkeypatch: pytest.MonkeyPatch) -> KafkaRows:
    """Three partitions; the command line's log."""
    log = KafkaRows(broker.bootstrap, prefix, 3)
    monkeypatch.setenv("THORN_LOG", log.url)
    return log


def sent(log: KafkaRows) -> dict[int, list[Batch | Command]]:
    """What lies in the topic of the deliveries, per partition."""
    found = records(log.options, log.options.deliveries)
    return {partition: [decode(one.value) for one in some] for partition, some in found.items()}


def test_a_replayed_letter_is_a_new_life_at_the_beginning_of_its_schedule(
    log: KafkaRows, command: Run
) -> None:
    # Given dead letters of two hosts in two partitions, one of which kept an expiry, and an unreadable record
    letters = [letter_on(log.topic_id, n, ONE if n < 2 else TWO, Death.EXHAUSTED, 100.0) for n in range(4)]
    with log:
        for one in letters:
            log.bury(one)
        log.bury(
            letter(Life(log.topic_id, 1, 9, 0), delivery=None, reason=Death.MALFORMED, raw=b"?", raw_bytes=1)
        )

    # When those of one host are replayed
    code, out, err = command("dead", "replay", "--host", ONE, "--yes")

    # Then they are in the log under the same ids, with nothing spent, by host as services send them
    assert (code, out.splitlines()[-1], err) == (0, "2 of 2 replayed", "")
    batches = [one for some in sent(log).values() for one in some]
    (batch,) = batches
    assert isinstance(batch, Batch)
    assert [one.id for one in batch.deliveries] == [letters[0].delivery.id, letters[1].delivery.id]  # type: ignore[union-attr]
    assert {(one.attempts, one.first_at, one.expires_at) for one in batch.deliveries} == {(0, None, None)}

    # And they have left the list, alone
    left = ids(command("dead", "list", "--json")[1])
    assert left == [delivery(2, TWO).id, delivery(3, TWO).id, "raw/1.9"]

    # And the rest goes by its age, the unreadable one staying
    assert command("dead", "replay", "--since", "1970-01-01", "--yes")[1].endswith("2 of 2 replayed\n")
    assert ids(command("dead", "list", "--json")[1]) == ["raw/1.9"]
    assert command("dead", "replay", "raw/1.9", "--yes")[0] == 1


def test_commands_by_id_go_to_the_partition_of_each_row_and_those_by_endpoint_to_all(
    log: KafkaRows, command: Run
) -> None:
    rows = [pending(log.topic_id, p, n) for p, n in ((0, 1), (2, 5), (2, 6))]
    with log:
        for row in rows:
            log.put(row)

    code, out, err = command("pending", "retry", "--reason", "failed")
    assert (code, out) == (0, "retry ordered for 3 deliveries\n")
    assert err == "appended to 2 partitions, the furthest reader is 1 records behind\n"
    orders = sent(log)
    assert [[one.ids for one in orders[p] if isinstance(one, Command)] for p in (0, 1, 2)] == [
        [("d1.0",)],
        [],
        [("d5.0", "d6.0")],
    ]

    assert command("endpoints", "disable", SUB)[0] == 0
    assert command("pending", "cancel", "--subscription", SUB)[0] == 0
    for some in sent(log).values():
        assert [(one.op, one.subs) for one in some[-2:] if isinstance(one, Command)] == [
            ("disable", (SUB,)),
            ("cancel", (SUB,)),
        ]


def test_a_command_waits_until_the_group_has_committed_beyond_it(log: KafkaRows, command: Run) -> None:
    # Given a group that will have read everything soon: it committed far ahead in all partitions
    from kafka import KafkaAdminClient, TopicPartition
    from kafka.structs import OffsetAndMetadata

    admin = KafkaAdminClient(**log.options.connection())
    places = {TopicPartition(log.options.deliveries, p): OffsetAndMetadata(9, "", -1) for p in range(3)}
    admin.alter_group_offsets(log.options.group, places)
    admin.close()

    code, _, err = command("endpoints", "enable", SUB, "--wait", "--timeout", "20")
    assert code == 0
    assert err.endswith("applied on 3 of 3 partitions\n")


def test_an_id_that_no_subscriber_has_is_said_and_obeyed(
    log: KafkaRows, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = str(uuid5(NAMESPACE_URL, "known"))
    monkeypatch.setenv("THORN_SUBSCRIBERS", json.dumps({"*": {"url": f"{ONE}/in", "id": known}}))
    code, _, err = command("endpoints", "disable", known, SUB)
    assert code == 0
    assert f"note: no subscriber in these settings has the id {SUB}" in err
    assert known not in err


def test_many_ids_become_many_commands_in_one_go(log: KafkaRows, command: Run) -> None:
    with log:
        for n in range(1_200):
            log.put(pending(log.topic_id, 1, n))
    began = time.monotonic()
    assert command("pending", "cancel", "--reason", "failed")[1] == "cancel ordered for 1200 deliveries\n"
    assert time.monotonic() - began < 15.0
    assert [len(one.ids) for one in sent(log)[1] if isinstance(one, Command)] == [500, 500, 200]


def test_ten_thousand_letters_are_listed_in_seconds(log: KafkaRows, command: Run) -> None:
    with log:
        for n in range(10_000):
            log.bury(letter(Life(log.topic_id, n % 3, n // 3, 0)))
    began = time.monotonic()
    code, out, err = command("dead", "list")
    assert code == 0
    assert len(out.splitlines()) == 101
    assert "There are more" in err
    assert time.monotonic() - began < 10.0  # about 0.5 s on an idle machine


def test_the_patched_process_lists_and_replays(log: KafkaRows) -> None:
    with log:
        for n in range(3):
            log.bury(letter_on(log.topic_id, n, ONE, Death.EXHAUSTED, 100.0))

    def program(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "thorn_worker", *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
        )

    listed = program("dead", "list")
    assert (listed.returncode, listed.stderr) == (0, "")
    assert listed.stdout.splitlines()[0].split()[-3:] == ["reason", "status", "died_at"]
    assert listed.stdout.splitlines()[1].split()[-2] == "500"
    replayed = program("dead", "replay", "--host", ONE, "--yes")
    assert (replayed.returncode, replayed.stderr) == (0, "")
    assert program("dead", "list").stdout == "none\n"


#: One of each kind: a list of rows, an order without a list before it, one with it, and an event.
COMMANDS: Final = [
    ("dead", "list"),
    ("endpoints", "enable", SUB),
    ("dead", "replay", "--host", ONE, "--yes"),
    ("send", "order.created"),
]


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_missing_topics_are_one_sentence(
    broker: Cluster, prefix: str, command: Run, arguments: tuple[str, ...]
) -> None:
    code, out, err = command(*arguments, "--log", broker.log_url(prefix))
    assert (code, out) == (4, "")
    assert f"{prefix}." in err
    assert "thorn-worker topics create" in err
    assert sentences(err) == 1


@pytest.mark.parametrize("arguments", COMMANDS, ids=" ".join)
def test_a_broker_that_is_away_is_one_sentence_within_seconds(
    command: Run, prefix: str, arguments: tuple[str, ...]
) -> None:
    began = time.monotonic()
    code, out, err = command(*arguments, "--log", f"kafka://127.0.0.1:1/{prefix}")
    assert time.monotonic() - began < 15.0
    assert (code, out) == (4, "")
    assert "127.0.0.1:1 refuses connections" in err
    assert sentences(err) == 1


def test_a_wrong_password_is_one_sentence(
    needs_kafka: None, tmp_path: Path, command: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    options = Options(security=Security.SASL, users={"alice": "right"})
    (tmp_path / "password").write_text("wrong\n")
    monkeypatch.setenv("THORN_KAFKA_SECURITY", "sasl_plaintext")
    monkeypatch.setenv("THORN_KAFKA_SASL_MECHANISM", "SCRAM-SHA-512")
    monkeypatch.setenv("THORN_KAFKA_SASL_USERNAME", "alice")
    monkeypatch.setenv("THORN_KAFKA_SASL_PASSWORD_FILE", str(tmp_path / "password"))
    with Cluster(tmp_path / "sasl", options) as cluster:
        for arguments in COMMANDS[0], COMMANDS[1], COMMANDS[3]:
            began = time.monotonic()
            code, out, err = command(*arguments, "--log", cluster.log_url())
            assert time.monotonic() - began < 15.0
            assert (code, out) == (4, "")
            assert "'alice'" in err
            assert sentences(err) == 1


def test_a_broker_that_falls_silent_is_one_sentence(broker: Cluster, log: KafkaRows, command: Run) -> None:
    broker.freeze(1)
    began = time.monotonic()
    code, _, err = command("dead", "list")
    assert time.monotonic() - began < 20.0
    assert code == 4
    assert sentences(err) == 1

    broker.thaw(1)
    wait_for(lambda: command("dead", "list")[0] == 0, 30.0, what="the list of a broker that answers again")


def sentences(err: str) -> int:
    """Lines of our own, but for the note about ids that nobody subscribes with."""
    return sum(not line.startswith("note: ") for line in err.splitlines())
