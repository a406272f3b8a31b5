"""A full during which definitions changed comes back as the database was at its end (rule 1.2, 1.7)."""

import io
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chain_bed import Chain
from definitions_script import Definitions
from dump_bed import once
from pymongo import MongoClient
from restore_bed import restored, whole

from lucid_storage.archive.manifest import Manifest, ProofLevel
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs import mongodb_full
from lucid_storage.jobs.notes import Note
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.restore_proof import VERIFY_VARIABLE, prove_by_restore
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.backup import BackupType, MongoSelection
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

MOMENTS = ("listed", "read", "ended")
"""Just before the collections are listed, while documents are read, and before the oplog is taken."""


@pytest.fixture
def names(client: MongoClient[Any]) -> Iterator[list[str]]:
    """Databases of the test's own, the last of which is a target."""
    made = [f"ddl_{uuid.uuid4().hex[:8]}_{name}" for name in ("kept", "remade", "new", "target")]
    yield made
    for name in made:
        client.drop_database(name)


@pytest.fixture
def chain(mongodb_rs3: MongoDB, names: list[str], tmp_path: Path) -> Iterator[Chain]:
    with closing(Chain(tmp_path, mongodb_rs3.uri, MongoSelection(databases=names[:3]))) as made:
        yield made


def before(monkeypatch: pytest.MonkeyPatch, name: str, action: Callable[[], None]) -> None:
    """Has a part of the dump wait for an action."""
    original = getattr(mongodb_full, name)

    def acting(*arguments: Any, **options: Any) -> Any:
        action()
        return original(*arguments, **options)

    monkeypatch.setattr(mongodb_full, name, acting)


def compare(client: MongoClient[Any], expected: dict[str, Any]) -> None:
    """Each part by itself, so that a difference is told by its name."""
    for database, collections in expected.items():
        now = whole(client, database)
        assert sorted(now) == sorted(collections)
        for collection, there in collections.items():
            assert now[collection] == there, collection


def test_what_changed_while_the_dump_ran_comes_back_as_it_was_at_its_end(
    client: MongoClient[Any], chain: Chain, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kept, remade, new, target = names
    scripts = {moment: Definitions(client, kept, moment) for moment in MOMENTS}
    for moment, script in scripts.items():
        script.make(megabytes=16 if moment == "read" else 0)
    Definitions(client, remade, "old").make()
    done: list[str] = []

    def act(moment: str) -> None:
        scripts[moment].change()
        client[new][f"{moment}_first"].insert_one({"_id": moment})
        if moment == "read":
            client.drop_database(remade)
            client[remade].young.insert_one({"_id": "young"})
            client[new].command("create", "view", viewOn="read_first", pipeline=[])
        done.append(moment)

    before(monkeypatch, "collections", lambda: act("listed"))
    before(monkeypatch, "newest", lambda: act("ended"))
    full = chain.back_up(BackupType.FULL, gate=once(lambda: act("read")))
    assert done == list(MOMENTS), "the dump began again, or a moment did not come"

    at_end = {name: whole(client, name) for name in names[:3]}
    assert {"read_made", "read_view_new", "read_series_new"} <= set(at_end[kept])
    for name in names[:3]:
        client.drop_database(name)
    told = restored(chain, full.id)
    assert told.ok, told.message
    compare(client, at_end)
    chosen = restored(
        chain, full.id, source_database=kept, target_database=target, collections=("read_made",)
    )
    assert whole(client, target) == {"read_made": at_end[kept]["read_made"]}
    assert chosen.ok
    adding: dict[str, Any] = {"in_place": True, "drop_existing": False}
    for gone, more in (("listed_dropped", {}), ("ended_dropped", {}), ("ended_dropped", adding)):
        asked = {"source_database": kept, "target_database": target, "collections": (gone,), **more}
        with pytest.raises(LucidError, match=f"no collection {gone} at that moment") as refused:
            restored(chain, full.id, **asked)
        assert refused.value.reason is Reason.RESTORE_BLOCKED
    assert list(whole(client, target)) == ["read_made"]


def test_what_changed_behind_a_full_comes_back(
    client: MongoClient[Any], chain: Chain, names: list[str]
) -> None:
    kept, remade, new, _ = names
    script = Definitions(client, kept, "behind")
    script.make()
    Definitions(client, remade, "old").make()
    chain.back_up(BackupType.FULL)
    script.change()
    client.drop_database(remade)
    Definitions(client, remade, "young").make()
    client[new].command("create", "view", viewOn="nothing", pipeline=[])
    backup = chain.back_up(BackupType.INCREMENTAL)
    at_end = {name: whole(client, name) for name in names[:3]}
    for name in names[:3]:
        client.drop_database(name)
    told = restored(chain, backup.id)
    assert told.ok, told.message
    compare(client, at_end)


def test_a_database_that_was_made_while_the_dump_ran_is_part_of_it(
    client: MongoClient[Any], chain: Chain, names: list[str]
) -> None:
    """Nothing of it is in the list of collections: all that there is of it lies in the dump's oplog."""
    kept, _, new, target = names
    client[kept].a.insert_one({"_id": 1})
    full = chain.back_up(BackupType.FULL, gate=once(lambda: client[new].late.insert_one({"_id": "late"})))
    client[new].late.insert_one({"_id": "later"})
    after = chain.back_up(BackupType.INCREMENTAL)
    expected = {full.id: ["late"], after.id: ["late", "later"]}
    for backup, there in expected.items():
        for more in ({}, {"collections": ("late",)}):
            told = restored(chain, backup, source_database=new, target_database=target, **more)
            assert told.ok, told.message
            assert [d["_id"] for d in client[target].late.find(sort=[("_id", 1)])] == there
    client[target].late.insert_one({"_id": "mine"})
    with pytest.raises(LucidError) as refused:
        restored(chain, full.id, source_database=new, target_database=target, drop_existing=False)
    assert refused.value.reason is Reason.TARGET_NOT_EMPTY
    assert [d["_id"] for d in client[target].late.find(sort=[("_id", 1)])] == ["late", "later", "mine"]
    both = restored(chain, full.id, plan_only=True)
    assert set(both.databases) == {kept, new}


def proved(chain: Chain, manifest: Manifest) -> tuple[ProofLevel, str, Note | None]:
    """What `verify: Restore` says on the server that was read."""
    order = chain.order(BackupType(manifest.kind))
    environ = {VERIFY_VARIABLE: chain.uri}
    return prove_by_restore(order, chain.place, manifest, environ, Reporter(out=io.StringIO()), Stop())


def test_a_full_of_nothing_but_what_was_written_while_it_ran_is_proved_by_its_replay(
    client: MongoClient[Any], chain: Chain, names: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    live = client[names[0]]

    def write() -> None:
        live.late.insert_many([{"_id": n} for n in range(3)])
        live.late.update_one({"_id": 1}, {"$set": {"n": 1}})
        live.late.delete_one({"_id": 2})

    before(monkeypatch, "newest", write)
    full = chain.back_up(BackupType.FULL)
    assert full.mongodb is not None
    assert full.mongodb.collections == ()
    assert proved(chain, full) == (ProofLevel.RESTORE, "", None)
    # A manifest that holds more than the archive's oplog: nothing else could tell that a write is missing.
    more = [count.model_copy(update={"inserts": count.inserts + 1}) for count in full.mongodb.operations]
    engine = full.engines[0].model_copy(
        update={"mongodb": full.mongodb.model_copy(update={"operations": tuple(more)})}
    )
    level, message, note = proved(chain, full.model_copy(update={"engines": (engine,)}))
    assert (level, note) == (ProofLevel.RESTORE, None)
    assert f"3 inserts were replayed on {names[0]}.late, and the backup {full.id} holds 4" in message
    assert [name for name in client.list_database_names() if name.startswith("lucid_stg_")] == []


def test_a_backup_of_nothing_is_good_and_not_called_restored(
    client: MongoClient[Any], chain: Chain, names: list[str]
) -> None:
    full = chain.back_up(BackupType.FULL)
    for manifest in (full, chain.back_up(BackupType.INCREMENTAL)):
        level, message, note = proved(chain, manifest)
        assert (level, message) == (ProofLevel.CHECKSUM, "")
        assert note is not None
        assert "not restored, since it holds no database" in note.message


def test_views_that_were_dropped_all_at_once_do_not_come_back(
    client: MongoClient[Any], chain: Chain, names: list[str]
) -> None:
    """While a full ran, and behind it; one of them gave its name to a collection."""
    live = client[names[0]]
    live.c.insert_one({"_id": 1})
    ends = []

    def drop_all() -> None:
        for name in ("v", "w"):
            live.command("create", name, viewOn="c", pipeline=[])
        live.drop_collection("system.views")
        live.w.insert_one({"_id": len(ends)})

    live.command("create", "old", viewOn="c", pipeline=[])
    ends.append((chain.back_up(BackupType.FULL, gate=once(drop_all)), whole(client, names[0])))
    live.drop_collection("w")
    live.command("create", "old", viewOn="c", pipeline=[])
    drop_all()
    ends.append((chain.back_up(BackupType.INCREMENTAL), whole(client, names[0])))
    for backup, at_end in ends:
        assert sorted(at_end) == ["c", "w"]
        client.drop_database(names[0])
        told = restored(chain, backup.id)
        assert told.ok, told.message
        compare(client, {names[0]: at_end})


def test_a_full_that_no_server_takes_is_not_called_good(
    client: MongoClient[Any], chain: Chain, names: list[str]
) -> None:
    """What a document held before and after it changed is together more than a server takes."""
    live, half = client[names[0]], 9 * 2**20
    live.c.insert_many([{"_id": n, "x": "y" * 1_000_000} for n in range(14)])
    live.c.insert_one({"_id": "k", "old": "x" * half})

    def change() -> None:
        live.c.update_one({"_id": "k"}, {"$set": {"old": "y" * half}})
        live.c.update_one({"_id": "k"}, {"$set": {"new": "small"}, "$unset": {"old": 1}})
        live.c.update_one({"_id": "k"}, {"$set": {"new": "x" * half}})

    full = chain.back_up(BackupType.FULL, gate=once(change))
    level, message, note = proved(chain, full)
    assert (level, note) == (ProofLevel.RESTORE, None)
    assert message.startswith(f"A document of {names[0]}.c has more than the 16 MiB that a server takes")
    with pytest.raises(LucidError) as failed:
        restored(chain, full.id)
    assert failed.value.reason is Reason.CONTENT_REFUSED
