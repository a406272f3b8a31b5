"""A write that a majority does not confirm counts as not done; one that is sent again is still allowed then."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pytest
from pymongo.errors import AutoReconnect

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore import accounts, target
from lucid_storage.stores.mongodb.restore.accounts import Chosen
from lucid_storage.stores.mongodb.restore.holding import Leases
from lucid_storage.stores.mongodb.restore.lease import LEASE_SECONDS
from lucid_storage.stores.mongodb.restore.target import Target

STEPPED_DOWN = {"ok": 1, "writeConcernError": {"code": 11602, "errmsg": "interrupted"}}
Reply = Mapping[str, Any] | Exception


class Server:
    """Answers of a server, one after the other; afterwards it agrees to everything."""

    codec_options = None

    def __init__(self) -> None:
        self.replies: Iterator[Reply] = iter(())
        self.sent: list[dict[str, Any]] = []

    def get_database(self, _name: str) -> "Server":
        return self

    def command(self, command: dict[str, Any], **_options: object) -> dict[str, Any]:
        self.sent.append(command)
        reply = next(self.replies, {"ok": 1, "n": 1})
        if isinstance(reply, Exception):
            raise reply
        return dict(reply)

    def close(self) -> None:
        pass

    def will(self, *replies: Reply) -> None:
        self.replies = iter(replies)

    def names(self) -> Sequence[str]:
        return [next(iter(command)) for command in self.sent]


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    made = Server()
    monkeypatch.setattr(target, "MongoClient", lambda *_args, **_options: made)
    return made


def test_a_write_that_a_step_down_may_roll_back_is_sent_again(server: Server) -> None:
    server.will(STEPPED_DOWN)
    again: list[bool] = []
    with Target("", wait=lambda _: None) as opened:
        answer = opened.write("shop", {"drop": "a"}, "drop shop.a", sent_again=lambda: again.append(True))
    assert answer == {"ok": 1, "n": 1}
    assert (server.names(), again) == (["drop", "drop"], [True])


def test_it_is_not_sent_again_for_ever(server: Server) -> None:
    server.will(*[STEPPED_DOWN] * 1000)
    passed = [0.0]

    def pass_by(seconds: float) -> None:
        passed[0] += seconds

    with Target("", clock=lambda: passed[0], wait=pass_by) as opened, pytest.raises(LucidError) as failed:
        opened.write("shop", {"drop": "a"}, "drop shop.a")
    assert failed.value.reason is Reason.STORE_UNAVAILABLE
    assert len(server.sent) < 1000


def test_a_write_that_no_majority_can_confirm_fails(server: Server) -> None:
    server.will({"ok": 1, "writeConcernError": {"code": 100, "errmsg": "not enough data-bearing nodes"}})
    with Target("", wait=lambda _: None) as opened, pytest.raises(LucidError) as failed:
        opened.write("shop", {"collMod": "a"}, "set the options of shop.a")
    assert failed.value.reason is Reason.STORE_UNAVAILABLE
    assert "majority" in failed.value.message
    assert len(server.sent) == 1


def held(server: Server, **more: Any) -> Leases:
    """The lease of one database, taken by `with`."""
    server.will({"ok": 1}, {"ok": 1, "value": {"number": 1}})
    return Leases("", ["shop"], "r1", **more)


def test_nothing_is_sent_again_without_the_right_to_write(server: Server) -> None:
    with held(server, live=True) as leases, Target("", wait=lambda _: None) as opened:
        opened.before_write = leases.check
        server.sent.clear()
        server.will({"ok": 1, "n": 1}, AutoReconnect("lost"), {"ok": 1, "n": 0})
        with pytest.raises(LucidError) as lost:
            opened.write("shop", {"drop": "a"}, "drop shop.a")
    assert lost.value.reason is Reason.WORKER_LOST
    assert server.names() == ["update", "drop", "update"]


def test_a_lease_whose_renewal_was_answered_late_is_renewed_once_more(server: Server) -> None:
    moments = iter((0.0, 0.0, 0.0, 100.0, 100.0, 101.0))
    with held(server, clock=lambda: next(moments)) as leases:
        server.sent.clear()
        leases.renew()
    assert server.names() == ["update", "update"]


def test_beside_the_live_data_a_fresh_lease_is_not_renewed_before_each_write(server: Server) -> None:
    passed = [0.0]
    with held(server, clock=lambda: passed[0]) as leases:
        server.sent.clear()
        leases.check()
        assert server.names() == []
        passed[0] = LEASE_SECONDS
        leases.check()
    assert server.names() == ["update"]


def test_users_that_were_sent_before_the_connection_was_lost_are_kept(server: Server) -> None:
    duplicate = {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 11000}]}
    chosen = Chosen(users=({"_id": "shop.ann"},), roles=(), skipped=())  # type: ignore[arg-type]
    with Target("", wait=lambda _: None) as opened:
        server.will({"ok": 1}, {"ok": 1}, AutoReconnect("lost"), duplicate)
        accounts.put(opened, "r1", chosen)
        server.will({"ok": 1}, {"ok": 1}, duplicate)
        with pytest.raises(LucidError):
            accounts.put(opened, "r1", chosen)
