"""Who is this subscription? Secrets, headers and limits never ride the log: the worker looks them up by id.

Sources, in this order: subscribers of the settings, the ``[secrets]`` table, ``secrets_of =
"module:function"``. A subscription that none of them knows is *unresolved*: its deliveries wait, they are
never sent unsigned and never cancelled.
"""

import importlib
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from producer.config import Settings
from producer.errors import ConfigurationError, ThornError
from producer.model import Subscription
from producer.subscriptions.settings import Subscribers
from producer.subscriptions.tables import subscription_of
from thorn_worker.logs import RateLimited

#: Answers of ``secrets_of`` are kept this long, good and bad ones; unresolved ids are asked again at this
#: pace.
LOOK_UP_AGAIN_S: Final = 30.0

#: Stands for the URL of a subscription of which only secrets are known; the delivery brings its own.
_ANY_URL: Final = "https://unknown.invalid/"

_logger = logging.getLogger("thorn_worker.directory")

SecretsOf = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Answer:
    subscription: Subscription | None
    until: float


class Directory:
    """Finds subscriptions by id. `known` never waits; `resolve` may call the operator's function.

    now: seconds of a clock that never goes back.
    """

    def __init__(
        self,
        subscriptions: Mapping[str, Subscription],
        secrets: Mapping[str, tuple[str, ...]],
        secrets_of: SecretsOf | None,
        now: Callable[[], float],
    ) -> None:
        self._static = dict(subscriptions)
        for sub, keys in secrets.items():
            known = self._static.get(sub)
            self._static[sub] = (
                replace(known, secrets=tuple(dict.fromkeys((*known.secrets, *keys))))
                if known is not None
                else subscription_of("*", {"url": _ANY_URL, "id": sub, "secrets": list(keys)})
            )
        self._secrets_of = secrets_of
        self._now = now
        self._answers: dict[str, _Answer] = {}
        self._asking: dict[str, threading.Lock] = {}
        self._complaints = RateLimited(_logger)

    @classmethod
    def of(cls, settings: Settings, now: Callable[[], float]) -> "Directory":
        """The directory of these settings.

        Raises `ConfigurationError` for a function or callable that can't be imported.
        """
        subscribers = Subscribers(settings.subscribers)
        subscribers.check_imports()
        return cls(subscribers.known(), settings.secrets, _import(settings.secrets_of), now)

    def __len__(self) -> int:
        return len(self._static)

    @property
    def may_resolve(self) -> bool:
        """True if `resolve` can find what `known` does not."""
        return self._secrets_of is not None

    def known(self, sub: str) -> Subscription | None:
        """The subscription, if it is at hand. What ``secrets_of`` said stands until `refresh` has news."""
        found = self._static.get(sub)
        if found is None and (answer := self._answers.get(sub)) is not None:
            return answer.subscription
        return found

    def equipped(self, sub: str) -> Subscription | None:
        """The subscription, if it is at hand with the secrets or headers that ``lookup`` asks for.

        One that is known without any is an old or partial setting; sending would mean sending unsigned.
        """
        answer = self._answers.get(sub)
        candidates = (self._static.get(sub), answer.subscription if answer is not None else None)
        return next((found for found in candidates if found is not None and found.needs_lookup), None)

    def resolve(self, sub: str) -> Subscription | None:
        """As `equipped`, asking ``secrets_of`` if need be; may wait. None if nobody knows it (yet)."""
        found = self.equipped(sub)
        if found is not None or self._secrets_of is None:
            return found
        with self._asking.setdefault(sub, threading.Lock()):  # many deliveries wait for one answer
            answer = self._answers.get(sub)
            if answer is None or self._now() >= answer.until:
                self._answers[sub] = self._answer(sub, self._secrets_of, None)
        self._asking.pop(sub, None)
        return self.equipped(sub)

    def refresh(self) -> None:
        """Ask ``secrets_of`` again for what it knew a while ago, so that changed secrets arrive; waits."""
        if self._secrets_of is None:
            return
        now = self._now()
        for sub, old in list(self._answers.items()):
            if old.subscription is not None and now >= old.until:
                self._answers[sub] = self._answer(sub, self._secrets_of, old.subscription)

    def _answer(self, sub: str, secrets_of: SecretsOf, old: Subscription | None) -> _Answer:
        """What ``secrets_of`` says now. If it fails, `old` stands: that must not unsign anybody."""
        found = old
        try:
            answer = secrets_of(sub)
            if answer is None:
                found = None
            else:
                fields = dict(answer) if isinstance(answer, Mapping) else {"secrets": answer}
                found = subscription_of("*", {"url": _ANY_URL, **fields, "id": sub})
        except ThornError as error:
            self._complaints.error(
                sub, "secrets_of gave for subscription %s what can't be used: %s", sub, error
            )
        except (KeyboardInterrupt, SystemExit):
            raise
        except BaseException as error:  # an operator's own time limit (gevent.Timeout) is no Exception
            self._complaints.error(
                sub, "secrets_of failed for subscription %s: %s: %s", sub, type(error).__name__, error
            )
        return _Answer(found, self._now() + LOOK_UP_AGAIN_S)


def _import(path: str | None) -> SecretsOf | None:
    if path is None:
        return None
    module, _, name = path.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(
            f"THORN_SECRETS_OF is {path!r}, which can't be imported as 'module:function': {error}"
        ) from error
    if not callable(found):
        raise ConfigurationError(
            f"THORN_SECRETS_OF is {path!r}, which is not a function that takes a subscription id"
        )
    return found  # type: ignore[no-any-return]
