"""A writer whose login the brokers refuse, from the start or suddenly, and one that finds no broker."""

import socketserver
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from kafka import KafkaAdminClient
from kafka.admin import ScramMechanism, UserScramCredentialUpsertion

from deploy.kafka import Cluster, Options, Security
from producer.errors import LogUnusable
from producer.log.buffer_state import BufferLimits
from producer.log.kafka import KafkaWriter
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_sender import KafkaSender
from tests.contract.writer import Outcomes, record
from tests.support.kafka_world import make_topic, stored_in
from tests.support.waiting import wait_for

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.xdist_group("login")]

USERS: Final = {"alice": "alices-first"}


@pytest.fixture(scope="module")
def sasl(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("sasl"), Options(security=Security.SASL, users=USERS)) as cluster:
        yield cluster


@pytest.fixture
def inside(sasl: Cluster, prefix: str) -> KafkaOptions:
    """By the listener that needs no login, for the test itself."""
    options = KafkaOptions(servers=(sasl.internal_bootstrap,), prefix=prefix)
    make_topic(options, options.deliveries)
    return options


@pytest.fixture
def alice(sasl: Cluster, inside: KafkaOptions, tmp_path: Path) -> KafkaOptions:
    password = tmp_path / "password"
    password.write_text(USERS["alice"])
    return replace(
        inside,
        servers=(sasl.bootstrap,),
        security="sasl_plaintext",
        sasl_mechanism="SCRAM-SHA-512",
        sasl_username="alice",
        sasl_password_file=str(password),
    )


def change_password(inside: KafkaOptions, password: str) -> None:
    admin = KafkaAdminClient(bootstrap_servers=list(inside.servers))
    try:
        new = UserScramCredentialUpsertion("alice", ScramMechanism.SCRAM_SHA_512, password)
        admin.alter_user_scram_credentials([new])
    finally:
        admin.close()


def test_a_wrong_password_is_said_by_the_first_append(alice: KafkaOptions) -> None:
    Path(alice.sasl_password_file or "").write_text("a guess")
    writer = KafkaWriter(alice, BufferLimits(max_block_s=20.0))
    try:
        with pytest.raises(LogUnusable, match="refuses the login of user 'alice'"):
            writer.append([record(b"1")], Outcomes())
    finally:
        writer.close(1.0)


def test_a_password_file_that_is_missing_is_said_by_the_first_append(alice: KafkaOptions) -> None:
    Path(alice.sasl_password_file or "").unlink()
    writer = KafkaWriter(alice, BufferLimits(max_block_s=20.0))
    try:
        with pytest.raises(LogUnusable, match="kafka_sasl_password_file"):
            writer.append([record(b"1")], Outcomes())
    finally:
        writer.close(1.0)


def test_a_password_that_changed_is_waited_for(
    sasl: Cluster, alice: KafkaOptions, inside: KafkaOptions
) -> None:
    # Given a writer that has logged in
    sender = KafkaSender(alice)
    writer, done = KafkaWriter(alice, BufferLimits(), sender), Outcomes()
    try:
        writer.append([record(b"1")], done)
        assert done.wait() == [None]

        # When the password changes, and its connections break
        change_password(inside, "alices-second")
        sasl.kill(1)
        sasl.up(1)
        writer.append([record(b"2")], done)
        wait_for(lambda: "refuses the login" in (sender.trouble or ""), 30.0, what="a word about the login")

        # Then the record leaves as soon as the file has the new one, without a restart
        Path(alice.sasl_password_file or "").write_text("alices-second")
        assert writer.flush(30.0)
        assert done.told == [None, None]
    finally:
        writer.close(1.0)
        change_password(inside, USERS["alice"])
    assert [value for *_rest, value in stored_in(inside, inside.deliveries)] == [b"1", b"2"]


class _Http(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        self.request.recv(100)
        self.request.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


def test_a_server_that_is_no_broker_is_said_by_the_first_append() -> None:
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Http) as server:
        threading.Thread(target=server.serve_forever, args=(0.05,)).start()
        address = f"127.0.0.1:{server.server_address[1]}"
        writer = KafkaWriter(KafkaOptions(servers=(address,), prefix="t"), BufferLimits(max_block_s=20.0))
        try:
            with pytest.raises(LogUnusable, match=f"{address} is an HTTP server, not a Kafka broker"):
                writer.append([record(b"1")], Outcomes())
        finally:
            writer.close(1.0)
            server.shutdown()
