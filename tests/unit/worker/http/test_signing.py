"""Signatures against published vectors, an independent verifier, and each other."""

import hmac
import json
import random
from base64 import b64decode, b64encode
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from producer.errors import SubscriptionError
from thorn_worker.http.signing import (
    DIGESTS,
    hook_hmac,
    key_of,
    signature,
    signed_prefix,
    verify,
    verify_hook_hmac,
)

VECTORS: dict[str, list[dict[str, Any]]] = {
    name: cases
    for name, cases in json.loads((Path(__file__).parents[3] / "vectors/signatures.json").read_text()).items()
    if name != "_about"
}
SECRET = VECTORS["standard_webhooks"][0]["secret"]
PRIVATE = VECTORS["standard_webhooks"][1]["secret"]
PUBLIC = VECTORS["standard_webhooks"][1]["public"]
OTHER = "whsec_" + b64encode(b"another key of the needed length").decode()
NOW = 1_614_265_330


def signed(body: bytes, *secrets: str, message_id: str = "msg_1", at: int = NOW) -> tuple[str, str, str]:
    items = signature([key_of(secret) for secret in secrets], signed_prefix(message_id, at), body)
    return message_id, str(at), items


@pytest.mark.parametrize("case", VECTORS["hook_hmac"])
def test_hook_hmac_is_base64_of_the_hmac_over_the_body(case: dict[str, str]) -> None:
    assert hook_hmac(case["digest"], case["key"], case["message"].encode()) == case["value"]
    assert verify_hook_hmac(case["value"], case["digest"], case["key"], case["message"].encode())


@pytest.mark.parametrize("case", VECTORS["standard_webhooks"])
def test_standard_webhooks_items_are_those_of_the_specification(case: dict[str, Any]) -> None:
    item = key_of(case["secret"]).item(signed_prefix(case["id"], case["timestamp"]), case["body"].encode())

    assert item == case["value"]
    headers = (case["id"], str(case["timestamp"]), item)
    assert (
        verify(case.get("public", case["secret"]), headers, case["body"].encode(), case["timestamp"]) is None
    )


@pytest.mark.parametrize("digest", sorted(DIGESTS))
@pytest.mark.parametrize("key_bytes", [0, 1, 63, 64, 65, 127, 128, 129, 500])
def test_keys_of_every_length_agree_with_the_standard_library(digest: str, key_bytes: int) -> None:
    secret, body = "k" * key_bytes, random.Random(key_bytes).randbytes(300)

    assert b64decode(hook_hmac(digest, secret, body)) == hmac.digest(secret.encode(), body, digest)


def test_the_digest_is_named_in_any_case_but_must_be_known() -> None:
    assert hook_hmac("SHA256", "KEY", b"MSG") == hook_hmac("sha256", "KEY", b"MSG")
    with pytest.raises(SubscriptionError, match="md5"):
        hook_hmac("md5", "KEY", b"MSG")


@pytest.mark.parametrize("body", [b"{}", '{"greeting": "Grüße"}'.encode(), b'{"a": 1}\n'])
@pytest.mark.parametrize("secrets", [(SECRET,), (OTHER, SECRET), (SECRET, OTHER), (PRIVATE, SECRET)])
def test_an_independent_library_accepts_what_we_sign(body: bytes, secrets: tuple[str, ...]) -> None:
    now = int(datetime.now(UTC).timestamp())
    message_id, timestamp, items = signed(body, *secrets, at=now)

    headers = {"webhook-id": message_id, "webhook-timestamp": timestamp, "webhook-signature": items}
    assert items.count(" ") == len(secrets) - 1
    assert Webhook(SECRET).verify(body, headers) == json.loads(body)


def test_receivers_with_only_the_old_or_only_the_new_key_accept_during_a_rotation() -> None:
    headers = signed(b"body", OTHER, SECRET)

    assert verify(SECRET, headers, b"body", NOW) is None
    assert verify(OTHER, headers, b"body", NOW) is None


@pytest.mark.parametrize("secret", [SECRET, PRIVATE, PUBLIC])
def test_whatever_is_tampered_with_is_noticed(secret: str) -> None:
    message_id, timestamp, items = signed(b"body", SECRET, PRIVATE)

    assert verify(secret, (message_id, timestamp, items), b"body", NOW) is None
    assert verify(secret, (message_id, timestamp, items), b"Body", NOW) is not None
    assert verify(secret, ("msg_2", timestamp, items), b"body", NOW) is not None
    assert verify(secret, (message_id, str(NOW + 1), items), b"body", NOW) is not None
    for garbage in ("", "v1", "v1,", "v1a,", "v1,=", "v1a,*", items.replace("v1", "v2"), "é v1,é"):
        assert verify(secret, (message_id, timestamp, garbage), b"body", NOW) is not None


@pytest.mark.parametrize(
    "age_s, accepted", [(0, True), (300, True), (301, False), (-300, True), (-301, False)]
)
def test_five_minutes_are_tolerated_in_both_directions(age_s: int, accepted: bool) -> None:
    assert (verify(SECRET, signed(b"body", SECRET), b"body", NOW + age_s) is None) is accepted


@pytest.mark.parametrize("timestamp", ["", "x", "-5", "1e9", "1614265330.5", "9" * 40, "٣"])
def test_a_timestamp_that_is_no_number_is_refused(timestamp: str) -> None:
    message_id, _, items = signed(b"body", SECRET)

    assert "webhook-timestamp" in str(verify(SECRET, (message_id, timestamp, items), b"body", NOW))


def test_a_seed_alone_signs_like_seed_and_public_key() -> None:
    seed = "whsk_" + b64encode(b64decode(PRIVATE.removeprefix("whsk_"))[:32]).decode()

    assert signed(b"body", seed) == signed(b"body", PRIVATE)


@pytest.mark.parametrize(
    "secret",
    [
        "",
        "plain",
        "whsec_",
        "whsec_not base64!",
        "whpk_" + "A" * 44,
        "whsk_" + b64encode(b"short").decode(),
        "whsk_" + b64encode(bytes(64)).decode(),
    ],
)
def test_an_unusable_secret_is_refused_without_being_repeated(secret: str) -> None:
    with pytest.raises(SubscriptionError) as caught:
        key_of(secret)

    assert len(secret) < 7 or secret not in str(caught.value)
