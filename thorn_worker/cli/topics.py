"""``thorn-worker topics``: make the topics of a Kafka log, grow them, look for what is wrong with them."""

from collections.abc import Mapping, Sequence
from typing import Final

import click

from producer.config import Settings, parse_log_url
from producer.errors import ConfigurationError
from producer.log.kafka_options import KafkaOptions
from thorn_worker.cli.common import Common, with_common
from thorn_worker.cli.output import json_option, print_json
from thorn_worker.config import check_log

#: What a cluster of three small brokers bears easily; more takes a look at its limits first.
_MOST_PARTITIONS: Final = 1_000


@click.group()
def topics() -> None:
    """The topics of a Kafka log: make them, give them more partitions, check their settings."""


@topics.command("create")
@with_common
@click.option(
    "--partitions",
    type=click.IntRange(1, _MOST_PARTITIONS),
    help="Partitions of each topic (THORN_PARTITIONS). More than existing topics have: all three grow, and "
    "hosts move to other partitions, so no subscription of any service may be ordered.",
)
@click.option(
    "--replication",
    type=click.IntRange(min=1),
    help="Copies of each record (3, or as many as there are brokers).",
)
def create(common: Common, *, partitions: int | None, replication: int | None) -> None:
    """Make the topics that are missing. Existing ones stay as they are, but for more --partitions."""
    settings = common.settings_with_log()
    options = kafka_options(settings)
    from thorn_worker.log.kafka_growth import grow, plan
    from thorn_worker.log.kafka_topics import create_topics, names

    growth = plan(settings, options, partitions) if partitions is not None else None
    grown = grow(settings, options, growth) if growth is not None else []
    made = create_topics(options, partitions or settings.partitions, replication)
    for name in sorted(names(options)):
        click.echo(f"{name}: {_what(name, made, grown)}")


def _what(name: str, made: Sequence[str], grown: Sequence[str]) -> str:
    if name in made:
        return "made"
    return "has more partitions now" if name in grown else "was there, left as it is"


@topics.command("check")
@with_common
@json_option
def check(common: Common, as_json: bool) -> int:
    """Say all that is wrong with the topics, and what to do: one finding a line. Exit 1 if there is any."""
    options = kafka_options(common.settings_with_log())
    from thorn_worker.log.kafka_topics import look

    found, findings = look(options)
    if as_json:
        print_json(
            _row(finding.topic, finding.problem, finding.advice, finding.fatal) for finding in findings
        )
    else:
        for finding in findings:
            click.echo(f"{'error' if finding.fatal else 'warning'}: {finding}")
        if not findings:
            count = found[options.deliveries].partitions
            click.echo(f"nothing is wrong with {', '.join(found)}: {count} partitions each")
    return int(bool(findings))


def _row(topic: str, problem: str, advice: str, fatal: bool) -> Mapping[str, object]:
    return {"topic": topic, "state": "error" if fatal else "warning", "problem": problem, "advice": advice}


def kafka_options(settings: Settings) -> KafkaOptions:
    """The Kafka log of the settings. Raises `ConfigurationError` if the log is another one."""
    url = parse_log_url(check_log(settings))
    if url.path is not None:
        raise ConfigurationError(
            f"THORN_LOG is {url.text}, which has no topics: they belong to a log at kafka://host:port/prefix"
        )
    return KafkaOptions.of(settings, url)
