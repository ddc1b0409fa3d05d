"""What is sent: the bytes of one attempt's request. Pure.

`Profile` holds what is the same for every delivery to one subscription, compiled once; `request_for` adds
what is not.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version as version_of
from typing import Final

from producer import headers as header_rules
from producer.errors import InvalidEvent, SubscriptionError
from producer.hosts import Target
from producer.model import Delivery, Subscription
from thorn_worker.http.signing import HmacKey, Key, hmac_key_of, key_of, signature, signed_prefix

#: Never sent: no body is decoded, so none may come encoded (RFC 9110 section 12.5.3).
_DROPPED: Final = "accept-encoding"


def user_agent(version: str) -> str:
    """Value of ``User-Agent``: ``Thorn/<version> (urllib3/<version>)``."""
    return f"Thorn/{version} (urllib3/{version_of('urllib3')})"


@dataclass(frozen=True, slots=True)
class Profile:
    """Everything about a subscription's requests that does not change from delivery to delivery.

    prefix: request line and constant fields. own: these fields as a mapping, for deliveries that bring their
    own. typed: False if the subscription's headers hold a Content-Type already. keys, hmac_key: what signs.
    """

    target: Target
    prefix: bytes
    own: Mapping[str, str]
    typed: bool
    keys: tuple[Key, ...]
    hmac_key: HmacKey | None

    @classmethod
    def of(cls, target: Target, subscription: Subscription | None, user_agent: str) -> "Profile":
        """Compile; `subscription` is None if the worker need not know it: then nothing is signed or added.

        Raises `SubscriptionError` for a header or secret that can't be used.
        """
        base = {"User-Agent": user_agent, "Accept": "*/*"}
        if subscription is None:
            return cls(target, _prefix(target, base), base, True, (), None)
        own = _merged(base, header_rules.check(subscription.headers, SubscriptionError))
        typed = _lacks_type(own)
        keys = tuple(key_of(secret) for secret in subscription.secrets)
        secret = subscription.hmac_secret
        hmac_key = None if secret is None else hmac_key_of(subscription.hmac_digest, secret)
        return cls(target, _prefix(target, own), own, typed, keys, hmac_key)

    def __repr__(self) -> str:
        return f"Profile({self.target.host}, {len(self.keys)} keys{', Hook-HMAC' if self.hmac_key else ''})"


@dataclass(frozen=True, slots=True)
class Request:
    """One attempt's request, ready to send.

    at: Unix seconds it is signed for. timeout_s: for all phases together.
    """

    target: Target
    head: bytes
    body: bytes
    timeout_s: float
    number: int
    at: float

    def __repr__(self) -> str:  # head and body hold signatures and the customer's data
        return f"Request({self.target.host}, attempt {self.number}, {len(self.body)} bytes)"


def request_for(
    profile: Profile, delivery: Delivery, number: int, wall_at: float, timeout_s: float
) -> Request:
    """The request of attempt `number` (1 is the first), signed for the instant `wall_at`.

    Raises `InvalidEvent` if the delivery's own fields can't stand in a header, which `send` does not let
    through.
    """
    body = delivery.body
    prefix, typed = profile.prefix, profile.typed
    if delivery.headers:
        fields = _merged(profile.own, header_rules.check(delivery.headers, InvalidEvent))
        prefix, typed = (
            _prefix(profile.target, fields),
            not any(name.lower() == "content-type" for name in fields),
        )
    for text in (delivery.event, delivery.id, delivery.sub, delivery.type):
        if not text.isprintable():
            raise InvalidEvent(f"{text[:80]!r} can't stand in a header; remove its control characters")
    lines = (
        f"Content-Length: {len(body)}\r\nHook-Event: {delivery.event}\r\nHook-Delivery: {delivery.id}\r\n"
        f"Hook-Subscription: {delivery.sub}\r\nHook-Attempt: {number}\r\n"
    )
    if typed:
        lines += f"Content-Type: {delivery.type}\r\n"
    if profile.hmac_key is not None:
        lines += f"Hook-HMAC: {profile.hmac_key.sign(b'', body)}\r\n"
    if profile.keys:
        at = int(wall_at)
        signatures = signature(profile.keys, signed_prefix(delivery.id, at), body)
        lines += (
            f"webhook-id: {delivery.id}\r\nwebhook-timestamp: {at}\r\nwebhook-signature: {signatures}\r\n"
        )
    return Request(profile.target, prefix + lines.encode() + b"\r\n", body, timeout_s, number, wall_at)


def _lacks_type(fields: Mapping[str, str]) -> bool:
    return not any(name.lower() == "content-type" for name in fields)


def _merged(base: Mapping[str, str], winning: Mapping[str, str]) -> dict[str, str]:
    """`base` with `winning` over it, names compared without case: one line per name."""
    replaced = {name.lower() for name in winning} | {_DROPPED}
    merged = {name: value for name, value in base.items() if name.lower() not in replaced}
    merged.update((name, value) for name, value in winning.items() if name.lower() != _DROPPED)
    return merged


def _prefix(target: Target, fields: Mapping[str, str]) -> bytes:
    lines = [f"POST {target.request_target} HTTP/1.1", f"Host: {target.host_header}"]
    lines += (f"{name}: {value}" for name, value in fields.items())
    # Latin-1 is what `header_rules` lets through and what receivers read (RFC 9110 section 5.5).
    return "".join(f"{line}\r\n" for line in lines).encode("latin-1")
