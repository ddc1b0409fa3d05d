"""The recording sink itself: what other tests believe must be true."""

from collections import Counter
from pathlib import Path

from tests.support.certs import Authority
from tests.support.sink import NEVER_ANSWERED, RecordingSink, Rule, read_ledger
from tests.unit.worker.http.sending import Sender
from thorn_worker.outcome import Outcome


def test_every_request_is_in_the_ledger_with_what_it_was_answered(tmp_path: Path) -> None:
    rules = (
        Rule(path="/flaky", statuses=(500, 503, 204)),
        Rule(path="/hang", hang=True),
        Rule(address="127.0.0.2", statuses=(410,), headers=(("Retry-After", "7"),), body="bye", close=True),
    )
    with RecordingSink(tmp_path / "ledger", addresses=2, rules=rules, keep=True) as sink, Sender() as sender:
        flaky = [sender.attempt(sink.url(0, "/flaky")).status for _ in range(4)]
        assert sender.attempt(sink.url(0, "/hang"), timeout_s=0.2).outcome is Outcome.UNREACHABLE
        gone = sender.attempt(sink.url(1, "/hook?x=1"), b"body\x00\xff")

        assert flaky == [500, 503, 204, 204]
        assert (gone.status, gone.retry_after_s, gone.excerpt) == (410, 7.0, b"bye")
        assert sink.counts() == Counter({204: 2, 500: 1, 503: 1, NEVER_ANSWERED: 1, 410: 1})
        assert (sink.ids().total(), sink.delivered().total(), sink.connections()) == (6, 2, 2)
        last = sink.requests()[-1]
        assert (last.address, last.path, last.event, last.attempt) == (
            "127.0.0.2",
            "/hook?x=1",
            "order.created",
            1,
        )
        assert (last.body, last.header("hook-delivery")) == (b"body\x00\xff", last.id)


def test_rules_change_while_it_runs_and_the_ledger_outlives_it(tmp_path: Path) -> None:
    sink = RecordingSink(tmp_path / "ledger", rules=(Rule(statuses=(500,)),))
    with sink, Sender() as sender:
        assert sender.attempt(sink.url()).status == 500
        sink.set_rules((Rule(delay_s=0.05),))
        assert sender.attempt(sink.url()).status == 200
        sink.wait_for_ids(sink.ids())
        port = sink.port
    with sink, Sender() as sender:
        assert sink.port == port
        assert sender.attempt(sink.url()).status == 200

    assert [received.status for received in read_ledger(sink.ledger)] == [500, 200, 200]


def test_it_serves_tls(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    with (
        RecordingSink(tmp_path / "ledger", tls_pem=authority.pem("127.0.0.1")) as sink,
        Sender(ca_file=authority.ca_file) as sender,
    ):
        for _ in range(5):
            assert sender.attempt(sink.url()).outcome is Outcome.DELIVERED
        assert sink.connections() == 1
