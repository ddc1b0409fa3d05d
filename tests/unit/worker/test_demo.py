"""The demo's ledger, its plan, and its files."""

import sys
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest

from producer.errors import ConfigurationError
from thorn_worker.demo import cast, records
from thorn_worker.demo.ledger import Books, Owed, Request, balance, percentile, rate
from thorn_worker.demo.receivers import sockets
from thorn_worker.demo.show import span, verdict


def taken(delivery: str, at: float = 10.0, attempt: int = 1) -> Request:
    return Request(at, delivery, attempt, 200, True)


def refused(delivery: str, status: int, attempt: int = 1) -> Request:
    return Request(9.0, delivery, attempt, status, True)


def books(*owed: str, requests: tuple[Request, ...] = ()) -> Books:
    return Books(
        sent=1,
        acknowledged=1,
        owed={one: Owed(one, "fast", 9.5) for one in owed},
        requests=requests,
        dead={},
    )


def test_what_everybody_wrote_down_balances() -> None:
    # Given one that arrived, one dead, one waiting, one cancelled, and one that came at its third attempt
    ledger = balance(
        replace(
            books(
                *"abcde",
                requests=(taken("a"), refused("b", 410), refused("e", 500), taken("e", attempt=3)),
            ),
            dead={"b": "gone"},
            pending={"c"},
            cancelled={"d"},
        )
    )

    # Then each is counted once, and nothing is lost
    assert (ledger.owed, ledger.delivered, ledger.retried) == (5, 2, 1)
    assert (ledger.dead, ledger.pending, ledger.cancelled) == ({"gone": 1}, 1, 1)
    assert ledger.lost == ()
    assert ledger.balances


def test_an_id_that_is_nowhere_is_lost_however_well_the_sums_agree() -> None:
    # Given two owed deliveries, of which one arrived twice and the other never
    ledger = balance(books("a", "b", requests=(taken("a"), taken("a"))))

    # Then two requests for two deliveries do not hide the loss
    assert ledger.lost == ("b",)
    assert ledger.repeated == 1
    assert not ledger.balances
    assert "b" in verdict(ledger, "/there")
    assert "/there" in verdict(ledger, "/there")


@pytest.mark.parametrize("status", [0, 302, 410, 500])
def test_a_request_without_a_2xx_answer_is_no_delivery(status: int) -> None:
    assert balance(books("a", requests=(refused("a", status),))).lost == ("a",)


def test_a_delivery_that_arrived_is_not_dead_too() -> None:
    # Given a delivery whose answer never reached the worker, which gave it up
    ledger = balance(replace(books("a", requests=(taken("a"),)), dead={"a": "exhausted"}, pending={"a"}))

    # Then it is delivered, and nothing else
    assert (ledger.delivered, ledger.dead, ledger.pending) == (1, {}, 0)


def test_only_acknowledged_deliveries_are_owed() -> None:
    ledger = balance(books("a", requests=(taken("a"), taken("stranger"))))
    assert (ledger.owed, ledger.delivered, ledger.repeated) == (1, 1, 0)


def test_a_wrong_signature_spoils_the_result() -> None:
    ledger = balance(books("a", requests=(replace(taken("a"), signed=False),)))
    assert ledger.lost == ()
    assert ledger.invalid_signatures == 1
    assert not ledger.balances
    assert "SIGNATURE" in verdict(ledger, "/there")


def test_each_kind_of_receiver_has_its_line() -> None:
    given = replace(
        books("a", requests=(taken("a", at=10.0),)),
        owed={"a": Owed("a", "fast", 9.5), "b": Owed("b", "gone", 9.5), "c": Owed("c", "gone", 9.5)},
        dead={"b": "gone"},
    )
    fast, gone = balance(given).lines
    assert (fast.kind, fast.owed, fast.delivered, fast.lost, fast.p50_s) == ("fast", 1, 1, 0, 0.5)
    assert (gone.kind, gone.owed, gone.dead, gone.lost, gone.p50_s) == ("gone", 2, {"gone": 1}, 1, None)


def test_age_counts_until_the_first_arrival() -> None:
    ledger = balance(books("a", requests=(taken("a", at=10.0), taken("a", at=99.0))))
    assert ledger.p50_s == ledger.p99_s == 0.5


def test_percentiles() -> None:
    assert percentile([5.0, 1.0, 3.0, 2.0], 50) == 2.0
    assert percentile([5.0, 1.0, 3.0, 2.0], 99) == 5.0
    assert percentile([], 50) is None


def test_the_rate_leaves_out_the_last_few() -> None:
    arrivals = [number * 0.01 for number in range(198)] + [60.0, 60.0]
    assert rate(arrivals) == pytest.approx(100.0)
    assert rate([1.0]) == 0.0
    assert rate([1.0, 1.0, 1.0]) == 0.0


def test_spans_read_well() -> None:
    assert [span(None), span(0.0124), span(7.25)] == ["-", "12 ms", "7.2 s"]


@pytest.mark.parametrize("events", [100, 300, 3000, 20_000])
def test_bad_receivers_get_little_and_early(events: int) -> None:
    names = [cast.event_name(number, events) for number in range(events)]
    assert 1 <= names.count(cast.RARE) <= 60
    assert cast.RARE not in names[events // 2 :]


def test_the_plan_counts_deliveries() -> None:
    # 60 rare events go to 3 receivers each, the others to 2 fast ones and to 1 slow or flaky one on average.
    assert cast.planned(cast.cast(), 3000) == 9002


def test_lines_read_as_they_were_written(tmp_path: Path) -> None:
    # Given a file with all kinds of lines
    requests = [taken("a"), replace(refused("b", 0, 4), signed=False)]
    events: list[records.Sent | records.Acknowledged] = [
        records.Sent("e", 1.5),
        records.Acknowledged("e", ("a", "b")),
        records.Acknowledged("f", ()),
    ]
    recorder = records.Recorder(tmp_path / "requests")
    recorder.write(map(records.request_line, requests))
    recorder.close()
    recorder = records.Recorder(tmp_path / "events")
    recorder.write(map(records.event_line, events))
    recorder.close()

    # Then they are the same values
    assert records.Tail(tmp_path / "requests", records.read_request).read() == requests
    assert records.Tail(tmp_path / "events", records.read_event).read() == events


def test_a_line_is_read_once_and_only_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "growing"
    tail = records.Tail(file, str)
    assert tail.read() == []
    file.write_text("one\ntw")
    assert tail.read() == ["one"]
    file.write_text("one\ntwo\n")
    assert tail.read() == ["two"]
    assert tail.read() == []


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
def test_receivers_share_a_port_on_many_addresses() -> None:
    with ExitStack() as stack:
        found = [stack.enter_context(one).getsockname() for one in sockets(3)]
        assert [address for address, _ in found] == ["127.0.0.1", "127.0.0.2", "127.0.0.3"]
        assert len({port for _, port in found}) == 1


def test_receivers_share_an_address_where_there_is_only_one() -> None:
    # Given addresses that no machine has (RFC 5737, for documentation)
    with ExitStack() as stack:
        found = [stack.enter_context(one).getsockname() for one in sockets(3, "192.0.2")]
        assert {address for address, _ in found} == {"127.0.0.1"}
        assert len({port for _, port in found}) == 3


def test_another_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=str(tmp_path)):
        records.read_books(tmp_path)
