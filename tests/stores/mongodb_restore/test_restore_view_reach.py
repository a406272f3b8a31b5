"""A restore makes no view that shows its readers another database: they would read it with the operator's rights."""

from collections.abc import Callable

import bson
import pymongo
import pytest
from bson.raw_bson import RawBSONDocument
from deployment import Client, load, now, oplog, take
from test_restore_swap import RUN, restores, stage

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.catalog import Definition, View
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target
from lucid_storage.stores.mongodb.restore.view_reach import beyond
from lucid_storage.stores.mongodb.restore.views import Views
from testbed.stores.mongodb import MongoDB

OPLOG = {"db": "local", "coll": "oplog.rs"}
PEEK = {"$lookup": {"from": OPLOG, "pipeline": [{"$match": {"op": "i"}}], "as": "seen"}}
JOIN = {"$lookup": {"from": "b", "localField": "_id", "foreignField": "_id", "as": "b"}}

WITHIN = {
    "nothing": [],
    "its own documents": [{"$match": {"x": 1}}, {"$group": {"_id": "$x", "n": {"$sum": 1}}}, {"$limit": 3}],
    "a join": [JOIN, {"$unwind": "$b"}],
    "a join by a pipeline": [{"$lookup": {"from": "b", "let": {"x": "$x"}, "pipeline": [JOIN], "as": "b"}}],
    "a join of literals": [{"$lookup": {"pipeline": [{"$documents": [{"x": 1}]}], "as": "b"}}],
    "a graph": [
        {
            "$graphLookup": {
                "from": "b",
                "startWith": "$x",
                "connectFromField": "x",
                "connectToField": "_id",
                "as": "found",
                "maxDepth": 3,
            }
        }
    ],
    "a union": [{"$unionWith": "b"}],
    "a union by a pipeline": [{"$unionWith": {"coll": "b", "pipeline": [{"$unionWith": "c"}]}}],
    "facets": [{"$facet": {"one": [{"$sortByCount": "$x"}], "two": [JOIN]}}],
    "ranks": [{"$rankFusion": {"input": {"pipelines": {"one": [{"$sort": {"x": 1}}]}}}}],
    "a literal that looks like a stage": [{"$project": {"x": {"$literal": PEEK}}}],
    "a field named like a stage": [{"$match": {"db": "local", "from": OPLOG}}],
}
BEYOND = {
    "a join": [PEEK],
    "a join behind another stage": [{"$match": {}}, PEEK],
    "a join of bytes": [RawBSONDocument(bson.encode(PEEK))],
    "a join in a join": [{"$lookup": {"from": "b", "pipeline": [PEEK], "as": "b"}}],
    "a join in a facet": [{"$facet": {"one": [], "two": [PEEK]}}],
    "a join in a union": [{"$unionWith": {"coll": "b", "pipeline": [PEEK]}}],
    "a join in ranks": [{"$rankFusion": {"input": {"pipelines": {"one": [PEEK]}}}}],
    "a join with a field of its own": [{"$lookup": {"from": "b", "db": "other", "as": "b"}}],
    "a graph": [{"$graphLookup": {"from": OPLOG, "startWith": "$x", "as": "found"}}],
    "a union of another database": [{"$unionWith": {"db": "other", "coll": "b"}}],
    "a union of a document": [{"$unionWith": {"coll": OPLOG}}],
    "a stage that writes": [{"$out": {"db": "other", "coll": "b"}}],
    "a stage that writes into what is there": [{"$merge": {"into": {"db": "other", "coll": "b"}}}],
    "a stage of the whole server": [{"$currentOp": {"allUsers": True}}],
    "a stage that is not known": [{"$stageOfALaterServer": {"pipeline": [PEEK]}}],
    "two stages in one": [{"$match": {}, **PEEK}],
    "no stages": ["$lookup"],
    "no list": {"0": PEEK},
    "a facet without a list": [{"$facet": {"one": {"0": PEEK}}}],
}


@pytest.mark.parametrize("pipeline", WITHIN.values(), ids=WITHIN)
def test_a_view_of_its_own_database_is_made(pipeline: object) -> None:
    assert beyond(pipeline) is None


@pytest.mark.parametrize("pipeline", BEYOND.values(), ids=BEYOND)
def test_a_view_that_may_read_another_database_is_not(pipeline: object) -> None:
    assert beyond(pipeline) is not None


@pytest.mark.mongodb
async def test_who_writes_into_the_journal_reads_no_other_database(
    private_mongodb: Callable[..., MongoDB],
) -> None:
    server = private_mongodb(auth=True)
    server.create_user("tenant", "secret", [("readWrite", "mine")])
    entry = {"database": "mine", "name": "peek", "viewOn": "a", "pipeline": [PEEK]}
    with server.client() as root, pymongo.MongoClient(server.uri_for("tenant", "secret")) as tenant:
        root.theirs.secret.insert_one({"_id": 1, "password": "of theirs"})
        root.mine.a.insert_one({"_id": 1})
        stage(server.uri, take(root, "mine"), "mine")
        with pytest.raises(pymongo.errors.OperationFailure):
            tenant.mine.command({"create": "peek", "viewOn": "a", "pipeline": [PEEK]})
        changed = tenant.mine.lucid_stg_journal.update_one({"_id": RUN}, {"$push": {"views": entry}})
        assert changed.modified_count == 1
        async with restores(server.uri) as port:
            with pytest.raises(LucidError) as refused:
                await port.swap(RUN, ["mine"], drop_existing=True, keep_minutes=60)
        assert refused.value.reason is Reason.RESTORE_BLOCKED
        assert "it makes the view mine.peek, which names another database in $lookup" in refused.value.message
        assert list(tenant.mine.peek.find()) == []


@pytest.mark.mongodb
async def test_what_a_backup_holds_of_them_is_left_out_and_named(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    live = client[database]
    live.a.insert_one({"_id": 1})
    live.b.insert_one({"_id": 1, "x": "y"})
    live.command({"create": "peek", "viewOn": "a", "pipeline": [PEEK]})
    live.command({"create": "joined", "viewOn": "a", "pipeline": [JOIN, {"$unionWith": "b"}]})
    base = take(client, database)
    strange = {"viewOn": "a", "pipeline": [PEEK, {"$ofANewerServer": {}}]}
    base.definitions.append(Definition(database, "newer", "view", strange))
    live.command({"create": "later", "viewOn": "a", "pipeline": [PEEK]})
    until = now(client)
    entries = oplog(client, base.moment)
    for name in ("peek", "joined", "later", "a"):
        live.drop_collection(name)
    with Target(mongodb.uri) as target:
        staging = Staging(target, RUN, {database: database}, everything([database]), base.moment)
        load(staging, base)
        staging.replay(entries, until)
        staging.ready(staging.finish())
    async with restores(mongodb.uri) as port:
        assert await port.unfit(RUN, [database], drop_existing=True) is None
        done = await port.swap(RUN, [database], drop_existing=True, keep_minutes=60)
        again = await port.swap(RUN, [database], drop_existing=True, keep_minutes=60)
    told = [
        f"the view {database}.{name} is left out, since it names another database in $lookup"
        for name in ("later", "newer", "peek")
    ]
    assert (list(done.left), list(again.left)) == (told, told)
    views = {found["name"] for found in live.list_collections(filter={"type": "view"})}
    assert views == {"joined"}
    assert [row.get("b") for row in live.joined.find()] == [[{"_id": 1, "x": "y"}], None]


@pytest.mark.mongodb
async def test_whoever_asks_for_one_it_is_not_made(mongodb: MongoDB, client: Client, database: str) -> None:
    client[database].a.insert_one({"_id": 1})
    asked = [View(database, "peek", "a", (PEEK,)), View(database, "fine", "a", (JOIN,))]
    async with restores(mongodb.uri) as port:
        (told,) = await Views(port._commands).put(RUN, asked, consent=True)
    assert told.startswith(f"the view {database}.peek is left out")
    assert {v["name"] for v in client[database].list_collections(filter={"type": "view"})} == {"fine"}
