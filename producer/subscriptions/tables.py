"""One subscriber as it is written in settings -> Subscription. No secret ever stands in a message."""

import binascii
import re
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, Final
from uuid import UUID, uuid5

from producer import hosts
from producer.errors import SubscriptionError
from producer.headers import check as check_headers
from producer.matching import validate_pattern
from producer.model import FORM, JSON, Subscription
from producer.settings_kinds import Refused, seconds

#: Namespace of derived subscription ids. It never changes: receivers and stored state know these ids.
SUBSCRIPTION_NAMESPACE: Final = UUID("3f0c7c2e-5b1d-5d0a-9a3e-6d2f4b8e1c70")
#: Bytes of an HMAC key (Standard Webhooks 1.0.0, "Signature scheme").
HMAC_KEY_BYTES: Final = (24, 64)
#: Bytes of an ed25519 private key: the seed alone, or seed and public key (RFC 8032 section 5.1.5).
ED25519_KEY_BYTES: Final = (32, 64)
#: Digests that ``Hook-HMAC`` may use.
DIGESTS: Final = ("sha1", "sha224", "sha256", "sha384", "sha512")
#: Longest that one attempt to a subscription may last, in seconds.
MAX_TIMEOUT_S: Final = 60.0

_UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def subscription_of(pattern: str, entry: str | Mapping[str, object]) -> Subscription:
    """The subscription that a URL or a table of fields describes. Raises `SubscriptionError`.

    Without an ``id`` it gets one made from pattern and normalised URL, the same in every process.
    """
    return _of_url(pattern, entry) if isinstance(entry, str) else _of_table(pattern, entry)


def secrets_table(table: Mapping[str, object]) -> dict[str, tuple[str, ...]]:
    """Subscription id -> secrets, from values that are one secret or a list. Raises `SubscriptionError`."""
    found: dict[str, tuple[str, ...]] = {}
    for number, (key, value) in enumerate(table.items(), 1):
        whose = f"number {number}"  # until it is known to be an id: a secret may have slipped into its place
        try:
            canonical = whose = _id(key)
            if canonical in found:
                raise Refused("it stands twice in the table; join the two lists")
            found[canonical] = _secrets(value)
        except Refused as refusal:
            raise SubscriptionError(
                f"The secrets of subscription {whose} are refused: {refusal}."
            ) from refusal
    return found


@lru_cache(maxsize=4096)
def _of_url(pattern: str, url: str) -> Subscription:
    validate_pattern(pattern)
    normal = _url(pattern, url)
    return Subscription(pattern=pattern, url=normal, id=derived_id(pattern, normal))


def derived_id(pattern: str, url: str) -> str:
    """The id of a subscription that was given none; `url` in its normal form."""
    return str(uuid5(SUBSCRIPTION_NAMESPACE, f"{pattern} {url}"))


def _of_table(pattern: str, table: Mapping[str, object]) -> Subscription:
    validate_pattern(pattern)
    for name in table:
        if name != "url" and name not in _FIELDS:
            raise SubscriptionError(_unknown_field(pattern, name))
    url = _url(pattern, table.get("url"))
    values: dict[str, Any] = {}
    for name, value in table.items():
        if name != "url" and value is not None:
            try:
                values[name] = _FIELDS[name](value)
            except Refused as refusal:
                raise SubscriptionError(
                    f"The field {name} of subscriber {hosts.shown(url)!r} of {pattern!r} is refused: "
                    f"{refusal}."
                ) from refusal
    values.setdefault("id", derived_id(pattern, url))
    return Subscription(pattern=pattern, url=url, **values)


def _url(pattern: str, url: object) -> str:
    if url is None:
        raise SubscriptionError(f"A subscriber of {pattern!r} has no url: every table needs one.")
    if not isinstance(url, str):
        raise SubscriptionError(
            f"The url of a subscriber of {pattern!r} must be text, not {type(url).__name__}."
        )
    try:
        return hosts.parse(url).url
    except SubscriptionError as error:
        raise SubscriptionError(f"A subscriber of {pattern!r}: {error}") from error


def _unknown_field(pattern: str, name: object) -> str:
    from difflib import get_close_matches  # only for a refusal

    nearest = get_close_matches(str(name).lower(), ["url", *_FIELDS], n=1, cutoff=0.0)[0]
    return (
        f"A subscriber of {pattern!r} has the unknown field {_cut(name)!r}: the nearest one is {nearest!r} "
        "(in TOML, a pattern with a dot needs quotes)."
    )


def _cut(value: object) -> str:
    return str(value)[:60]


def _id(value: object) -> str:
    text = str(value).lower() if isinstance(value, (str, UUID)) else ""
    if not _UUID.fullmatch(text):
        raise Refused(
            "an id must be a UUID such as 0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10; leave it out for a stable one"
        )
    return text


def _text(value: object) -> str:
    if not (isinstance(value, str) and value):
        raise Refused("it must be text that is not empty; leave the field out for none")
    return value


def _secrets(value: object) -> tuple[str, ...]:
    given = [value] if isinstance(value, str) else value
    if not isinstance(given, (list, tuple)) or not given:
        raise Refused("give one secret or a list of them")
    for number, secret in enumerate(given, 1):
        trouble = _secret_trouble(secret)
        if trouble:
            raise Refused(f"secret {number} of {len(given)} {trouble}")
    return tuple(given)


def _secret_trouble(secret: object) -> str | None:
    """What is wrong with a Standard Webhooks secret, without a letter of it."""
    if not isinstance(secret, str):
        return "is not text"
    prefix, _, key = secret.partition("_")
    if prefix not in ("whsec", "whsk"):
        return "begins with neither whsec_ (HMAC key) nor whsk_ (ed25519 private key)"
    try:
        size = len(binascii.a2b_base64(key, strict_mode=True))
    except ValueError:
        return "is not base64 behind its prefix"
    low, high = HMAC_KEY_BYTES
    if prefix == "whsec" and not low <= size <= high:
        return f"holds {size} bytes, but an HMAC key has {low} to {high}"
    if prefix == "whsk" and size not in ED25519_KEY_BYTES:
        return f"holds {size} bytes, but an ed25519 private key has 32, or 64 with its public half"
    return None


def _one_of(*words: str) -> Callable[[object], str]:
    def parse(value: object) -> str:
        if isinstance(value, str) and value.lower() in words:
            return value.lower()
        raise Refused(f"{_cut(value)!r} is none of {', '.join(words)}")

    return parse


def _headers(value: object) -> Mapping[str, str]:
    if not isinstance(value, Mapping):
        raise Refused("it must be a table of names and values")
    try:
        return check_headers(value, SubscriptionError)
    except SubscriptionError as error:
        raise Refused(str(error).rstrip(".")) from error


def _ordered(value: object) -> bool:
    if not isinstance(value, bool):
        raise Refused("it must be true or false")
    if value:
        raise Refused("ordered delivery is not available in this release, so leave the field out")
    return value


def _timeout_s(value: object) -> float:
    try:
        timeout_s = seconds(value)
    except Refused:
        timeout_s = 0.0
    if not 0 < timeout_s <= MAX_TIMEOUT_S:
        raise Refused(f"{_cut(value)!r} must be a duration of more than 0 and at most {MAX_TIMEOUT_S:g} s")
    return timeout_s


def _max_in_flight(value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Refused(f"{_cut(value)!r} must be a whole number of at least 1")
    return value


_FIELDS: Final[Mapping[str, Callable[[object], object]]] = {
    "id": _id,
    "sender": _text,
    "secrets": _secrets,
    "hmac_secret": _text,
    "hmac_digest": _one_of(*DIGESTS),
    "content_type": _one_of(JSON, FORM),
    "headers": _headers,
    "ordered": _ordered,
    "timeout_s": _timeout_s,
    "max_in_flight": _max_in_flight,
}
