"""What the worker asks of its settings and of the machine before it touches the log."""

import resource
from typing import Final

from producer.config import Settings
from producer.errors import ConfigurationError

#: Open files beside one socket per attempt: the log, the store, admin connections, the resolver, standard
#: streams.
RESERVED_FILES: Final = 256

#: Dispatchers that deliver elsewhere than in a worker, and come with a later release.
_LATER: Final = ("default", "celery")


def check_for_run(settings: Settings) -> None:
    """Refuse settings that a worker cannot run with. Raises `ConfigurationError`; does no I/O."""
    check_log(settings)
    if settings.dispatcher in _LATER:
        raise ConfigurationError(
            f"THORN_DISPATCHER is {settings.dispatcher!r}, which this release does not have yet: "
            "set it to 'log', or leave it out"
        )


def check_log(settings: Settings) -> str:
    """The log that the settings name. Raises `ConfigurationError` if they name none."""
    if not settings.log:
        raise ConfigurationError(
            "no log is configured: set THORN_LOG (or log in the settings file, or --log), "
            "for example sqlite:///thorn.db or kafka://k1:9092,k2:9092/thorn"
        )
    return settings.log


def raise_file_limit(max_in_flight: int) -> int:
    """Raise this process's soft open-file limit to its hard one, and return it.

    Raises `ConfigurationError` when `max_in_flight` sockets and `RESERVED_FILES` do not fit: 2000 attempts at
    once need 2256 files.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    check_file_limit(max_in_flight, hard)
    return hard


def check_file_limit(max_in_flight: int, limit: int) -> None:
    """Raises `ConfigurationError` when `limit` open files are too few for `max_in_flight` attempts."""
    needed = max_in_flight + RESERVED_FILES
    if limit != resource.RLIM_INFINITY and limit < needed:
        raise ConfigurationError(
            f"THORN_MAX_IN_FLIGHT is {max_in_flight}, which needs {needed} open files, but this process may "
            f"open only {limit}: raise the limit (ulimit -n, or LimitNOFILE in systemd), or set "
            f"THORN_MAX_IN_FLIGHT to {max(1, limit - RESERVED_FILES)} or less"
        )
