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
        self._one_at_a_time = threading.Lock()
        self._complaints = RateLimited(_logger)

    @classmethod
    def of(cls, settings: Settings, now: Callable[[], float]) -> "Directory":
        """The directory of these settings. Raises `ConfigurationError` for a function or callable that can't
        be imported.
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
        """The subscription, if it is at hand."""
        found = self._static.get(sub)
        if found is None and self._answers:
            answer = self._answers.get(sub)
            if answer is not None and self._now() < answer.until:
                return answer.subscription
        return found

    def resolve(self, sub: str) -> Subscription | None:
        """The subscription, asking ``secrets_of`` if need be; may wait. None if nobody knows it (yet)."""
        if self._secrets_of is None:
            return self._static.get(sub)
        with self._one_at_a_time:  # an id that a thousand deliveries wait for is asked once
            answer = self._answers.get(sub)
            if answer is None or self._now() >= answer.until:
                found = self._static.get(sub) or self._ask(sub, self._secrets_of)
                answer = self._answers[sub] = _Answer(found, self._now() + LOOK_UP_AGAIN_S)
            return answer.subscription

    def _ask(self, sub: str, secrets_of: SecretsOf) -> Subscription | None:
        try:
            answer = secrets_of(sub)
            if answer is None:
                return None
            fields = dict(answer) if isinstance(answer, Mapping) else {"secrets": answer}
            return subscription_of("*", {"url": _ANY_URL, **fields, "id": sub})
        except ThornError as error:
            self._complaints.error(
                sub, "secrets_of gave for subscription %s what can't be used: %s", sub, error
            )
        except Exception as error:
            self._complaints.error(
                sub, "secrets_of failed for subscription %s: %s: %s", sub, type(error).__name__, error
            )
        return None


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
