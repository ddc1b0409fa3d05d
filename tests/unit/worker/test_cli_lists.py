"""Lists and commands on an SQLite log."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import gevent
import pytest

from producer import Producer
from producer.config import Settings
from tests.contract.cli_lists import ONE, SUB, CliLists, Run, rows_on
from tests.support.logging import logging_restored
from thorn_worker.cli.app import execute
from thorn_worker.log.contract import Assignment, Consent, LogInfo
from thorn_worker.log.open import open_log
from thorn_worker.store.contract import Store


class Owner:
    """A worker's log and store, just long enough to put rows there."""

    def __init__(self) -> None:
        self.mine: list[Assignment] = []

    def assigned(self, assignments: Sequence[Assignment]) -> None:
        self.mine += assignments

    def revoked(self, assignments: Sequence[Assignment]) -> None:
        pass

    def lost(self, assignments: Sequence[Assignment]) -> None:
        raise AssertionError(assignments)

    def fill(self, settings: Settings, write: Callable[[Store, int, LogInfo], None]) -> None:
        """Own the log, let `write` write to partition 0, wait until it is durable, and leave."""
        reader, store = open_log(settings, Consent())
        info = reader.open()
        try:
            reader.join(self)
            with gevent.Timeout(10):
                while not self.mine:
                    reader.poll(0.05)
            (zero,) = [one for one in self.mine if one.partition == 0]
            store.restore(0, zero.epoch, zero.committed)
            write(store, zero.epoch, info)
            assert store.release(0, zero.epoch)
        finally:
            reader.close()


def write_rows(store: Store, epoch: int, info: LogInfo) -> None:
    def nothing() -> None:
        """`release` waits for all writes."""

    rows = rows_on(info.topic_id)
    for pending in rows.pendings:
        store.put(epoch, pending, nothing)
    for letter in rows.letters:
        store.bury(epoch, letter, nothing)
    store.save_endpoint(0, epoch, rows.endpoint, nothing)


class TestOnSqlite(CliLists):
    @pytest.fixture
    def run(
        self, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
    ) -> Iterator[Run]:
        """Runs a command on a log of one partition with `write_rows`: (exit code, stdout, stderr)."""
        url = f"sqlite:///{tmp_path / 'thorn.db'}"
        subscribers = {"*": {"url": f"{ONE}/in", "id": SUB}}
        with Producer(log=url, partitions=1, subscribers=subscribers) as service:
            for number in range(5):
                service.send("order.created", {"id": number})
        Owner().fill(Settings(log=url, partitions=1), write_rows)
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("THORN_LOG", url)
        monkeypatch.setenv("THORN_PARTITIONS", "1")
        capsys.readouterr()

        def command(*arguments: str) -> tuple[int, str, str]:
            code = execute(arguments)
            return code, *capsys.readouterr()

        with logging_restored():
            yield command
