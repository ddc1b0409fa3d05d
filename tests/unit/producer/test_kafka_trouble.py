"""Why Kafka does not serve: found out by looking, told in one sentence. Servers here only pretend."""

import logging
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest
from kafka import errors

from producer.errors import ConfigurationError, LogError, LogUnavailable, LogUnusable
from producer.log import kafka_quiet
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_trouble import explain, quiet_client_logs, why_unreachable
from tests.support.certs import Authority
from tests.support.rude import Peer, RudeServer, Script

HOST: Final = "127.0.0.1"


def place_of(server: RudeServer) -> str:
    return f"{server.address}:{server.port}"


def options(*servers: str, **more: str) -> KafkaOptions:
    return KafkaOptions(servers=servers, prefix="thorn", **more)


def text(error: LogError) -> str:
    """The sentence of an error; one line, without a stack."""
    assert "\n" not in str(error)
    return str(error)


def closed_port() -> str:
    with socket.create_server((HOST, 0)) as listener:
        return f"{HOST}:{listener.getsockname()[1]}"


# -- what waiting may cure -------------------------------------------------------------------------


def test_brokers_that_refuse_connections_are_named_each() -> None:
    one, other = closed_port(), closed_port()
    error = why_unreachable(options(one, other))
    assert isinstance(error, LogUnavailable)
    assert text(error) == (
        f"kafka://{one},{other}/thorn can't be reached: "
        f"{one} refuses connections, {other} refuses connections: start the brokers, or correct THORN_LOG"
    )


@pytest.mark.parametrize("name", ["nowhere.invalid", "a..b", "x" * 70])
def test_a_name_that_nobody_knows(name: str) -> None:
    error = why_unreachable(options(f"{name}:9092"))
    assert isinstance(error, LogUnavailable)
    assert f"{name}:9092 has a name that can't be looked up (" in text(error)


def test_a_server_that_never_answers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.log.kafka_probe.PATIENCE_S", 0.2)
    monkeypatch.setattr("producer.log.kafka_probe.SECOND_LOOK_S", 0.2)
    with socket.create_server((HOST, 0)) as silent:
        place = f"{HOST}:{silent.getsockname()[1]}"
        for security in ("plaintext", "ssl"):
            error = why_unreachable(options(place, security=security))
            assert isinstance(error, LogUnavailable)
            assert f"{place} accepts connections but does not answer: start" in text(error)


def test_a_server_that_hangs_up_may_be_starting() -> None:
    with RudeServer(Peer.close) as server:
        place = place_of(server)
        error = why_unreachable(options(place))
    assert isinstance(error, LogUnavailable)
    assert f"{place} hangs up without an answer" in text(error)


# -- what only an operator can cure -----------------------------------------------------------------


def http(peer: Peer) -> None:
    """Waits for the end of a line, as a server of HTTP does, and refuses what it got."""
    while b"\n" not in peer.sock.recv(1000):
        pass
    peer.send(b"HTTP/1.0 400 Bad Request\r\n\r\n<html>")


def redis(peer: Peer) -> None:
    while b"\n" not in peer.sock.recv(1000):
        pass
    peer.send(b"-ERR unknown command\r\n")


def ssh(peer: Peer) -> None:
    peer.send(b"SSH-2.0-OpenSSH_9.2\r\n")
    peer.sock.recv(1000)


def liar(peer: Peer) -> None:
    """Frames its answers as Kafka does, but has fewer bytes than it says."""
    peer.sock.recv(1000)
    peer.send(struct.pack(">iihi", 10, 1, 0, 5))


@pytest.mark.parametrize(
    "script,what",
    [
        (http, "is an HTTP server, not a Kafka broker"),
        (redis, "is no Kafka broker (it answers '-ERR"),
        (ssh, "is no Kafka broker (it answers 'SSH-2.0-"),
        (liar, "is no Kafka broker: "),
    ],
)
def test_a_port_of_something_else(script: Script, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.log.kafka_probe.PATIENCE_S", 0.2)
    monkeypatch.setattr("producer.log.kafka_probe.SECOND_LOOK_S", 0.2)
    with RudeServer(script) as server:
        place = place_of(server)
        error = why_unreachable(options(place))
    assert isinstance(error, LogUnusable)
    assert f"{place} {what}" in text(error)
    assert text(error).endswith(": name a broker's own port in THORN_LOG")


def test_an_http_server_is_not_taken_for_a_broker_with_other_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("producer.log.kafka_probe.SECOND_LOOK_S", 0.2)
    with RudeServer(http) as server:
        place = place_of(server)
        error = why_unreachable(options(place, security="ssl"))
    assert isinstance(error, LogUnusable)
    assert f"{place} is an HTTP server" in text(error)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


def test_a_certificate_of_a_stranger(authority: Authority) -> None:
    with RudeServer(Peer.hang, tls=authority.server(HOST)) as server:
        error = why_unreachable(options(place_of(server), security="ssl"))
    assert isinstance(error, LogUnusable)
    assert f"{place_of(server)} has a certificate that is not to be trusted (unable to get " in text(error)
    assert text(error).endswith(": set THORN_KAFKA_CA_FILE to the authority that signed it")


def test_a_certificate_for_another_name(authority: Authority) -> None:
    with RudeServer(Peer.hang, tls=authority.server("k1.example.com")) as server:
        error = why_unreachable(options(place_of(server), security="ssl", ca_file=authority.ca_file))
    assert isinstance(error, LogUnusable)
    assert f"(IP address mismatch, certificate is not valid for '{HOST}')" in text(error)
    assert text(error).endswith(": name the server in THORN_LOG as its certificate does")


def test_a_certificate_that_has_expired(authority: Authority) -> None:
    with RudeServer(Peer.hang, tls=authority.server(HOST, expired=True)) as server:
        error = why_unreachable(options(place_of(server), security="ssl", ca_file=authority.ca_file))
    assert isinstance(error, LogUnusable)
    assert "(certificate has expired): have it renewed" in text(error)


@pytest.mark.parametrize("names", [("ca_file",), ("cert_file", "key_file")])
def test_a_file_that_is_no_certificate(names: tuple[str, ...], tmp_path: Path) -> None:
    path = tmp_path / "nothing.pem"
    path.write_text("nothing")
    with RudeServer(Peer.close) as server:
        place = place_of(server)
        error = why_unreachable(options(place, security="ssl", **dict.fromkeys(names, str(path))))
    assert isinstance(error, LogUnusable)
    assert f"kafka_{names[0]} = {str(path)!r} " in text(error)
    assert "name " in text(error)


def test_a_password_file_that_is_missing_is_a_matter_of_the_settings() -> None:
    login = {"sasl_mechanism": "PLAIN", "sasl_username": "bob", "sasl_password_file": "/nowhere/password"}
    with pytest.raises(
        ConfigurationError, match="kafka_sasl_password_file = '/nowhere/password' can't be read"
    ):
        why_unreachable(options(closed_port(), security="sasl_plaintext", **login))


def test_what_an_operator_must_do_comes_before_what_may_pass() -> None:
    with RudeServer(ssh) as server:
        place = place_of(server)
        error = why_unreachable(options(closed_port(), place))
    assert isinstance(error, LogUnusable)
    assert place in text(error)


# -- a server that answers as Kafka does ------------------------------------------------------------


def told(number: int, body: bytes) -> bytes:
    return struct.pack(">ii", 4 + len(body), number) + body


def broker(*keys: int, at: tuple[str, int] | None = None) -> Script:
    """Understands these requests, and says that its cluster is one broker at that address, or none yet."""
    understood = struct.pack(">hi", 0, len(keys)) + b"".join(struct.pack(">hhh", key, 0, 9) for key in keys)
    known = struct.pack(">i", 0)
    if at is not None:
        host = at[0].encode()
        known = struct.pack(f">iih{len(host)}sih", 1, 1, len(host), host, at[1], -1)

    def script(peer: Peer) -> None:
        while len(request := peer.sock.recv(1000)) >= 12:
            key, _, number = struct.unpack_from(">hhi", request, 4)
            answers = {18: understood, 3: known, 17: struct.pack(">hi", 34, 0)}
            peer.send(told(number, answers[key]))

    return script


def test_a_controller_serves_no_clients() -> None:
    with RudeServer(broker(18, 60)) as server:
        place = place_of(server)
        error = why_unreachable(options(place))
    assert isinstance(error, LogUnusable)
    assert f"{place} is a controller, which serves no clients: name a broker's own port" in text(error)


def test_a_broker_that_has_not_joined_its_cluster() -> None:
    with RudeServer(broker(18, 3)) as server:
        place = place_of(server)
        error = why_unreachable(options(place))
    assert isinstance(error, LogUnavailable)
    assert f"{place} knows of no broker yet" in text(error)


def test_a_cluster_that_advertises_addresses_where_nobody_is() -> None:
    advertised = closed_port()
    with RudeServer(broker(18, 3, at=(HOST, int(advertised.rpartition(":")[2])))) as server:
        place = place_of(server)
        error = why_unreachable(options(place))
    assert isinstance(error, LogUnavailable)
    assert f"{place} answers, but says that brokers are at {advertised}, which refuses conn" in text(error)
    assert text(error).endswith(": check advertised.listeners of the brokers")


def test_a_broker_that_answers_by_now() -> None:
    with RudeServer(broker(18, 3, at=(HOST, 1))) as server:
        listed = place_of(server)
        port = int(listed.rpartition(":")[2])
        with RudeServer(broker(18, 3, at=(HOST, port))) as server:
            place = place_of(server)
            error = why_unreachable(options(closed_port(), place))
    assert isinstance(error, LogUnavailable)
    assert text(error).endswith("did not answer in time, but does now: try again")


# -- explain ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "error,sentence",
    [
        (
            errors.UnknownTopicOrPartitionError(),
            "a topic of thorn.deliveries, thorn.state and thorn.dead does not exist: make them ",
        ),
        (errors.MessageSizeTooLargeError(), "a record is larger than the topic takes: raise"),
        (
            errors.TopicAuthorizationFailedError("x"),
            "user 'bob' is not authorised for the topics thorn.deliver",
        ),
        (
            errors.GroupAuthorizationFailedError("x"),
            "user 'bob' is not authorised for the group thorn.workers",
        ),
        (
            errors.SaslAuthenticationFailedError("no such user"),
            "the login of user 'bob' (no such user): check",
        ),
        (errors.InvalidRecordError("no key"), "finds a record invalid (no key): "),
        (errors.PolicyViolationError("4 at most"), "policy refuses it (4 at most): "),
        (errors.UnsupportedVersionError(), "does not know a request (UnsupportedVersionError)"),
        (errors.UnknownError("{odd}"), "UnknownError: {odd}: check the brokers"),
        (ValueError("nonsense"), "ValueError: nonsense"),
    ],
)
def test_what_stays_wrong_until_somebody_acts(error: Exception, sentence: str) -> None:
    explained = explain(error, options("k1:9092", sasl_username="bob"), "writing to thorn.dead")
    assert isinstance(explained, LogUnusable)
    assert text(explained).startswith("writing to thorn.dead failed at kafka://k1:9092/thorn: ")
    assert sentence in text(explained)


@pytest.mark.parametrize(
    "error",
    [
        errors.KafkaTimeoutError("Timeout after waiting for 10 secs."),
        errors.NotEnoughReplicasError(),
        errors.KafkaConnectionError("socket disconnected"),
        errors.NodeNotReadyError(1),
        errors.CoordinatorNotAvailableError(),
        errors.KafkaStorageError(),
        ConnectionResetError(104, "Connection reset by peer"),
    ],
)
def test_what_may_pass_is_retriable(error: Exception) -> None:
    explained = explain(error, options("k1:9092"), "writing to thorn.dead")
    assert isinstance(explained, LogUnavailable)
    assert text(explained).startswith("writing to thorn.dead failed at kafka://k1:9092/thorn: ")


def test_a_timeout_while_connecting_is_looked_into() -> None:
    place = closed_port()
    timeout = errors.KafkaTimeoutError(f"Unable to bootstrap from ['{place}']")
    assert f"{place} refuses connections" in text(explain(timeout, options(place), "connecting"))


def test_an_error_of_ours_is_told_as_it_is() -> None:
    ours = LogUnusable("said already")
    assert explain(ours, options("k1:9092"), "connecting") is ours


# -- quiet_client_logs ------------------------------------------------------------------------------


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], list[str]]]:
    """What kafka-python's loggers let through; they are as before afterwards."""
    quiet_client_logs()
    names = [name for name in logging.root.manager.loggerDict if name.partition(".")[0] == "kafka"]
    caplog.set_level(logging.DEBUG, "kafka")
    yield lambda: [record.getMessage() for record in caplog.records]
    for name in names:
        logger = logging.getLogger(name)
        for one in [one for one in logger.filters if isinstance(one, kafka_quiet.Quiet)]:
            logger.removeFilter(one)


def complain(reason: object) -> None:
    logging.getLogger("kafka.net.manager").error("Connection failed: %s", reason)


def test_a_line_comes_once_in_a_while(
    lines: Callable[[], list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    for attempt in range(5):
        complain(attempt)
    assert lines() == ["Connection failed: 0"]

    # When the time is over, then the next one tells of those that were left out
    monkeypatch.setattr(kafka_quiet, "INTERVAL_S", 0.0)
    complain("still")
    assert lines()[1:] == ["Connection failed: still (4 more like it not shown since)"]


def test_other_lines_are_not_held_back(lines: Callable[[], list[str]]) -> None:
    complain(1)
    logging.getLogger("kafka.net.manager").error("Something else")
    logging.getLogger("another").error("Connection failed")
    assert lines() == ["Connection failed: 1", "Something else", "Connection failed"]


def test_twice_is_once(lines: Callable[[], list[str]]) -> None:
    quiet_client_logs()
    logger = logging.getLogger("kafka.net.manager")
    assert sum(isinstance(one, kafka_quiet.Quiet) for one in logger.filters) == 1
    assert not any(isinstance(one, kafka_quiet.Quiet) for one in logging.getLogger().filters)


def test_debug_lines_that_hold_passwords_never_appear(lines: Callable[[], list[str]]) -> None:
    logging.getLogger("kafka.protocol.parser").debug("Send: %r", b"\0bob\0bob-secret")
    logging.getLogger("kafka.net.connection").debug("Request 1: %s", "SaslAuthenticate bob-secret")
    logging.getLogger("kafka.admin.client").debug("configuration: %s", {"sasl_plain_password": "bob-secret"})
    logging.getLogger("kafka.net.manager").debug("backoff 1 ms")
    assert lines() == ["backoff 1 ms"]


def test_a_lost_connection_has_no_stack_but_a_bug_has(
    lines: Callable[[], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    logger = logging.getLogger("kafka.net.transport")
    try:
        raise ConnectionResetError(104, "reset")
    except OSError:
        logger.exception("Error receiving network data")
    try:
        raise RuntimeError("a bug")
    except RuntimeError:
        logger.exception("Error sending request data")
    assert lines() == ["Error receiving network data", "Error sending request data"]
    assert [record.exc_info is not None for record in caplog.records] == [False, True]
