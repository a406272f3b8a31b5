"""The journal lies where an application may write: what somebody adds to it reaches nothing but its own restore."""

from collections.abc import Iterator
from typing import Any

import bson
import pytest
from deployment import Client, Snapshot, take
from test_restore_overdue import replaced, reserved, swept
from test_restore_swap import RUN, CrashError, Crashing, restores, stage

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.mongodb.restore.catalog import View
from lucid_storage.stores.mongodb.restore.journal import Direct, Journal, Pair, SwapState, parsed
from lucid_storage.stores.mongodb.restore.journal_scope import check, within
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target
from testbed.stores.mongodb import MongoDB

OWN = Journal(
    RUN,
    SwapState.READY,
    (Pair(1, "shop", "orders", "lucid_stg_run1_1", "s"),),
    (View("shop", "v", "orders", ()),),
    (Direct("shop", "ts", "u"), Direct("shop", "system.js", listed="lucid_stg_run1_2_ids")),
    fence={"shop": 1},
)

ADDED: dict[str, tuple[str, dict[str, Any]]] = {
    "an expiry": (
        "direct",
        {"name": "accounts", "expiries": [{"index": "createdAt_1", "seconds": 1}]},
    ),
    "a list": ("direct", {"name": "none", "listed": "accounts"}),
    "a collection that the run made": ("direct", {"name": "accounts", "making": True, "madeUuid": "?"}),
    "a view": ("views", {"name": "owed", "viewOn": "nothing", "pipeline": []}),
    "a pair": (
        "pairs",
        {"number": 9, "name": "accounts", "staged": f"lucid_stg_{RUN}_9", "stagedUuid": "?"},
    ),
    "a lease": ("fence", {"number": 1}),
}


class Neighbour:
    """Another tenant's database on the same server."""

    def __init__(self, client: Client, name: str) -> None:
        self.name, self._live = name, client[name]
        self._live.accounts.insert_one({"_id": 1})
        self._live.accounts.create_index("createdAt")
        self._live.command({"create": "owed", "viewOn": "accounts", "pipeline": []})

    @property
    def accounts(self) -> str:
        (found,) = self._live.list_collections(filter={"name": "accounts"})
        return bytes(found["info"]["uuid"]).hex()

    def state(self) -> object:
        found = {str(entry["name"]): str(entry) for entry in self._live.list_collections()}
        return found, list(self._live.owed.find()), self._live.accounts.index_information()


@pytest.fixture
def neighbour(client: Client, database: str) -> Iterator[Neighbour]:
    yield Neighbour(client, f"{database}_other")
    client.drop_database(f"{database}_other")


def staged(uri: str, client: Client, database: str) -> Snapshot:
    client[database].a.insert_one({"_id": 1})
    base = take(client, database)
    client[database].a.update_one({"_id": 1}, {"$set": {"live": True}})
    stage(uri, base, database)
    return base


def add(client: Client, database: str, neighbour: Neighbour, what: str) -> None:
    """With the application's own login, which may write its database."""
    part, entry = ADDED[what]
    known = {key: neighbour.accounts if value == "?" else value for key, value in entry.items()}
    change = {"$push": {part: {"database": neighbour.name, **known}}}
    assert client[database].lucid_stg_journal.update_one({"_id": RUN}, change).modified_count == 1


@pytest.mark.mongodb
@pytest.mark.parametrize("what", ADDED)
async def test_what_names_another_database_is_refused_before_the_swap_and_taken_back_without_it(
    mongodb: MongoDB, client: Client, database: str, neighbour: Neighbour, what: str
) -> None:
    staged(mongodb.uri, client, database)
    add(client, database, neighbour, what)
    before = neighbour.state()
    async with restores(mongodb.uri) as port:
        unfit = await port.unfit(RUN, [database], drop_existing=True)
        assert isinstance(unfit, RefusedError)
        assert neighbour.name in unfit.message
        with pytest.raises(RefusedError):
            await port.swap(RUN, [database], drop_existing=True, keep_minutes=60)
        assert await port.discard(RUN, [database])
    assert neighbour.state() == before
    assert client[database].a.find_one() == {"_id": 1, "live": True}
    left = [n for n in client[database].list_collection_names() if n.startswith(f"lucid_stg_{RUN}")]
    assert left == []


@pytest.mark.mongodb
@pytest.mark.parametrize("what", ["an expiry", "a list", "a view", "a pair"])
async def test_in_the_middle_of_the_swap_it_waits_until_somebody_takes_it_out(
    mongodb: MongoDB, client: Client, database: str, neighbour: Neighbour, what: str
) -> None:
    staged(mongodb.uri, client, database)
    async with restores(mongodb.uri, Crashing(2)) as port:
        with pytest.raises(CrashError):
            await port.swap(RUN, [database], drop_existing=True, keep_minutes=60)
    (whole,) = client[database].lucid_stg_journal.find({"_id": RUN})
    assert whole["state"] == "swapping"
    add(client, database, neighbour, what)
    before = neighbour.state()
    async with restores(mongodb.uri) as port:
        for _ in range(2):
            with pytest.raises(LucidError, match="Take that out of the record"):
                await port.swap(RUN, [database], drop_existing=True, keep_minutes=60)
        assert neighbour.state() == before
        client[database].lucid_stg_journal.replace_one({"_id": RUN}, whole)
        assert (await port.swap(RUN, [database], drop_existing=True, keep_minutes=60)).collections == 1
    assert client[database].a.find_one() == {"_id": 1}


@pytest.mark.mongodb
async def test_what_another_tenant_keeps_is_not_dropped_by_the_journal_of_a_restore_that_is_there(
    mongodb: MongoDB, client: Client, database: str, neighbour: Neighbour
) -> None:
    staged(mongodb.uri, client, database)
    async with restores(mongodb.uri) as port:
        await port.swap(RUN, [database], drop_existing=True, keep_minutes=0)
        client[neighbour.name].accounts.rename(f"lucid_old_{RUN}_9")
        old = client[neighbour.name].list_collections(filter={"name": f"lucid_old_{RUN}_9"})
        entry = {
            "number": 9,
            "name": "x",
            "staged": f"lucid_stg_{RUN}_9",
            "stagedUuid": "00",
            "liveUuid": bytes(next(iter(old))["info"]["uuid"]).hex(),
        }
        change = {"$push": {"pairs": {"database": neighbour.name, **entry}}}
        client[database].lucid_stg_journal.update_one({"_id": RUN}, change)
        with pytest.raises(LucidError):
            await port.drop_old(RUN, [database])
    assert client[neighbour.name][f"lucid_old_{RUN}_9"].count_documents({}) == 1


@pytest.mark.mongodb
@pytest.mark.parametrize("field", [{"state": "odd"}, {"pairs": [{"number": "1"}]}, {"merged": "many"}])
async def test_a_journal_that_cannot_be_read_is_told_in_a_sentence(
    mongodb: MongoDB, client: Client, database: str, field: dict[str, Any]
) -> None:
    staged(mongodb.uri, client, database)
    client[database].lucid_stg_journal.update_one({"_id": RUN}, {"$set": field})
    async with restores(mongodb.uri) as port:
        for attempt in (
            port.unfit(RUN, [database], drop_existing=True),
            port.swap(RUN, [database], drop_existing=True, keep_minutes=60),
            port.discard(RUN, [database]),
        ):
            with pytest.raises(LucidError, match="put it right") as told:
                await attempt
            assert told.value.reason is Reason.RESTORE_BLOCKED
        client[database].lucid_stg_journal.delete_one({"_id": RUN})  # as the sentence says
        assert await port.unfit(RUN, [database], drop_existing=True) is not None
        assert await port.discard(RUN, [database])
    assert client[database].a.find_one() == {"_id": 1, "live": True}


@pytest.mark.mongodb
def test_a_worker_that_clears_away_after_one_that_died_clears_nothing_of_others(
    mongodb: MongoDB, client: Client, database: str, neighbour: Neighbour
) -> None:
    client[database].a.insert_one({"_id": 1})
    base = take(client, database)
    for again in (False, True):
        with Target(mongodb.uri) as target:
            staging = Staging(target, RUN, {database: database}, everything([database]), base.moment)
            staging.define(base.definitions)
        if not again:
            before = neighbour.state()
            add(client, database, neighbour, "a collection that the run made")
    assert neighbour.state() == before


@pytest.mark.mongodb
@pytest.mark.parametrize("allowed", [True, False])
async def test_the_sweep_follows_a_journal_into_other_databases_of_its_namespace_alone(
    mongodb: MongoDB, client: Client, database: str, neighbour: Neighbour, allowed: bool
) -> None:
    await replaced(mongodb.uri, client, database)
    (found,) = client[database].list_collections(filter={"name": f"lucid_old_{RUN}_1"})
    client[neighbour.name].kept.insert_one({"_id": 1})
    client[neighbour.name].kept.rename(f"lucid_old_{RUN}_9")
    (other,) = client[neighbour.name].list_collections(filter={"name": f"lucid_old_{RUN}_9"})
    entry = {
        "database": neighbour.name,
        "number": 9,
        "name": "kept",
        "staged": f"lucid_stg_{RUN}_9",
        "stagedUuid": "00",
        "liveUuid": bytes(other["info"]["uuid"]).hex(),
    }
    client[database].lucid_stg_journal.update_one({"_id": RUN}, {"$push": {"pairs": entry}})
    assert found["info"]["uuid"] != other["info"]["uuid"]
    patterns = [f"{database}*" if allowed else database]
    sweep = swept(mongodb.uri, cluster=database, served={"shop": {"databases": patterns}})
    await sweep.sweep()
    gone = f"lucid_old_{RUN}_9" not in client[neighbour.name].list_collection_names()
    assert (gone, reserved(client, database) == []) == (allowed, allowed)


def test_a_journal_of_its_own_restore_is_believed_whole() -> None:
    check(OWN, ["shop"])
    check(parsed(bson.decode(bson.encode(OWN.document()))), ["shop", "more"])
    assert within(OWN, ["shop"]) == OWN


PEEK = ({"$lookup": {"from": {"db": "local", "coll": "oplog.rs"}, "pipeline": [], "as": "seen"}},)
STRANGE = {
    "a pair of another run": {"pairs": (Pair(1, "shop", "a", "lucid_stg_run2_1", "s"),)},
    "a pair that is not staged": {"pairs": (Pair(1, "shop", "a", "accounts", "s"),)},
    "a pair of another number": {"pairs": (Pair(2, "shop", "a", "lucid_stg_run1_1", "s"),)},
    "a pair under a reserved name": {
        "pairs": (Pair(1, "shop", "lucid_stg_journal", "lucid_stg_run1_1", "s"),)
    },
    "a pair of the server": {"pairs": (Pair(1, "shop", "system.views", "lucid_stg_run1_1", "s"),)},
    "a list of others": {"direct": (Direct("shop", "ts", listed="lucid_stg_journal"),)},
    "a view elsewhere": {"views": (View("other", "v", "a", ()),)},
    "a view of what lies elsewhere": {"views": (View("shop", "v", "a", PEEK),)},
    "one of its own name elsewhere": {"direct": (Direct("other", "ts"),)},
    "a lease elsewhere": {"fence": {"other": 1}},
}


@pytest.mark.parametrize("part", STRANGE.values(), ids=STRANGE)
def test_names_that_are_not_of_the_run_are_refused(part: dict[str, Any]) -> None:
    swapped = Journal(RUN, SwapState.SWAPPING, **part)
    with pytest.raises(RefusedError):
        check(Journal(RUN, SwapState.READY, **part), ["shop"])
    with pytest.raises(LucidError) as waits:
        check(swapped, ["shop"])
    assert not isinstance(waits.value, RefusedError)
    assert within(swapped, ["shop"]) == Journal(RUN, SwapState.SWAPPING)
