"""The look at brokers that don't serve, in a process like the worker's: it waits, and lets others run."""

import socket
import time
from dataclasses import replace
from pathlib import Path

import gevent
import pytest

from deploy.kafka import Cluster
from producer.errors import LogUnavailable, LogUnusable
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_trouble import why_unreachable
from thorn_worker.log.kafka_topics import check_topics, create_topics

pytestmark = pytest.mark.kafka


def test_others_run_while_a_silent_server_is_looked_at() -> None:
    turns = 0

    def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            gevent.sleep(0.01)

    with socket.create_server(("127.0.0.1", 0)) as silent:
        place = f"127.0.0.1:{silent.getsockname()[1]}"
        other = gevent.spawn(turn)
        began = time.monotonic()
        error = why_unreachable(KafkaOptions(servers=(place,), prefix="thorn"))
        other.kill()
    assert isinstance(error, LogUnavailable)
    assert f"{place} accepts connections but does not answer" in str(error)
    assert turns > 0.5 * (time.monotonic() - began) / 0.01


def test_a_name_that_nobody_knows() -> None:
    error = why_unreachable(KafkaOptions(servers=("nowhere.invalid:9092",), prefix="thorn"))
    assert isinstance(error, LogUnavailable)
    assert "nowhere.invalid:9092 has a name that can't be looked up" in str(error)


def test_topics_are_made_and_checked_on_the_hub(broker: Cluster, prefix: str, tmp_path: Path) -> None:
    options = KafkaOptions(servers=(broker.bootstrap,), prefix=prefix)
    create_topics(options, 2)
    assert check_topics(options).partitions == 2

    password = tmp_path / "password"
    password.write_text("secret")
    login = replace(
        options,
        security="sasl_plaintext",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="bob",
        sasl_password_file=str(password),
    )
    with pytest.raises(LogUnusable, match="asks for no login: set THORN_KAFKA_SECURITY"):
        check_topics(login)
