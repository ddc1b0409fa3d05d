"""TLS: always verified, with the name of the URL, to the address that was checked."""

import ssl
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support import rude
from tests.support.certs import Authority
from tests.support.rude import OK, RudeServer
from tests.support.waiting import wait_for
from tests.unit.worker.http.sending import Names, Sender
from thorn_worker.outcome import Outcome, Phase


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("stranger"))


NAMES = Names(receiver_example=["127.0.0.1"])


def sender_for(authority: Authority) -> Sender:
    return Sender(ca_file=authority.ca_file, names=NAMES)


def test_a_receiver_with_the_right_certificate(authority: Authority) -> None:
    names_asked: list[str | None] = []
    context = authority.server("receiver.example")
    context.sni_callback = lambda _sock, name, _context: names_asked.append(name)
    with RudeServer(rude.answer(OK), tls=context) as server, sender_for(authority) as sender:
        for _ in range(20):
            assert sender.attempt(server.url(name="receiver.example")).outcome is Outcome.DELIVERED

        assert names_asked == ["receiver.example"]
        assert server.connections == 1


def test_a_literal_address_needs_a_certificate_for_it(authority: Authority) -> None:
    for address in ("127.0.0.1", "::1"):
        tls = authority.server(address)
        with RudeServer(rude.answer(OK), tls=tls, address=address) as server, sender_for(authority) as sender:
            assert sender.attempt(server.url()).outcome is Outcome.DELIVERED


@pytest.mark.parametrize(
    "certificate, words",
    [
        (lambda ours, theirs: ours.server("other.example"), "mismatch"),
        (lambda ours, theirs: theirs.server("receiver.example"), "unable to get local issuer"),
        (lambda ours, theirs: ours.server("receiver.example", expired=True), "expired"),
    ],
    ids=["wrong_name", "unknown_authority", "expired"],
)
def test_a_wrong_certificate_ends_the_attempt_before_anything_is_sent(
    authority: Authority,
    stranger: Authority,
    certificate: Callable[[Authority, Authority], ssl.SSLContext],
    words: str,
) -> None:
    with RudeServer(rude.answer(OK), tls=certificate(authority, stranger)) as server:
        with sender_for(authority) as sender:
            attempt = sender.attempt(server.url(name="receiver.example"))

        assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.TLS)
        assert words in str(attempt.error).lower()
        wait_for(lambda: server.open_connections == 0, what="the connection to be closed")


def test_old_versions_of_tls_are_refused(authority: Authority) -> None:
    tls = authority.server("receiver.example")
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        tls.minimum_version = ssl.TLSVersion.TLSv1_1
    with pytest.warns(DeprecationWarning, match="TLSv1_1"):
        tls.maximum_version = ssl.TLSVersion.TLSv1_1
    with RudeServer(rude.answer(OK), tls=tls) as server, sender_for(authority) as sender:
        attempt = sender.attempt(server.url(name="receiver.example"))

    assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.TLS)


def test_a_receiver_that_speaks_plain_http(authority: Authority) -> None:
    with RudeServer(rude.answer_unasked(OK)) as server, sender_for(authority) as sender:
        url = server.url(name="receiver.example").replace("http:", "https:")
        attempt = sender.attempt(url)

    assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.TLS)


@pytest.mark.parametrize(
    "script", [rude.hang_without_reading, rude.trickle_handshake(0.02)], ids=["hangs", "trickles"]
)
def test_a_slow_handshake_ends_at_the_total_deadline(authority: Authority, script: rude.Script) -> None:
    with RudeServer(script) as server, sender_for(authority) as sender:
        url = server.url(name="receiver.example").replace("http:", "https:")
        started = time.monotonic()
        attempt = sender.attempt(url, timeout_s=0.4)

        assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.TLS)
        assert "handshake in time" in str(attempt.error)
        assert 0.4 <= time.monotonic() - started < 2.0


def test_a_reset_during_the_handshake(authority: Authority) -> None:
    with RudeServer(rude.reset_when_spoken_to) as server, sender_for(authority) as sender:
        attempt = sender.attempt(server.url(name="receiver.example").replace("http:", "https:"))

    assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.TLS)


def test_large_requests_and_answers_pass_whole(authority: Authority) -> None:
    arrived: list[int] = []

    def note(peer: rude.Peer) -> None:
        while request := peer.read_request():
            arrived.append(len(request))
            peer.send(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n" + b"y" * 60_000)

    body = b"x" * 3_000_000
    tls = authority.server("receiver.example")
    with RudeServer(note, tls=tls) as server, sender_for(authority) as sender:
        for _ in range(2):
            attempt = sender.attempt(server.url(name="receiver.example"), body, timeout_s=20.0)
            assert attempt.outcome is Outcome.DELIVERED
            assert attempt.error is None

        assert server.connections == 1
    assert len(arrived) == 2
    assert min(arrived) > len(body)


def test_a_dripping_answer_over_tls_ends_at_the_deadline(authority: Authority) -> None:
    tls = authority.server("receiver.example")
    with RudeServer(rude.drip(OK, 0.05), tls=tls) as server, sender_for(authority) as sender:
        attempt = sender.attempt(server.url(name="receiver.example"), timeout_s=0.4)

    assert (attempt.outcome, attempt.phase) == (Outcome.UNREACHABLE, Phase.WAIT)
    assert 0.4 <= attempt.duration_s < 2.0


def test_a_kept_connection_that_the_receiver_closed_is_replaced(authority: Authority) -> None:
    tls = authority.server("receiver.example")
    with RudeServer(rude.answer_and_close(OK), tls=tls) as server, sender_for(authority) as sender:
        for number in (1, 2):
            assert sender.attempt(server.url(name="receiver.example")).outcome is Outcome.DELIVERED
            assert server.connections == number


def test_ssl_cert_file_is_honoured(authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", authority.ca_file)
    tls = authority.server("receiver.example")
    with RudeServer(rude.answer(OK), tls=tls) as server, Sender(names=NAMES) as sender:
        assert sender.attempt(server.url(name="receiver.example")).outcome is Outcome.DELIVERED


def test_the_systems_authorities_do_not_include_ours(authority: Authority) -> None:
    tls = authority.server("receiver.example")
    with RudeServer(rude.answer(OK), tls=tls) as server, Sender(names=NAMES) as sender:
        assert sender.attempt(server.url(name="receiver.example")).phase is Phase.TLS


def test_many_receivers_share_one_context(authority: Authority, tmp_path: Path) -> None:
    assert Path(authority.pem("localhost", "127.0.0.1")).exists()
    with sender_for(authority) as sender:
        assert sender.pools._tls.verify_mode is ssl.CERT_REQUIRED
        assert sender.pools._tls.check_hostname
        assert sender.pools._tls.minimum_version is ssl.TLSVersion.TLSv1_2
