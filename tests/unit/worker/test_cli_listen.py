"""``thorn-worker listen``: over a real socket, with signatures that our own sender makes."""

import time
import tomllib
from base64 import b64encode
from collections.abc import Callable, Iterator

import pytest
from gevent import socket
from gevent.pywsgi import WSGIServer

from producer.errors import SubscriptionError
from thorn_worker.cli.listen import Checks, Received, Receiver, _checked, hints
from thorn_worker.http.signing import hook_hmac, key_of, signature, signed_prefix
from thorn_worker.listener import open_listener

SECRET = "whsec_" + b64encode(b"k" * 32).decode()
OTHER = "whsec_" + b64encode(b"x" * 32).decode()
BODY = b'{"id": 7}'


class Listening:
    """A running receiver, and what it showed."""

    def __init__(self, checks: Checks, statuses: tuple[int, ...] = (200,)) -> None:
        self.shown: list[Received] = []
        receiver = Receiver(checks, statuses, 0.0, self.shown.append)
        self.server = WSGIServer(open_listener("127.0.0.1", 0), receiver, log=None)
        self.server.start()

    def post(self, headers: dict[str, str], body: bytes = BODY) -> int:
        """The status that a POST is answered with."""
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        with socket.create_connection(("127.0.0.1", self.server.server_port), timeout=5) as sock:
            lines += f"Content-Length: {len(body)}\r\nConnection: close\r\n"
            sock.sendall(f"POST /in HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode() + body)
            answer = b""
            while data := sock.recv(65536):
                answer += data
        return int(answer.split()[1])


@pytest.fixture
def open_receivers() -> Iterator[list[Listening]]:
    started: list[Listening] = []
    yield started
    for listening in started:
        listening.server.stop(timeout=1)


def signed(secret: str, body: bytes = BODY, at: float | None = None) -> dict[str, str]:
    timestamp = int(time.time() if at is None else at)
    return {
        "webhook-id": "d-1",
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature([key_of(secret)], signed_prefix("d-1", timestamp), body),
        "Hook-Event": "order.created",
        "Hook-Delivery": "d-1",
        "Hook-Attempt": "2",
    }


def test_a_signed_request_is_good_and_shown_with_its_names(open_receivers: list[Listening]) -> None:
    listening = Listening(Checks((SECRET,)))
    open_receivers.append(listening)

    assert listening.post(signed(SECRET)) == 200

    (received,) = listening.shown
    assert received.signature == "good"
    assert (received.event, received.delivery, received.attempt) == ("order.created", "d-1", "2")
    assert "order.created delivery=d-1 attempt=2 signature: good -> 200" in received.line()
    assert received.line().endswith('9 bytes: {"id": 7}')


def test_any_of_several_secrets_may_match(open_receivers: list[Listening]) -> None:
    listening = Listening(Checks((OTHER, SECRET)))
    open_receivers.append(listening)
    listening.post(signed(SECRET))
    assert listening.shown[0].signature == "good"


@pytest.mark.parametrize(
    "headers, problem",
    [
        (dict, "webhook-signature is missing"),
        (lambda: signed(OTHER), "no item of webhook-signature matches"),
        (lambda: signed(SECRET, body=b"tampered"), "no item of webhook-signature matches"),
        (lambda: signed(SECRET, at=1_000_000_000.0), "s old"),
    ],
)
def test_what_is_wrong_is_said(
    open_receivers: list[Listening], headers: Callable[[], dict[str, str]], problem: str
) -> None:
    listening = Listening(Checks((SECRET,)))
    open_receivers.append(listening)
    listening.post(headers())
    assert problem in listening.shown[0].signature


def test_hook_hmac_is_checked_too(open_receivers: list[Listening]) -> None:
    listening = Listening(Checks(hmac_secret="old"))
    open_receivers.append(listening)
    listening.post({"Hook-HMAC": hook_hmac("sha256", "old", BODY)})
    listening.post({"Hook-HMAC": hook_hmac("sha256", "other", BODY)})
    listening.post({})
    assert [received.signature for received in listening.shown] == [
        "good",
        "Hook-HMAC does not match",
        "Hook-HMAC is missing",
    ]


def test_without_secrets_nothing_is_checked(open_receivers: list[Listening]) -> None:
    listening = Listening(Checks())
    open_receivers.append(listening)
    listening.post({})
    assert listening.shown[0].signature == "not checked"


def test_answers_take_turns(open_receivers: list[Listening]) -> None:
    listening = Listening(Checks(), (200, 500, 204))
    open_receivers.append(listening)
    assert [listening.post({}) for _ in range(4)] == [200, 500, 204, 200]


def test_a_body_that_is_no_text_stays_on_one_line(open_receivers: list[Listening]) -> None:
    listening = Listening(Checks())
    open_receivers.append(listening)
    listening.post({}, b"\xff\x00\nnext")
    assert listening.shown[0].line().count("\n") == 1


def test_a_secret_that_is_none_is_refused() -> None:
    with pytest.raises(SubscriptionError):
        _checked(("whsec_!!!",))


@pytest.mark.parametrize(
    "host, secrets, hmac_secret, network",
    [
        ("127.0.0.1", (), None, "127.0.0.0/8"),
        ("::1", (), None, "::1/128"),
        ("127.0.0.1", (SECRET,), 'quote"d', "127.0.0.0/8"),
    ],
)
def test_the_hints_are_settings_that_can_be_pasted(
    host: str, secrets: tuple[str, ...], hmac_secret: str | None, network: str
) -> None:
    settings = tomllib.loads(hints(host, 8808, secrets, hmac_secret).split("\n", 1)[1])
    assert settings["allow_networks"] == [network]
    entry = settings["subscribers"]["*"]
    url = "http://[::1]:8808/" if ":" in host else "http://127.0.0.1:8808/"
    if secrets:
        assert entry == {"url": url, "secrets": list(secrets), "hmac_secret": hmac_secret}
    else:
        assert entry == url
