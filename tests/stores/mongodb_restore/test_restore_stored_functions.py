"""Stored functions, which no server drops: what a restore put there goes where the oplog drops them (rule 2.7)."""

from collections.abc import Iterator

import pytest
from deployment import Client, contents_of, load, now, oplog, parsed, take
from test_restore_swap import restores

from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


@pytest.fixture
def other(client: Client, database: str) -> Iterator[str]:
    yield f"{database}_t"
    client.drop_database(f"{database}_t")


@pytest.mark.parametrize("there", [False, True])
@pytest.mark.parametrize("again", [False, True])
async def test_a_database_with_stored_functions_that_was_dropped_is_restored_to_any_moment_after_it(
    mongodb: MongoDB, client: Client, database: str, other: str, there: bool, again: bool
) -> None:
    live, functions = client[database], client[other]["system.js"]
    live["system.js"].insert_many([{"_id": "f", "value": 1}, {"_id": "g", "value": 1}])
    live.a.insert_one({"_id": 1})
    base = take(client, database)
    live["system.js"].insert_one({"_id": "h", "value": 1})
    client.drop_database(database)
    live.a.insert_one({"_id": 2})
    wanted = []
    if again:
        wanted = [{"_id": "g", "value": 2}]
        live["system.js"].insert_many(wanted)
    if there:
        functions.insert_one({"_id": "x"})
        functions.delete_many({})
    entries, until = oplog(client, base.moment), now(client)
    with Target(mongodb.uri) as target:
        staging = Staging(target, "r1", {database: other}, everything([database]), base.moment)
        load(staging, base)
        staging.replay(entries, until)
        finished = staging.finish()
        assert ({one.name[1] for one in finished} == {"a", "system.js"}) is again
        assert parsed(contents_of(client, staging)["a"]) == [{"_id": 2}]
        staging.ready(finished)
    assert list(functions.find()) == wanted
    async with restores(mongodb.uri) as port:
        if there:
            assert await port.discard("r1", [other])
            wanted = []
        else:
            assert (await port.swap("r1", [other], drop_existing=False, keep_minutes=0)).left == ()
            assert client[other].a.find_one() == {"_id": 2}
    assert list(functions.find()) == wanted
    assert not [name for name in client[other].list_collection_names() if name.endswith("_ids")]


def test_what_an_application_stores_there_meanwhile_stays(
    mongodb: MongoDB, client: Client, database: str, other: str
) -> None:
    live, functions = client[database], client[other]["system.js"]
    live["system.js"].insert_one({"_id": "f", "value": 1})
    base = take(client, database)
    client.drop_database(database)
    with Target(mongodb.uri) as target:
        staging = Staging(target, "r1", {database: other}, everything([database]), base.moment)
        load(staging, base)
        functions.insert_one({"_id": "mine"})
        staging.replay(oplog(client, base.moment), now(client))
        staging.ready(staging.finish())
    assert list(functions.find()) == [{"_id": "mine"}]
