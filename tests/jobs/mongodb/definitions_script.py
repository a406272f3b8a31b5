"""Definitions that change: what an application may do to a database at one moment of a backup.

Everything has names of its own for each moment, so that one backup can meet all of them.
"""

from datetime import UTC, datetime
from typing import Any

from pymongo import MongoClient
from pymongo.database import Database

MIB = 1024 * 1024
SERIES = {"timeField": "at", "metaField": "where"}
GERMAN = {"locale": "de", "strength": 2}


class Definitions:
    """Of one database and moment: `make` before the backup, `change` while it runs."""

    def __init__(self, client: MongoClient[Any], database: str, moment: str) -> None:
        self._db: Database[Any] = client[database]
        self._moment = moment

    def _of(self, name: str) -> Any:
        return self._db[self._named(name)]

    def _named(self, name: str) -> str:
        return f"{self._moment}_{name}"

    def _make(self, name: str, **options: Any) -> Any:
        return self._db.create_collection(self._named(name), **options)

    def make(self, *, megabytes: int = 0) -> None:
        """`megabytes`: of the collection that is dropped, so that it is dropped under the cursor."""
        for name in (
            "dropped",
            "remade",
            "modified",
            "indexed",
            "keys",
            "collection_to_view",
            "arrays",
            "out",
            "converted",
        ):
            self._of(name).insert_many([{"_id": n, "x": n, "old": True} for n in range(5)])
        for n in range(megabytes):
            self._of("dropped").insert_one({"_id": f"large {n}", "x": b"\1" * (MIB - 64)})
        self._of("remade").create_index("x", name="of the old one")
        self._of("modified").create_index("at", expireAfterSeconds=3600)
        self._of("modified").create_index("x", name="hides")
        self._of("out").create_index("kept by $out")
        self._of("indexed").create_index("x")
        self._of("indexed").create_index("old", name="goes")
        self._of("keys").create_index("x", unique=True)
        self._make("capped", capped=True, size=16 * 1024).insert_many([{"_id": n} for n in range(20)])
        for name in ("view_old", "view_changed", "view_to_collection"):
            self._make(name, viewOn=self._named("keys"), pipeline=[{"$match": {"x": 1}}])
        for name in ("series", "series_old", "series_remade"):
            self._make(name, timeseries=SERIES)
            self._measure(name, 1)

    def _measure(self, name: str, day: int) -> None:
        self._of(name).insert_many(
            [{"at": datetime(2026, 1, day, hour, tzinfo=UTC), "where": "x"} for hour in range(3)]
        )

    def change(self) -> None:
        self._collections()
        self._modifications()
        self._documents()
        self._views()
        self._series()

    def _collections(self) -> None:
        self._of("dropped").drop()
        self._of("remade").drop()
        self._make("remade", validator={"y": {"$exists": True}}, collation=GERMAN)
        self._of("remade").create_index("y", unique=True)
        self._of("remade").insert_many([{"_id": n, "y": n} for n in range(3)])
        self._of("made").insert_many([{"_id": n, "y": n} for n in range(4)])
        self._of("made").create_index([("y", -1)], unique=True, sparse=True)
        self._make("made_empty", clusteredIndex={"key": {"_id": 1}, "unique": True})
        for name in ("out", "out_made"):
            self._of("arrays").aggregate([{"$match": {"_id": {"$gte": 3}}}, {"$out": self._named(name)}])
            self._of(name).insert_one({"_id": "behind $out"})
        self._db.command("convertToCapped", self._named("converted"), size=16 * 1024)
        self._of("converted").insert_one({"_id": "capped now"})
        self._of("passing").insert_one({"_id": 1})
        self._of("passing").drop()

    def _modifications(self) -> None:
        name, modify = self._named("modified"), self._db.command
        modify("collMod", name, validator={"x": {"$type": "number"}}, validationLevel="moderate")
        modify("collMod", name, changeStreamPreAndPostImages={"enabled": True})
        modify("collMod", name, index={"keyPattern": {"at": 1}, "expireAfterSeconds": 7200})
        modify("collMod", name, index={"name": "hides", "hidden": True})
        modify("collMod", self._named("capped"), cappedSize=64 * 1024, cappedMax=30)
        self._of("capped").insert_many([{"_id": n} for n in range(40, 20, -1)])
        indexed = self._of("indexed")
        indexed.drop_index("goes")
        indexed.drop_index("x_1")
        indexed.create_index("x", name="x_1", partialFilterExpression={"old": True})
        indexed.create_index([("x", 1), ("old", -1)])

    def _documents(self) -> None:
        keys = self._of("keys")
        keys.delete_one({"_id": 0})
        keys.insert_one({"_id": "took its key", "x": 0})
        keys.delete_one({"_id": 1})
        keys.insert_one({"_id": 1, "x": 1, "again": True})
        for number, key in ((2, "aside"), (3, 2), (2, 3)):
            keys.update_one({"_id": number}, {"$set": {"x": key}})
        arrays = self._of("arrays")
        arrays.update_many({}, {"$set": {"list": [1, 2, 3]}})
        arrays.update_many({}, {"$push": {"list": 4}})
        arrays.update_many({}, {"$pop": {"list": -1}, "$unset": {"old": ""}, "$inc": {"x": 7}})
        arrays.replace_one({"_id": 2}, {"replaced": True})
        arrays.delete_one({"_id": 3})

    def _views(self) -> None:
        self._make("view_new", viewOn=self._named("arrays"), pipeline=[], collation=GERMAN)
        self._of("view_old").drop()
        changed = [{"$match": {"x": 2}}]
        self._db.command(
            "collMod", self._named("view_changed"), viewOn=self._named("arrays"), pipeline=changed
        )
        self._of("view_to_collection").drop()
        self._of("view_to_collection").insert_one({"_id": "no view any more"})
        self._of("collection_to_view").drop()
        self._make("collection_to_view", viewOn=self._named("keys"), pipeline=[])

    def _series(self) -> None:
        self._measure("series", 2)
        self._db.command("collMod", self._named("series"), timeseries={"granularity": "minutes"})
        self._of("series").create_index([("where", 1), ("at", -1)])
        self._db.command("collMod", self._named("series"), expireAfterSeconds=10**9)
        self._measure("series", 5)
        self._make("series_new", timeseries={**SERIES, "granularity": "hours"}, expireAfterSeconds=10**9)
        self._measure("series_new", 3)
        self._of("series_old").drop()
        self._of("series_remade").drop()
        self._make("series_remade", timeseries={"timeField": "at", "granularity": "minutes"})
        self._measure("series_remade", 4)
