"""What fails is tried again when it is due, over any restart, or becomes a dead letter that says why."""

import time
from pathlib import Path
from typing import Any

import pytest

from tests.support.rude import refused_port
from tests.support.sink import RecordingSink, Rule
from tests.support.system import System
from tests.support.system_log import SystemLog
from tests.support.waiting import wait_for

SUB = "5a0e8f6e-31a7-4b37-9d7b-6f1b6c2a9d01"

pytestmark = pytest.mark.e2e


def to(sink: RecordingSink, **fields: Any) -> dict[str, object]:
    """One subscription at the sink's first address."""
    return {"order.*": {"url": sink.url(), "id": SUB, **fields}}


def test_retries_survive_a_kill_and_a_restart(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> None:
    with System(tmp_path, sink, log, subscribers=to(sink), retry_schedule=["2s", "2s", "2s"]) as system:
        # Given deliveries that failed once and wait in the store
        sink.set_rules([Rule(statuses=(500,))])
        worker = system.worker()
        owed = system.send(20)
        wait_for(lambda: len(system.standing().pending) == 20, what="twenty rows in the store")

        # When the worker is killed, the receiver mends, and a worker starts
        worker.kill()
        assert system.account().pending == set(owed)
        sink.set_rules([])
        worker.start()

        # Then each arrives, once, as its second attempt or a later one
        account = system.settle(20)
        assert (account.delivered, account.repeats, account.lost) == (20, 0, [])
        assert all(request.attempt >= 2 for request in sink.requests() if request.status == 200)


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_never_undercut(
    tmp_path: Path, sink: RecordingSink, log: SystemLog, status: int
) -> None:
    with System(tmp_path, sink, log, subscribers=to(sink), retry_schedule=["0.1s", "0.1s"]) as system:
        # Given a receiver that asks for two seconds
        sink.set_rules([Rule(statuses=(status, 200), headers=(("Retry-After", "2"),))])
        system.worker()

        # When deliveries come
        owed = system.send(5)
        sink.wait_for_ids(owed)

        # Then none is tried again any earlier, though the schedule says so
        for one in owed:
            first, second = [request.at for request in sink.requests() if request.id == one]
            assert 2.0 <= second - first < 4.0


def test_gone_disables_and_an_operator_brings_it_back(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with System(tmp_path, sink, log, subscribers=to(sink)) as system:
        # Given a subscriber that answers 410, and deliveries after it
        sink.set_rules([Rule(statuses=(410,))])
        worker = system.worker()
        (gone,) = system.send(1)
        wait_for(lambda: gone in system.standing().dead, what="a dead letter")
        later = system.send(3)
        wait_for(lambda: len(system.standing().dead) == 4, what="dead letters of the later ones")
        dead = system.standing().dead
        assert dead == {gone: "gone", **dict.fromkeys(later, "disabled")}
        assert len(sink.requests()) == 1
        (endpoint,) = system.ok("endpoints", "list", "--json").rows()
        assert (endpoint["id"], endpoint["state"], endpoint["reason"]) == (SUB, "disabled", "gone")

        # When that stays so over a restart
        assert worker.stop() == 0
        worker.start()
        (after,) = system.send(1)
        wait_for(
            lambda: system.standing().dead.get(after) == "disabled", what="a dead letter after the restart"
        )

        # And the operator enables it and replays what died
        sink.set_rules([])
        system.ok("endpoints", "enable", SUB)
        system.ok("dead", "replay", "--subscription", SUB, "--yes")

        # Then all arrive under the same delivery ids, and the letters are gone
        sink.wait_for_ids([gone, *later, after])
        assert system.ok("dead", "list", "--json").rows() == []
        account = system.settle()
        assert (account.delivered, account.repeats, account.dead) == (5, 0, {})


def test_an_exhausted_delivery_tells_its_history(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> None:
    with System(tmp_path, sink, log, subscribers=to(sink), retry_schedule=["0.1s", "0.1s"]) as system:
        # Given a receiver that never answers well; when the schedule has been spent
        sink.set_rules([Rule(statuses=(500, 302, 404), body="no such shop")])
        worker = system.worker()
        (one,) = system.send(1)
        wait_for(lambda: one in system.standing().dead, what="a dead letter")

        # Then the letter names every attempt, and so do metric and log line
        (row,) = system.ok("dead", "show", one, "--json").rows()
        assert (row["reason"], row["attempts"], row["status"], row["phase"]) == ("exhausted", 3, 404, "body")
        assert [attempt["status"] for attempt in row["history"]] == [500, 302, 404]
        assert [attempt["outcome"] for attempt in row["history"]] == ["failed"] * 3
        assert [request.attempt for request in sink.requests()] == [1, 2, 3]
        assert worker.metric("thorn_dead_letters_total", "exhausted") == 1
        assert one in worker.said()


def test_what_expires_is_not_sent_any_more(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> None:
    with System(tmp_path, sink, log, subscribers=to(sink), retry_schedule=["5s"]) as system:
        # Given deliveries that are worth something for a second only, and nobody to deliver them
        owed = system.send(3, options={"expires_in_s": 1.0})
        time.sleep(1.1)  # the age of a delivery is what is tried here

        # When a worker comes
        worker = system.worker()
        fresh = system.send(1, options={"expires_in_s": 1.0})

        # Then the old ones become dead letters without a request, and a fresh one is delivered
        sink.wait_for_ids(fresh)
        account = system.settle()
        assert account.dead == dict.fromkeys(owed, "expired")
        assert [request.id for request in sink.requests()] == fresh
        assert worker.metric("thorn_dead_letters_total", "expired") == 3


def test_a_retry_that_would_come_after_the_expiry_is_not_waited_for(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with System(tmp_path, sink, log, subscribers=to(sink), retry_schedule=["60s"]) as system:
        sink.set_rules([Rule(statuses=(500,))])
        system.worker()
        (one,) = system.send(1, options={"expires_in_s": 30.0})
        wait_for(lambda: system.standing().dead.get(one) == "expired", what="a dead letter at once")


def test_a_forbidden_address_gets_no_request(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> None:
    # Given a literal address that the guard refuses, one that it never allows, and one that may be called
    subscribers = {
        "order.*": [sink.url(), f"http://127.0.0.2:{sink.port}/hook", "http://169.254.169.254/latest"]
    }
    networks = ["127.0.0.1/32", "169.254.0.0/16"]
    with System(tmp_path, sink, log, subscribers=subscribers, allow_networks=networks) as system:
        system.worker()
        owed = system.send(1)

        # Then only the last one is called, the others are dead letters at once
        account = system.settle()
        assert (account.owed, account.delivered) == (3, 1)
        assert sorted(account.dead.values()) == ["blocked", "blocked"]
        assert {request.address for request in sink.requests()} == {"127.0.0.1"}
        assert set(owed) == {*account.dead, *sink.delivered()}
        (row,) = system.ok("dead", "list", "--json", "--host", "http://169.254.169.254").rows()
        assert row["reason"] == "blocked"


def test_a_refused_connection_is_unreachable_and_tried_again(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with refused_port() as port:
        url = f"http://127.0.0.1:{port}/hook"
        with System(tmp_path, sink, log, subscribers={"order.*": url}, retry_schedule=["30s"]) as system:
            worker = system.worker()
            (one,) = system.send(1)
            wait_for(lambda: one in system.standing().pending, what="a row in the store")
            (row,) = system.ok("pending", "show", one, "--json").rows()
            assert (row["reason"], row["phase"], row["status"]) == ("unreachable", "connect", None)
            assert worker.metric("thorn_attempts_total", "unreachable") == 1
