"""Who knows a subscription's secrets, and how often they are asked."""

from base64 import b64encode

import gevent
import pytest

from producer.config import Settings
from producer.errors import ConfigurationError
from producer.model import Subscription
from producer.subscriptions.tables import subscription_of
from thorn_worker.directory import LOOK_UP_AGAIN_S, Directory

SUB = "0b6f2f5e-8a51-4b5e-9f0e-6a3f4f1f5f10"
KEY = "whsec_" + b64encode(b"k" * 32).decode()
OTHER = "whsec_" + b64encode(b"o" * 32).decode()


class Operator:
    """The operator's function, its clock, and what it was asked."""

    def __init__(self) -> None:
        self.answer: object = None
        self.asked: list[str] = []
        self.now = 0.0

    def __call__(self, sub: str) -> object:
        self.asked.append(sub)
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    def directory(self) -> Directory:
        return Directory({}, {}, self, lambda: self.now)


def test_settings_come_first_and_the_secrets_table_adds_to_them() -> None:
    known = subscription_of(
        "*", {"url": "https://a.example/", "id": SUB, "secrets": [KEY], "max_in_flight": 3}
    )
    directory = Directory({SUB: known}, {SUB: (OTHER, KEY)}, None, lambda: 0.0)
    found = directory.known(SUB)
    assert found is not None
    assert found.secrets == (KEY, OTHER)
    assert found.max_in_flight == 3
    assert directory.resolve(SUB) == found
    assert len(directory) == 1


def test_a_table_of_secrets_alone_is_enough() -> None:
    directory = Directory({}, {SUB: (KEY,)}, None, lambda: 0.0)
    found = directory.known(SUB)
    assert found is not None
    assert found.secrets == (KEY,)
    assert not directory.may_resolve
    assert directory.known("another") is None
    assert directory.resolve("another") is None


@pytest.mark.parametrize(
    "answer", [KEY, [KEY], {"secrets": [KEY]}, {"secrets": [KEY], "headers": {"X-A": "1"}}]
)
def test_an_answer_may_be_secrets_or_a_table(answer: object) -> None:
    operator = Operator()
    operator.answer = [answer] if isinstance(answer, str) else answer
    found = operator.directory().resolve(SUB)
    assert found is not None
    assert (found.id, found.secrets) == (SUB, (KEY,))


def test_answers_are_kept_for_a_while_good_or_bad() -> None:
    operator = Operator()
    directory = operator.directory()

    # Given nobody knows it, then it is asked once
    assert directory.resolve(SUB) is None
    operator.answer = [KEY]
    assert directory.resolve(SUB) is None
    assert directory.known(SUB) is None
    assert operator.asked == [SUB]

    # When the answer is old, then it is asked again, and what it says is at hand without asking
    operator.now += LOOK_UP_AGAIN_S
    assert directory.resolve(SUB) is not None
    assert directory.known(SUB) is not None
    assert len(operator.asked) == 2

    # When that is old too, then it stands until it was asked for again, so that nobody waits for it
    operator.now += LOOK_UP_AGAIN_S
    operator.answer = [OTHER]
    assert directory.equipped(SUB) == directory.resolve(SUB) == found_with(directory, KEY)
    directory.refresh()
    assert directory.resolve(SUB) == found_with(directory, OTHER)


def found_with(directory: Directory, secret: str) -> Subscription:
    found = directory.known(SUB)
    assert found is not None
    assert found.secrets == (secret,)
    return found


def test_a_function_that_fails_later_unsigns_nobody_and_one_that_forgets_does_not_send() -> None:
    operator = Operator()
    operator.answer = [KEY]
    directory = operator.directory()
    directory.resolve(SUB)

    operator.now += LOOK_UP_AGAIN_S
    operator.answer = ValueError("database away")
    directory.refresh()
    assert directory.equipped(SUB) == found_with(directory, KEY)

    operator.now += LOOK_UP_AGAIN_S
    operator.answer = None
    directory.refresh()
    assert directory.equipped(SUB) is None


def test_a_setting_without_secrets_does_not_serve_a_delivery_that_needs_them() -> None:
    bare = subscription_of("*", {"url": "https://example.com/", "id": SUB})

    directory = Directory({SUB: bare}, {}, None, lambda: 0.0)

    assert directory.known(SUB) == bare  # its limits still count
    assert directory.equipped(SUB) is directory.resolve(SUB) is None


def test_an_empty_answer_is_no_permission_to_send_unsigned() -> None:
    operator = Operator()
    operator.answer = []

    assert operator.directory().resolve(SUB) is None


@pytest.mark.parametrize(
    "answer", [ValueError("database away"), gevent.Timeout(1), 17, ["no secret"], {"colour": "red"}]
)
def test_an_answer_that_cannot_be_used_is_unresolved_and_said_without_the_secret(
    answer: object, caplog: pytest.LogCaptureFixture
) -> None:
    operator = Operator()
    operator.answer = answer
    assert operator.directory().resolve(SUB) is None
    (record,) = caplog.records
    assert SUB in record.getMessage()
    assert "no secret" not in record.getMessage()


@pytest.mark.parametrize("path", ["no_such_module:f", "os:no_such_function", "os:sep", "os.path"])
def test_a_function_that_cannot_be_had_is_refused_by_its_name(path: str) -> None:
    with pytest.raises(ConfigurationError, match="THORN_SECRETS_OF is"):
        Directory.of(Settings(secrets_of=path), lambda: 0.0)
