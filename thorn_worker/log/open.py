"""Which log do the settings name? The worker's halves and the inspector of it."""

from producer.config import LogUrl, Settings, parse_log_url
from producer.errors import ConfigurationError
from thorn_worker.inspector import Inspector
from thorn_worker.log.contract import LogReader
from thorn_worker.store.contract import Store


def open_log(settings: Settings) -> tuple[LogReader, Store]:
    """Reader and store of the log; nothing is opened yet. Raises `ConfigurationError` if none is set."""
    path = _path(_url(settings))
    from thorn_worker.log.journal import Journal
    from thorn_worker.log.leases import member_name
    from thorn_worker.log.sqlite import SqliteReader
    from thorn_worker.store.sqlite import SqliteStore

    journal = Journal(path, settings.partitions, member_name(settings.worker_id))
    return SqliteReader(journal), SqliteStore(journal)


def open_inspector(settings: Settings) -> Inspector:
    """A read-only view of the log.

    Raises `ConfigurationError` if none is set, `LogUnusable` if it can't be opened.
    """
    path = _path(_url(settings))
    from thorn_worker.log.sqlite_inspector import SqliteInspector

    return SqliteInspector(path)


def _url(settings: Settings) -> LogUrl:
    if settings.log is None:
        raise ConfigurationError(
            "no log is configured: set THORN_LOG, for example THORN_LOG=sqlite:///thorn.db"
        )
    return parse_log_url(settings.log)


def _path(url: LogUrl) -> str:
    if url.path is None:
        raise ConfigurationError(
            f"the log {url.text!r} is not available in this release: use sqlite:///file.db"
        )
    return url.path
