"""The worker's log lines: set-up, lines that cannot flood, one line per attempt."""

import json
import logging
import sys
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, TextIO

from producer.errors import ConfigurationError
from producer.model import Delivery
from thorn_worker.outcome import Attempt, Outcome

#: A line about the same thing appears at most this often.
RATE_LIMIT_S: Final = 60.0
#: So many things are remembered by one `RateLimited`; the one that spoke longest ago is forgotten first.
RATE_LIMIT_KEYS: Final = 1024

#: Where `AttemptLog` writes; operators may send it elsewhere.
ATTEMPTS: Final = "thorn_worker.attempts"

_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
#: What kafka-python may write at each of our levels. We tell of every trouble ourselves, in one sentence; its
#: own lines are for those who look closer, above all those of `_CONNECTING`, several for each attempt.
_CLIENT_LEVELS: Final[Mapping[str, int]] = {
    "debug": logging.DEBUG,
    "info": logging.WARNING,
    "warning": logging.CRITICAL,
    "error": logging.CRITICAL,
}
_CONNECTING: Final = ("kafka.net", "kafka.cluster")
_FORMATS: Final = ("text", "json")
_ATTEMPT_LOGS: Final = ("off", "failures", "all")

#: One log line stays one line, whatever a receiver or a producer managed to put into it.
_ONE_LINE: Final = {code: f"\\x{code:02x}" for code in (*range(0x20), 0x7F, 0x85)}


class _Handler(logging.StreamHandler[TextIO]):
    """The handler of `set_up`, so that setting up again replaces this one and nobody else's."""


def set_up(level: str, log_format: str, stream: TextIO | None = None) -> None:
    """Send every log line of this process to `stream` (default: stderr). Calling again replaces the set-up.

    Raises `ConfigurationError` for a level or format that does not exist.
    """
    _one_of("THORN_LOG_LEVEL", level, tuple(_LEVELS))
    _one_of("THORN_LOG_FORMAT", log_format, _FORMATS)
    handler = _Handler(stream if stream is not None else sys.stderr)
    handler.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    root = logging.getLogger()
    for old in [handler for handler in root.handlers if isinstance(handler, _Handler)]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(_LEVELS[level])
    logging.getLogger("kafka").setLevel(_CLIENT_LEVELS[level])
    for name in _CONNECTING:
        logging.getLogger(name).setLevel(logging.NOTSET if level == "debug" else logging.CRITICAL)


def _one_of(setting: str, value: str, known: tuple[str, ...]) -> None:
    if value not in known:
        raise ConfigurationError(f"{setting} is {value!r}: set it to one of {', '.join(known)}")


class TextFormatter(logging.Formatter):
    """``2025-01-31T12:00:00.123Z WARNING thorn_worker.worker message``; in UTC."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s.%(msecs)03dZ %(levelname)s %(name)s %(message)s", "%Y-%m-%dT%H:%M:%S")

    def converter(self, seconds: float | None) -> time.struct_time:
        """The broken-down time that a line shows."""
        return time.gmtime(seconds)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - the base class's name
        """The line without a traceback; a line break or escape in it is written as ``\\x0a``."""
        record.message = record.message.translate(_ONE_LINE)
        return super().formatMessage(record)


class JsonFormatter(logging.Formatter):
    """One JSON object per line: ``at`` (Unix seconds), ``level``, ``logger``, ``message``, own fields."""

    def format(self, record: logging.LogRecord) -> str:
        """The object as text."""
        line: dict[str, object] = {
            "at": round(record.created, 3),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        fields = getattr(record, "fields", None)
        if isinstance(fields, Mapping):
            line.update(fields)
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


@dataclass(slots=True)
class _Spoken:
    at: float
    suppressed: int = 0


class RateLimited:
    """Log lines that appear at most once per `interval_s` for each key (a host, a subscription).

    The next line of a key says how many of its own were left out. Memory is bounded: of more than `max_keys`
    keys the oldest is forgotten, and the lines that it still owed are counted as "elsewhere" on the next line
    of any key.
    """

    def __init__(
        self,
        logger: logging.Logger,
        interval_s: float = RATE_LIMIT_S,
        max_keys: int = RATE_LIMIT_KEYS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._logger = logger
        self._interval_s = interval_s
        self._max_keys = max_keys
        self._clock = clock
        self._spoken: OrderedDict[str, _Spoken] = OrderedDict()
        self._owed_elsewhere = 0

    def log(self, level: int, key: str, message: str, *args: object) -> bool:
        """Log ``message % args`` unless `key` spoke less than `interval_s` ago; True if it was written."""
        now = self._clock()
        spoken = self._spoken.get(key)
        if spoken is not None and now - spoken.at < self._interval_s:
            spoken.suppressed += 1
            return False
        suppressed = spoken.suppressed if spoken is not None else 0
        self._spoken[key] = _Spoken(now)
        self._spoken.move_to_end(key)
        if len(self._spoken) > self._max_keys:
            _, forgotten = self._spoken.popitem(last=False)
            self._owed_elsewhere += forgotten.suppressed
        self._logger.log(level, "%s%s", message % args if args else message, self._tail(suppressed))
        return True

    def info(self, key: str, message: str, *args: object) -> bool:
        """`log` at level info."""
        return self.log(logging.INFO, key, message, *args)

    def warning(self, key: str, message: str, *args: object) -> bool:
        """`log` at level warning."""
        return self.log(logging.WARNING, key, message, *args)

    def error(self, key: str, message: str, *args: object) -> bool:
        """`log` at level error."""
        return self.log(logging.ERROR, key, message, *args)

    def _tail(self, suppressed: int) -> str:
        parts = [f"{suppressed} more like it"] if suppressed else []
        if self._owed_elsewhere:
            parts.append(f"{self._owed_elsewhere} elsewhere")
            self._owed_elsewhere = 0
        return f" ({' and '.join(parts)} not shown since)" if parts else ""

    def __repr__(self) -> str:
        return f"RateLimited({len(self._spoken)} keys, every {self._interval_s:g} s)"


class AttemptLog:
    """``THORN_ATTEMPT_LOG``: one line per attempt, or per failed one. Never body, secret, query.

    Raises `ConfigurationError` for a mode that does not exist.
    """

    def __init__(self, mode: str, logger: logging.Logger | None = None) -> None:
        _one_of("THORN_ATTEMPT_LOG", mode, _ATTEMPT_LOGS)
        self._mode = mode
        self._logger = logger if logger is not None else logging.getLogger(ATTEMPTS)

    @property
    def on(self) -> bool:
        """False when no attempt is ever written: callers then need not call."""
        return self._mode != "off"

    def write(self, delivery: Delivery, host: str, attempt: Attempt) -> None:
        """Write the line of one finished attempt, if the mode asks for it."""
        if self._mode == "off" or (self._mode == "failures" and attempt.outcome is Outcome.DELIVERED):
            return
        fields: dict[str, object] = {
            "delivery": delivery.id,
            "event": delivery.event,
            "event_id": delivery.event_id,
            "subscription": delivery.sub,
            "host": host,
            "attempt": attempt.number,
            "outcome": str(attempt.outcome),
            "status": attempt.status if attempt.status is not None else "-",
            "phase": str(attempt.phase),
            "duration_s": round(attempt.duration_s, 4),
        }
        line = " ".join(f"{name}={value}" for name, value in fields.items())
        if attempt.status is None:
            fields["status"] = None
        self._logger.info("%s", line, extra={"fields": fields})
