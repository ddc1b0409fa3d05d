"""Subscribers from settings and code: every form they are written in -> the Subscriptions that want an event.

An entry is a URL, a table of fields, a `Subscription`, a callable, a text ``"!module:callable"``, None, or
any iterable of entries.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from itertools import chain
from typing import Any, Final, TypeAlias

from producer.errors import SubscriptionError
from producer.matching import Index, validate_pattern
from producer.model import NOTHING, Subscription
from producer.recipients import Recipients, recipients_of
from producer.subscriptions.tables import subscription_of

#: How deep entries may lie in each other, lists and callables counted; beyond it somebody returns himself.
MAX_DEPTH: Final = 16

#: Events (by name and sender) whose recipients are kept, and most recipients that one of them may have.
KEPT_EVENTS: Final = 256
KEPT_RECIPIENTS: Final = 1_000

_FIELD_NAMES: Final = tuple(f.name for f in fields(Subscription) if f.name != "pattern")


@dataclass(frozen=True, slots=True)
class Occasion:
    """What a callable subscriber is told: it is called as ``f(event_name, sender=sender, **context)``."""

    event_name: str
    sender: str | None
    context: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class _Code:
    """A callable under a pattern; what it returns is asked anew for each event."""

    pattern: str
    call: Callable[..., object]

    @property
    def name(self) -> str:
        named = self.call if hasattr(self.call, "__qualname__") else type(self.call)
        return f"{named.__module__}:{named.__qualname__}"


class _Reference:
    """A ``"!module:name"`` entry, imported at first use: settings are often read before the application."""

    __slots__ = ("_sources", "pattern", "text")

    def __init__(self, pattern: str, text: str) -> None:
        self.pattern = pattern
        self.text = text
        self._sources: tuple[_Source, ...] | None = None
        module, colon, name = text[1:].partition(":")
        if not (colon and all(part.isidentifier() for part in [*module.split("."), *name.split(".")])):
            raise SubscriptionError(
                f"The subscriber {text[:80]!r} of {pattern!r} must be written '!module:callable'."
            )

    @property
    def known(self) -> "tuple[_Source, ...]":
        """What it stands for, () before the first `resolve`."""
        return self._sources or ()

    def resolve(self, depth: int = 0) -> "tuple[_Source, ...]":
        """What it stands for. Raises `SubscriptionError` if it can't be imported or is no subscriber."""
        if self._sources is None:
            from importlib import import_module  # not every service has such entries

            module, _, name = self.text[1:].partition(":")
            try:
                found: object = import_module(module)
                for part in name.split("."):
                    found = getattr(found, part)
            except Exception as error:  # a module's own code may raise anything
                raise SubscriptionError(
                    f"The subscriber {self.text!r} of {self.pattern!r} cannot be imported "
                    f"({type(error).__name__}: {error}): correct the name or make the module importable here."
                ) from error
            self._sources = tuple(_sources(self.pattern, found, depth + 1))
        return self._sources


_Source: TypeAlias = Subscription | _Code | _Reference


def _sources(pattern: str, entry: object, depth: int = 0, maker: str | None = None) -> Iterator[_Source]:
    """Flatten an entry, in order, without calling or importing anything.

    maker: whose code made the entry, None for settings. A worker can't know what that code would say, so it
    needs an id to look up.
    """
    if depth > MAX_DEPTH:
        raise SubscriptionError(
            f"The subscribers of {pattern!r} lie more than {MAX_DEPTH} deep in each other: flatten them."
        )
    if entry is None:
        return
    if isinstance(entry, str) and entry.startswith("!"):
        yield _Reference(pattern, entry)
    elif isinstance(entry, (str, Mapping)):
        subscription = subscription_of(pattern, entry)
        if maker and subscription.needs_lookup and isinstance(entry, Mapping) and entry.get("id") is None:
            raise SubscriptionError(
                f"A subscriber of {pattern!r}, {maker}, has secrets or headers but no id: give it one, by "
                "which a worker finds them."
            )
        yield subscription
    elif isinstance(entry, Subscription):
        yield _checked(pattern, entry)
    elif callable(entry):
        yield _Code(pattern, entry)
    elif isinstance(entry, Iterable) and not isinstance(entry, (bytes, bytearray, memoryview)):
        for part in entry:
            yield from _sources(pattern, part, depth + 1, maker)
    else:
        raise SubscriptionError(
            f"A subscriber of {pattern!r} is of type {type(entry).__name__}: give a URL, a table, "
            "a Subscription, a callable, '!module:callable', or a list of these."
        )


def _checked(pattern: str, given: Subscription) -> Subscription:
    """A Subscription made in code obeys the rules of a table; its pattern is the one it is listed at."""
    return subscription_of(
        pattern, {name: getattr(given, name) for name in _FIELD_NAMES if getattr(given, name) != ()}
    )


def expand(pattern: str, entry: object, occasion: Occasion) -> Iterator[Subscription]:
    """The subscriptions that an entry made in code stands for on this occasion, callables asked, in order.

    One with secrets or headers must carry its own ``id``, for that is how a worker finds them. Raises
    `SubscriptionError`.
    """
    for source in _sources(pattern, entry, maker=f"given with the event {occasion.event_name!r}"):
        yield from _asked(source, occasion)


def _asked(source: _Source, occasion: Occasion, depth: int = 0) -> Iterator[Subscription]:
    if isinstance(source, Subscription):
        yield source
        return
    if isinstance(source, _Reference):
        parts: Iterable[_Source] = source.resolve(depth)
    else:
        try:
            returned = source.call(occasion.event_name, sender=occasion.sender, **occasion.context)
        except Exception as error:
            raise SubscriptionError(
                f"The subscriber {source.name} raised {type(error).__name__} for {occasion.event_name!r}, so "
                f"the event was not sent: {error}"
            ) from error
        parts = _sources(source.pattern, returned, depth + 1, maker=f"made by {source.name}")
    for part in parts:
        yield from _asked(part, occasion, depth + 1)


def _asks_code(source: _Source, depth: int = 0) -> bool:
    """Whether a callable stands behind it, which may answer differently each time."""
    if isinstance(source, _Reference):
        return any(_asks_code(part, depth + 1) for part in source.resolve(depth))
    return isinstance(source, _Code)


class Subscribers:
    """The subscribers of one process, by pattern. Thread-safe: only what imports resolve to is ever added."""

    __slots__ = ("_index", "_settled_recipients", "_sources")

    def __init__(self, table: Mapping[str, object]) -> None:
        """Read pattern -> entry; nothing is called or imported. Raises `SubscriptionError`."""
        pairs: list[tuple[str, _Source]] = []
        for pattern, entry in table.items():
            validate_pattern(pattern)
            pairs.extend((pattern, source) for source in _sources(pattern, entry))
        self._sources = tuple(source for _, source in pairs)
        self._index = Index(pairs)
        self._settled_recipients = lru_cache(KEPT_EVENTS)(self._find_settled_recipients)
        self.known()

    def recipients(
        self,
        event_name: str,
        sender: str | None = None,
        context: Mapping[str, Any] = NOTHING,
        *,
        extra: object = None,
    ) -> Recipients:
        """What `match` says, prepared for sending; kept for the next event where no code has a say in it."""
        settled = self._settled_recipients(event_name, sender) if extra is None else None
        return settled or recipients_of(self.match(event_name, sender, context, extra=extra))

    def _find_settled_recipients(self, event_name: str, sender: str | None) -> Recipients | None:
        """The recipients of every such event, None if a callable decides or if they are too many to keep."""
        if any(_asks_code(source) for source in self._index.match(event_name)):
            return None
        matched = self.match(event_name, sender)
        return recipients_of(matched) if len(matched) <= KEPT_RECIPIENTS else None

    def match(
        self,
        event_name: str,
        sender: str | None = None,
        context: Mapping[str, Any] = NOTHING,
        *,
        extra: object = None,
    ) -> list[Subscription]:
        """Who wants this event: settings in their order, then `extra` (an entry of its own); each id once.

        A subscription with a `sender` gets the events of that sender, and those that have none. Raises
        `SubscriptionError` for what callables and imports give; what a callable raises itself passes through.
        """
        occasion = Occasion(event_name, sender, context)
        candidates: Iterator[Subscription] = chain.from_iterable(
            _asked(source, occasion) for source in self._index.match(event_name)
        )
        if extra is not None:
            candidates = chain(candidates, expand(event_name, extra, occasion))
        found: dict[str, Subscription] = {}
        for subscription in candidates:
            if sender is None or subscription.sender is None or subscription.sender == sender:
                found.setdefault(subscription.id, subscription)
        return list(found.values())

    def known(self) -> Mapping[str, Subscription]:
        """All subscriptions that stand in the settings, and in what was imported so far, by id.

        Raises `SubscriptionError` if one id stands for two different subscriptions; one may stand under
        several patterns.
        """
        found: dict[str, Subscription] = {}
        for subscription in _standing(self._sources):
            first = found.setdefault(subscription.id, subscription)
            if replace(first, pattern="") != replace(subscription, pattern=""):
                raise SubscriptionError(
                    f"The subscription id {subscription.id} stands for two different subscribers, of "
                    f"{first.pattern!r} and of {subscription.pattern!r}: give one of them an id of its own."
                )
        return found

    def check_imports(self) -> None:
        """Import every ``"!module:callable"`` now. Raises `SubscriptionError` naming the first bad one."""
        for source in self._sources:
            _import_all(source, 0)
        self.known()

    def __repr__(self) -> str:
        return f"Subscribers({len(self._sources)} entries, {len(self.known())} known subscriptions)"


def _standing(sources: Iterable[_Source]) -> Iterator[Subscription]:
    for source in sources:
        if isinstance(source, Subscription):
            yield source
        elif isinstance(source, _Reference):
            yield from _standing(source.known)


def _import_all(source: _Source, depth: int) -> None:
    if isinstance(source, _Reference):
        for part in source.resolve(depth):
            _import_all(part, depth + 1)
