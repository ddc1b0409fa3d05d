"""Signatures over the exact body bytes: ``Hook-HMAC`` and Standard Webhooks 1.0.0, for senders and receivers.

`Key` and its kinds hold what can be computed once per secret; `hook_hmac`, `verify_hook_hmac` and `verify`
serve receivers and tests. Nothing here prints a secret.
"""

import binascii
import hashlib
import hmac
from abc import ABC, abstractmethod
from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from producer.errors import SubscriptionError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

#: Digests that a subscription may ask for in ``Hook-HMAC``.
DIGESTS: Final = frozenset({"sha1", "sha224", "sha256", "sha384", "sha512"})
#: How far a timestamp may be off, in both directions, as the Standard Webhooks reference libraries have it.
TOLERANCE_S: Final = 300.0

_SYMMETRIC: Final = "whsec_"
_PRIVATE: Final = "whsk_"
_PUBLIC: Final = "whpk_"
_ED25519_SEED_BYTES: Final = 32
_ED25519_PAIR_BYTES: Final = 64


class HmacKey:
    """HMAC (RFC 2104) with a fixed key: the two padded-key blocks are hashed once, not per message."""

    __slots__ = ("_inner", "_outer")

    def __init__(self, key: bytes, digest: str) -> None:
        block_size = hashlib.new(digest).block_size
        if len(key) > block_size:
            key = hashlib.new(digest, key).digest()
        padded = key.ljust(block_size, b"\0")
        self._inner = hashlib.new(digest, bytes(byte ^ 0x36 for byte in padded))
        self._outer = hashlib.new(digest, bytes(byte ^ 0x5C for byte in padded))

    def sign(self, prefix: bytes, body: bytes) -> str:
        """Base64 of the HMAC over `prefix` and `body` in one piece."""
        inner = self._inner.copy()
        inner.update(prefix)
        inner.update(body)
        outer = self._outer.copy()
        outer.update(inner.digest())
        return binascii.b2a_base64(outer.digest(), newline=False).decode("ascii")


class Key(ABC):
    """One live key of a subscription: adds one item to ``webhook-signature``."""

    __slots__ = ()

    @abstractmethod
    def item(self, prefix: bytes, body: bytes) -> str:
        """``version,base64`` over ``id.timestamp.`` (`prefix`) followed by `body`."""


class SymmetricKey(Key):
    """``whsec_``: HMAC-SHA256, version ``v1``."""

    __slots__ = ("_hmac",)

    def __init__(self, key: bytes) -> None:
        self._hmac = HmacKey(key, "sha256")

    def item(self, prefix: bytes, body: bytes) -> str:
        return "v1," + self._hmac.sign(prefix, body)


class PrivateKey(Key):
    """``whsk_``: ed25519, version ``v1a``."""

    __slots__ = ("_key",)

    def __init__(self, key: "Ed25519PrivateKey") -> None:
        self._key = key

    def item(self, prefix: bytes, body: bytes) -> str:
        return "v1a," + b64encode(self._key.sign(prefix + body)).decode("ascii")


def key_of(secret: str) -> Key:
    """The key that a configured secret holds. Raises `SubscriptionError`, which never repeats the secret."""
    if secret.startswith(_SYMMETRIC):
        return SymmetricKey(_decoded(secret, _SYMMETRIC))
    if secret.startswith(_PRIVATE):
        return PrivateKey(_private(_decoded(secret, _PRIVATE)))
    raise SubscriptionError(
        "a secret begins with whsec_ or whsk_; one that is configured does not; correct it"
    )


def hmac_key_of(digest: str, secret: str) -> HmacKey:
    """The key of ``Hook-HMAC``. Raises `SubscriptionError` for an unknown digest."""
    name = digest.lower()
    if name not in DIGESTS:
        raise SubscriptionError(f"hmac_digest {digest!r} is unknown; use one of {', '.join(sorted(DIGESTS))}")
    return HmacKey(secret.encode(), name)


def signature(keys: Iterable[Key], prefix: bytes, body: bytes) -> str:
    """Value of ``webhook-signature``: one item per key, separated by one space."""
    return " ".join(key.item(prefix, body) for key in keys)


def signed_prefix(message_id: str, timestamp: int) -> bytes:
    """What is signed ahead of the body: ``msg_1.1614265330.``."""
    return f"{message_id}.{timestamp}.".encode()


def hook_hmac(digest: str, secret: str, body: bytes) -> str:
    """Value of ``Hook-HMAC``: base64 of HMAC(digest, secret as UTF-8, exact body bytes)."""
    return hmac_key_of(digest, secret).sign(b"", body)


def verify_hook_hmac(value: str, digest: str, secret: str, body: bytes) -> bool:
    """True if a received ``Hook-HMAC`` is right. Takes the same time for every wrong one."""
    return hmac.compare_digest(value.encode(), hook_hmac(digest, secret, body).encode())


def verify(secret: str, headers: tuple[str, str, str], body: bytes, now_at: float) -> str | None:
    """Check a received message against one secret (``whsec_``, ``whsk_``) or public key (``whpk_``).

    headers: the values of ``webhook-id``, ``webhook-timestamp`` and ``webhook-signature``.
    Returns None if it is right, else one short sentence. Raises `SubscriptionError` for a secret that is
    none.
    """
    message_id, timestamp, items = headers
    if not (timestamp.isascii() and timestamp.isdigit() and len(timestamp) <= 12):
        return "webhook-timestamp is not a number of seconds"
    age_s = now_at - int(timestamp)
    if abs(age_s) > TOLERANCE_S:
        return f"webhook-timestamp is {age_s:.0f} s old; {TOLERANCE_S:.0f} s either way are tolerated"
    prefix = f"{message_id}.{timestamp}.".encode()  # the text as it was signed
    offered = [item.partition(",") for item in items.split(" ")]
    if secret.startswith(_SYMMETRIC):
        expected = key_of(secret).item(prefix, body).partition(",")[2].encode()
        values = [value.encode() for version, _, value in offered if version == "v1"]
        good = any(hmac.compare_digest(value, expected) for value in values)
    else:
        public = _public(secret)
        values = [value.encode() for version, _, value in offered if version == "v1a"]
        good = any(_signed_by(public, value, prefix + body) for value in values)
    return None if good else "no item of webhook-signature matches the body and the secret"


def _decoded(secret: str, prefix: str) -> bytes:
    try:
        key = b64decode(secret[len(prefix) :], validate=True)
    except (binascii.Error, ValueError) as error:
        raise SubscriptionError(
            f"a {prefix} secret is not base64 behind its prefix; copy it again"
        ) from error
    if not key:
        raise SubscriptionError(f"a {prefix} secret is empty; copy it again")
    return key


def _private(key: bytes) -> "Ed25519PrivateKey":
    """A seed of 32 bytes, or the seed followed by its public key."""
    # Imported here: only subscriptions with such a key pay for loading OpenSSL's bindings.
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    if len(key) not in (_ED25519_SEED_BYTES, _ED25519_PAIR_BYTES):
        raise SubscriptionError(
            f"a whsk_ secret holds {len(key)} bytes; "
            f"an ed25519 key has {_ED25519_SEED_BYTES} or {_ED25519_PAIR_BYTES}"
        )
    private = Ed25519PrivateKey.from_private_bytes(key[:_ED25519_SEED_BYTES])
    if (
        len(key) == _ED25519_PAIR_BYTES
        and private.public_key().public_bytes_raw() != key[_ED25519_SEED_BYTES:]
    ):
        raise SubscriptionError("the two halves of a whsk_ secret don't belong together; copy it again")
    return private


def _public(secret: str) -> "Ed25519PublicKey":
    if secret.startswith(_PRIVATE):
        return _private(_decoded(secret, _PRIVATE)).public_key()
    if not secret.startswith(_PUBLIC):
        raise SubscriptionError("a secret to verify with begins with whsec_, whsk_ or whpk_")
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    key = _decoded(secret, _PUBLIC)
    if len(key) != _ED25519_SEED_BYTES:
        raise SubscriptionError(
            f"a whpk_ key holds {len(key)} bytes; an ed25519 public key has {_ED25519_SEED_BYTES}"
        )
    return Ed25519PublicKey.from_public_bytes(key)


def _signed_by(public: "Ed25519PublicKey", value: bytes, message: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature

    try:
        public.verify(b64decode(value, validate=True), message)
    except (InvalidSignature, binascii.Error, ValueError):
        return False
    return True
