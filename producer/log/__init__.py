"""The writing half of the logs. `open_writer` picks the one that the settings name."""

from producer.config import Settings, parse_log_url
from producer.errors import DispatcherError
from producer.log.buffer import BufferLimits
from producer.log.contract import LogWriter


def open_writer(settings: Settings) -> LogWriter:
    """The writer for ``settings.log``; nothing is opened before the first append.

    Raises `DispatcherError`.
    """
    if settings.log is None:
        raise DispatcherError("no log is set: set THORN_LOG, e.g. sqlite:///thorn.db")
    url = parse_log_url(settings.log)
    limits = BufferLimits(
        max_buffered_bytes=settings.max_buffered_bytes,
        max_block_s=settings.max_block_s,
        linger_s=settings.linger_s,
    )
    if url.path is None:
        from producer.log.kafka import KafkaWriter
        from producer.log.kafka_options import KafkaOptions

        return KafkaWriter(KafkaOptions.of(settings, url), limits)
    from producer.log.sqlite import SqliteOptions, SqliteWriter

    options = SqliteOptions(
        path=url.path, partitions=settings.partitions, max_log_bytes=settings.max_log_bytes
    )
    return SqliteWriter(options, limits)
