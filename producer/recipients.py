"""Who gets an event, prepared as far as subscriptions alone decide: hosts, and packed pieces of deliveries.

`Subscribers.recipients` keeps what is made here, so that a `send` adds only what is new.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Final

import msgpack

from producer.hosts import host_of
from producer.model import Subscription
from producer.packing import packed_items

#: Recipients that are kept ready for the next event; others are made again.
_KEPT: Final = 4096

_BODY_KEY: Final = msgpack.packb("body")


@dataclass(frozen=True, slots=True, eq=False)
class Style:
    """What the deliveries of many subscriptions have in common; there are few different ones.

    Compared by identity: it is looked up for each delivery, and `Recipients` of one subscription or of a
    thousand mostly have one.
    """

    type: str
    lookup: bool
    ordered: bool
    timeout_s: float | None


@dataclass(frozen=True, slots=True, eq=False)
class Recipient:
    """A subscription, as far as its deliveries show it.

    items: its part of their maps, packed, with the key of the body, which comes next.
    """

    sub: str
    url: str
    host: str
    style: Style
    items: bytes = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Recipients:
    """The recipients of one event, in the order of the settings.

    subs: their subscription ids. by_host: Host and positions in `each`; hosts in the order of their first
    recipient. types: content types in which the event is wanted.
    """

    each: tuple[Recipient, ...]
    subs: tuple[str, ...]
    by_host: tuple[tuple[str, tuple[int, ...]], ...]
    styles: tuple[Style, ...]
    types: tuple[str, ...]

    @classmethod
    def of(cls, recipients: Iterable[Recipient]) -> "Recipients":
        """These recipients, in this order."""
        each = tuple(recipients)
        by_host: dict[str, list[int]] = {}
        for position, recipient in enumerate(each):
            by_host.setdefault(recipient.host, []).append(position)
        styles = tuple(dict.fromkeys(recipient.style for recipient in each))
        return cls(
            each,
            tuple(recipient.sub for recipient in each),
            tuple((host, tuple(positions)) for host, positions in by_host.items()),
            styles,
            tuple(dict.fromkeys(style.type for style in styles)),
        )


def recipients_of(subscriptions: Iterable[Subscription]) -> Recipients:
    """What these subscriptions are to an event that all of them want."""
    return Recipients.of(
        _recipient(one.id, one.url, _style(one.content_type, one.needs_lookup, one.ordered, one.timeout_s))
        for one in subscriptions
    )


@lru_cache(maxsize=_KEPT)
def _style(content_type: str, lookup: bool, ordered: bool, timeout_s: float | None) -> Style:
    return Style(content_type, lookup, ordered, timeout_s)


@lru_cache(maxsize=_KEPT)
def _recipient(sub: str, url: str, style: Style) -> Recipient:
    items = packed_items({"sub": sub, "url": url, "type": style.type}) + _BODY_KEY
    return Recipient(sub, url, host_of(url), style, items)
