"""A swap always ends: what can never be put in place is refused before it, or told at its end (rule 2.2)."""

from collections.abc import Iterator

import pytest
from deployment import Client, Snapshot, load, now, oplog, take
from test_restore_swap import RUN, CrashError, Crashing, restores

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.journal import SwapState
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.port import Swapped
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target
from lucid_storage.stores.mongodb.restore.views import same_view
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


@pytest.fixture
def longer(client: Client, database: str) -> Iterator[str]:
    """Another database, with a longer name."""
    yield f"{database}_longer"
    client.drop_database(f"{database}_longer")


def stage(
    uri: str,
    base: Snapshot,
    source: str,
    into: str = "",
    entries: tuple[bytes, ...] = (),
    server: type[Target] = Target,
) -> None:
    with server(uri) as target:
        staging = Staging(target, RUN, {source: into or source}, everything([source]), base.moment)
        load(staging, base)
        staging.replay(entries, (2**31, 0))
        staging.ready(staging.finish())


async def swapped(uri: str, database: str, *, consent: bool = True) -> Swapped:
    """In one go, as the operator does it."""
    async with restores(uri) as port:
        assert await port.unfit(RUN, [database], drop_existing=consent) is None
        done = await port.swap(RUN, [database], drop_existing=consent, keep_minutes=60)
        journal = await port.journal([database], RUN)
        assert journal is not None
        assert journal.state is SwapState.SWAPPED
        # Who comes again hears the same.
        assert await port.swap(RUN, [database], drop_existing=consent, keep_minutes=60) == done
    return done


class TestLost:
    """What somebody takes away while it is swapped."""

    @pytest.fixture
    def base(self, client: Client, database: str) -> Snapshot:
        live = client[database]
        for name in ("a", "b"):
            live[name].insert_one({"_id": 1, "state": "backup"})
            live[name].create_index("at", expireAfterSeconds=10**8)
        base = take(client, database)
        for name in ("a", "b"):
            live[name].update_many({}, {"$set": {"state": "live"}})
        return base

    async def interrupted(self, uri: str, database: str, commands: int) -> None:
        async with restores(uri, Crashing(commands)) as port:
            with pytest.raises(CrashError):
                await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)

    async def test_an_application_that_replaces_one_keeps_no_other_from_its_place(
        self, mongodb: MongoDB, client: Client, database: str, base: Snapshot
    ) -> None:
        live = client[database]
        stage(mongodb.uri, base, database)
        await self.interrupted(mongodb.uri, database, 3)  # the journal, `a` away, `a` in place
        live.source.insert_one({"_id": 7})
        live.source.aggregate([{"$out": "a"}])
        done = await swapped(mongodb.uri, database)
        (old,) = [d["name"] for d in live.list_collections() if d["name"] == f"lucid_old_{RUN}_1"]
        kept = f"what was there before it stays as {database}.{old}"
        said = f"{database}.a was replaced by somebody during the swap; {kept}"
        assert (done.collections, done.left) == (1, (said,))
        assert (live.a.find_one(), live.b.find_one()) == ({"_id": 7}, {"_id": 1, "state": "backup"})
        assert live.b.index_information()["at_1"]["expireAfterSeconds"] == 10**8
        async with restores(mongodb.uri) as port:
            await port.drop_old(RUN, [database])
            assert await port.journal([database], RUN) is None
        # Of what was lost nothing is dropped; of the other, what it replaced.
        assert live[old].find_one() == {"_id": 1, "state": "live"}
        assert not live[f"lucid_old_{RUN}_2"].count_documents({})

    async def test_one_whose_staged_collection_is_dropped_is_as_it_was(
        self, mongodb: MongoDB, client: Client, database: str, base: Snapshot
    ) -> None:
        live = client[database]
        stage(mongodb.uri, base, database)
        await self.interrupted(mongodb.uri, database, 1)  # the journal
        live[f"lucid_stg_{RUN}_1"].drop()
        done = await swapped(mongodb.uri, database)
        said = f"{database}.a is as it was before, since somebody dropped what was staged for it"
        assert (done.collections, done.left) == (1, (said,))
        assert (live.a.find_one(), live.b.find_one()) == (
            {"_id": 1, "state": "live"},
            {"_id": 1, "state": "backup"},
        )

    async def test_one_that_waits_for_somebody_keeps_no_other_from_its_place(
        self, mongodb: MongoDB, client: Client, database: str, base: Snapshot
    ) -> None:
        live = client[database]
        stage(mongodb.uri, base, database)
        await self.interrupted(mongodb.uri, database, 2)  # the journal, `a` away
        live.command({"create": "a", "viewOn": "b", "pipeline": []})
        async with restores(mongodb.uri) as port:
            with pytest.raises(LucidError) as waits:
                await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
        assert "drop or rename it" in waits.value.message
        assert live.b.find_one() == {"_id": 1, "state": "backup"}
        live.a.drop()
        assert (await swapped(mongodb.uri, database)).left == ()
        assert live.a.find_one() == {"_id": 1, "state": "backup"}


class TestNames:
    """A name that no rename can give is refused before anything is swapped."""

    @pytest.mark.parametrize("kind", ["collection", "view"])
    def test_one_that_is_too_long_in_the_other_database_is_refused(
        self, mongodb: MongoDB, client: Client, database: str, longer: str, kind: str
    ) -> None:
        live, name = client[database], "n" * (255 - len(database) - 1)
        live.a.insert_one({"_id": 1})
        base = take(client, database)
        if kind == "view":
            live.command({"create": name, "viewOn": "a", "pipeline": []})
        else:
            live[name].insert_one({"_id": 1})
        entries = tuple(oplog(client, base.moment))
        base.moment = now(client)  # made while the dump ran
        with pytest.raises(LucidError) as refused:
            stage(mongodb.uri, base, database, longer, entries)
        assert refused.value.reason is Reason.RESTORE_BLOCKED
        assert "targetDatabase" in refused.value.message


class TestViews:
    """They are replaced together."""

    async def test_those_that_face_each_other_the_other_way_round_are_replaced(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        live = client[database]
        live.c.insert_one({"_id": 1})
        live.command({"create": "a", "viewOn": "b", "pipeline": []})
        live.command({"create": "b", "viewOn": "c", "pipeline": []})
        base = take(client, database)
        live.a.drop()
        live.b.drop()
        live.command({"create": "b", "viewOn": "a", "pipeline": []})
        live.command({"create": "a", "viewOn": "c", "pipeline": []})
        stage(mongodb.uri, base, database)
        assert (await swapped(mongodb.uri, database)).left == ()
        facing = {d["name"]: d["options"]["viewOn"] for d in live.list_collections(filter={"type": "view"})}
        assert facing == {"a": "b", "b": "c"}
        assert live.a.find_one() == {"_id": 1}

    async def test_one_of_another_collation_is_replaced_with_what_faces_it(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        live, collation = client[database], {"locale": "en", "strength": 2}
        live.c.insert_many([{"_id": 1, "x": "A"}, {"_id": 2, "x": "a"}])
        live.command({"create": "v", "viewOn": "c", "pipeline": [], "collation": collation})
        live.command({"create": "w", "viewOn": "v", "pipeline": [], "collation": collation})
        base = take(client, database)
        live.w.drop()
        live.v.drop()
        live.command({"create": "v", "viewOn": "c", "pipeline": []})
        live.command({"create": "w", "viewOn": "v", "pipeline": []})
        stage(mongodb.uri, base, database)
        async with restores(mongodb.uri) as port:
            refused = await port.unfit(RUN, [database], drop_existing=False)
        assert refused is not None
        assert (await swapped(mongodb.uri, database)).left == ()
        assert live.v.count_documents({"x": "a"}) == live.w.count_documents({"x": "a"}) == 2

    async def test_a_crash_between_any_two_commands_is_made_good(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        live = client[database]
        live.c.insert_one({"_id": 1})
        live.command({"create": "v", "viewOn": "c", "pipeline": [], "collation": {"locale": "en"}})
        live.command({"create": "w", "viewOn": "c", "pipeline": []})
        base = take(client, database)
        live.v.drop()
        live.w.drop()
        live.command({"create": "v", "viewOn": "c", "pipeline": []})
        live.command({"create": "w", "viewOn": "d", "pipeline": []})
        stage(mongodb.uri, base, database)
        for commands in (3, 1, 1):  # the swap of `c`, then a command more each time
            async with restores(mongodb.uri, Crashing(commands)) as port:
                with pytest.raises(CrashError):
                    await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
        assert (await swapped(mongodb.uri, database)).left == ()
        for definition in base.definitions:
            if definition.type == "view":
                (found,) = live.list_collections(filter={"name": definition.name})
                assert found["options"] == definition.options

    async def test_one_that_the_server_refuses_beside_others_is_told(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        live = client[database]
        live.c.insert_one({"_id": 1})
        live.command({"create": "v", "viewOn": "c", "pipeline": [], "collation": {"locale": "en"}})
        base = take(client, database)
        live.v.drop()
        live.command({"create": "other", "viewOn": "v", "pipeline": []})  # not in the backup, of no collation
        stage(mongodb.uri, base, database)
        done = await swapped(mongodb.uri, database)
        (said,) = done.left
        assert said.startswith(f"the view {database}.v is not there (")
        assert done.collections == 1
        assert live.c.find_one() == {"_id": 1}

    def test_one_that_the_server_does_not_know_is_refused_before_anything_is_swapped(
        self, mongodb: MongoDB, client: Client, database: str, longer: str
    ) -> None:
        live = client[database]
        live.c.insert_one({"_id": 1})
        live.command({"create": "v", "viewOn": "c", "pipeline": [{"$match": {"x": 1}}]})
        base = take(client, database)
        (view,) = [d for d in base.definitions if d.name == "v"]
        view.options["pipeline"] = [{"$project": {"x": {"$operatorOfALaterServer": 1}}}]
        with pytest.raises(LucidError) as refused:
            stage(mongodb.uri, base, database, longer)
        assert refused.value.reason is Reason.NOT_SUPPORTED
        assert "OfALaterServer" in refused.value.message

    async def test_one_that_is_left_out_anyway_refuses_nothing(
        self, mongodb: MongoDB, client: Client, database: str, longer: str
    ) -> None:
        """Nobody knows what a stage of a later server reads."""
        live = client[database]
        live.c.insert_one({"_id": 1})
        live.command({"create": "v", "viewOn": "c", "pipeline": [{"$match": {"x": 1}}]})
        base = take(client, database)
        (view,) = [d for d in base.definitions if d.name == "v"]
        view.options["pipeline"] = [{"$stageOfALaterServer": {}}]
        stage(mongodb.uri, base, database, longer)
        (said,) = (await swapped(mongodb.uri, longer)).left
        assert said.startswith(f"the view {longer}.v is left out")
        assert client[longer].c.find_one() == {"_id": 1}

    async def test_one_that_needs_an_index_is_no_matter(
        self, mongodb: MongoDB, client: Client, database: str, longer: str
    ) -> None:
        live, near = client[database], {"type": "Point", "coordinates": [0, 0]}
        live.c.insert_one({"_id": 1, "place": near, "t": "x"})
        live.c.create_index([("place", "2dsphere")])
        live.c.create_index([("t", "text")])
        text = [{"$match": {"$text": {"$search": "x"}}}]
        for name, pipeline in (
            ("near", [{"$geoNear": {"near": near, "distanceField": "d"}}]),
            ("text", text),
            ("more", [{"$unionWith": {"coll": "c", "pipeline": text}}]),
            ("joined", [{"$lookup": {"from": "c", "pipeline": text, "as": "x"}}]),
        ):
            live.command({"create": name, "viewOn": "c", "pipeline": pipeline})
        base = take(client, database)
        stage(mongodb.uri, base, database, longer)
        assert (await swapped(mongodb.uri, longer)).left == ()
        assert [len(list(client[longer][v].find())) for v in ("near", "text", "more", "joined")] == [
            1,
            1,
            2,
            1,
        ]


def test_views_differ_by_their_collation_and_not_by_the_version_of_its_library() -> None:
    one = {"viewOn": "c", "pipeline": [], "collation": {"locale": "en", "strength": 2, "version": "57.1"}}
    assert same_view(one, {**one, "collation": {"locale": "en", "strength": 2, "version": "74.2"}})
    assert not same_view(one, {**one, "collation": {"locale": "en", "strength": 3, "version": "57.1"}})
    assert not same_view(one, {**one, "collation": None})
    assert same_view(
        {"viewOn": "c", "pipeline": []}, {"viewOn": "c", "pipeline": (), "collation": {"locale": "simple"}}
    )


class TestExpiry:
    """Switched on where a server lets it."""

    async def test_of_a_text_index_which_expires_nothing_it_is_left_off(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        live = client[database]
        live.a.insert_one({"t": "x"})
        live.a.create_index([("t", "text")], expireAfterSeconds=60)
        live.a.create_index("at", expireAfterSeconds=10**8)
        base = take(client, database)
        stage(mongodb.uri, base, database)
        assert (await swapped(mongodb.uri, database)).left == ()
        indexes = live.a.index_information()
        assert indexes["at_1"]["expireAfterSeconds"] == 10**8
        assert indexes["t_text"]["weights"] == {"t": 1}

    async def test_of_a_server_before_5_1_it_is_built_with_the_index_and_shortened(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        class Older(Target):
            def turns_into_ttl(self) -> bool:
                return False

        live = client[database]
        live.a.insert_one({"x": 1})
        live.a.create_index("at", expireAfterSeconds=10**8)
        live.a.create_index("x", unique=True)
        base = take(client, database)
        stage(mongodb.uri, base, database, server=Older)
        staged = live[f"lucid_stg_{RUN}_1"].index_information()
        assert staged["at_1"]["expireAfterSeconds"] == 2**31 - 1
        assert "expireAfterSeconds" not in staged["x_1"]
        await swapped(mongodb.uri, database)
        assert live.a.index_information()["at_1"]["expireAfterSeconds"] == 10**8

    async def test_one_that_the_server_refuses_is_told(
        self, mongodb: MongoDB, client: Client, database: str
    ) -> None:
        live = client[database]
        live.a.insert_one({"x": 1})
        live.a.create_index("at", expireAfterSeconds=10**8)
        base = take(client, database)
        stage(mongodb.uri, base, database)
        async with restores(mongodb.uri, Crashing(3)) as port:
            with pytest.raises(CrashError):
                await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
        live.a.drop_index("at_1")
        live.a.create_index([("at", 1), ("x", 1)], name="at_1")  # which no server makes expire
        done = await swapped(mongodb.uri, database)
        assert done.collections == 1
        (said,) = done.left
        assert said.startswith(f"an expiry of {database}.a is off (")
