"""Subscribers in every form that settings and code may write them in."""

import base64
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest

from producer.errors import ConfigurationError, SubscriptionError
from producer.model import FORM, JSON, NOTHING, Subscription
from producer.recipients import Recipients
from producer.subscriptions.settings import KEPT_EVENTS, KEPT_RECIPIENTS, Occasion, Subscribers, expand
from producer.subscriptions.tables import derived_id, secrets_table, subscription_of

_URL = "https://example.com/in"
_ID = "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10"
_OTHER_ID = "7c1e2a34-9d0b-4f6a-8f0e-2a3f4f1f5f22"
_SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
_ED25519 = "whsk_6Xb/dCcHpPea21PS1N9VY/NZW723CEc77N4rJCubMbfVKIDij2HKpMKkioLlX0dRqSKJp4AJ6p9lMicMFs6Kvg=="


def _key(prefix: str, size: int) -> str:
    return prefix + base64.b64encode(bytes(range(size))).decode()


def _urls(subscriptions: list[Subscription]) -> list[str]:
    return [subscription.url for subscription in subscriptions]


def _sent_to(recipients: Recipients) -> list[str]:
    return [recipient.url for recipient in recipients.each]


# --- one entry


def test_a_url_becomes_a_subscription_with_a_stable_id() -> None:
    subscription = subscription_of("order.*", "HTTPS://Example.com:443/in")

    assert subscription == Subscription(
        pattern="order.*", url="https://example.com/in", id="f8b757ca-ff77-5254-b207-a3b1dba37053"
    )


def test_the_id_depends_on_pattern_and_normalised_url_alone() -> None:
    plain = subscription_of("order.*", _URL).id

    assert plain == derived_id("order.*", _URL)
    assert plain == subscription_of("order.*", "https://EXAMPLE.com:443/in").id
    assert plain == subscription_of("order.*", {"url": _URL, "timeout_s": 3, "sender": "a"}).id
    assert plain != subscription_of("order.b", _URL).id
    assert plain != subscription_of("order.*", _URL + "?a").id


def test_a_table_with_every_field() -> None:
    subscription = subscription_of(
        "order.*",
        {
            "url": _URL,
            "id": _ID.upper(),
            "sender": "shop-7",
            "secrets": [_SECRET, _ED25519],
            "hmac_secret": "old",
            "hmac_digest": "SHA512",
            "content_type": "Application/X-WWW-Form-Urlencoded",
            "headers": {"Authorization": "Bearer x "},
            "ordered": False,
            "timeout_s": "2.5s",
            "max_in_flight": 4,
        },
    )

    assert subscription == Subscription(
        pattern="order.*",
        url=_URL,
        id=_ID,
        sender="shop-7",
        secrets=(_SECRET, _ED25519),
        hmac_secret="old",
        hmac_digest="sha512",
        content_type=FORM,
        headers={"Authorization": "Bearer x"},
        timeout_s=2.5,
        max_in_flight=4,
    )
    assert subscription.needs_lookup


def test_fields_left_out_or_none_have_their_defaults() -> None:
    table = dict.fromkeys(
        ["id", "sender", "secrets", "hmac_secret", "hmac_digest", "content_type", "headers", "timeout_s"]
    )

    subscription = subscription_of("a", {**table, "url": _URL})

    assert subscription == subscription_of("a", _URL)
    assert (subscription.content_type, subscription.hmac_digest, subscription.headers) == (
        JSON,
        "sha256",
        NOTHING,
    )
    assert not subscription.needs_lookup


@pytest.mark.parametrize(
    "secret", [_SECRET, _key("whsec_", 24), _key("whsec_", 64), _ED25519, _key("whsk_", 32)]
)
def test_good_secrets(secret: str) -> None:
    assert subscription_of("a", {"url": _URL, "secrets": secret}).secrets == (secret,)
    assert subscription_of("a", {"url": _URL, "secrets": (secret,)}).secrets == (secret,)


@pytest.mark.parametrize(
    "secrets, why",
    [
        ("hunter2", "secret 1 of 1 begins with neither whsec_"),
        ("whpk_hunter2", "begins with neither"),
        ("WHSEC_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "begins with neither"),
        ("whsec_hunter2!", "is not base64"),
        ("whsec_" + "hunter2" * 5 + "\n", "is not base64"),
        ("whsec_\u00e4", "is not base64"),
        ("whsec_", "holds 0 bytes"),
        (_key("whsec_", 23), "holds 23 bytes, but an HMAC key has 24 to 64"),
        (_key("whsec_", 65), "holds 65 bytes"),
        (_key("whsk_", 33), "holds 33 bytes, but an ed25519 private key has 32, or 64"),
        ([_SECRET, "hunter2"], "secret 2 of 2"),
        ([_SECRET, None], "secret 2 of 2 is not text"),
        ([], "give one secret or a list"),
        (7, "give one secret or a list"),
        ({"hunter2": 1}, "give one secret or a list"),
        (b"whsec_hunter2", "give one secret or a list"),
    ],
)
def test_bad_secrets_are_refused_and_never_shown(secrets: object, why: str) -> None:
    with pytest.raises(SubscriptionError, match=why) as refusal:
        subscription_of("order.*", {"url": _URL, "secrets": secrets})

    text = str(refusal.value)
    assert text.startswith(
        "The field secrets of subscriber 'https://example.com/in' of 'order.*' is refused: "
    )
    assert "hunter2" not in text
    for secret in [secrets] if isinstance(secrets, str) else []:
        assert secret.removeprefix("whsec_").removeprefix("whsk_") not in text or secret == "whsec_"


@pytest.mark.parametrize(
    "table, why",
    [
        ({}, "has no url"),
        ({"url": None}, "has no url"),
        ({"url": 7}, "url of a subscriber of 'a.b' must be text, not int"),
        ({"url": "ftp://example.com"}, "of 'a.b': The URL 'ftp://example.com' is refused"),
        ({"url": _URL, "secret": _SECRET}, "unknown field 'secret': the nearest one is 'secrets'"),
        ({"url": _URL, "timeout": 3}, "unknown field 'timeout': the nearest one is 'timeout_s'"),
        ({"url": _URL, 7: 1}, "unknown field '7'"),
        ({"created": _URL}, "a pattern with a dot needs quotes"),
        ({"url": _URL, "id": "7"}, "an id must be a UUID"),
        ({"url": _URL, "id": ""}, "an id must be a UUID"),
        ({"url": _URL, "id": "{" + _ID + "}"}, "an id must be a UUID"),
        ({"url": _URL, "id": _ID.replace("-", "")}, "an id must be a UUID"),
        ({"url": _URL, "id": 7}, "an id must be a UUID"),
        ({"url": _URL, "sender": 7}, "field sender .* must be text"),
        ({"url": _URL, "sender": ""}, "field sender .* not empty"),
        ({"url": _URL, "hmac_secret": ""}, "field hmac_secret .* not empty"),
        ({"url": _URL, "hmac_secret": b"x"}, "field hmac_secret .* must be text"),
        ({"url": _URL, "hmac_digest": "md5"}, "'md5' is none of sha1, sha224, sha256, sha384, sha512"),
        ({"url": _URL, "hmac_digest": 256}, "'256' is none of"),
        ({"url": _URL, "content_type": "text/xml"}, "'text/xml' is none of application/json"),
        ({"url": _URL, "headers": {"Host": "x"}}, "field headers .* 'Host' is refused: only the worker"),
        ({"url": _URL, "headers": ["X: 1"]}, "field headers .* must be a table"),
        ({"url": _URL, "ordered": True}, "ordered delivery is not available in this release"),
        ({"url": _URL, "ordered": "no"}, "must be true or false"),
        ({"url": _URL, "timeout_s": 0}, "more than 0 and at most 60 s"),
        ({"url": _URL, "timeout_s": 60.1}, "more than 0 and at most 60 s"),
        ({"url": _URL, "timeout_s": True}, "more than 0 and at most 60 s"),
        ({"url": _URL, "timeout_s": "soon"}, "more than 0 and at most 60 s"),
        ({"url": _URL, "max_in_flight": 0}, "whole number of at least 1"),
        ({"url": _URL, "max_in_flight": 1.5}, "whole number of at least 1"),
        ({"url": _URL, "max_in_flight": True}, "whole number of at least 1"),
    ],
)
def test_bad_tables_are_refused(table: Mapping[str, object], why: str) -> None:
    with pytest.raises(SubscriptionError, match=why) as refusal:
        subscription_of("a.b", table)

    assert str(refusal.value).endswith(".")
    assert isinstance(refusal.value, ConfigurationError)


@pytest.mark.parametrize("pattern", ["", "a..b", "*.*"])
def test_bad_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(SubscriptionError, match="pattern"):
        subscription_of(pattern, _URL)
    with pytest.raises(SubscriptionError, match="pattern"):
        Subscribers({pattern: None})


# --- the table of secrets


def test_secrets_by_subscription_id() -> None:
    assert secrets_table({_ID.upper(): _SECRET, _OTHER_ID: [_SECRET, _ED25519]}) == {
        _ID: (_SECRET,),
        _OTHER_ID: (_SECRET, _ED25519),
    }
    assert secrets_table({}) == {}


@pytest.mark.parametrize(
    "table, why",
    [
        ({_ID: "hunter2"}, f"secrets of subscription {_ID} are refused: secret 1 of 1 begins"),
        ({_ID: None}, "give one secret or a list"),
        ({"hunter2": _SECRET}, "secrets of subscription number 1 are refused: an id must be a UUID"),
        ({_ID: _SECRET, _ID.upper(): _SECRET}, "stands twice"),
    ],
)
def test_bad_tables_of_secrets_are_refused(table: Mapping[str, object], why: str) -> None:
    with pytest.raises(SubscriptionError, match=why) as refusal:
        secrets_table(table)

    assert "hunter2" not in str(refusal.value)
    assert _SECRET not in str(refusal.value)


# --- all subscribers


def test_every_form_side_by_side_in_the_order_written() -> None:
    made = Subscription(pattern="elsewhere", url="https://h/5", id=_ID, secrets=(_SECRET,))
    subscribers = Subscribers(
        {
            "order.*": [
                "https://h/1",
                None,
                {"url": "https://h/2", "id": _OTHER_ID},
                ["https://h/3", [("https://h/4",)]],
                made,
                lambda name, *, sender: f"https://h/{name}",
            ],
            "*": "https://h/all",
            "user.*": "https://h/user",
            "empty": None,
        }
    )

    matched = subscribers.match("order.created")

    assert _urls(matched) == [f"https://h/{n}" for n in ("1", "2", "3", "4", "5", "order.created", "all")]
    assert {subscription.pattern for subscription in matched} == {"order.*", "*"}
    assert matched[4].secrets == (_SECRET,)
    assert subscribers.match("empty") == [subscribers.match("x")[0]]


def test_the_sender_rule() -> None:
    subscribers = Subscribers(
        {
            "a": [
                {"url": "https://h/1", "sender": "one"},
                {"url": "https://h/2", "sender": "two"},
                "https://h/all",
            ]
        }
    )

    assert _urls(subscribers.match("a", "one")) == ["https://h/1", "https://h/all"]
    assert _urls(subscribers.match("a", "three")) == ["https://h/all"]
    assert _urls(subscribers.match("a", None)) == ["https://h/1", "https://h/2", "https://h/all"]


def test_recipients_are_what_matched_and_kept_for_the_next_event() -> None:
    subscribers = Subscribers(
        {
            "a": [
                {"url": "https://h:8443/1", "sender": "one", "hmac_secret": "x"},
                {"url": "https://h/2", "sender": "two", "content_type": FORM},
                "https://h:8443/3",
            ]
        }
    )
    for sender in ("one", "two", None):
        recipients = subscribers.recipients("a", sender)
        matched = subscribers.match("a", sender)
        assert [(one.sub, one.url) for one in recipients.each] == [(one.id, one.url) for one in matched]
        assert subscribers.recipients("a", sender) is recipients

    assert recipients.by_host == (("https://h:8443", (0, 2)), ("https://h:443", (1,)))
    assert recipients.types == (JSON, FORM)
    assert [one.style.lookup for one in recipients.each] == [True, False, False]
    assert _sent_to(subscribers.recipients("a", extra="https://x/"))[-1] == "https://x/"
    assert subscribers.recipients("a", None) is recipients
    assert subscribers.recipients("nobody").each == ()


def test_recipients_that_code_decides_are_never_kept(hooks: str) -> None:
    # Given callables, in the settings and behind an import, that change their mind
    urls = ["https://h/1"]
    asked = Subscribers({"a": ["https://h/0", lambda name, **_: urls]})
    imported = Subscribers({"a": ["https://h/0", f"!{hooks}:function"]})

    assert _sent_to(asked.recipients("a")) == ["https://h/0", "https://h/1"]
    assert _sent_to(imported.recipients("a", "me")) == ["https://h/0", "https://h/a/me"]

    # When they do
    urls.append("https://h/2")
    sys.modules[hooks].function.__code__ = (lambda event_name, *, sender, **context: "https://h/new").__code__

    # Then the next event goes elsewhere
    assert _sent_to(asked.recipients("a")) == ["https://h/0", "https://h/1", "https://h/2"]
    assert _sent_to(imported.recipients("a", "me")) == ["https://h/0", "https://h/new"]


def test_recipients_behind_an_import_without_code_are_kept(hooks: str) -> None:
    subscribers = Subscribers({"a": f"!{hooks}:LIST"})

    assert _sent_to(subscribers.recipients("a")) == ["https://h/1", "https://h/url"]
    assert subscribers.recipients("a") is subscribers.recipients("a")


@pytest.mark.parametrize("name", ["ITSELF", "NUMBER"])
def test_a_bad_import_is_refused_each_time(hooks: str, name: str) -> None:
    subscribers = Subscribers({"a": f"!{hooks}:{name}"})
    for _ in range(2):
        with pytest.raises(SubscriptionError):
            subscribers.recipients("a")


def test_what_is_kept_of_recipients_is_bounded() -> None:
    # Given more event names than are kept, and more recipients than one may have to be kept
    many = [f"https://h/{number}" for number in range(KEPT_RECIPIENTS + 1)]
    subscribers = Subscribers({"a.*": "https://h/", "b.*": many})
    first = subscribers.recipients("a.0")
    for number in range(1, KEPT_EVENTS + 1):
        subscribers.recipients(f"a.{number}")

    assert subscribers.recipients("a.0") is not first
    assert len(subscribers.recipients("b.0").each) == len(many)
    assert subscribers.recipients("b.0") is not subscribers.recipients("b.0")


def test_callables_are_told_the_event_and_asked_each_time() -> None:
    calls: list[tuple[str, str | None, dict[str, Any]]] = []

    def subscribers_of(event_name: str, sender: str | None = None, **context: Any) -> Iterator[object]:
        calls.append((event_name, sender, context))
        yield "https://h/1"
        yield None
        yield [{"url": "https://h/2", "sender": "other"}, (lambda name, **_: "https://h/3")]
        yield Subscription(pattern="x", url="https://h/4", id=_ID, hmac_secret="s")

    subscribers = Subscribers({"order.*": subscribers_of})
    assert calls == []

    matched = subscribers.match("order.created", "me", {"instance": 7})
    subscribers.match("order.paid")

    assert _urls(matched) == ["https://h/1", "https://h/3", "https://h/4"]
    assert matched[0].id == derived_id("order.*", "https://h/1")
    assert calls == [("order.created", "me", {"instance": 7}), ("order.paid", None, {})]


@pytest.mark.parametrize(
    "field", [{"secrets": _SECRET}, {"headers": {"X-A": "1"}}, {"hmac_secret": "hunter2"}]
)
def test_what_a_callable_makes_with_secrets_needs_an_id(field: dict[str, object]) -> None:
    def subscribers_of(event_name: str, **context: object) -> list[object]:
        return [[{"url": _URL, **field}]]

    with pytest.raises(
        SubscriptionError, match=r"made by .*test_subscriptions:.*subscribers_of, has secrets"
    ) as refusal:
        Subscribers({"a": subscribers_of}).match("a")
    assert "hunter2" not in str(refusal.value)

    identified = Subscribers({"a": lambda name, **_: {"url": _URL, "id": _ID, **field}})
    assert [subscription.id for subscription in identified.match("a")] == [_ID]
    assert Subscribers({"a": {"url": _URL, **field}}).match("a")[0].id == derived_id("a", _URL)


def test_a_callable_object_is_named_by_its_class() -> None:
    class Router:
        def __call__(self, event_name: str, **context: object) -> object:
            return {"url": _URL, "hmac_secret": "s"}

    with pytest.raises(SubscriptionError, match=r"made by .*Router, has secrets"):
        Subscribers({"a": Router()}).match("a")


def test_an_error_of_a_callable_is_told_with_its_name() -> None:
    def broken(event_name: str, **context: object) -> object:
        raise LookupError("no such tenant")

    with pytest.raises(
        SubscriptionError, match=r"broken raised LookupError for 'a'.*no such tenant"
    ) as refusal:
        Subscribers({"a": broken}).match("a")
    assert isinstance(refusal.value.__cause__, LookupError)


def test_a_callable_that_returns_itself_is_refused() -> None:
    def again(event_name: str, **context: object) -> object:
        return [again]

    with pytest.raises(SubscriptionError, match="deep in each other"):
        Subscribers({"a": again}).match("a")


def test_a_list_in_itself_is_refused() -> None:
    endless: list[object] = [_URL]
    endless.append(endless)

    with pytest.raises(SubscriptionError, match="deep in each other"):
        Subscribers({"a": endless})


def test_one_subscription_is_matched_once_and_the_first_wins() -> None:
    subscribers = Subscribers(
        {
            "order.created": [{"url": _URL, "id": _ID}, {"url": _URL, "id": _ID}],
            "order.*": {"url": _URL, "id": _ID},
            "*": lambda name, **_: {"url": "https://other/", "id": _ID},
        }
    )

    (matched,) = subscribers.match("order.created")

    assert (matched.pattern, matched.url) == ("order.created", _URL)
    assert _urls(subscribers.match("x")) == ["https://other/"]


@pytest.mark.parametrize(
    "table",
    [
        {"a": [{"url": _URL, "id": _ID}, {"url": "https://other/", "id": _ID}]},
        {"a": {"url": _URL, "id": _ID}, "b": {"url": _URL, "id": _ID.upper(), "timeout_s": 3}},
        {"a": [{"url": _URL, "sender": "one"}, {"url": _URL, "sender": "two"}]},
    ],
)
def test_one_id_for_two_subscribers_is_refused(table: dict[str, object]) -> None:
    with pytest.raises(SubscriptionError, match="stands for two different subscribers"):
        Subscribers(table)


@pytest.mark.parametrize(
    "entry, why",
    [
        (7, "type int"),
        (b"https://example.com/", "type bytes"),
        (["https://example.com/", 1.5], "type float"),
        ("example.com", "begin with http"),
        ("!module", "must be written '!module:callable'"),
        ("!", "must be written"),
        ("!:x", "must be written"),
        ("!a b:c", "must be written"),
        ("!a:b.", "must be written"),
        (Subscription(pattern="a", url="ftp://h/", id=_ID), "only http and https"),
        (Subscription(pattern="a", url=_URL, id="7"), "an id must be a UUID"),
        (Subscription(pattern="a", url=_URL, id=_ID, ordered=True), "ordered delivery is not available"),
        (Subscription(pattern="a", url=_URL, id=_ID, secrets=("hunter2",)), "secret 1 of 1"),
    ],
)
def test_bad_entries_are_refused_at_construction(entry: object, why: str) -> None:
    with pytest.raises(SubscriptionError, match=why) as refusal:
        Subscribers({"a.*": entry})

    assert "hunter2" not in str(refusal.value)


def test_a_subscription_made_in_code_is_normalised_like_a_table() -> None:
    made = Subscription(pattern="x", url="HTTPS://Example.com:443/in", id=_ID.upper(), headers={"X-A": " 1 "})

    (matched,) = Subscribers({"a": made}).match("a")

    assert matched == Subscription(pattern="a", url=_URL, id=_ID, headers={"X-A": "1"})


def test_uuid_objects_are_ids() -> None:
    chosen = uuid4()

    assert subscription_of("a", {"url": _URL, "id": chosen}).id == str(chosen)
    assert UUID(subscription_of("a", _URL).id).version == 5


# --- references to code


@pytest.fixture
def hooks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """An importable module with subscribers in every form."""
    name = f"hooks_{uuid4().hex}"
    (tmp_path / f"{name}.py").write_text(
        "URL = 'https://h/url'\n"
        f"TABLE = {{'url': 'https://h/table', 'secrets': {_SECRET!r}}}\n"
        f"LIST = ['https://h/1', '!{name}:URL', None]\n"
        "def function(event_name, *, sender, **context): return f'https://h/{event_name}/{sender}'\n"
        "class Space:\n    url = 'https://h/attribute'\n"
        "NUMBER = 7\n"
        f"ITSELF = '!{name}:ITSELF'\n",
        encoding="utf-8",
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    yield name
    sys.modules.pop(name, None)


def test_references_are_imported_at_first_use(hooks: str) -> None:
    names = ["URL", "TABLE", "LIST", "function", "Space.url"]
    subscribers = Subscribers({"a": [f"!{hooks}:{name}" for name in names]})
    assert hooks not in sys.modules

    matched = subscribers.match("a", "me")

    assert _urls(matched) == [f"https://h/{n}" for n in ("url", "table", "1", "a/me", "attribute")]
    assert subscribers.match("a", "me") == matched


def test_what_references_stand_for_is_known_once_imported(hooks: str) -> None:
    subscribers = Subscribers({"a": ["https://h/0", f"!{hooks}:TABLE", f"!{hooks}:function"]})
    assert _urls(list(subscribers.known().values())) == ["https://h/0"]

    subscribers.check_imports()

    known = subscribers.known()
    assert _urls(list(known.values())) == ["https://h/0", "https://h/table"]
    assert known[derived_id("a", "https://h/table")].secrets == (_SECRET,)


@pytest.mark.parametrize(
    "name, why",
    [
        ("missing", "cannot be imported .AttributeError"),
        ("Space.missing", "cannot be imported .AttributeError"),
        ("NUMBER", "type int"),
        ("ITSELF", "deep in each other"),
    ],
)
def test_bad_references_are_refused_when_imported(hooks: str, name: str, why: str) -> None:
    subscribers = Subscribers({"a": f"!{hooks}:{name}"})

    with pytest.raises(SubscriptionError, match=why):
        subscribers.check_imports()
    with pytest.raises(SubscriptionError, match=why):
        subscribers.match("a")


def test_a_reference_that_cannot_be_imported_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = f"broken_{uuid4().hex}"
    (tmp_path / f"{broken}.py").write_text("raise RuntimeError('no database')", encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))

    for text, why in (
        ("!no_such_module:x", "ModuleNotFoundError"),
        (f"!{broken}:x", "RuntimeError: no database"),
    ):
        with pytest.raises(
            SubscriptionError, match=f"The subscriber '{text}' of 'order.*' cannot be imported .{why}"
        ):
            Subscribers({"order.*": [_URL, text]}).check_imports()


# --- subscribers of one event


def test_extra_subscribers_of_one_event_come_last() -> None:
    subscribers = Subscribers({"*": [_URL, {"url": "https://h/2", "id": _ID}]})
    extra = ["https://h/3", {"url": "https://h/4", "id": _ID}, {"url": "https://h/5", "sender": "other"}]

    matched = subscribers.match("a.b", "me", extra=[*extra, lambda name, sender: f"https://h/{sender}"])

    assert _urls(matched) == [_URL, "https://h/2", "https://h/3", "https://h/me"]
    assert matched[2].id == derived_id("a.b", "https://h/3")


def test_an_extra_subscriber_with_secrets_needs_an_id() -> None:
    with pytest.raises(
        SubscriptionError, match="'a', given with the event 'a', has secrets or headers but no id"
    ):
        Subscribers({}).match("a", extra={"url": _URL, "secrets": _SECRET})

    (matched,) = Subscribers({}).match("a", extra={"url": _URL, "secrets": _SECRET, "id": _ID})
    assert matched.secrets == (_SECRET,)


def test_one_entry_can_be_expanded_alone() -> None:
    occasion = Occasion("a.b", "me", {"n": 1})

    expanded = list(expand("a.b", [None, _URL, lambda name, sender, n: f"https://{sender}/{n}"], occasion))

    assert _urls(expanded) == [_URL, "https://me/1"]


def test_reprs_show_no_secret() -> None:
    subscribers = Subscribers({"a": {"url": _URL, "hmac_secret": "hunter2"}})

    assert repr(subscribers) == "Subscribers(1 entries, 1 known subscriptions)"
    assert "hunter2" not in repr(subscribers.match("a"))
