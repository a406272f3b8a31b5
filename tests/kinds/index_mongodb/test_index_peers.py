"""An index that one resource replaced and another declares by now: it stays, and queries see it."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, cast

import pytest
from index_builder import NAME, NOW, desired, fresh, index, observed, scope, server, status

from lucid_storage.kinds.contract import Scope
from lucid_storage.kinds.index_mongodb.actions import ChangeIndex, DropIndex
from lucid_storage.kinds.index_mongodb.builds import IndexBuilds
from lucid_storage.kinds.index_mongodb.kind import MongoIndexKind
from lucid_storage.kinds.index_mongodb.plan import plan
from lucid_storage.kube.resources import Resource
from lucid_storage.models.index import SupersededIndex
from lucid_storage.stores.mongodb.types import IndexChange, IndexDefinition, IndexState, JsonDoc, ServerInfo

TARGET = "app.users"
OLD = index(NAME)
HIDDEN = index(NAME, hidden=True)
NEW = index(f"{NAME}_g2", sparse=True)
REPLACED = SupersededIndex(index_name=NAME, hidden_at=NOW - timedelta(seconds=5))
SHOW = ChangeIndex(TARGET, NAME, IndexChange(hidden=False))


def peer(name: str = "second", *, server: str = "set-1", **block: Any) -> Resource:
    """Another Index on the collection."""
    mongodb = {"collection": "users", "database": "app", "keys": [{"field": "email", "order": 1}], **block}
    return Resource.from_body(
        "indexes",
        {
            "metadata": {"name": name, "namespace": "ns", "uid": name, "generation": 1},
            "spec": {"engine": "mongodb", "name": name, "mongodb": mongodb},
            "status": {"serverIdentity": server},
        },
    )


def test_one_that_was_hidden_is_shown_again_before_it_is_let_go() -> None:
    known = status(index_name=NEW.name, superseded=[REPLACED])
    claimed = (("second", OLD.definition),)
    made = plan(desired(sparse=True), observed(HIDDEN, NEW, claimed=claimed), known, scope(settled=True))
    assert made.actions == (SHOW,)
    assert [s.index_name for s in made.status.superseded or ()] == [NAME], "on record until it is seen"
    assert "dropped" not in made.message
    then = plan(desired(sparse=True), observed(OLD, NEW, claimed=claimed), made.status, scope(settled=True))
    assert not then.actions
    assert then.status.superseded is None


def test_one_that_is_declared_as_hidden_stays_hidden() -> None:
    known = status(index_name=NEW.name, superseded=[REPLACED])
    claimed = (("second", replace(OLD.definition, hidden=True)),)
    made = plan(desired(sparse=True), observed(HIDDEN, NEW, claimed=claimed), known, scope(settled=True))
    assert not made.actions
    assert made.status.superseded is None


@pytest.mark.parametrize(("server", "shown"), [("set-1", True), ("set-2", False)])
def test_who_adopts_what_another_resource_had_hidden_shows_it(server: str, shown: bool) -> None:
    other = peer(server=server)
    other.status["superseded"] = [{"indexName": NAME, "hiddenAt": "2026-11-21T11:59:55Z"}]
    around = replace(scope(), peers=[other])
    known = fresh().model_copy(update={"server_identity": "set-1"})
    made = plan(desired(), observed(HIDDEN), known, around)
    assert made.actions == ((SHOW,) if shown else ())


def test_an_index_that_somebody_hid_stays_so_and_that_is_said() -> None:
    made = plan(desired(), observed(HIDDEN), fresh(), scope())
    assert not made.actions
    assert "is hidden, so no query uses it" in made.message
    assert not plan(desired(hidden=True), observed(HIDDEN), fresh(), scope()).message


class Port:
    """The indexes of one collection."""

    def __init__(self, *indexes: IndexState, collation: JsonDoc | None = None) -> None:
        self.port = self
        self.primary = IndexState("_id_", IndexDefinition((("_id", 1),), collation=collation))
        self.here = {ix.name: ix for ix in indexes}

    async def __aenter__(self) -> "Port":
        return self

    async def __aexit__(self, *_: object) -> None: ...

    async def mongodb(self, namespace: str, secret: str | None) -> "Port":
        return self

    def watching(self, deployment: "Port") -> "Port":
        return self

    def check_database(self, namespace: str, secret: str | None, database: str) -> None: ...

    async def info(self) -> ServerInfo:
        return server()

    async def indexes(self, database: str, collection: str) -> tuple[IndexState, ...]:
        return (self.primary, *self.here.values())

    async def drop_index(self, database: str, collection: str, name: str) -> None:
        del self.here[name]

    async def change_index(self, database: str, collection: str, name: str, change: IndexChange) -> None:
        found = self.here[name]
        self.here[name] = replace(found, definition=replace(found.definition, hidden=change.hidden))


async def disposed(port: Port, *peers: Resource) -> str:
    kind = MongoIndexKind(cast("Any", port), IndexBuilds(lambda _: None), cast("Any", None))
    known = status(index_name=NEW.name, superseded=[REPLACED], server_identity="set-1")
    around = Scope(now=NOW, settled=True, peers=peers)
    return await kind.dispose(peer("first"), desired(sparse=True), known, around)


async def test_a_deletion_spares_and_shows_a_replaced_index_that_others_declare() -> None:
    port = Port(HIDDEN, NEW)
    said = await disposed(port, peer())
    assert list(port.here) == [NAME]
    assert not port.here[NAME].definition.hidden
    assert f"Others declare {NAME}, which stays." in said
    assert NEW.name in said


async def test_a_deletion_says_what_it_leaves_because_it_was_never_made_as_declared() -> None:
    port = Port(replace(NEW, definition=replace(NEW.definition, unique=True)))
    said = await disposed(port)
    assert list(port.here) == [NEW.name]
    assert f"{NEW.name} is not as this Index declared it last, so it stays" in said
    assert "was gone" not in said


GERMAN: dict[str, Any] = {"collation": {"locale": "de"}}


async def test_a_deletion_spares_what_others_declare_by_the_default_collation_of_the_collection() -> None:
    replaced = index(NAME, hidden=True, **GERMAN)
    port = Port(replaced, index(f"{NAME}_g2", sparse=True, **GERMAN), **GERMAN)
    said = await disposed(port, peer())
    assert list(port.here) == [NAME]
    assert "stays" in said


async def test_drop_first_spares_what_others_declare_by_the_default_collation_of_the_collection() -> None:
    port = Port(index("t", expire_after_seconds=60, **GERMAN), **GERMAN)
    kind = MongoIndexKind(cast("Any", port), IndexBuilds(lambda _: None), cast("Any", None))
    known = status(index_name="t", server_identity="set-1")
    around = replace(scope(), peers=[peer(expireAfterSeconds=60)])
    mine = desired({"replacePolicy": "DropFirst"})
    seen = await kind.observe(peer("first"), mine, known, (), around)
    made = plan(mine, seen, known, around)
    assert not made.actions
    assert made.verdict is not None
    assert "another Index declares it" in made.verdict.message


async def test_a_deletion_drops_a_replaced_index_that_nobody_declares() -> None:
    port = Port(HIDDEN, NEW)
    await disposed(port, peer("other", keys=[{"field": "phone", "order": 1}]))
    assert port.here == {}


def test_drop_first_is_held_back_where_drops_are_forbidden() -> None:
    have = index("t", expire_after_seconds=60)
    forbidden = replace(scope(), forbid_drops=True)
    made = plan(desired({"replacePolicy": "DropFirst"}), observed(have), status(index_name="t"), forbidden)
    assert not made.actions
    assert made.verdict is not None
    assert "FORBID_DROPS" in made.verdict.message


@pytest.mark.parametrize(("declared", "dropped"), [(60, False), (90, True)])
def test_drop_first_spares_an_index_that_another_resource_declares_as_it_is(
    declared: int, dropped: bool
) -> None:
    claimed = (("second", replace(OLD.definition, expire_after_seconds=declared)),)
    seen = observed(index("t", expire_after_seconds=60), claimed=claimed)
    made = plan(desired({"replacePolicy": "DropFirst"}), seen, status(index_name="t"), scope())
    assert any(isinstance(action, DropIndex) for action in made.actions) is dropped
    assert made.verdict is not None
    assert ("another Index declares it" in made.verdict.message) is not dropped


def test_a_replaced_index_goes_also_where_drops_are_forbidden_since_it_would_go_on_acting() -> None:
    have = observed(index(NAME, expire_after_seconds=60), NEW)
    known = status(index_name=NEW.name, superseded=[SupersededIndex(index_name=NAME)])
    made = plan(desired(sparse=True), have, known, replace(scope(settled=True), forbid_drops=True))
    assert [type(a) for a in made.actions] == [DropIndex]
