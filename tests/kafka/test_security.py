"""Brokers that ask for TLS, client certificates and passwords."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from kafka import KafkaProducer
from kafka.errors import KafkaTimeoutError

from deploy.kafka import Cluster, Options, Security
from tests.kafka import clients
from tests.kafka.certificates import Certificates, issue

pytestmark = [pytest.mark.kafka, pytest.mark.long, pytest.mark.xdist_group("security")]

USERS: Final = {"alice": "alice-secret", "bob": "bob-secret"}
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return issue(tmp_path_factory.mktemp("certificates"))


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


def password(protocol: str, mechanism: str, user: str, word: str) -> clients.Login:
    return {
        "security_protocol": protocol,
        "sasl_mechanism": mechanism,
        "sasl_plain_username": user,
        "sasl_plain_password": word,
    }


def assert_serves(cluster: Cluster, topic: str, login: clients.Login) -> None:
    clients.create_topic(cluster.bootstrap, topic, login)
    clients.put(cluster.bootstrap, topic, b"secret", login)
    assert clients.values(cluster.bootstrap, topic, login) == [b"secret"]


def assert_refuses(bootstrap: str, login: clients.Login) -> None:
    """A client learns no more than that nobody answers in time: a broker hangs up on strangers."""
    with pytest.raises(KafkaTimeoutError, match="bootstrap"):
        KafkaProducer(bootstrap_servers=bootstrap, bootstrap_timeout_ms=1_000, **login)


def test_tls_encrypts_and_names_the_broker(
    needs_kafka: None, tmp_path: Path, certificates: Certificates, prefix: str
) -> None:
    with Cluster(tmp_path / "tls", Options(security=Security.TLS, tls=certificates.brokers)) as cluster:
        login: clients.Login = {"security_protocol": "SSL", "ssl_cafile": certificates.ca}
        assert_serves(cluster, prefix, login)

        by_name = cluster.bootstrap.replace("127.0.0.1", "localhost")
        assert clients.values(by_name, prefix, login) == [b"secret"]

        (tmp_path / "other").mkdir()
        assert_refuses(cluster.bootstrap, login | {"ssl_cafile": issue(tmp_path / "other").ca})
        assert_refuses(cluster.bootstrap, {"security_protocol": "PLAINTEXT"})


def test_mtls_wants_a_certificate_of_the_client(
    mtls: Cluster, certificates: Certificates, prefix: str
) -> None:
    anonymous: clients.Login = {"security_protocol": "SSL", "ssl_cafile": certificates.ca}
    known = anonymous | {
        "ssl_certfile": certificates.client_certificate,
        "ssl_keyfile": certificates.client_key,
    }

    assert_serves(mtls, prefix, known)
    assert_refuses(mtls.bootstrap, anonymous)


@pytest.mark.parametrize("mechanism", MECHANISMS)
def test_a_password_opens_the_broker_and_a_wrong_one_does_not(
    sasl: Cluster, mechanism: str, prefix: str
) -> None:
    assert_serves(sasl, prefix, password("SASL_PLAINTEXT", mechanism, "bob", "bob-secret"))
    assert_refuses(sasl.bootstrap, password("SASL_PLAINTEXT", mechanism, "bob", "alice-secret"))


def test_no_password_does_not_open_the_broker(sasl: Cluster) -> None:
    assert_refuses(sasl.bootstrap, {"security_protocol": "PLAINTEXT"})


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-512"])
def test_a_password_goes_through_tls(
    sasl_tls: Cluster, certificates: Certificates, mechanism: str, prefix: str
) -> None:
    login = password("SASL_SSL", mechanism, "alice", "alice-secret") | {"ssl_cafile": certificates.ca}
    assert_serves(sasl_tls, prefix, login)


def test_tools_of_a_test_come_in_by_the_plaintext_listener(sasl: Cluster, prefix: str) -> None:
    clients.create_topic(sasl.internal_bootstrap, prefix)
    assert prefix in clients.topics(sasl.internal_bootstrap)


def test_a_secured_cluster_is_found_and_started_again_as_it_was(sasl: Cluster, prefix: str) -> None:
    sasl.stop()
    Cluster(sasl.folder).start()
    assert_serves(sasl, prefix, password("SASL_PLAINTEXT", "SCRAM-SHA-512", "alice", "alice-secret"))
