"""``pending``, ``dead`` and ``endpoints`` on a real log: what they list, and what they append.

The same for every log. A fixture `run` gives a command line on a log of one partition, which has five
records, no commit, and `rows_on` in its store.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from uuid import NAMESPACE_URL, uuid5

import pytest

from producer.model import Delivery, Life
from tests.support.waiting import wait_for
from thorn_worker.outcome import Attempt, Death, Outcome, Phase
from thorn_worker.store.contract import DeadLetter, EndpointState, Pending

ONE = "https://one.example:443"
TWO = "https://two.example:443"
SUB = str(uuid5(NAMESPACE_URL, "sub"))

Run = Callable[..., tuple[int, str, str]]


def delivery(number: int, host: str) -> Delivery:
    return Delivery(
        id=str(uuid5(NAMESPACE_URL, f"d-{number}")),
        event="order.created",
        event_id=f"e-{number}",
        at=0.0,
        sub=SUB,
        url=f"{host}/in?token=hidden",
        type="application/json",
        body=b'{"id": 7}',
        attempts=2,
    )


FAILED = Attempt(
    number=2,
    started_at=60.0,
    duration_s=0.25,
    outcome=Outcome.FAILED,
    phase=Phase.BODY,
    status=500,
    error="the receiver answered 500",
    excerpt=b"oops",
)


def pending_on(topic_id: str, number: int, host: str) -> Pending:
    return Pending(
        life=Life(topic_id, 0, number, 0),
        host=host,
        delivery=delivery(number, host),
        appended_at=50.0,
        due_at=4_000_000_000.0,
        reason="failed",
        history=(FAILED,),
    )


def letter_on(topic_id: str, number: int, host: str, reason: Death, died_at: float) -> DeadLetter:
    return DeadLetter(
        life=Life(topic_id, 0, number, 0),
        host=host,
        delivery=delivery(number, host),
        appended_at=50.0,
        died_at=died_at,
        reason=reason,
        history=(FAILED,),
    )


@dataclass(frozen=True, slots=True)
class Rows:
    """What a store holds in partition 0."""

    pendings: tuple[Pending, ...]
    letters: tuple[DeadLetter, ...]
    endpoint: EndpointState


def rows_on(topic_id: str) -> Rows:
    """Two waiting rows, three letters (one of them an unreadable record), one disabled endpoint."""
    garbage = DeadLetter(
        life=Life(topic_id, 0, 4, 0),
        host=ONE,
        delivery=None,
        appended_at=50.0,
        died_at=300.0,
        reason=Death.MALFORMED,
        raw=b"\xff",
        raw_bytes=1,
        raw_sha256="a8",
        error="not msgpack",
    )
    return Rows(
        pendings=(pending_on(topic_id, 0, ONE), pending_on(topic_id, 1, TWO)),
        letters=(
            letter_on(topic_id, 2, ONE, Death.EXHAUSTED, died_at=100.0),
            letter_on(topic_id, 3, TWO, Death.EXPIRED, died_at=200.0),
            garbage,
        ),
        endpoint=EndpointState(
            sub=SUB, host=ONE, disabled_at=90.0, reason="gone", failing_since=60.0, failures=3
        ),
    )


def ids(rows: str) -> list[str]:
    return [row["id"] for row in json.loads(rows)]


class CliLists:
    """Subclasses give `run`: (exit code, stdout, stderr) of a command line."""

    def test_pending_rows_have_the_promised_fields_and_no_query(self, run: Run) -> None:
        code, out, _ = run("pending", "list", "--json")
        first, second = json.loads(out)
        assert code == 0
        assert first["id"] == delivery(0, ONE).id
        assert {
            name: first[name] for name in ("event", "subscription", "host", "url", "attempts", "reason")
        } == {
            "event": "order.created",
            "subscription": SUB,
            "host": ONE,
            "url": f"{ONE}/in",
            "attempts": 2,
            "reason": "failed",
        }
        assert (second["host"], second["partition"], second["offset"], second["index"]) == (TWO, 0, 1, 0)

    def test_show_adds_status_phase_error_history_and_the_body_only_on_request(self, run: Run) -> None:
        wanted = delivery(0, ONE).id
        (without,) = json.loads(run("pending", "show", wanted, "--json")[1])
        assert (without["status"], without["phase"], without["error"]) == (
            500,
            "body",
            "the receiver answered 500",
        )
        assert [(a["number"], a["outcome"], a["excerpt"]) for a in without["history"]] == [
            (2, "failed", "oops")
        ]
        assert "body" not in without

        (with_body,) = json.loads(run("pending", "show", wanted, "--json", "--body")[1])
        assert with_body["body"] == '{"id": 7}'

    def test_tables_are_for_people(self, run: Run) -> None:
        code, out, _ = run("pending", "list")
        assert code == 0
        assert out.splitlines()[0].split() == ["id", "event", "host", "attempts", "reason", "due_at"]
        assert "2096-10-02T07:06:40Z" in out

        shown = run("dead", "show", delivery(2, ONE).id)[1]
        assert "reason        exhausted\n" in shown
        assert "  number=2 started_at=1970-01-01T00:01:00Z outcome=failed status=500 phase=body" in shown

    def test_letters_are_found_by_every_option_and_by_all_of_them_together(self, run: Run) -> None:
        two, three = delivery(2, ONE).id, delivery(3, TWO).id
        assert ids(run("dead", "list", "--json")[1]) == [two, three, "raw/0.4"]
        assert ids(run("dead", "list", "--json", "--host", "https://two.example")[1]) == [three]
        assert ids(run("dead", "list", "--json", "--reason", "exhausted", "--reason", "expired")[1]) == [
            two,
            three,
        ]
        assert ids(
            run("dead", "list", "--json", "--subscription", SUB, "--until", "1970-01-01T00:02")[1]
        ) == [two]
        assert ids(run("dead", "list", "--json", "--since", "1970-01-01T00:04")[1]) == ["raw/0.4"]
        assert ids(run("dead", "list", "--json", "--host", ONE, "--reason", "expired")[1]) == []
        assert ids(run("dead", "list", "--json", "--limit", "1")[1]) == [two]

    def test_an_unreadable_record_is_shown_by_the_id_that_the_list_prints(self, run: Run) -> None:
        (row,) = json.loads(run("dead", "show", "raw/0.4", "--json", "--body")[1])
        assert (row["reason"], row["error"], row["raw_bytes"]) == ("malformed", "not msgpack", 1)
        assert row["body_base64"] == "/w=="

    def test_an_unknown_id_is_a_failure(self, run: Run) -> None:
        for command in (("pending", "show"), ("dead", "show"), ("dead", "replay"), ("pending", "cancel")):
            code, _, err = run(*command, "nobody")
            assert code == 1, command
            assert "nobody" in err

    def test_endpoints_are_one_row_per_subscription(self, run: Run) -> None:
        (row,) = json.loads(run("endpoints", "list", "--json")[1])
        assert (row["id"], row["host"], row["state"], row["reason"]) == (SUB, ONE, "disabled", "gone")
        assert (row["disabled_at"], row["failing_since_at"], row["failures"], row["partitions"]) == (
            90.0,
            60.0,
            3,
            [0],
        )
        assert run("endpoints", "show", SUB)[0] == 0
        assert run("endpoints", "show", str(uuid5(NAMESPACE_URL, "other")))[0] == 1

    def test_a_command_says_where_it_stands_and_how_far_the_reader_is(self, run: Run) -> None:
        # Given five records that no worker has read, when a delivery is to be tried now
        code, out, err = run("pending", "retry", delivery(0, ONE).id)

        # Then the command is the sixth record
        assert code == 0
        assert out == "retry ordered for 1 deliveries\n"
        assert err == "appended to 1 partition, the furthest reader is 6 records behind\n"

    def test_waiting_for_a_command_without_a_worker_ends_in_a_failure(self, run: Run) -> None:
        code, _, err = run("endpoints", "enable", SUB, "--wait", "--timeout", "0")
        assert code == 1
        assert "not applied within 0 s on 1 of 1 partition: what was ordered stays in the log" in err

    def test_ctrl_c_ends_a_waiting_command_quietly(self, run: Run, tmp_path: Path) -> None:
        # Given a command that waits, in a process of its own, for a worker that does not come
        told = tmp_path / "told"
        with told.open("wb") as stderr:
            process = subprocess.Popen(
                [sys.executable, "-m", "thorn_worker", "endpoints", "enable", SUB, "--wait"],
                env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
                stderr=stderr,
                # A shell's background jobs inherit an ignored SIGINT.
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
            )
        try:
            wait_for(lambda: "behind" in told.read_text(), 30, what="the command's position")

            # When the user has enough
            process.send_signal(signal.SIGINT)

            # Then it ends as shells expect, without a word
            assert process.wait(30) == 130
            assert told.read_text().strip().splitlines()[-1] == (
                "appended to 1 partition, the furthest reader is 6 records behind"
            )
        finally:
            process.kill()
            process.wait()

    def test_a_dry_run_counts_and_changes_nothing(self, run: Run) -> None:
        assert "2 waiting deliveries match" in run("pending", "cancel", "--subscription", SUB, "--dry-run")[1]
        out = run("dead", "replay", "--subscription", SUB, "--dry-run")[1]
        assert {tuple(line.split()) for line in out.splitlines()[1:]} == {
            ("exhausted", ONE, "1"),
            ("expired", TWO, "1"),
        }
        assert len(ids(run("dead", "list", "--json")[1])) == 3

    def test_a_replayed_letter_leaves_the_list_and_becomes_a_record(self, run: Run) -> None:
        code, out, _ = run("dead", "replay", "--reason", "exhausted", "--reason", "malformed", "--yes")
        assert code == 0
        assert out.endswith("1 of 1 replayed\n")
        assert ids(run("dead", "list", "--json")[1]) == [delivery(3, TWO).id, "raw/0.4"]

    def test_replay_without_a_terminal_to_ask_at_wants_yes(
        self, run: Run, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("sys.stdin", None)
        code, _, err = run("dead", "replay", "--reason", "exhausted")
        assert code == 2
        assert "give --yes" in err
        assert len(ids(run("dead", "list", "--json")[1])) == 3

    def test_replay_stops_at_its_limit(self, run: Run) -> None:
        assert run("dead", "replay", "--until", "1h", "--limit", "1", "--yes")[1].endswith(
            "1 of 1 replayed\n"
        )
        assert len(ids(run("dead", "list", "--json")[1])) == 2

    def test_doctor_says_that_nobody_works_on_the_backlog(self, run: Run) -> None:
        code, out, _ = run("doctor", "--json")
        findings = {row["check"]: row for row in json.loads(out)}
        assert code == 0
        assert "1 partitions, 5 records" in findings["log"]["finding"]
        assert findings["workers"]["state"] == "warn"
