"""Compiled profiles, kept per subscription and URL, so that an attempt only adds what is its own."""

from typing import Final

from producer.hosts import parse
from producer.model import Delivery, Subscription
from thorn_worker.http.request import Profile, Request, request_for

#: Profiles kept; beyond it all are dropped and compiled again as they are needed.
MAX_PROFILES: Final = 50_000


class Profiles:
    """Builds requests.

    A profile is compiled again when the directory gives another Subscription for the same id.
    """

    def __init__(self, user_agent: str) -> None:
        self._user_agent = user_agent
        self._compiled: dict[tuple[str, str], tuple[Subscription | None, Profile]] = {}

    def request(
        self,
        delivery: Delivery,
        subscription: Subscription | None,
        number: int,
        wall_at: float,
        timeout_s: float,
    ) -> Request:
        """The request of one attempt. Raises `SubscriptionError` for a URL, secret or header of the
        subscription that can't be used, `InvalidEvent` for a header of the delivery.
        """
        key = (delivery.sub, delivery.url)
        known, profile = self._compiled.get(key, (None, None))
        if profile is None or known is not subscription:
            profile = Profile.of(parse(delivery.url), subscription, self._user_agent)
            if len(self._compiled) >= MAX_PROFILES:
                self._compiled.clear()
            self._compiled[key] = (subscription, profile)
        return request_for(profile, delivery, number, wall_at, timeout_s)
