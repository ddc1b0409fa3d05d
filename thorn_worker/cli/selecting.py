"""Which deliveries a command means: the options that ``pending`` and ``dead`` share."""

import functools
from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar

import click

from producer.errors import SubscriptionError
from producer.hosts import host_of
from thorn_worker.cli.common import Instant
from thorn_worker.inspector import RowFilter

P = ParamSpec("P")
R = TypeVar("R")


def by_endpoint_only(wanted: RowFilter) -> bool:
    """True if only subscriptions, or only hosts, were named: then a command can name them too."""
    rest = (wanted.ids, wanted.reasons, wanted.since_at, wanted.until_at)
    return not any(rest) and bool(wanted.subs) != bool(wanted.hosts)


def with_selection(
    reasons: Sequence[str],
) -> Callable[[Callable[Concatenate[RowFilter, P], R]], Callable[P, R]]:
    """Give a command ``[ID]…`` and the selecting options; its first argument is a `RowFilter`.

    reasons: the words that ``--reason`` takes.
    """
    return functools.partial(_with_selection, click.Choice([str(word) for word in reasons]))


def _with_selection(
    reason: click.Choice[str], function: Callable[Concatenate[RowFilter, P], R]
) -> Callable[P, R]:
    @click.argument("ids", nargs=-1, metavar="[ID]...")
    @click.option(
        "--subscription",
        "subs",
        type=click.UUID,
        multiple=True,
        metavar="ID",
        help="Of this subscription; repeatable.",
    )
    @click.option(
        "--host", "hosts", multiple=True, metavar="URL", help="To this host, as lists show it; repeatable."
    )
    @click.option("--reason", "reasons", type=reason, multiple=True, help="With this reason; repeatable.")
    @click.option("--since", "since_at", type=Instant(), help="Not before: 2h, 3d (ago) or an ISO time.")
    @click.option("--until", "until_at", type=Instant(), help="Not after: the same.")
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        names = ("ids", "subs", "hosts", "reasons", "since_at", "until_at")
        chosen: dict[str, Any] = {name: kwargs.pop(name) for name in names}
        chosen["subs"] = tuple(map(str, chosen["subs"]))
        chosen["hosts"] = tuple(map(_host, chosen["hosts"]))
        return function(RowFilter(**chosen), *args, **kwargs)

    return wrapper


def _host(text: str) -> str:
    """``https://example.com`` and ``example.com`` both mean ``https://example.com:443``."""
    try:
        return host_of(text if "://" in text else f"https://{text}")
    except SubscriptionError as error:
        raise click.BadParameter(str(error), param_hint="--host") from error


def require_some(wanted: RowFilter, what: str) -> None:
    """A usage error when a command that changes something was given nothing to choose by."""
    if wanted == RowFilter():
        raise click.UsageError(
            f"say which {what}: by id, --subscription, --host, --reason, --since or --until"
        )


def require_found(wanted: RowFilter, found: int, what: str) -> None:
    """A failure (exit 1) when ids were given and nothing was found."""
    if wanted.ids and not found:
        raise click.ClickException(
            f"no {what} has the id {', '.join(wanted.ids)}: list them to see which there are"
        )
