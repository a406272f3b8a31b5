"""Beside the live data, whoever dies behind which write: until the swap the target stays as it was, byte for byte
(rule 2.2).
"""

from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from itertools import count
from typing import Any

import pytest
from deployment import Client, Snapshot, content, load, now, oplog, take
from mortal import Dying, KilledError, Mortal

from lucid_storage.errors import RefusedError
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.entries import Moment
from lucid_storage.stores.mongodb.restore.holding import Leases
from lucid_storage.stores.mongodb.restore.journal import JOURNALS, SwapState
from lucid_storage.stores.mongodb.restore.lease import LEASE
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.port import Marker
from lucid_storage.stores.mongodb.restore.staging import Staging
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb


class Bed:
    """A database with its backup, and another that it is restored into, where something else lives."""

    def __init__(self, uri: str, client: Client, database: str) -> None:
        self.uri, self.client, self.source, self.target = uri, client, database, f"{database}_t"
        live = client[database]
        live.create_collection("a", validator={"n": {"$gte": 0}})
        live.a.insert_many([{"_id": n, "n": n} for n in range(3)])
        live.a.create_index("at", expireAfterSeconds=10**8)
        live.a.create_index("n", unique=True)
        live.create_collection("log", capped=True, size=4096).insert_one({"_id": 1})
        live.old.insert_one({"_id": 1})
        live.command({"create": "v", "viewOn": "a", "pipeline": []})
        for name in ("ts", "ts2"):
            live.create_collection(name, timeseries={"timeField": "t"})
            live[name].insert_one({"_id": 1, "t": datetime(2026, 1, 1, tzinfo=UTC)})
        live["system.js"].insert_one({"_id": "f", "value": "x"})
        self.base: Snapshot = take(client, database)
        live.a.insert_one({"_id": 3, "n": 3})
        live.old.rename("new")
        live.made.insert_one({"_id": 1})
        live.made.create_index("later")
        live.ts2.insert_one({"_id": 2, "t": datetime(2026, 1, 2, tzinfo=UTC)})
        live.command({"collMod": "log", "cappedSize": 8192})
        self.until: Moment = now(client)
        self.entries = oplog(client, self.base.moment)
        self.wanted = content(client, database)
        self.begin()

    def begin(self) -> None:
        """What lives in the target: other documents, options and types under the same names."""
        live = self.client[self.target]
        live.create_collection("a", collation={"locale": "fr"}).insert_one({"_id": "live"})
        live.a.create_index("mine", sparse=True)
        live.made.insert_one({"_id": "live"})
        live.foreign.insert_one({"_id": 1})
        live.create_collection("ts2", timeseries={"timeField": "t", "metaField": "m"})
        live.command({"create": "w", "viewOn": "foreign", "pipeline": []})

    def seen(self) -> dict[str, Any]:
        """All that is there but the records of restores."""
        live = self.client[self.target]
        found = {e["name"]: str(e) for e in live.list_collections() if e["name"] != JOURNALS}
        kinds = {e["name"]: e["type"] for e in live.list_collections()}
        indexes = {
            name: sorted(map(str, live[name].list_indexes()))
            for name in found
            if kinds[name] != "view" and not name.startswith("system.")
        }
        documents = content(self.client, self.target)
        if not documents.get("system.js", True):  # no server drops it, so it stays when it was made, empty
            del found["system.js"], documents["system.js"]
        return {"entries": found, "indexes": indexes, "documents": documents}

    def work(self, run: str, writes: int = 10**9) -> bool:
        """One worker that dies behind so many writes; whether it came to its end."""
        targets = {self.source: self.target}
        with Mortal(self.uri) as target, Leases(self.uri, [self.target], run) as leases:
            staging = Staging(target, run, targets, everything(targets), self.base.moment, leases=leases)
            target.left = writes
            try:
                load(staging, self.base)
                staging.replay(self.entries, self.until)
                staging.ready(staging.finish())
            except KilledError:
                return False
        return True

    def empty(self) -> None:
        """Of what lies under its own name, since documents in it refuse the next one."""
        for name in ("ts", "ts2"):
            self.client[self.target].drop_collection(name)
        self.client[self.target]["system.js"].delete_many({})

    def pass_time(self) -> None:
        """The lease of a dead worker is over."""
        self.client[self.target][JOURNALS].update_one({"_id": LEASE}, [{"$set": {"until": "$$NOW"}}])

    @asynccontextmanager
    async def restores(self, guard: Callable[[], None] = lambda: None) -> AsyncIterator[MongoRestores]:
        port = MongoRestores(self.uri, label="MongoDB", app_name="lucid-test", guard=guard)
        try:
            yield port
        finally:
            await port.close()


@pytest.fixture
def bed(mongodb: MongoDB, database: str) -> Iterator[Bed]:
    with mongodb.client() as client:
        made = Bed(mongodb.uri, client, database)
        yield made
        client.drop_database(made.target)


async def test_a_worker_killed_behind_any_write_leaves_the_target_as_it_was(bed: Bed) -> None:
    before = bed.seen()
    for writes in count():
        run = f"k{writes:02}x"
        if bed.work(run, writes):
            break
        async with bed.restores() as port:
            assert await port.discard(run, [bed.target])
        bed.pass_time()
        assert bed.seen() == before, f"killed behind {writes} writes"
    assert writes > 20
    async with bed.restores() as port:
        await port.swap(run, [bed.target], drop_existing=True, keep_minutes=0)
        assert await port.drop_old(run, [bed.target]) == ()
    found = content(bed.client, bed.target)
    assert len(found.pop("foreign")) == 1
    for name in ("a", "log", "made", "new", "system.js"):
        assert found[name] == bed.wanted[name], name
    for name in ("ts", "ts2"):
        assert list(bed.client[bed.target][name].find()) == list(bed.client[bed.source][name].find())


async def test_a_worker_killed_behind_any_write_of_taking_back_is_followed_by_one_that_does(bed: Bed) -> None:
    """It was told to end, and died while it did."""
    before = bed.seen()
    for writes in count():
        run = f"d{writes:02}x"
        targets = {bed.source: bed.target}
        with Mortal(bed.uri) as target:
            staging = Staging(target, run, targets, everything(targets), bed.base.moment)
            load(staging, bed.base)
            target.left = writes
            try:
                staging.discard()
                break
            except KilledError:
                async with bed.restores() as port:
                    assert await port.discard(run, [bed.target])
        assert bed.seen() == before, f"killed behind {writes} writes"
    assert writes > 5
    assert bed.seen() == before


async def test_what_was_replaced_is_dropped_whoever_dies_behind_which_drop(bed: Bed) -> None:
    for commands in count():
        run = f"o{commands:02}x"
        assert bed.work(run)
        async with bed.restores() as port:
            await port.swap(run, [bed.target], drop_existing=True, keep_minutes=0)
        done = bed.seen()["documents"]
        try:
            async with bed.restores(Dying(commands)) as port:
                await port.drop_old(run, [bed.target])
        except KilledError:
            async with bed.restores() as port:
                journal = await port.journal([bed.target], run)
                assert journal is not None
                assert journal.state is SwapState.SWAPPED
                assert await port.drop_old(run, [bed.target]) == ()
        else:
            break
        assert bed.seen()["documents"] == done
        async with bed.restores() as port:
            assert await port.journal([bed.target], run) is None
        assert not [name for name in bed.seen()["entries"] if name.startswith(("lucid_old_", "lucid_stg_"))]
        bed.empty()
    assert commands >= 3


async def test_a_marker_is_whole_or_not_there(bed: Bed) -> None:
    first = Marker("c", "id", "ns", "name", "hash", "r1", "Completed")
    second = Marker("c", "id", "ns", "name", "other", "r2", "Completed")
    for marker, before in ((first, None), (second, first)):
        with pytest.raises(KilledError):
            async with bed.restores(Dying(0)) as port:
                await port.put_marker([bed.target], marker)
        async with bed.restores() as port:
            assert await port.marker([bed.target], marker.key) == before
            await port.put_marker([bed.target], marker)
            await port.put_marker([bed.target], marker)
            assert await port.marker([bed.target], marker.key) == marker


async def test_what_an_application_makes_in_that_moment_is_not_taken_for_our_own(bed: Bed) -> None:
    theirs = bed.client[bed.target]

    class Overtaken(Mortal):
        def write(
            self, database: str, command: Mapping[str, object], task: str, **more: Any
        ) -> dict[str, object]:
            if command.get("create") == "ts":
                theirs.create_collection("ts", timeseries={"timeField": "t", "metaField": "theirs"})
            return super().write(database, command, task, **more)

    targets = {bed.source: bed.target}
    with Overtaken(bed.uri) as target:
        staging = Staging(target, "r1", targets, everything(targets), bed.base.moment)
        with pytest.raises(RefusedError):
            staging.define(bed.base.definitions)
        async with bed.restores() as port:
            assert await port.discard("r1", [bed.target])
    (found,) = theirs.list_collections(filter={"name": "ts"})
    assert found["options"]["timeseries"]["metaField"] == "theirs"
