"""More partitions for a Kafka log that is in use: what it does to the deliveries, and when it must not be.

A host's partition is its hash modulo their number, so most hosts move. What that means:

- Records that are not yet delivered stay where they are, and the owner of that partition delivers them. Newer
  ones of the same host come through another partition, perhaps through another worker: they may overtake, so
  nothing may be *ordered*.
- A delivery that waits in the state of the old partition would be tried there while newer ones of its host
  are tried elsewhere: two owners with a breaker and a width each for one host. So nothing may *wait*. (A
  record that fails after the check waits in its old partition all the same. It is delivered, none is lost.)
- That an endpoint is disabled is known only to the partition that its host leaves, so it is told to all.
"""

import time
from collections.abc import Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import Final

from producer.config import Settings
from producer.errors import LogUnusable
from producer.log.kafka_options import KafkaOptions
from producer.model import Command, Subscription
from producer.subscriptions.settings import Subscribers
from thorn_worker.commands import Order, submit
from thorn_worker.inspector import RowFilter
from thorn_worker.log.kafka_admin import connected
from thorn_worker.log.kafka_topics import grow_topics, names, refuse_hidden, refuse_shrinking
from thorn_worker.log.open import open_inspector

#: Subscription ids in one command record, which stays far below a record's 900 KB.
_SUBS_PER_COMMAND: Final = 500


@dataclass(frozen=True, slots=True)
class Growth:
    """A growth that nothing forbids. disabled: subscriptions whose new partitions must be told."""

    partitions: int
    disabled: tuple[str, ...]


def plan(settings: Settings, options: KafkaOptions, partitions: int) -> Growth | None:
    """What it takes to give existing topics so many partitions; None if none of them has fewer.

    Raises `LogUnusable` with the reason if they must not grow, `LogUnavailable`, and `SubscriptionError` for
    subscribers that can't be read.
    """
    with connected(options) as admin:
        found = admin.describe(names(options))
    refuse_hidden(options, found)
    refuse_shrinking(found, partitions)
    if all(topic.partitions == partitions for topic in found.values()):
        return None
    subscribers = Subscribers(settings.subscribers)
    subscribers.check_imports()
    refuse_ordered(options, partitions, subscribers.known().values())
    if len(found) < len(names(options)):
        return Growth(partitions, ())  # without its three topics nobody has used it yet
    with closing(open_inspector(settings)) as inspector:
        waiting = next(iter(inspector.pendings(RowFilter())), None)
        disabled = {state.sub for _, state in inspector.endpoints() if state.disabled_at is not None}
    if waiting is not None:
        raise LogUnusable(
            f"{options.place} can't grow to {partitions} partitions while deliveries wait in its store, as "
            f"{waiting.delivery.id} for {waiting.host} does: let them finish, or see thorn-worker pending"
        )
    return Growth(partitions, tuple(sorted(disabled)))


def refuse_ordered(options: KafkaOptions, partitions: int, known: Iterable[Subscription]) -> None:
    """Raise `LogUnusable` if one of these subscriptions wants its deliveries in order."""
    ordered = sorted(subscription.id for subscription in known if subscription.ordered)
    if ordered:
        raise LogUnusable(
            f"{options.place} can't grow to {partitions} partitions: the subscription {ordered[0]} is "
            "ordered, and its host may move to another partition, where new deliveries overtake old ones: "
            "make a log with another prefix, and let the workers of this one finish"
        )


def grow(settings: Settings, options: KafkaOptions, growth: Growth) -> list[str]:
    """Do it; returns the names of the topics that had fewer partitions. Raises `LogError`s."""
    grown = grow_topics(options, growth.partitions)
    orders = [
        Order(Command(op="disable", subs=growth.disabled[start : start + _SUBS_PER_COMMAND], at=time.time()))
        for start in range(0, len(growth.disabled), _SUBS_PER_COMMAND)
    ]
    with closing(open_inspector(settings)) as inspector:
        submit(settings, inspector, orders)
    return grown
