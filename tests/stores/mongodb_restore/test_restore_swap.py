"""The journaled swap: untouched before its first rename, finished after it, whoever dies where (rule 2.2)."""

from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager

import bson
import pytest
from deployment import Client, Snapshot, content, load, take

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.catalog import View
from lucid_storage.stores.mongodb.restore.finishing import Expiry
from lucid_storage.stores.mongodb.restore.journal import Direct, Journal, Pair, SwapState, parsed
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.port import Marker
from lucid_storage.stores.mongodb.restore.space import direct_uri
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.swapping import Lost, Rename, next_step
from lucid_storage.stores.mongodb.restore.target import Target
from testbed.stores.mongodb import MongoDB

RUN = "run1"
PAIR = Pair(1, "shop", "orders", "lucid_stg_run1_1", "s", live_uuid="l")


class TestNextStep:
    """Found anew from what is there."""

    def test_the_live_collection_goes_first(self) -> None:
        assert next_step(PAIR, RUN, {"orders": "l", "lucid_stg_run1_1": "s"}) == Rename(
            "shop", "orders", "lucid_old_run1_1", "l"
        )

    def test_then_the_staged_one_takes_its_name(self) -> None:
        assert next_step(PAIR, RUN, {"lucid_old_run1_1": "l", "lucid_stg_run1_1": "s"}) == Rename(
            "shop", "lucid_stg_run1_1", "orders", "s"
        )

    def test_then_it_is_done(self) -> None:
        assert next_step(PAIR, RUN, {"lucid_old_run1_1": "l", "orders": "s"}) is None

    def test_what_came_up_in_the_gap_is_moved_aside(self) -> None:
        there = {
            "lucid_old_run1_1": "l",
            "lucid_stg_run1_1": "s",
            "orders": "x",
            "lucid_old_run1_1_aside1": "y",
        }
        assert next_step(PAIR, RUN, there) == Rename("shop", "orders", "lucid_old_run1_1_aside2", "x")

    def test_a_staged_collection_that_is_gone_is_lost(self) -> None:
        assert next_step(PAIR, RUN, {"orders": "l"}) == Lost(PAIR)


def test_a_journal_reads_back_as_it_was_written() -> None:
    journal = Journal(
        RUN,
        SwapState.READY,
        (Pair(1, "shop", "a", "lucid_stg_run1_1", "s", None, (Expiry("at_1", 60), Expiry(None, 5))),),
        (View("shop", "v", "a", ({"$match": {"x": 1}},), {"locale": "fr"}),),
        (Direct("shop", "ts", "u"), Direct("other", "ts")),
        {"namespace": "n"},
    )
    assert parsed(bson.decode(bson.encode(journal.document()))) == journal
    assert journal.databases == ("other", "shop")


def test_a_member_is_asked_with_the_same_login() -> None:
    uri = "mongodb://u:p%40x@a:1,b:2/db?replicaSet=rs0&authSource=admin&tls=true"
    assert (
        direct_uri(uri, "b:2") == "mongodb://u:p%40x@b:2/db?authSource=admin&tls=true&directConnection=true"
    )
    assert direct_uri("mongodb+srv://x.example/db", "b:2") is None


class CrashError(Exception):
    """The process died."""


class Crashing:
    """A guard that lets so many writing commands through."""

    def __init__(self, commands: int | None = None) -> None:
        self.left = commands
        self.seen = 0

    def __call__(self) -> None:
        if self.left is not None and self.seen >= self.left:
            raise CrashError
        self.seen += 1


@asynccontextmanager
async def restores(uri: str, guard: Callable[[], None] = lambda: None) -> Iterator[MongoRestores]:
    made = MongoRestores(uri, label="the test's MongoDB", app_name="lucid-test", guard=guard)
    try:
        yield made
    finally:
        await made.close()


def backup_of(client: Client, database: str) -> Snapshot:
    """Two collections, a view, an expiry; then the live ones change."""
    live = client[database]
    live.a.insert_many([{"_id": n, "state": "backup"} for n in range(5)])
    live.a.create_index("at", expireAfterSeconds=10**8)
    live.a.create_index("state", unique=False)
    live.b.insert_one({"_id": 1, "state": "backup"})
    live.command({"create": "v", "viewOn": "a", "pipeline": []})
    base = take(client, database)
    live.a.update_many({}, {"$set": {"state": "live"}})
    live.b.drop()
    live.c.insert_one({"_id": 1, "state": "other"})
    live.v.drop()
    return base


def stage(uri: str, base: Snapshot, database: str, run: str = RUN) -> None:
    with Target(uri) as target:
        staging = Staging(target, run, {database: database}, everything([database]), base.moment)
        load(staging, base)
        staging.ready(staging.finish())


def live_state(client: Client, database: str) -> dict[str, object]:
    """All that an application sees."""
    return {
        "documents": content(client, database),
        "collections": sorted(
            (
                found["name"],
                found["type"],
                str(found["options"]),
                str(found["info"].get("uuid")),
            )
            for found in client[database].list_collections()
            if not found["name"].startswith(("lucid_", "system."))
        ),
    }


@pytest.mark.mongodb
class TestSwap:
    async def test_it_ends_as_the_backup_was(self, mongodb: MongoDB, client: Client, database: str) -> None:
        base = backup_of(client, database)
        stage(mongodb.uri, base, database)
        live = client[database]
        old = next(iter(live.list_collections(filter={"name": "a"})))["info"]["uuid"]
        async with restores(mongodb.uri) as port:
            done = await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
            assert (done.collections, done.moved_aside) == (2, ())
            assert {d["state"] for d in live.a.find()} == {"backup"}
            assert live.b.count_documents({}) == 1
            assert live.v.count_documents({}) == 5
            assert live.c.count_documents({}) == 1  # not in the backup: left alone
            assert live.a.index_information()["at_1"]["expireAfterSeconds"] == 10**8
            kept = {
                found["info"]["uuid"]: found["name"]
                for found in live.list_collections(filter={"type": "collection"})
            }
            assert {d["state"] for d in live[kept[old]].find()} == {"live"}
            assert await port.drop_old(RUN, [database]) == ()
            assert await port.journal([database], RUN) is None
        assert not [name for name in live.list_collection_names() if name.startswith("lucid_old_")]

    async def test_a_crash_between_any_two_commands_harms_nothing(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        base = backup_of(client, database)
        stage(mongodb.uri, base, database)
        before = live_state(client, database)
        async with restores(mongodb.uri, Crashing(0)) as port:
            with pytest.raises(CrashError):
                await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
        assert live_state(client, database) == before
        finished, commands = None, 0
        while finished is None:
            # Each process dies, a little later than the one before, and the next one goes on.
            async with restores(mongodb.uri, Crashing(1 + commands // 3)) as port:
                try:
                    finished = await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
                except CrashError:
                    commands += 1
            async with restores(mongodb.uri) as port:
                journal = await port.journal([database], RUN)
            assert journal is not None
            assert journal.state is not SwapState.READY
            assert commands < 30
        assert commands >= 4
        assert {d["state"] for d in client[database].a.find()} == {"backup"}
        assert client[database].b.count_documents({}) == 1
        assert client[database].v.count_documents({}) == 5

    @pytest.mark.parametrize("commands", range(1, 7))
    async def test_after_a_crash_at_any_step_the_next_one_finishes(
        self, mongodb: MongoDB, client: Client, database: str, commands: int
    ) -> None:
        base = backup_of(client, database)
        stage(mongodb.uri, base, database)
        async with restores(mongodb.uri, Crashing(commands)) as port:
            with pytest.raises(CrashError):
                await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
            assert not await port.discard(RUN, [database])  # past the point of no return
        async with restores(mongodb.uri) as port:
            done = await port.swap(
                RUN, [database], drop_existing=False, keep_minutes=0
            )  # consent was given before the seal
        assert done.collections == 2
        assert {d["state"] for d in client[database].a.find()} == {"backup"}

    async def test_a_collection_made_in_the_gap_is_moved_aside_and_told(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        base = backup_of(client, database)
        stage(mongodb.uri, base, database)
        async with restores(mongodb.uri, Crashing(2)) as port:  # the journal, and the live `a` out of the way
            with pytest.raises(CrashError):
                await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
        client[database].a.insert_one({"_id": "gap"})
        async with restores(mongodb.uri) as port:
            done = await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
            (aside,) = done.moved_aside
            name = aside.partition(".")[2]
            await port.drop_old(RUN, [database])
        assert [d["_id"] for d in client[database][name].find()] == ["gap"]
        assert client[database].a.count_documents({}) == 5

    @pytest.mark.parametrize("consent", [False, True])
    async def test_what_is_written_behind_the_last_look_is_dropped_with_consent_only(
        self, mongodb: MongoDB, client: Client, database: str, consent: bool
    ) -> None:
        base = backup_of(client, database)
        client[database].a.delete_many({})
        stage(mongodb.uri, base, database)
        async with restores(mongodb.uri, Crashing(1)) as port:  # the journal
            with pytest.raises(CrashError):
                await port.swap(RUN, [database], drop_existing=consent, keep_minutes=0)
        client[database].a.insert_one({"_id": "late"})
        async with restores(mongodb.uri) as port:
            done = await port.swap(RUN, [database], drop_existing=consent, keep_minutes=0)
            stays = await port.drop_old(RUN, [database])
            assert await port.journal([database], RUN) is None
        assert client[database].a.count_documents({}) == 5
        old = [name for name in client[database].list_collection_names() if name.startswith("lucid_old_")]
        assert stays == done.moved_aside == tuple(f"{database}.{name}" for name in old)
        assert len(old) == (0 if consent else 1)
        assert [d["_id"] for name in old for d in client[database][name].find()] == ["late"] * len(old)

    async def test_without_consent_nothing_is_replaced(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        base = backup_of(client, database)
        stage(mongodb.uri, base, database)
        before = live_state(client, database)
        async with restores(mongodb.uri) as port:
            with pytest.raises(LucidError) as refused:
                await port.swap(RUN, [database], drop_existing=False, keep_minutes=0)
            assert refused.value.reason is Reason.TARGET_NOT_EMPTY
            assert "dropExisting" in refused.value.message
            assert await port.discard(RUN, [database])
        assert live_state(client, database) == before
        assert not [n for n in client[database].list_collection_names() if n.startswith(f"lucid_stg_{RUN}")]

    async def test_an_empty_collection_counts_as_absent(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        base = backup_of(client, database)
        client[database].a.delete_many({})
        stage(mongodb.uri, base, database)
        async with restores(mongodb.uri) as port:
            await port.swap(RUN, [database], drop_existing=False, keep_minutes=0)
        assert client[database].a.count_documents({}) == 5

    async def test_a_view_facing_a_collection_of_its_name_is_refused(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        base = backup_of(client, database)
        client[database].v.insert_one({"_id": 1})
        stage(mongodb.uri, base, database)
        before = live_state(client, database)
        async with restores(mongodb.uri) as port:
            with pytest.raises(LucidError) as refused:
                await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
        assert refused.value.reason is Reason.RESTORE_BLOCKED
        assert live_state(client, database) == before

    async def test_what_a_dead_worker_staged_is_discarded(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        base = backup_of(client, database)
        before = live_state(client, database)
        with Target(mongodb.uri) as target:
            staging = Staging(target, RUN, {database: database}, everything([database]), base.moment)
            staging.define(base.definitions)
        async with restores(mongodb.uri) as port:
            assert await port.discard(RUN, [database])
        assert live_state(client, database) == before
        assert not [n for n in client[database].list_collection_names() if n.startswith(f"lucid_stg_{RUN}")]

    async def test_a_marker_tells_of_a_finished_restore(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        marker = Marker("c", "id", "ns", "name", "hash", RUN, "Completed")
        async with restores(mongodb.uri) as port:
            assert await port.marker([database], marker.key) is None
            await port.put_marker([database], marker)
            assert await port.marker([database], marker.key) == marker

    async def test_the_free_space_of_each_member_is_read(self, mongodb_rs3: MongoDB) -> None:
        async with restores(mongodb_rs3.uri) as port:
            members = await port.space(["test"])
        assert len(members) == 3
        assert all(member.free_bytes and member.free_bytes > 0 for member in members)
