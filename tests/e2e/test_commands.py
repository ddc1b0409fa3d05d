"""What an operator orders at the command line, and what becomes of it."""

from pathlib import Path

import pytest

from tests.support.sink import RecordingSink, Rule
from tests.support.system import System
from tests.support.system_log import SystemLog
from tests.support.waiting import wait_for

FIRST = "11111111-1111-4111-8111-111111111111"
SECOND = "22222222-2222-4222-8222-222222222222"

#: What a row of a list has at least.
FIELDS = {"id", "event", "subscription", "host", "url", "attempts", "reason"}

pytestmark = pytest.mark.e2e


def system_of(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> System:
    """Two subscriptions at two hosts that fail; the next attempt is far away."""
    sink.set_rules([Rule(statuses=(500,))])
    subscribers = {
        "order.*": [
            {"url": sink.url(0, "/hook?token=hidden"), "id": FIRST},
            {"url": sink.url(1), "id": SECOND},
        ]
    }
    return System(tmp_path, sink, log, subscribers=subscribers, retry_schedule=["1h", "1h"])


def test_pending_deliveries_are_listed_retried_and_cancelled(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with system_of(tmp_path, sink, log) as system:
        # Given ten deliveries that wait
        system.worker()
        owed = system.send(5)
        wait_for(lambda: len(system.standing().pending) == 10, what="ten rows in the store")
        rows = system.ok("pending", "list", "--json").rows()
        assert {row["id"] for row in rows} == set(owed)
        assert all(row.keys() >= FIELDS for row in rows)
        assert {row["reason"] for row in rows} == {"failed"}
        assert "hidden" not in system.ok("pending", "list").out + system.ok("pending", "list", "--json").out
        by_sub = {sub: [row["id"] for row in rows if row["subscription"] == sub] for sub in (FIRST, SECOND)}

        # When one is shown
        (row,) = system.ok("pending", "show", owed[0], "--json").rows()
        assert (row["status"], row["phase"], len(row["history"])) == (500, "body", 1)

        # When one is retried by id, then it alone is delivered
        sink.set_rules([])
        chosen = by_sub[FIRST][0]
        system.ok("pending", "retry", chosen, "--wait")
        sink.wait_for_ids([chosen])
        assert set(sink.delivered()) == {chosen}

        # When one is cancelled by id, then it is never sent again and leaves no letter
        dropped = by_sub[SECOND][0]
        system.ok("pending", "cancel", dropped, "--wait")
        assert dropped not in system.standing().pending

        # When the others are retried by subscription and by host, then all of them come
        system.ok("pending", "retry", "--subscription", FIRST, "--wait")
        sink.wait_for_ids(by_sub[FIRST])
        assert not set(by_sub[SECOND]) & sink.delivered().keys()
        system.ok("pending", "retry", "--host", f"http://127.0.0.2:{sink.port}", "--wait")
        sink.wait_for_ids(by_sub[SECOND][1:])

        system.settle()
        account = system.account(cancelled=[dropped])
        assert (account.delivered, account.repeats, account.lost, account.dead) == (9, 0, [], {})


def test_a_subscription_is_cancelled_wherever_its_deliveries_are(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with system_of(tmp_path, sink, log) as system:
        # Given deliveries of one subscription in the store, in flight, and in a lane behind those
        system.worker(max_in_flight_per_host=2)
        system.send(3)
        wait_for(lambda: len(system.standing().pending) == 6, what="rows in the store")
        sink.set_rules([Rule(address="127.0.0.1", statuses=(500,), delay_s=5.0)])
        came = len(sink.requests())
        owed = system.send(10)
        wait_for(lambda: len(sink.requests()) == came + 12, what="two in flight, and the other host's ten")

        # When they are cancelled, and the receiver mends
        system.ok("pending", "cancel", "--subscription", FIRST, "--wait")
        sink.set_rules([])

        # Then none of them is ever sent again; the other subscription has lost nothing
        assert len(sink.requests()) == came + 12
        assert len(system.standing().pending) == 3
        last = system.send(1)
        sink.wait_for_ids(last)
        system.settle(pending=True)
        cancelled = set(owed) - sink.delivered().keys()
        assert len(cancelled) == 10
        assert {request.id for request in sink.requests()[came + 12 :]} == set(last)


def test_a_disabled_endpoint_gets_dead_letters_and_comes_back(
    tmp_path: Path, sink: RecordingSink, log: SystemLog
) -> None:
    with system_of(tmp_path, sink, log) as system:
        # Given an endpoint that an operator disabled
        sink.set_rules([])
        worker = system.worker()
        system.ok("endpoints", "disable", FIRST, "--wait")

        # When events come, then its deliveries are dead letters without an attempt
        owed = system.send(4)
        account = system.settle()
        assert (account.delivered, set(account.dead.values()), len(account.dead)) == (4, {"disabled"}, 4)
        assert {request.address for request in sink.requests()} == {"127.0.0.2"}
        rows = system.ok("dead", "list", "--json", "--reason", "disabled").rows()
        assert all(row.keys() >= FIELDS for row in rows)
        assert {(row["subscription"], row["reason"], row["attempts"]) for row in rows} == {
            (FIRST, "disabled", 0)
        }
        assert {row["id"] for row in rows} == set(account.dead)
        assert worker.metric("thorn_dead_letters_total", "disabled") == 4

        # When it is enabled and they are counted and replayed, then they arrive
        system.ok("endpoints", "enable", FIRST, "--wait")
        system.ok("dead", "replay", "--reason", "disabled", "--dry-run")
        assert len(system.standing().dead) == 4
        system.ok("dead", "replay", "--reason", "disabled", "--yes")
        sink.wait_for_ids(owed)
        assert system.settle().dead == {}


def test_a_command_waits_for_a_worker(tmp_path: Path, sink: RecordingSink, log: SystemLog) -> None:
    with system_of(tmp_path, sink, log) as system:
        # Given rows and no worker
        worker = system.worker()
        owed = system.send(1)
        wait_for(lambda: len(system.standing().pending) == 2, what="rows in the store")
        assert worker.stop() == 0
        sink.set_rules([])

        # When a command is waited for in vain, then it fails with what happens next
        ran = system.cli("pending", "retry", "--subscription", FIRST, "--wait", "--timeout", "0.3")
        assert ran.code == 1
        assert "takes effect as soon as a worker owns them" in ran.err

        # And it takes effect when a worker comes
        worker.start()
        wait_for(lambda: len(sink.delivered()) == 1, what="the retried delivery")
        assert set(sink.delivered()) < set(owed)
