"""What all commands share: where settings come from, how time is written, the log and its inspector."""

import functools
import logging
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Concatenate, ParamSpec, TypeVar

import click

from producer.config import Loaded, Settings, load
from producer.settings_kinds import seconds
from thorn_worker import logs
from thorn_worker.config import check_log
from thorn_worker.inspector import Inspector

P = ParamSpec("P")
R = TypeVar("R")


@dataclass(frozen=True, slots=True)
class Common:
    """The options that every command has."""

    settings_file: str | None = None
    log: str | None = None
    verbose: bool = False

    def load(self) -> Loaded:
        """All settings. Raises `ConfigurationError`."""
        return load(self.overrides(), strict_environment=True)

    def overrides(self) -> dict[str, object]:
        """What the options set, as keyword arguments of the library."""
        return {"settings": self.settings_file, "log": self.log}

    def settings_with_log(self) -> Settings:
        """All settings, for a command that works on the log. Raises `ConfigurationError` if none is set."""
        loaded = self.load()
        check_log(loaded.settings)
        warn(loaded)
        return loaded.settings


def warn(loaded: Loaded) -> None:
    """Log what is odd about the settings."""
    for warning in loaded.warnings:
        logging.getLogger(__name__).warning("%s", warning)


def with_common(function: Callable[Concatenate[Common, P], R]) -> Callable[P, R]:
    """Give a command ``--settings``, ``--log`` and ``-v``; it gets them as its first argument, a `Common`."""

    @click.option("--settings", "settings_file", metavar="FILE", help="TOML file, instead of THORN_SETTINGS.")
    @click.option(
        "--log",
        "log_url",
        metavar="URL",
        help="The log, instead of THORN_LOG: sqlite:///thorn.db, kafka://k1:9092/thorn.",
    )
    @click.option("-v", "--verbose", is_flag=True, help="Show debug lines on stderr.")
    @functools.wraps(function)
    def wrapper(*args: P.args, **kwargs: P.kwargs) -> R:
        file = kwargs.pop("settings_file", None)
        log = kwargs.pop("log_url", None)
        verbose = bool(kwargs.pop("verbose", False))
        logs.set_up("debug" if verbose else "warning", "text")
        common = Common(None if file is None else str(file), None if log is None else str(log), verbose)
        return function(common, *args, **kwargs)

    return wrapper


@contextmanager
def inspecting(settings: Settings) -> Iterator[Inspector]:
    """The log's inspector, closed at the end. Raises `LogError`s."""
    from thorn_worker.log.open import open_inspector

    inspector = open_inspector(settings)
    try:
        yield inspector
    finally:
        inspector.close()


class Seconds(click.ParamType[float]):
    """A span in seconds, 0 or more. Neither ``inf`` nor ``nan``: no clock reaches them."""

    name = "seconds"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """The number; a usage error for anything else."""
        try:
            number = float(str(value))
        except ValueError:
            number = math.nan
        if not 0 <= number < math.inf:
            self.fail(f"{value!r} must be a finite number of seconds, 0 or more", param, ctx)
        return number


class Instant(click.ParamType[float]):
    """A point in time: a span back from now (``90s``, ``2h``, ``3d``) or an ISO 8601 time, UTC unless it
    says.

    >>> Instant().at("2h", now=7200.0), Instant().at("1970-01-01T00:01", now=0.0)
    (0.0, 60.0)
    """

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Unix seconds; a usage error for anything else."""
        if isinstance(value, float):
            return value
        try:
            return self.at(str(value), time.time())
        except ValueError:
            self.fail(f"{value!r} is neither a span (90s, 30m, 2h, 3d) nor an ISO 8601 time", param, ctx)

    def at(self, text: str, now: float) -> float:
        """Unix seconds of `text`, seen at `now`. Raises ValueError."""
        try:
            return now - seconds(text)
        except ValueError:
            moment = datetime.fromisoformat(text.strip())
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
