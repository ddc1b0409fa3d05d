"""``thorn-worker doctor``: looks at everything a worker needs, sends nothing, and says what to do."""

import os
import resource
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Final

import click

from producer.config import Loaded, Settings, parse_log_url
from producer.errors import ThornError
from producer.hosts import Target, parse
from producer.log.kafka_options import KafkaOptions
from producer.subscriptions.settings import Subscribers
from thorn_worker.cli.common import Common, inspecting, with_common
from thorn_worker.cli.output import instant, json_option, print_list
from thorn_worker.config import check_file_limit, check_for_run
from thorn_worker.http.errors import LocalFailure, NotConnected
from thorn_worker.http.guard import Guard
from thorn_worker.http.pools import Pools
from thorn_worker.http.resolver import Resolver

#: Hosts looked at side by side, and seconds for each: name, TCP and TLS together.
_AT_ONCE: Final = 16
_PATIENCE_S: Final = 10.0
#: This program was written in 2025: an earlier date means that the clock was never set.
_WRITTEN_AT: Final = 1_735_689_600.0
#: A file from further in the future than this was written under another clock.
_CLOCK_TOLERANCE_S: Final = 5.0


class State(StrEnum):
    """How a check ended; only FAIL makes the exit code 1."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. advice: what to do, "" if nothing."""

    check: str
    state: State
    finding: str
    advice: str = ""


@click.command()
@with_common
@json_option
def doctor(common: Common, as_json: bool) -> int:
    """Check settings, log, clock, open files, and each subscriber's name, address and certificate."""
    findings = list(examine(common))
    rows = ({name: str(value) for name, value in asdict(finding).items()} for finding in findings)
    print_list(rows, ("check", "state", "finding", "advice"), 0, as_json=as_json)
    return int(any(finding.state is State.FAIL for finding in findings))


def examine(common: Common) -> Iterator[Finding]:
    """All findings. Without readable settings nothing else can be looked at."""
    try:
        loaded = common.load()
    except ThornError as error:
        yield Finding("settings", State.FAIL, str(error))
        return
    yield from _settings(loaded)
    yield from _log(loaded.settings)
    yield _clock(loaded.settings, time.time())
    yield _files(loaded.settings)
    yield from _subscribers(loaded.settings)


def _settings(loaded: Loaded) -> Iterator[Finding]:
    try:
        check_for_run(loaded.settings)
    except ThornError as error:
        yield Finding("settings", State.FAIL, str(error))
    else:
        yield Finding("settings", State.OK, loaded.file or "no file; environment and options only")
    for warning in loaded.warnings:
        yield Finding("settings", State.WARN, warning)


def _log(settings: Settings) -> Iterator[Finding]:
    if settings.log is None:
        return  # the settings check has said so
    url = parse_log_url(settings.log)
    if url.path is not None:
        folder = os.path.dirname(url.path)
        present = os.path.exists(url.path)
        for place in (folder, url.path) if present else (folder,):
            if not os.access(place, os.W_OK):
                advice = (
                    "make the folder, or correct THORN_LOG"
                    if not os.path.exists(place)
                    else "grant write access"
                )
                yield Finding("log", State.FAIL, f"{place} cannot be written", advice)
                return
        if not present:
            yield Finding("log", State.OK, f"{url.path} will be made at the first use")
            return
    else:
        findings = list(_topics(KafkaOptions.of(settings, url)))
        yield from findings
        if any(finding.state is State.FAIL for finding in findings):
            return
    try:
        with inspecting(settings) as inspector:
            statuses = inspector.partitions()
    except ThornError as error:
        yield Finding("log", State.FAIL, str(error))
        return
    behind = sum(status.end - status.committed for status in statuses)
    yield Finding(
        "log", State.OK, f"{url.text}: {len(statuses)} partitions, {behind} records not yet complete"
    )
    if behind and not any(status.owner for status in statuses):
        yield Finding("workers", State.WARN, "no worker owns a partition", "start one: thorn-worker run")


def _topics(options: KafkaOptions) -> Iterator[Finding]:
    """How the brokers are reached, and what is wrong with the topics."""
    from thorn_worker.log.kafka_topics import look

    try:
        _, findings = look(options)
    except ThornError as error:
        yield Finding("log", State.FAIL, str(error))
        return
    user = f" as {options.sasl_username}" if options.sasl_username else ""
    yield Finding("brokers", State.OK, f"{', '.join(options.servers)} by {options.security}{user}")
    for finding in findings:
        state = State.FAIL if finding.fatal else State.WARN
        yield Finding("topics", state, f"{finding.topic}: {finding.problem}", finding.advice)


def _clock(settings: Settings, now_at: float) -> Finding:
    advice = "set the clock, and keep it right with NTP: receivers refuse signatures that are 5 minutes off"
    if now_at < _WRITTEN_AT:
        return Finding("clock", State.FAIL, f"this machine says {instant(now_at)}", advice)
    path = parse_log_url(settings.log).path if settings.log else None
    if path is not None and os.path.exists(path):
        ahead_s = os.stat(path).st_mtime - now_at
        if ahead_s > _CLOCK_TOLERANCE_S:
            return Finding("clock", State.FAIL, f"the log was written {ahead_s:.0f} s in the future", advice)
    return Finding("clock", State.OK, instant(now_at))


def _files(settings: Settings) -> Finding:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        check_file_limit(settings.max_in_flight, hard)
    except ThornError as error:
        return Finding("open files", State.FAIL, str(error))
    return Finding("open files", State.OK, f"{hard} for max_in_flight {settings.max_in_flight}")


def _subscribers(settings: Settings) -> Iterator[Finding]:
    try:
        subscribers = Subscribers(settings.subscribers)
        subscribers.check_imports()
        targets = {
            target.host: target for target in map(parse, (s.url for s in subscribers.known().values()))
        }
        pools = Pools(
            Guard(settings.allow_hosts, settings.allow_networks), Resolver(), ca_file=settings.ca_file
        )
    except ThornError as error:
        yield Finding("subscribers", State.FAIL, str(error))
        return
    yield Finding(
        "subscribers", State.OK, f"{len(subscribers.known())} subscriptions on {len(targets)} hosts"
    )
    yield from _visit(targets, lambda target: _host(pools, target))
    pools.close()


def _visit(targets: Mapping[str, Target], look: Callable[[Target], Finding]) -> Iterator[Finding]:
    with ThreadPoolExecutor(_AT_ONCE) as executor:
        yield from executor.map(look, targets.values())


def _host(pools: Pools, target: Target) -> Finding:
    """Resolve, guard, connect and shake hands as an attempt does; then hang up without a request."""
    try:
        connection = pools.acquire(target, time.monotonic() + _PATIENCE_S)
    except NotConnected as error:
        finding, advice = str(error), "ask its owner"
        if error.blocked:
            # The guard names the settings that permit an address only where there are any.
            finding, _, hint = finding.partition("; ")
            advice = f"{hint}, if it is yours" if hint else "correct the URL: no setting permits this address"
        return Finding(target.host, State.FAIL, f"{error.phase}: {finding}", advice)
    except LocalFailure as error:
        return Finding(target.host, State.FAIL, str(error), "free files, memory or ports on this machine")
    address = connection.address
    pools.release(connection, False)
    return Finding(target.host, State.OK, f"reached at {address.ip if address else target.name}")
