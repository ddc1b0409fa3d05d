"""Patterns and event names: who wants an event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producer.errors import InvalidEvent, SubscriptionError
from producer.matching import Index, validate_event_name, validate_pattern


@pytest.mark.parametrize(
    "pattern, matched, unmatched",
    [
        ("a.b", ["a.b"], ["a", "a.b.c", "A.b", "b"]),
        ("a", ["a"], ["a.b", "b.a"]),
        ("*", ["a", "a.b.c", "thorn", "thornier.x"], ["thorn.endpoint.disabled", "thorn.x"]),
        ("a.*", ["a.b", "a.b.c"], ["a", "b.a", "ab.c", "A.b"]),
        ("a.b.*", ["a.b.c", "a.b.c.d"], ["a.b", "a.c.b"]),
        ("*.c", ["b.c", "a.b.c"], ["c", "b.c.d", "b.ac"]),
        ("*.b.c", ["a.b.c", "x.a.b.c"], ["b.c", "a.c"]),
        ("thorn.*", ["thorn.endpoint.disabled"], ["thorn"]),
    ],
)
def test_patterns_match_whole_segments(pattern: str, matched: list[str], unmatched: list[str]) -> None:
    index = Index([(pattern, "subscriber")])

    assert [name for name in matched + unmatched if index.match(name)] == matched


def test_matches_come_in_the_order_of_configuration() -> None:
    index = Index([("*.b", 1), ("a.b", 2), ("*", 3), ("a.*", 4), ("a.b", 5), ("x", 6)])

    assert index.match("a.b") == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    "pattern",
    [
        "",
        ".",
        "a.",
        ".a",
        "a..b",
        "**",
        "*.*",
        "a.*.c",
        "*.a.*",
        "a*",
        "*a",
        "a.b*",
        "a b",
        "\u00e4",
        "a\n",
        "x" * 256,
    ],
)
def test_other_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(SubscriptionError, match="refused: use an event name"):
        validate_pattern(pattern)
    with pytest.raises(SubscriptionError):
        Index([(pattern, 1)])


@pytest.mark.parametrize("pattern", ["*", "a", "a.*", "*.a", "a-b.c_d:e/f", "x" * 255])
def test_good_patterns_pass(pattern: str) -> None:
    validate_pattern(pattern)


@pytest.mark.parametrize("name", ["a", "order.created", "a-b/c:d.e", "!~", "x" * 255])
def test_good_event_names_pass(name: str) -> None:
    validate_event_name(name)


@pytest.mark.parametrize(
    "name", ["", ".", "a.", ".a", "a..b", "*", "a.*", "a b", "a\tb", "a\n", "\u00e4", "\x7f", "x" * 256]
)
def test_other_event_names_are_refused(name: str) -> None:
    with pytest.raises(InvalidEvent, match="refused: use 1 to 255"):
        validate_event_name(name)


@pytest.mark.parametrize("value", [None, 7, b"order.created", ["a"]])
def test_names_and_patterns_are_text(value: object) -> None:
    with pytest.raises(InvalidEvent, match=type(value).__name__):
        validate_event_name(value)  # type: ignore[arg-type]
    with pytest.raises(SubscriptionError, match=type(value).__name__):
        validate_pattern(value)  # type: ignore[arg-type]


_SEGMENTS = st.lists(st.sampled_from(["a", "b", "c", "thorn"]), min_size=1, max_size=4)
_NAMES = _SEGMENTS.map(".".join)
_PATTERNS = st.one_of(
    st.just("*"), _NAMES, _NAMES.map(lambda name: f"{name}.*"), _NAMES.map(lambda name: f"*.{name}")
)


def _oracle(pattern: str, name: str) -> bool:
    """The rules, segment by segment, as slowly as they are told."""
    wanted, given_ = pattern.split("."), name.split(".")
    if wanted == ["*"]:
        return not (given_[0] == "thorn" and len(given_) > 1)
    if wanted[-1] == "*":
        return len(given_) >= len(wanted) and given_[: len(wanted) - 1] == wanted[:-1]
    if wanted[0] == "*":
        return len(given_) >= len(wanted) and given_[-(len(wanted) - 1) :] == wanted[1:]
    return wanted == given_


@given(st.lists(_PATTERNS, max_size=20), _NAMES)
def test_the_index_agrees_with_the_rules_read_one_by_one(patterns: list[str], name: str) -> None:
    index = Index((pattern, position) for position, pattern in enumerate(patterns))

    assert index.match(name) == [at for at, pattern in enumerate(patterns) if _oracle(pattern, name)]
