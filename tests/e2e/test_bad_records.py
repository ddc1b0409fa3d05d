"""Nothing that a record holds stops its partition: it is counted and kept, and the next one is delivered."""

from pathlib import Path

import msgpack
import pytest

from producer.model import Delivery
from producer.wire import MAX_RECORD_BYTES, encode_batch
from tests.support.records import append_raw
from tests.support.sink import RecordingSink
from tests.support.system import System
from tests.support.system_log import SystemLog
from tests.support.waiting import wait_for

SUB = "33333333-3333-4333-8333-333333333333"

pytestmark = pytest.mark.e2e


def delivery(name: str, url: str, body: bytes = b"{}") -> Delivery:
    return Delivery(
        id=name,
        event="order.created",
        event_id="e",
        at=1.0,
        sub=SUB,
        url=url,
        type="application/json",
        body=body,
    )


def packed(value: object) -> bytes:
    data: bytes = msgpack.packb(value)
    return data


def test_a_partition_goes_on_behind_garbage(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> None:
    with System(tmp_path, sink, log, subscribers={"order.*": sink.url()}) as system:
        good = packed({"v": 1, "bodies": [b"{}"], "deliveries": []})
        half = encode_batch([delivery("half", sink.url())])
        strange = encode_batch([delivery("fine", sink.url()), delivery("odd", "ftp://example.com/hook")])
        # Given one partition full of garbage, with a good record behind each piece of it
        garbage = {
            "not msgpack": b"\xc1 garbage",
            "cut short": half[:-7],
            "not a map": packed([1, 2, 3]),
            "no version": packed({"bodies": [], "deliveries": []}),
            "body out of range": packed({"v": 1, "bodies": [], "deliveries": [{"id": "x", "body": 3}]}),
            "900 KB of it": b"\xc1" * MAX_RECORD_BYTES,
        }
        values: list[bytes] = []
        for number, value in enumerate(garbage.values()):
            values += [value, encode_batch([delivery(f"behind-{number}", sink.url())])]
        values += [
            packed({"v": 2, "bodies": [], "deliveries": []}),
            b"",
            good,
            encode_batch([delivery("twin", sink.url()), delivery("twin", sink.url())]),
            encode_batch([delivery("big", sink.url(), b"x" * (MAX_RECORD_BYTES - 1000))]),
            strange,
            encode_batch([delivery("last", sink.url())]),
        ]
        append_raw(str(system.settings["log"]), values, key="https://garbage.example:443", partition=3)

        # When a worker reads it
        worker = system.worker()

        # Then every good one is delivered, and duplicates count by position, not by id
        good_ids = [*(f"behind-{number}" for number in range(len(garbage))), "twin", "big", "fine", "last"]
        sink.wait_for_ids(good_ids)
        assert system.settle().lost == []
        assert sink.ids() == {**dict.fromkeys(good_ids, 1), "twin": 2}

        # And the rest are dead letters, told by metric and list, their bytes kept
        assert worker.metric("thorn_dead_letters_total", "malformed") == len(garbage)
        assert worker.metric("thorn_dead_letters_total", "unsupported") == 1
        assert worker.metric("thorn_dead_letters_total", "blocked") == 1
        assert worker.metric("thorn_records_read_total") == len(values)
        rows = system.ok("dead", "list", "--json").rows()
        assert sorted(row["reason"] for row in rows) == [
            "blocked",
            *["malformed"] * len(garbage),
            "unsupported",
        ]
        (cut,) = [row for row in rows if row["partition"] == 3 and row["offset"] == 2]
        (shown,) = system.ok("dead", "show", cut["id"], "--json", "--body").rows()
        assert shown["raw_bytes"] == len(half) - 7
        big = next(row for row in rows if row["offset"] == 10)
        (shown,) = system.ok("dead", "show", big["id"], "--json").rows()
        assert shown["raw_bytes"] == MAX_RECORD_BYTES

        # And nothing of it is read again after a restart
        assert worker.stop() == 0
        worker.start()
        wait_for(lambda: worker.owned() == 12, what="the worker to own everything")
        sink.wait_for_ids(system.send(1))
        assert worker.metric("thorn_records_read_total") == 1
        assert sink.ids()["twin"] == 2
