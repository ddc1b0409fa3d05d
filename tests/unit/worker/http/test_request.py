"""The bytes of a request."""

import re
from dataclasses import replace

import pytest
import urllib3

from producer.errors import InvalidEvent, SubscriptionError
from producer.hosts import parse
from producer.model import Subscription
from tests.unit.worker.http.sending import delivery
from thorn_worker.http import Profile, request_for, user_agent
from thorn_worker.http.signing import hook_hmac, verify

AGENT = user_agent("0.1.0")
URL = "https://shop.example.com:8443/in?token=abc"
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
PRIVATE = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="


def subscription(**options: object) -> Subscription:
    base = Subscription(pattern="order.*", url=URL, id="0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10")
    return replace(base, **options)  # type: ignore[arg-type]


def lines_of(subscription: Subscription | None, **changes: object) -> list[str]:
    changed = replace(delivery(URL), **changes)  # type: ignore[arg-type]
    profile = Profile.of(parse(URL), subscription, AGENT)
    head = request_for(profile, changed, 3, 1_700_000_000.9, 15.0).head
    assert head.endswith(b"\r\n\r\n")
    return head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")


def fields_of(subscription: Subscription | None, **changes: object) -> dict[str, str]:
    pairs = [line.split(": ", 1) for line in lines_of(subscription, **changes)[1:]]
    names = [name.lower() for name, _ in pairs]
    assert len(set(names)) == len(names), f"a header is there twice: {names}"
    return dict(pairs)


def test_without_secrets_there_are_these_headers_and_no_others() -> None:
    assert lines_of(None)[0] == "POST /in?token=abc HTTP/1.1"
    assert fields_of(None) == {
        "Host": "shop.example.com:8443",
        "User-Agent": f"Thorn/0.1.0 (urllib3/{urllib3.__version__})",  # type: ignore[attr-defined]
        "Accept": "*/*",
        "Content-Type": "application/json",
        "Content-Length": "9",
        "Hook-Event": "order.created",
        "Hook-Delivery": "5b1c7b0e-8f0e-5c55-9d57-0d7f2f1f5f01",
        "Hook-Subscription": "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10",
        "Hook-Attempt": "3",
    }


def test_a_subscription_without_secrets_changes_nothing() -> None:
    assert fields_of(subscription()) == fields_of(None)


def test_the_timestamp_is_this_attempts_and_the_signature_verifies() -> None:
    fields = fields_of(subscription(secrets=(SECRET, PRIVATE)))

    assert fields["webhook-id"] == fields["Hook-Delivery"]
    assert fields["webhook-timestamp"] == "1700000000"
    headers = (fields["webhook-id"], fields["webhook-timestamp"], fields["webhook-signature"])
    assert re.fullmatch(r"v1,\S+ v1a,\S+", fields["webhook-signature"])
    assert verify(SECRET, headers, b'{"id": 7}', 1_700_000_000) is None
    assert verify(PRIVATE, headers, b'{"id": 7}', 1_700_000_000) is None
    assert "Hook-HMAC" not in fields


@pytest.mark.parametrize("secret, digest", [("old", "sha256"), ("", "sha256"), ("old", "SHA512")])
def test_hook_hmac_is_there_exactly_if_a_secret_is_even_an_empty_one(secret: str, digest: str) -> None:
    fields = fields_of(subscription(hmac_secret=secret, hmac_digest=digest))

    assert fields["Hook-HMAC"] == hook_hmac(digest, secret, b'{"id": 7}')
    assert "webhook-signature" not in fields


def test_headers_of_the_subscription_give_way_to_those_of_the_send() -> None:
    own = subscription(headers={"X-Tenant": "a", "Authorization": "Bearer x", "content-type": "text/plain"})

    assert fields_of(own)["content-type"] == "text/plain"
    fields = fields_of(
        own, headers={"x-tenant": "b", "CONTENT-TYPE": "application/x-test", "user-agent": "mine"}
    )
    assert (fields["x-tenant"], fields["Authorization"]) == ("b", "Bearer x")
    assert (fields["CONTENT-TYPE"], fields["user-agent"]) == ("application/x-test", "mine")
    assert "Accept-Encoding" not in fields_of(None, headers={"Accept-Encoding": "gzip"})


@pytest.mark.parametrize(
    "headers", [{"Host": "x"}, {"Hook-HMAC": "x"}, {"webhook-id": "x"}, {"A": "b\r\nC: d"}, {"A b": "c"}]
)
def test_headers_that_are_ours_or_break_a_line_are_refused(headers: dict[str, str]) -> None:
    with pytest.raises(SubscriptionError):
        lines_of(subscription(headers=headers))
    with pytest.raises(InvalidEvent):
        lines_of(None, headers=headers)


@pytest.mark.parametrize("field", ["event", "id", "sub", "type"])
@pytest.mark.parametrize("text", ["a\r\nX-Evil: 1", "a\nb", "a\0b", "a\ud800"])
def test_no_field_of_a_delivery_can_start_a_new_line(field: str, text: str) -> None:
    with pytest.raises(InvalidEvent):
        lines_of(None, **{field: text})


def test_nothing_printable_shows_secrets_queries_or_bodies() -> None:
    profile = Profile.of(parse(URL), subscription(secrets=(SECRET,), hmac_secret="old"), AGENT)
    shown = repr(profile) + repr(request_for(profile, delivery(URL), 1, 0.0, 15.0))

    assert not re.search(r"MfKQ|token|id\b.*7|old", shown)
