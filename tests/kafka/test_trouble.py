"""Real brokers that want TLS, a certificate or a login: what is set right works, each mismatch has a name."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

import pytest
from kafka import KafkaConsumer, KafkaProducer
from kafka.errors import KafkaError

from deploy.kafka import Cluster, Options, Security
from producer.errors import LogUnavailable, LogUnusable
from producer.log.kafka_options import KafkaOptions
from producer.log.kafka_trouble import explain, why_unreachable
from tests.kafka.certificates import Certificates, issue
from thorn_worker.log.kafka_topics import check_topics, create_topics

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.xdist_group("trouble")]

USERS: Final = {"alice": "alice-secret", "bob": "bob-secret"}
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A client that nobody lets in gives up soon: brokers on loopback let in what they let in at once."""
    monkeypatch.setattr("producer.log.kafka_options.BOOTSTRAP_TIMEOUT_MS", 1_000)


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def strangers(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    """Of an authority that no broker here knows."""
    return issue(tmp_path_factory.mktemp("strangers"))


@pytest.fixture(scope="module")
def mtls(
    needs_kafka: None, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    options = Options(security=Security.MTLS, tls=certificates.brokers)
    with Cluster(tmp_path_factory.mktemp("mtls"), options) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def sasl(needs_kafka: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with Cluster(tmp_path_factory.mktemp("sasl"), Options(security=Security.SASL, users=USERS)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def sasl_tls(
    needs_kafka: None, certificates: Certificates, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Cluster]:
    options = Options(security=Security.SASL_TLS, tls=certificates.brokers, users=USERS)
    with Cluster(tmp_path_factory.mktemp("sasl_tls"), options) as cluster:
        yield cluster


def with_login(options: KafkaOptions, folder: Path, mechanism: str = "PLAIN", word: str = "") -> KafkaOptions:
    """As alice; her own password unless another is given."""
    path = folder / "password"
    path.write_text(f"{word or USERS['alice']}\n")
    protocol = "sasl_ssl" if options.security.endswith("ssl") else "sasl_plaintext"
    return replace(
        options,
        security=protocol,
        sasl_mechanism=mechanism,
        sasl_username="alice",
        sasl_password_file=str(path),
    )


def plain(cluster: Cluster, prefix: str) -> KafkaOptions:
    return KafkaOptions(servers=tuple(cluster.bootstrap.split(",")), prefix=prefix)


def by_tls(cluster: Cluster, prefix: str, certificates: Certificates) -> KafkaOptions:
    return replace(plain(cluster, prefix), security="ssl", ca_file=certificates.ca)


def with_certificate(options: KafkaOptions, certificates: Certificates) -> KafkaOptions:
    return replace(options, cert_file=certificates.client_certificate, key_file=certificates.client_key)


def assert_serves(options: KafkaOptions) -> None:
    """Admin, producer and consumer: each gets in with the same settings."""
    assert len(create_topics(options, 1)) == 3
    assert check_topics(options).partitions == 1

    producer = KafkaProducer(**options.connection())
    assert producer.send(options.deliveries, b"secret", partition=0).get(timeout=30).offset == 0
    producer.close(timeout=10)

    consumer = KafkaConsumer(
        options.deliveries, group_id=options.group, auto_offset_reset="earliest", **options.connection()
    )
    assert next(consumer).value == b"secret"
    consumer.close()

    answer = why_unreachable(options)
    assert isinstance(answer, LogUnavailable)
    assert str(answer).endswith("did not answer in time, but does now: try again")


def refusal(options: KafkaOptions) -> str:
    """What a command says of it: kafka-python knows only that time is over."""
    with pytest.raises(LogUnusable) as caught:
        check_topics(options)
    sentence = str(caught.value)
    assert sentence.startswith(f"{options.place} can't be used: {options.servers[0]} ")
    assert "\n" not in sentence
    assert not any(word in sentence for word in (*USERS.values(), "guessed"))
    return sentence.removeprefix(f"{options.place} can't be used: {options.servers[0]} ")


# -- what is set right ------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_login_opens_the_log(sasl: Cluster, mechanism: str, prefix: str, tmp_path: Path) -> None:
    assert_serves(with_login(plain(sasl, prefix), tmp_path, mechanism))


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_login_through_tls_opens_the_log(
    sasl_tls: Cluster, mechanism: str, prefix: str, tmp_path: Path, certificates: Certificates
) -> None:
    assert_serves(with_login(by_tls(sasl_tls, prefix, certificates), tmp_path, mechanism))


def test_a_certificate_opens_the_log(mtls: Cluster, prefix: str, certificates: Certificates) -> None:
    assert_serves(with_certificate(by_tls(mtls, prefix, certificates), certificates))


# -- mismatches -------------------------------------------------------------------------------------


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_wrong_password(sasl: Cluster, mechanism: str, prefix: str, tmp_path: Path) -> None:
    said = refusal(with_login(plain(sasl, prefix), tmp_path, mechanism, "guessed"))
    assert said.startswith("refuses the login of user 'alice' (Authentication failed")
    assert said.endswith("): check THORN_KAFKA_SASL_USERNAME and the file THORN_KAFKA_SASL_PASSWORD_FILE")


def test_a_login_where_none_is_asked_for(broker: Cluster, prefix: str, tmp_path: Path) -> None:
    said = refusal(with_login(plain(broker, prefix), tmp_path))
    assert said.startswith("asks for no login: set THORN_KAFKA_SECURITY to plaintext or ssl")


def test_no_login_where_one_is_asked_for(sasl: Cluster, prefix: str) -> None:
    assert refusal(plain(sasl, prefix)).startswith("asks for a login: set THORN_KAFKA_SECURITY to sasl_")


def test_a_mechanism_that_is_not_offered(needs_kafka: None, prefix: str, tmp_path: Path) -> None:
    only = {"listener.name.client.sasl.enabled.mechanisms": "SCRAM-SHA-512"}
    options = Options(security=Security.SASL, users=USERS, extra=only)
    with Cluster(tmp_path / "kafka", options) as cluster:
        said = refusal(with_login(plain(cluster, prefix), tmp_path, "PLAIN"))
    assert said == (
        "offers the login mechanisms SCRAM-SHA-512, not PLAIN: set THORN_KAFKA_SASL_MECHANISM to one of them"
    )


def test_no_tls_where_it_is_asked_for(sasl_tls: Cluster, mtls: Cluster, prefix: str, tmp_path: Path) -> None:
    wanted = "speaks TLS only: set THORN_KAFKA_SECURITY to ssl or sasl_ssl"
    assert refusal(plain(mtls, prefix)) == wanted
    assert refusal(with_login(plain(sasl_tls, prefix), tmp_path)) == wanted


def test_tls_where_none_is_spoken(
    broker: Cluster, sasl: Cluster, prefix: str, tmp_path: Path, certificates: Certificates
) -> None:
    wanted = "speaks Kafka without TLS: set THORN_KAFKA_SECURITY to plaintext or sasl_plaintext"
    assert refusal(by_tls(broker, prefix, certificates)).startswith(wanted)
    assert refusal(with_login(by_tls(sasl, prefix, certificates), tmp_path)).startswith(wanted)


def test_an_authority_that_is_not_known(
    mtls: Cluster, prefix: str, certificates: Certificates, strangers: Certificates
) -> None:
    for options in (
        by_tls(mtls, prefix, strangers),
        replace(by_tls(mtls, prefix, certificates), ca_file=None),
    ):
        said = refusal(options)
        assert said.startswith("has a certificate that is not to be trusted (")
        assert said.endswith("): set THORN_KAFKA_CA_FILE to the authority that signed it")


def test_no_certificate_where_one_is_asked_for(
    mtls: Cluster, prefix: str, certificates: Certificates
) -> None:
    assert refusal(by_tls(mtls, prefix, certificates)) == (
        "asks for a client certificate: set THORN_KAFKA_CERT_FILE and THORN_KAFKA_KEY_FILE"
    )


def test_a_certificate_of_a_stranger(
    mtls: Cluster, prefix: str, certificates: Certificates, strangers: Certificates
) -> None:
    said = refusal(with_certificate(by_tls(mtls, prefix, certificates), strangers))
    assert said.startswith("refuses the certificate of THORN_KAFKA_CERT_FILE (")
    assert said.endswith("): use one that an authority of the broker has signed")


def test_a_tls_only_login_needs_its_password_too(
    sasl_tls: Cluster, prefix: str, tmp_path: Path, certificates: Certificates
) -> None:
    assert refusal(by_tls(sasl_tls, prefix, certificates)).startswith(
        "asks for a login: set THORN_KAFKA_SECU"
    )
    wrong = with_login(by_tls(sasl_tls, prefix, certificates), tmp_path, "SCRAM-SHA-256", "guessed")
    assert refusal(wrong).startswith("refuses the login of user 'alice' (")


def test_the_port_of_a_controller(broker: Cluster, prefix: str) -> None:
    host, _, port = broker.internal_bootstrap.rpartition(":")
    options = KafkaOptions(servers=(f"{host}:{int(port) + 1}",), prefix=prefix)
    assert refusal(options) == (
        "is a controller, which serves no clients: name a broker's own port in THORN_LOG"
    )


# -- brokers that are away, and clients that are told ------------------------------------------------


def test_a_broker_that_is_frozen_is_waited_for(broker: Cluster, prefix: str) -> None:
    broker.freeze(1)
    error = why_unreachable(plain(broker, prefix))
    assert isinstance(error, LogUnavailable)
    assert "accepts connections but does not answer" in str(error)
    broker.thaw(1)


def test_a_broker_that_is_dead_is_waited_for(broker: Cluster, prefix: str) -> None:
    broker.kill(1)
    with pytest.raises(LogUnavailable, match="refuses connections: start the brokers, or correct THORN_LOG"):
        check_topics(plain(broker, prefix))


@pytest.mark.parametrize(
    "topic,value,sentence",
    [
        (
            "deliveries",
            b"x" * 2_000_000,
            "a record is larger than the topic takes: raise the topic's max.mess",
        ),
        ("state", b"without a key", "the broker finds a record invalid ("),
        ("other", b"to nowhere", "no broker answered in time: "),
    ],
)
def test_what_a_broker_refuses_of_a_record(
    broker: Cluster, prefix: str, topic: str, value: bytes, sentence: str
) -> None:
    options = plain(broker, prefix)
    create_topics(options, 1)
    producer = KafkaProducer(max_request_size=4_000_000, max_block_ms=500, **options.connection())
    with pytest.raises(KafkaError) as caught:
        producer.send(f"{prefix}.{topic}", value).get(timeout=30)
    producer.close(timeout=10)
    said = str(explain(caught.value, options, "writing"))
    assert said.startswith(f"writing failed at {options.place}: {sentence}")
