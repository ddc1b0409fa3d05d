"""The command line: what it refuses and how, its exit codes, how it reads times and prints lists."""

import io
import json
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from producer import errors
from tests.support.logging import logging_restored
from thorn_worker import __version__
from thorn_worker.cli.app import execute, exit_code
from thorn_worker.cli.common import Instant
from thorn_worker.cli.output import print_details, print_json, print_list

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Iterator[Run]:
    """Runs a command line in an empty folder without THORN_ variables: (exit code, stdout, stderr)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("THORN_LOG", raising=False)
    monkeypatch.delenv("THORN_SETTINGS", raising=False)

    def command(*arguments: str) -> tuple[int, str, str]:
        code = execute(arguments)
        return code, *capsys.readouterr()

    with logging_restored():
        yield command


def test_the_version_is_told(run: Run) -> None:
    code, out, _ = run("--version")
    assert (code, out) == (0, f"thorn-worker, version {__version__}\n")


@pytest.mark.parametrize(
    "arguments", [(), ("run",), ("-v",), ("dead", "list"), ("pending", "list", "--json")]
)
def test_without_a_log_one_sentence_and_exit_3(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (3, "")
    assert err.startswith("thorn-worker: no log is configured: set THORN_LOG")
    assert err.count("\n") == 1


def test_a_misspelt_setting_is_refused_with_the_nearest_name(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THORN_LOGS", "sqlite:///x.db")
    code, _, err = run("run")
    assert code == 3
    assert "THORN_LOGS" in err
    assert "did you mean THORN_LOG?" in err


def test_a_settings_file_that_is_not_there_is_refused(run: Run) -> None:
    code, _, err = run("dead", "list", "--settings", "nowhere.toml")
    assert code == 3
    assert "nowhere.toml" in err


@pytest.mark.parametrize(
    "arguments",
    [
        ("nonsense",),
        ("pending", "cancel"),
        ("pending", "retry", "--dry-run"),
        ("dead", "replay"),
        ("dead", "show"),
        ("dead", "list", "--since", "yesterday"),
        ("dead", "list", "--host", "ftp://example.com"),
        ("dead", "list", "--limit", "-1"),
        ("endpoints", "disable"),
        ("endpoints", "disable", "not-a-uuid"),
        ("send",),
        ("send", "order.created", "{not json"),
        ("send", "order.created", "NaN"),
        ("listen", "--status", "200,99"),
        ("listen", "--port", "70000"),
        ("listen", "--delay", "nan"),
        ("send", "order.created", "--timeout", "nan"),
        ("send", "order.created", "--timeout", "inf"),
        ("send", "order.created", '"\udcff"'),
        ("send", "order.created", "[" * 100_000),
        ("dead", "list", "--subscription", "not-a-uuid"),
        ("dead", "list", "--reason", "unreachable"),
        ("pending", "list", "--reason", "exhausted"),
    ],
)
def test_a_usage_error_is_exit_2(run: Run, arguments: tuple[str, ...]) -> None:
    code, out, err = run(*arguments)
    assert (code, out) == (2, "")
    assert "Error: " in err


@pytest.mark.parametrize(
    "error, code",
    [
        (errors.ConfigurationError("x"), 3),
        (errors.SubscriptionError("x"), 3),
        (errors.DispatcherError("x"), 3),
        (errors.LogUnusable("x"), 4),
        (errors.LogUnavailable("x"), 4),
        (errors.LogFull("x"), 1),
        (errors.NotAcknowledged("x"), 1),
        (errors.InvalidEvent("x"), 2),
        (errors.BodyTooLarge("x"), 2),
    ],
)
def test_exit_codes_say_who_must_act(error: errors.ThornError, code: int) -> None:
    assert exit_code(error) == code


def test_send_without_a_log_says_what_to_set(run: Run) -> None:
    code, _, err = run("send", "order.created")
    assert code == 3
    assert "THORN_LOG" in err


def test_send_with_the_disabled_dispatcher_sends_nothing_and_says_so(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("THORN_DISPATCHER", "disabled")
    monkeypatch.setenv("THORN_SUBSCRIBERS", '{"*": "https://example.com/in"}')
    code, out, _ = run("send", "order.created", '{"id": 7}', "--event-id", "e-7", "--json")
    answer = json.loads(out)
    assert code == 0
    assert (answer["event_id"], answer["status"], len(answer["delivery_ids"])) == ("e-7", "disabled", 1)


def test_send_tells_of_a_log_that_cannot_be_used_once(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THORN_SUBSCRIBERS", '{"*": "https://example.com/in"}')
    code, out, err = run("send", "order.created", "--log", "sqlite:///missing/thorn.db")
    assert (code, out) == (4, "")
    assert "missing does not exist" in err
    assert err.count("\n") == 1


def test_send_refuses_an_event_that_breaks_its_rule(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THORN_DISPATCHER", "disabled")
    code, _, err = run("send", "order.created", "--event-id", "not allowed!")
    assert code == 2
    assert err.startswith("thorn-worker: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "text, at",
    [
        ("2h", 92800.0),
        ("90s", 99910.0),
        ("1h30m", 94600.0),
        ("1970-01-02", 86400.0),
        ("1970-01-01T00:01", 60.0),
        ("1970-01-01T01:00:00+01:00", 0.0),
    ],
)
def test_instants_are_spans_back_from_now_or_iso_times(text: str, at: float) -> None:
    assert Instant().at(text, now=100000.0) == at


def test_json_is_one_array_whatever_its_length(capsys: pytest.CaptureFixture[str]) -> None:
    lists: list[list[dict[str, object]]] = [[], [{"id": 1}], [{"id": 1}, {"id": "ü"}]]
    for rows in lists:
        print_json(rows)
        assert json.loads(capsys.readouterr().out) == rows


def test_a_table_stops_at_its_limit_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    print_list(({"id": n} for n in range(5)), ("id",), 3, as_json=False)
    out, err = capsys.readouterr()
    assert out.split() == ["id", "0", "1", "2"]
    assert "--limit 0 shows all" in err


def test_a_table_in_a_pipe_keeps_ids_whole_and_shows_instants_in_utc(
    capsys: pytest.CaptureFixture[str],
) -> None:
    row = {
        "id": "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10",
        "host": "https://" + "a" * 90,
        "due_at": 0.0,
        "reason": None,
    }
    print_list([row], tuple(row), None, as_json=False)
    line = capsys.readouterr().out.splitlines()[1]
    assert line.split() == [row["id"], row["host"], "1970-01-01T00:00:00Z", "-"]


def test_an_empty_table_says_none(capsys: pytest.CaptureFixture[str]) -> None:
    print_list([], ("id",), None, as_json=False)
    assert capsys.readouterr().out == "none\n"


def test_doctor_fails_with_advice_when_the_log_has_no_folder(run: Run) -> None:
    code, out, _ = run("doctor", "--log", "sqlite:///missing/thorn.db", "--json")
    findings = {row["check"]: row for row in json.loads(out)}
    assert code == 1
    assert findings["log"]["state"] == "fail"
    assert "make the folder" in findings["log"]["advice"]
    assert findings["open files"]["state"] == "ok"


def test_doctor_tells_a_refused_address_from_one_that_nobody_listens_on(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given one subscriber that the guard refuses and one, allowed, without a listener
    monkeypatch.setenv("THORN_ALLOW_NETWORKS", "127.0.0.1/32")
    monkeypatch.setenv("THORN_SUBSCRIBERS", '{"a": "http://127.0.0.2:9/", "b": "http://127.0.0.1:9/"}')

    # When the doctor looks
    code, out, _ = run("doctor", "--log", "sqlite:///thorn.db", "--json")

    # Then each failure names its phase
    findings = {row["check"]: row["finding"] for row in json.loads(out)}
    assert code == 1
    assert findings["http://127.0.0.2:9"].startswith("guard: ")
    assert findings["http://127.0.0.1:9"].startswith("connect: ")


def test_the_module_runs_patched_and_without_a_traceback(tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, "-W", "error", "-m", "thorn_worker", "run"],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 3
    assert run.stderr.startswith("thorn-worker: no log is configured")
    assert run.stderr.count("\n") == 1


@pytest.mark.parametrize("data", [b"", b"\xff", b"\xef\xbb\xbf{}", b"[" * 100_000])
def test_send_refuses_what_is_no_json_on_stdin(
    run: Run, monkeypatch: pytest.MonkeyPatch, data: bytes
) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), encoding="latin-1"))
    code, _, err = run("send", "order.created", "-")
    assert code == 2
    assert "what stdin holds" in err


def test_send_ends_soon_after_its_timeout(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    # Given a log that somebody else keeps locked
    monkeypatch.setenv("THORN_SUBSCRIBERS", '{"*": "https://example.com/in"}')
    assert run("send", "order.created", "--log", "sqlite:///thorn.db")[0] == 0
    other = sqlite3.connect(tmp_path / "thorn.db", isolation_level=None)
    try:
        other.execute("BEGIN IMMEDIATE")

        # When an event is sent and its acknowledgement waited for
        began = time.monotonic()
        code, _, err = run("send", "a.b", "--log", "sqlite:///thorn.db", "--wait", "--timeout", "0.2")

        # Then the command gives up: a statement may wait for the lock first, but closing adds no 30 s to it
        assert time.monotonic() - began < 15.0
        assert code == 1
        assert "did not acknowledge" in err
    finally:
        other.close()


def test_what_strangers_wrote_cannot_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    hostile = "\x1b[2J\r\x00\x07\x7f\x9b\n[bold]x"
    harmless = r"\x1b[2J\x0d\x00\x07\x7f\x9b\x0a[bold]x"
    print_details({"error": hostile, "history": [{"excerpt": hostile}]})
    print_list([{"event": hostile}], ("event",), None, as_json=False)
    out = capsys.readouterr().out
    assert out.count(harmless) == 3
    assert out.replace("\n", "").isprintable()

    print_json([{"error": hostile}])
    out = capsys.readouterr().out
    assert out.replace("\n", "").isprintable()
    assert json.loads(out) == [{"error": hostile}]


def test_on_a_narrow_terminal_each_row_is_a_block(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("thorn_worker.cli.output.is_terminal", lambda stream: True)
    monkeypatch.setenv("COLUMNS", "60")
    print_list([{"id": "a" * 80, "due_at": 0.0}], ("id", "due_at"), None, as_json=False)
    assert capsys.readouterr().out == f"id      {'a' * 80}\ndue_at  1970-01-01T00:00:00Z\n\n"


def test_doctor_never_advises_to_allow_a_metadata_address(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THORN_SUBSCRIBERS", '{"a": "http://169.254.169.254/", "b": "http://127.0.0.2:9/"}')
    out = run("doctor", "--log", "sqlite:///thorn.db", "--json")[1]
    metadata, loopback = (row for row in json.loads(out) if row["finding"].startswith("guard: "))
    assert "allow_" not in metadata["finding"] + metadata["advice"] + loopback["finding"]
    assert "allow_networks" in loopback["advice"]


def test_a_full_disk_is_one_sentence(tmp_path: Path) -> None:
    with open("/dev/full", "wb") as full:
        run = subprocess.run(
            [sys.executable, "-m", "thorn_worker", "doctor"],
            cwd=tmp_path,
            env={"PYTHONPATH": str(Path(__file__).parents[3])},
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=60,
        )
    assert run.returncode == 1
    assert run.stderr.startswith("thorn-worker: the output can't be written (No space left on device)")
    assert run.stderr.count("\n") == 1
