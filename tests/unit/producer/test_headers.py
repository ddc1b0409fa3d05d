"""Header fields that users add."""

import pytest

from producer.errors import InvalidEvent, SubscriptionError, ThornError
from producer.headers import MAX_HEADERS_BYTES, check


def test_good_headers_pass_with_their_values_stripped() -> None:
    headers = {
        "Authorization": " Bearer x\t",
        "content-type": "text/plain",
        "User-Agent": "us",
        "X-Name": "J\u00fcrgen",
        "X-Empty": "",
    }

    checked = check(headers, InvalidEvent)

    assert checked == {**headers, "Authorization": "Bearer x"}
    assert check(checked, InvalidEvent) == checked
    with pytest.raises(TypeError):
        checked["X-New"] = "late"  # type: ignore[index]


def test_later_changes_of_the_callers_mapping_do_not_matter() -> None:
    headers = {"X-A": "1"}
    checked = check(headers, InvalidEvent)

    headers["X-A"] = "2\r\n"

    assert checked == {"X-A": "1"}


@pytest.mark.parametrize(
    "name",
    [
        "Host", "content-length", "Transfer-Encoding", "CONNECTION", "Keep-Alive", "TE", "Trailer",
        "Upgrade", "Expect", "Proxy-Authorization", "proxy-connection", "Hook-HMAC",
        "hook-event", "Webhook-Id", "webhook-signature",
    ],
)  # fmt: skip
def test_what_only_the_worker_sets_is_refused(name: str) -> None:
    with pytest.raises(SubscriptionError, match=f"'{name}' is refused: only the worker"):
        check({name: "x"}, SubscriptionError)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "a\r\nb", "\u00e4", "a\x00", "(a)", ":path", "a\n"])
def test_names_are_tokens(name: str) -> None:
    with pytest.raises(InvalidEvent, match="header name"):
        check({name: "x"}, InvalidEvent)


@pytest.mark.parametrize(
    "value", ["a\r\nX-Evil: 1", "a\n", "a\r", "a\x00b", "\x1b[0m", "\x7f", "\x85", "\u20ac", "\ud800"]
)
def test_values_stay_on_their_line_and_are_not_shown(value: str) -> None:
    with pytest.raises(InvalidEvent, match="'X-Token' is refused") as refusal:
        check({"X-Token": f"hunter2{value}"}, InvalidEvent)

    assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("error_class", [InvalidEvent, SubscriptionError])
def test_the_caller_chooses_the_error(error_class: type[ThornError]) -> None:
    for headers in ({"X-A": 7}, {"X-A": b"x"}, {7: "x"}, [("X-A", "1")], "X-A: 1"):
        with pytest.raises(error_class):
            check(headers, error_class)  # type: ignore[arg-type]


def test_a_name_in_two_spellings_is_refused() -> None:
    with pytest.raises(InvalidEvent, match="twice"):
        check({"X-A": "1", "x-a": "2"}, InvalidEvent)


def test_all_fields_together_have_a_limit() -> None:
    full = {"X-A": "a" * (MAX_HEADERS_BYTES - len("X-A: \r\n"))}
    assert check(full, InvalidEvent) == full

    with pytest.raises(
        InvalidEvent, match=f"{MAX_HEADERS_BYTES + 1} bytes together, {MAX_HEADERS_BYTES} are allowed"
    ):
        check({"X-A": full["X-A"] + "a"}, InvalidEvent)
