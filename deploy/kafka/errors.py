"""The one error of this package, and how it quotes a log."""

from pathlib import Path
from typing import Final

#: Lines at the end of a log that an error repeats: a Java stack trace has its cause near the end.
_LINES: Final = 15


class ClusterError(Exception):
    """The brokers can't do what was asked: what to do, and the end of a log where that explains it."""


def tail(log: Path, start: int = 0) -> str:
    """The last lines of a log, indented, from byte `start` on: what an earlier run wrote explains nothing."""
    try:
        with log.open("rb") as file:
            file.seek(start)
            text = file.read().decode(errors="replace")
    except FileNotFoundError:
        return f"    ({log} was never written)"
    lines = text.splitlines()[-_LINES:]
    return "\n".join(f"    {line}" for line in lines) or f"    ({log} is empty)"
