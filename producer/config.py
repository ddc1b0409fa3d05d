"""Reading settings from keyword arguments, environment and one TOML file; checked before any other I/O.

Keyword arguments win over the environment, the environment wins over the file. What may be set, and how it is
written, stands in `producer.settings_table`.
"""

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from producer.errors import ConfigurationError
from producer.log_url import LogUrl, parse_log_url
from producer.settings import Settings, check_together, doubts
from producer.settings_kinds import Refused
from producer.settings_table import BY_NAME, SETTINGS_FILE, Setting, markdown_table

__all__ = ["Loaded", "LogUrl", "Settings", "load", "markdown_table", "parse_log_url"]

#: In the environment an unknown name this close to a known one is taken for a misspelling.
MISSPELT_WITHIN: Final = 2

_PREFIX: Final = "THORN_"


@dataclass(frozen=True, slots=True)
class Loaded:
    """What `load` found. warnings: one sentence each. file: absolute path of the TOML file, if there was one.

    explicit: names (`Setting.name`, without unit) that were set anywhere.
    """

    settings: Settings
    warnings: tuple[str, ...]
    file: str | None
    explicit: frozenset[str]


@dataclass(frozen=True, slots=True)
class _Given:
    """A value as it was written. origin: completes "… from". folder: where its relative paths begin."""

    setting: Setting
    value: object
    origin: str
    folder: str

    def parsed(self) -> object:
        try:
            return self.setting.kind.parse(self.value, self.folder)
        except Refused as refusal:
            why = str(refusal) or self.setting.kind.rule
            shown = "" if self.setting.secret else f" = {_shown(self.value)}"
            raise ConfigurationError(
                f"The setting {self.setting.name}{shown} from {self.origin} is refused: {why}."
            ) from refusal


def load(
    overrides: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    *,
    strict_environment: bool = False,
) -> Loaded:
    """Read all settings. A keyword argument of None and an empty environment variable count as not given.

    environ: None means the process's own. strict_environment: refuse a ``THORN_`` name that looks misspelt
    (workers); otherwise, and for other unknown names, only warn, since platforms inject names of their own.
    Raises `ConfigurationError`, one sentence that names setting, value, rule and origin.
    """
    folder = os.getcwd()
    keywords = _from_keywords(overrides or {}, folder)
    environment, warnings = _from_environment(
        os.environ if environ is None else environ, folder, strict_environment
    )
    named = keywords.pop(SETTINGS_FILE.name, None) or environment.get(SETTINGS_FILE.name)
    environment.pop(SETTINGS_FILE.name, None)
    file = str(named.parsed()) if named else None
    given = {**(_from_file(file) if file else {}), **environment, **keywords}
    values: dict[str, Any] = {one.setting.attribute: one.parsed() for one in given.values()}
    if "max_in_flight" in given and "max_in_flight_per_host" not in given:
        # Who asks for few attempts in all has not asked for more of them per host.
        values["max_in_flight_per_host"] = min(Settings().max_in_flight_per_host, values["max_in_flight"])
    settings = Settings(**values)
    check_together(settings)
    return Loaded(settings, (*warnings, *doubts(settings)), file, frozenset(given))


def _from_keywords(overrides: Mapping[str, object], folder: str) -> dict[str, _Given]:
    present = {name: value for name, value in overrides.items() if value is not None}
    return _named(present, "the keyword arguments", folder, [SETTINGS_FILE])


def _from_file(file: str) -> dict[str, _Given]:
    import tomllib  # not needed where keyword arguments or the environment say all

    try:
        with open(file, "rb") as stream:
            content = tomllib.load(stream)
    except OSError as error:
        raise ConfigurationError(
            f"The settings file {file} cannot be read ({error.strerror}): correct THORN_SETTINGS or the file."
        ) from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"The settings file {file} is not TOML: {error}.") from error
    return _named(content, file, os.path.dirname(file), [])


def _named(
    content: Mapping[str, object], origin: str, folder: str, extra: Iterable[Setting]
) -> dict[str, _Given]:
    """The values by `Setting.name`. Refuses unknown names, and both spellings of one setting side by side."""
    known = {**BY_NAME, **{setting.name: setting for setting in extra}}
    found: dict[str, _Given] = {}
    for name, value in content.items():
        setting = known.get(name)
        if setting is None:
            raise ConfigurationError(
                f"There is no setting {name!r} (from {origin}): the nearest one is {_nearest(name, known)!r}."
            )
        if setting.name in found:
            raise ConfigurationError(
                f"The setting {setting.name} stands twice in {origin}, once as {name}: keep one."
            )
        found[setting.name] = _Given(setting, value, origin, folder)
    return found


def _from_environment(
    environ: Mapping[str, str], folder: str, strict: bool
) -> tuple[dict[str, _Given], list[str]]:
    known = {**BY_NAME, SETTINGS_FILE.name: SETTINGS_FILE}
    found: dict[str, _Given] = {}
    warnings = []
    for variable in sorted(name for name in environ if name.startswith(_PREFIX)):
        name = variable.removeprefix(_PREFIX).lower()
        setting = known.get(name) if variable.isupper() else None
        if setting is None:
            near = next(
                (_variable(k) for k in known if _distance(name, k, MISSPELT_WITHIN) <= MISSPELT_WITHIN), None
            )
            if near and strict:
                raise ConfigurationError(
                    f"There is no setting {variable} (from the environment): did you mean {near}?"
                )
            hint = f"did you mean {near}?" if near else "unset it if it was meant for Thorn."
            warnings.append(f"{variable} in the environment is no setting of Thorn and does nothing: {hint}")
        elif not environ[variable]:
            continue
        elif setting.name in found:
            raise ConfigurationError(
                f"The setting {setting.name} stands twice in the environment, once as {variable}: keep one."
            )
        else:
            found[setting.name] = _Given(setting, environ[variable], f"{variable} in the environment", folder)
    return found, warnings


def _variable(name: str) -> str:
    return f"{_PREFIX}{name.upper()}"


def _nearest(name: str, known: Iterable[str]) -> str:
    from difflib import get_close_matches  # only for a refusal

    return get_close_matches(name.lower().removeprefix(_PREFIX.lower()), list(known), n=1, cutoff=0.0)[0]


def _distance(one: str, other: str, most: int) -> int:
    """Levenshtein distance: letters to insert, delete or replace. Beyond `most` any larger number.

    >>> _distance("max_blok", "max_block", 2), _distance("worker_port", "worker_id", 2) > 2
    (1, True)
    """
    if abs(len(one) - len(other)) > most:
        return most + 1
    row = list(range(len(other) + 1))
    for at, letter in enumerate(one, 1):
        diagonal, row[0] = row[0], at
        for index, candidate in enumerate(other, 1):
            diagonal, row[index] = (
                row[index],
                min(row[index] + 1, row[index - 1] + 1, diagonal + (letter != candidate)),
            )
    return row[-1]


def _shown(value: object) -> str:
    """A value for a message: short, and without user and password where it holds a URL."""
    text = re.sub(r"//[^\s'\"]*@", "//\u2026@", repr(value))
    return text if len(text) <= 120 else text[:119] + "\u2026"
