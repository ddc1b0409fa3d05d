"""Who plays: the receivers and what they do, the events, and the settings that services and workers share."""

import json
from base64 import b64encode
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from enum import StrEnum
from math import ceil
from pathlib import Path
from secrets import token_bytes, token_hex
from typing import Any, Final
from uuid import uuid4

from producer.matching import Index

#: Names of ordinary events, in turn.
NAMES: Final = (
    "order.created",
    "order.paid",
    "order.shipped",
    "order.cancelled",
    "user.created",
    "user.updated",
    "invoice.sent",
    "invoice.paid",
)
#: What the receivers that never take anything have asked for.
RARE: Final = "account.closed"
#: Every so many-th event of the first half is rare. None comes later: the end would wait for its retries.
_RARE_EVERY: Final = 25
#: Fewer than a lane is wide, so that all that hang can hang at once.
_MOST_RARE: Final = 60

#: Short enough to see the end of it: 5 attempts in 6.5 s.
_RETRY_SCHEDULE: Final = ("0.5s", "1s", "2s", "3s")
_EVENT_TIMEOUT: Final = "3s"
#: Patience with the receiver that never answers; its 5 attempts are what the demo's end waits for.
_HANGING_TIMEOUT_S: Final = 1.5
#: Fits into the open files of any machine.
_MAX_IN_FLIGHT: Final = 512


class Kind(StrEnum):
    """How a receiver behaves."""

    FAST = "fast"
    SLOW = "slow"
    FLAKY = "flaky"
    HANGING = "hanging"
    GONE = "gone"
    REFUSING = "refusing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Role:
    """One receiver and its subscription.

    pattern: the events that it asked for. id: of the subscription. delay_s: before each answer.
    failing: share of the requests that are answered with 500.
    """

    name: str
    kind: Kind
    pattern: str
    id: str
    secret: str
    hmac_secret: str
    delay_s: float = 0.0
    failing: float = 0.0


def cast() -> tuple[Role, ...]:
    """25 receivers with fresh secrets; an ordinary event goes to 3 of them on average."""
    fast = [_role(Kind.FAST, number, NAMES[number % len(NAMES)]) for number in range(16)]
    slow = [
        _role(Kind.SLOW, number, pattern, delay_s=delay_s)
        for number, (pattern, delay_s) in enumerate(
            (("order.shipped", 0.3), ("invoice.sent", 0.6), ("user.created", 1.0))
        )
    ]
    flaky = [
        _role(Kind.FLAKY, number, pattern, failing=0.3)
        for number, pattern in enumerate(("user.*", "invoice.*", "order.paid"))
    ]
    bad = [_role(kind, 0, RARE) for kind in (Kind.HANGING, Kind.GONE, Kind.REFUSING)]
    return (*fast, *slow, *flaky, *bad)


def _role(kind: Kind, number: int, pattern: str, *, delay_s: float = 0.0, failing: float = 0.0) -> Role:
    return Role(
        name=f"{kind}-{number + 1}",
        kind=kind,
        pattern=pattern,
        id=str(uuid4()),
        secret=f"whsec_{b64encode(token_bytes(24)).decode()}",
        hmac_secret=token_hex(16),
        delay_s=delay_s,
        failing=failing,
    )


def event_name(number: int, events: int) -> str:
    """What the event `number` (from 0) of `events` is called.

    >>> event_name(1, 3000), event_name(25, 3000), event_name(1525, 3000)
    ('order.paid', 'account.closed', 'user.updated')
    """
    every = max(_RARE_EVERY, ceil(events / 2 / _MOST_RARE))
    if number % every == 0 and number < events // 2:
        return RARE
    return NAMES[number % len(NAMES)]


def planned(roles: Sequence[Role], events: int) -> int:
    """How many deliveries `events` events come to, to whatever end."""
    names = Counter(event_name(number, events) for number in range(events))
    index = Index((role.pattern, role) for role in roles)
    return sum(times * len(index.match(name)) for name, times in names.items())


def save_cast(path: Path, roles: Sequence[Role]) -> None:
    """For the receivers' process."""
    path.write_text(json.dumps([asdict(role) for role in roles]))


def read_cast(path: Path) -> tuple[Role, ...]:
    """What `save_cast` wrote."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())
    return tuple(Role(**{**row, "kind": Kind(row["kind"])}) for row in rows)


def settings_text(roles: Sequence[Role], places: Mapping[str, str]) -> str:
    """The settings file of services and workers. places: role name -> host:port."""
    lines = [
        'log = "sqlite:///thorn.db"',
        'allow_networks = ["127.0.0.0/8"]',
        f"retry_schedule = {json.dumps(_RETRY_SCHEDULE)}",
        f'event_timeout = "{_EVENT_TIMEOUT}"',
        f"max_in_flight = {_MAX_IN_FLIGHT}",
        'admin = "127.0.0.1:0"',
        "",
        "[subscribers]",
    ]
    for pattern in dict.fromkeys(role.pattern for role in roles):
        lines.append(f"{json.dumps(pattern)} = [")
        lines += [f"  {_entry(role, places[role.name])}," for role in roles if role.pattern == pattern]
        lines.append("]")
    return "\n".join(lines) + "\n"


def _entry(role: Role, place: str) -> str:
    fields: dict[str, object] = {
        "url": f"http://{place}/hooks",
        "id": role.id,
        "secrets": [role.secret],
        "hmac_secret": role.hmac_secret,
    }
    if role.kind is Kind.HANGING:
        fields |= {"timeout_s": _HANGING_TIMEOUT_S}
    return f"{{ {', '.join(f'{name} = {json.dumps(value)}' for name, value in fields.items())} }}"
