"""Log lines: one line each, none of them a flood, none of them with a body, secret or query."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from producer.errors import ConfigurationError
from producer.model import Delivery
from tests.support.logging import logging_restored
from thorn_worker import logs
from thorn_worker.logs import AttemptLog, RateLimited
from thorn_worker.outcome import Attempt, Outcome, Phase

HOST = "https://example.com:443"
DELIVERY = Delivery(
    id="d-1",
    event="order.created",
    event_id="e-1",
    at=0.0,
    sub="0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10",
    url="https://example.com/in?token=hidden",
    type="application/json",
    body=b'{"card": "4111"}',
)


def attempt(outcome: Outcome, status: int | None) -> Attempt:
    return Attempt(
        number=2,
        started_at=0.0,
        duration_s=0.12345,
        outcome=outcome,
        phase=Phase.WAIT,
        status=status,
        error="x?y",
    )


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    """What `logs.set_up` is told to write to; the root logger is as before afterwards."""
    with logging_restored():
        yield io.StringIO()


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_lines_of_the_kafka_client_are_for_those_who_look_closer(stream: io.StringIO) -> None:
    def heard(level: str) -> list[str]:
        logs.set_up(level, "text", stream)
        stream.truncate(stream.seek(0))
        logging.getLogger("kafka.net.manager").error("connecting")
        logging.getLogger("kafka.coordinator").warning("odd")
        return [line.rpartition(" ")[2] for line in stream.getvalue().splitlines()]

    assert heard("warning") == []
    assert heard("info") == ["odd"]
    assert heard("debug") == ["connecting", "odd"]


def test_text_lines_carry_time_in_utc_level_and_logger(stream: io.StringIO) -> None:
    logs.set_up("info", "text", stream)
    logging.getLogger("thorn_worker.x").warning("it is %s", "so")
    assert stream.getvalue().endswith("Z WARNING thorn_worker.x it is so\n")


def test_a_line_break_from_outside_stays_in_its_line(stream: io.StringIO) -> None:
    logs.set_up("info", "text", stream)
    logging.getLogger("thorn_worker.x").info("name %s", "a\nb\x1b[31m")
    assert stream.getvalue().count("\n") == 1
    assert "a\\x0ab\\x1b[31m" in stream.getvalue()


def test_json_lines_are_objects_with_tracebacks_inside(stream: io.StringIO) -> None:
    logs.set_up("info", "json", stream)
    try:
        raise ValueError("broken")
    except ValueError:
        logging.getLogger("thorn_worker.x").exception("oh")
    line = json.loads(stream.getvalue())
    assert (line["level"], line["logger"], line["message"]) == ("error", "thorn_worker.x", "oh")
    assert "ValueError: broken" in line["traceback"]


def test_lines_below_the_level_are_not_written(stream: io.StringIO) -> None:
    logs.set_up("warning", "text", stream)
    logging.getLogger("thorn_worker.x").info("quiet")
    assert stream.getvalue() == ""


@pytest.mark.parametrize("level, log_format", [("loud", "text"), ("info", "xml")])
def test_unknown_words_are_refused_with_the_known_ones(level: str, log_format: str) -> None:
    with pytest.raises(ConfigurationError, match=r"THORN_LOG_(LEVEL|FORMAT) is '.*': set it to one of"):
        logs.set_up(level, log_format)


def test_a_key_speaks_once_per_interval_and_then_says_what_was_left_out(
    caplog: pytest.LogCaptureFixture,
) -> None:
    # Given a limit of one line per minute
    clock = Clock()
    limited = RateLimited(logging.getLogger("t"), interval_s=60.0, clock=clock)

    # When a host fails four times within it, and another host once
    spoke = [limited.warning("a", "host %s failed", "a") for _ in range(4)]
    limited.warning("b", "host b failed")
    clock.now = 60.0
    limited.warning("a", "host %s failed", "a")

    # Then the first line of each is there, and the next one of the first counts
    assert spoke == [True, False, False, False]
    assert caplog.messages == [
        "host a failed",
        "host b failed",
        "host a failed (3 more like it not shown since)",
    ]


def test_memory_is_bounded_and_what_was_forgotten_is_still_counted(caplog: pytest.LogCaptureFixture) -> None:
    limited = RateLimited(logging.getLogger("t"), max_keys=2, clock=Clock())
    limited.error("a", "1")
    limited.error("a", "1")
    limited.error("b", "2")

    limited.error("c", "3")
    limited.error("d", "4")

    assert repr(limited).startswith("RateLimited(2 keys")
    assert caplog.messages[2:] == ["3 (1 elsewhere not shown since)", "4"]


def test_a_percent_sign_in_a_message_without_arguments_is_harmless(caplog: pytest.LogCaptureFixture) -> None:
    RateLimited(logging.getLogger("t"), clock=Clock()).warning("a", "100 % full")
    assert caplog.messages == ["100 % full"]


@pytest.mark.parametrize(
    "mode, outcome, written",
    [
        ("off", Outcome.FAILED, False),
        ("failures", Outcome.FAILED, True),
        ("failures", Outcome.DELIVERED, False),
        ("all", Outcome.DELIVERED, True),
    ],
)
def test_attempts_are_written_as_asked(
    mode: str, outcome: Outcome, written: bool, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    log = AttemptLog(mode)
    log.write(DELIVERY, HOST, attempt(outcome, 500))
    assert bool(caplog.messages) is written
    assert log.on is (mode != "off")


def test_an_attempt_line_has_its_ids_and_numbers_but_no_body_error_or_query(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    AttemptLog("all").write(DELIVERY, HOST, attempt(Outcome.UNREACHABLE, None))
    assert caplog.messages == [
        (
            "delivery=d-1 event=order.created event_id=e-1 subscription=0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10 "
            f"host={HOST} attempt=2 outcome=unreachable status=- phase=wait duration_s=0.1235"
        )
    ]


def test_an_attempt_in_json_has_fields(stream: io.StringIO) -> None:
    logs.set_up("info", "json", stream)
    AttemptLog("all").write(DELIVERY, HOST, attempt(Outcome.UNREACHABLE, None))
    line = json.loads(stream.getvalue())
    assert (line["delivery"], line["status"], line["duration_s"]) == ("d-1", None, 0.1235)


def test_an_unknown_attempt_log_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="THORN_ATTEMPT_LOG is 'some'"):
        AttemptLog("some")
