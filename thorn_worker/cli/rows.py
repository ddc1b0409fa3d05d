"""Pendings, dead letters and endpoints as rows of lists. URLs lose their query; bodies only on request."""

from base64 import b64encode
from collections.abc import Iterable, Sequence

from producer.hosts import shown
from producer.model import Delivery, Life
from thorn_worker.cli.output import Row
from thorn_worker.outcome import Attempt
from thorn_worker.store.contract import DeadLetter, EndpointState, Pending
from thorn_worker.store.rows import letter_id


def pending_row(row: Pending) -> dict[str, object]:
    """One Pending as a row of ``pending list``."""
    return {
        **_delivery(row.delivery, row.host),
        "reason": row.reason,
        "due_at": row.due_at,
        "appended_at": row.appended_at,
        **_life(row.life),
    }


def letter_row(letter: DeadLetter) -> dict[str, object]:
    """One dead letter as a row of ``dead list``."""
    if letter.delivery is not None:
        facts = _delivery(letter.delivery, letter.host)
    else:
        facts = dict.fromkeys(("event", "event_id", "subscription", "url"))
        facts = {"id": letter_id(letter), **facts, "host": letter.host, "attempts": 0}
    return {
        **facts,
        "reason": str(letter.reason),
        "status": letter.history[-1].status if letter.history else None,
        "died_at": letter.died_at,
        "appended_at": letter.appended_at,
        **_life(letter.life),
    }


def details(row: Pending | DeadLetter, *, body: bool) -> dict[str, object]:
    """A row with what ``show`` adds: the last attempt's status, phase and error, and the history."""
    last = row.history[-1] if row.history else None
    shown_row = pending_row(row) if isinstance(row, Pending) else letter_row(row)
    error = last.error if last else None
    if isinstance(row, DeadLetter):
        error = row.error or error
    shown_row.update(
        status=last.status if last else None,
        phase=str(last.phase) if last else None,
        error=error,
        history=[attempt_row(attempt) for attempt in row.history],
    )
    if isinstance(row, DeadLetter) and row.delivery is None:
        shown_row.update(raw_bytes=row.raw_bytes, raw_sha256=row.raw_sha256)
    if body:
        shown_row.update(_body(row))
    return shown_row


def attempt_row(attempt: Attempt) -> dict[str, object]:
    """One attempt of a history. The excerpt of the response appears only where one was kept."""
    row: dict[str, object] = {
        "number": attempt.number,
        "started_at": attempt.started_at,
        "outcome": str(attempt.outcome),
        "status": attempt.status,
        "phase": str(attempt.phase),
        "duration_s": round(attempt.duration_s, 4),
        "error": attempt.error,
    }
    if attempt.excerpt:
        row["excerpt"] = attempt.excerpt.decode("utf-8", "replace")
    return row


def endpoint_rows(states: Iterable[tuple[int, EndpointState]]) -> list[Row]:
    """One row per subscription: disabled if any partition says so, failing since the first failure."""
    by_sub: dict[str, list[tuple[int, EndpointState]]] = {}
    for partition, state in states:
        by_sub.setdefault(state.sub, []).append((partition, state))
    return [_endpoint(sub, found) for sub, found in sorted(by_sub.items())]


def _endpoint(sub: str, found: Sequence[tuple[int, EndpointState]]) -> Row:
    disabled = [state for _, state in found if state.disabled_at is not None]
    failing = [state.failing_since for _, state in found if state.failing_since is not None]
    return {
        "id": sub,
        "subscription": sub,
        "host": next((state.host for _, state in found if state.host), None),
        "state": "disabled" if disabled else "failing" if failing else "enabled",
        "reason": disabled[0].reason if disabled else None,
        "disabled_at": min((s.disabled_at for s in disabled if s.disabled_at is not None), default=None),
        "failing_since_at": min(failing, default=None),
        "failures": sum(state.failures for _, state in found),
        "partitions": [partition for partition, _ in found],
    }


def _delivery(delivery: Delivery, host: str) -> dict[str, object]:
    return {
        "id": delivery.id,
        "event": delivery.event,
        "event_id": delivery.event_id,
        "subscription": delivery.sub,
        "host": host,
        "url": shown(delivery.url),
        "attempts": delivery.attempts,
    }


def _life(life: Life) -> dict[str, object]:
    return {"partition": life.partition, "offset": life.offset, "index": life[3]}


def _body(row: Pending | DeadLetter) -> dict[str, object]:
    if row.delivery is not None:
        raw = row.delivery.body
    elif isinstance(row, DeadLetter) and row.raw is not None:
        raw = row.raw
    else:
        return {"body": None}
    try:
        return {"body": raw.decode()}
    except UnicodeDecodeError:
        return {"body_base64": b64encode(raw).decode("ascii")}
