"""A sender for tests: real pools, guard and resolver, with loopback allowed and names that tests make up."""

import time
from collections.abc import Mapping
from typing import Self

from producer.hosts import parse
from producer.model import Delivery, Subscription
from thorn_worker.http import (
    Client,
    Guard,
    PoolLimits,
    Pools,
    Profile,
    Request,
    Resolver,
    request_for,
    user_agent,
)
from thorn_worker.outcome import Attempt, LocalTrouble, Report

#: Loopback, IPv4 and IPv6.
LOOPBACK = ("127.0.0.0/8", "::1/128")


def delivery(url: str, body: bytes = b'{"id": 7}', headers: Mapping[str, str] | None = None) -> Delivery:
    """A delivery as the wire gives it."""
    return Delivery(
        id="5b1c7b0e-8f0e-5c55-9d57-0d7f2f1f5f01",
        event="order.created",
        event_id="e-1",
        at=1_700_000_000.0,
        sub="0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10",
        url=url,
        type="application/json",
        body=body,
        headers=headers or {},
    )


def request(
    url: str, body: bytes = b'{"id": 7}', *, timeout_s: float = 5.0, subscription: Subscription | None = None
) -> Request:
    """The first attempt's request for such a delivery."""
    profile = Profile.of(parse(url), subscription, user_agent("0.1.0"))
    return request_for(profile, delivery(url, body), 1, time.time(), timeout_s)


class Names:
    """A look-up function with made-up names. asked: every look-up, in order."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): ips for name, ips in names.items()}
        self.asked: list[str] = []

    def __call__(self, name: str) -> list[str]:
        self.asked.append(name)
        return self.names[name]


class Sender:
    """Client, pools, guard and resolver of one test."""

    def __init__(
        self,
        *,
        allow_networks: tuple[str, ...] = LOOPBACK,
        names: Names | None = None,
        limits: PoolLimits | None = None,
        ca_file: str | None = None,
    ) -> None:
        self.resolver = Resolver() if names is None else Resolver(names)
        self.pools = Pools(
            Guard((), allow_networks), self.resolver, limits=limits or PoolLimits(), ca_file=ca_file
        )
        self.client = Client(self.pools)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.pools.close()
        self.resolver.close()
        assert self.pools.connections == 0, f"connections leaked: {self.pools!r}"

    def report(self, url: str, body: bytes = b'{"id": 7}', timeout_s: float = 5.0) -> Report:
        """What the driver reports for one attempt."""
        return self.client.attempt(request(url, body, timeout_s=timeout_s))

    def attempt(self, url: str, body: bytes = b'{"id": 7}', timeout_s: float = 5.0) -> Attempt:
        """One attempt that must not fail for reasons of our own."""
        report = self.report(url, body, timeout_s)
        assert not isinstance(report, LocalTrouble), report
        return report
