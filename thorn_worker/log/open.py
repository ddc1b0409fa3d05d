"""Which log do the settings name? The worker's halves and the inspector of it."""

from producer.config import LogUrl, Settings, parse_log_url
from producer.errors import ConfigurationError
from producer.log.kafka_options import KafkaOptions
from thorn_worker.inspector import Inspector
from thorn_worker.log.contract import Consent, LogReader
from thorn_worker.store.contract import Store


def open_log(settings: Settings, consent: Consent) -> tuple[LogReader, Store]:
    """Reader and store of the log; nothing is opened yet. Raises `ConfigurationError` if none is set."""
    url = _url(settings)
    if url.path is None:
        return _open_kafka(settings, KafkaOptions.of(settings, url), consent)
    from thorn_worker.log.journal import Journal
    from thorn_worker.log.leases import member_name
    from thorn_worker.log.sqlite import SqliteReader
    from thorn_worker.store.sqlite import SqliteStore

    journal = Journal(url.path, settings.partitions, member_name(settings.worker_id))
    return SqliteReader(journal), SqliteStore(journal)


def _open_kafka(settings: Settings, options: KafkaOptions, consent: Consent) -> tuple[LogReader, Store]:
    from thorn_worker.log.kafka import KafkaReader, Membership
    from thorn_worker.store.kafka import KafkaStore

    reader = KafkaReader(options, Membership(settings.worker_id, settings.partitions), consent)
    return reader, KafkaStore(options, reader, settings.state_dir)


def open_inspector(settings: Settings) -> Inspector:
    """A read-only view of the log.

    Raises `ConfigurationError` if none is set, `LogUnusable` if it can't be opened.
    """
    url = _url(settings)
    if url.path is None:
        from thorn_worker.log.kafka_inspector import KafkaInspector

        return KafkaInspector(KafkaOptions.of(settings, url))
    from thorn_worker.log.sqlite_inspector import SqliteInspector

    return SqliteInspector(url.path)


def _url(settings: Settings) -> LogUrl:
    if settings.log is None:
        raise ConfigurationError(
            "no log is configured: set THORN_LOG, for example sqlite:///thorn.db or kafka://k1:9092,k2:9092/thorn"
        )
    return parse_log_url(settings.log)
