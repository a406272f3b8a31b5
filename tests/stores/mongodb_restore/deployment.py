"""A live database as a backup would hold it, taken without the dumper: definitions, documents, oplog."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import bson
from bson import Timestamp
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.read_concern import ReadConcern

from lucid_storage.archive.content import Tally
from lucid_storage.stores.mongodb.restore.catalog import Definition, Name
from lucid_storage.stores.mongodb.restore.comparing import Expected
from lucid_storage.stores.mongodb.restore.entries import Moment
from lucid_storage.stores.mongodb.restore.lineage import Lineage, everything
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target

Client = MongoClient[dict[str, Any]]


@dataclass
class Snapshot:
    """What a full backup of some databases holds."""

    moment: Moment
    definitions: list[Definition] = field(default_factory=list)
    documents: dict[Name, list[bytes]] = field(default_factory=dict)


def now(client: Client) -> Moment:
    """The optime of the last entry."""
    (last,) = client.local["oplog.rs"].find({}, {"ts": 1}).sort("$natural", -1).limit(1)
    return (last["ts"].time, last["ts"].inc)


def take(client: Client, *databases: str) -> Snapshot:
    """Nobody writes meanwhile."""
    made = Snapshot(now(client))
    for database in databases:
        for found in sorted(client[database].list_collections(), key=lambda entry: entry["name"]):
            name, kind = found["name"], found["type"]
            if name.startswith("system.") and name != "system.js":
                continue
            indexes = () if kind == "view" else client[database][name].list_indexes()
            uuid = found["info"].get("uuid")
            made.definitions.append(
                Definition(
                    database,
                    name,
                    kind,
                    found["options"],
                    tuple(dict(index) for index in indexes),
                    None if uuid is None else bytes(uuid if isinstance(uuid, bytes) else uuid.bytes),
                )
            )
            if kind != "view":
                place = f"system.buckets.{name}" if kind == "timeseries" else name
                made.documents[(database, place)] = raw_documents(client, database, place)
    return made


def raw_documents(client: Client, database: str, name: str) -> list[bytes]:
    collection = client[database].get_collection(name, read_concern=ReadConcern("majority"))
    return [b for batch in collection.find_raw_batches({}) for b in _split(batch)]


def _split(batch: bytes) -> Iterator[bytes]:
    at = 0
    while at < len(batch):
        size = int.from_bytes(batch[at : at + 4], "little")
        yield batch[at : at + size]
        at += size


def oplog(client: Client, after: Moment) -> list[bytes]:
    """Entries after a moment, as the server has them."""
    collection = client.local["oplog.rs"]
    found = collection.find_raw_batches({"ts": {"$gt": Timestamp(*after)}}, sort=[("$natural", 1)])
    return [b for batch in found for b in _split(batch)]


def staged(
    uri: str,
    base: Snapshot,
    entries: list[bytes],
    until: Moment,
    targets: dict[str, str],
    *,
    run: str = "r1",
    lineage: Lineage | None = None,
) -> Staging:
    """Everything up to the swap, as the worker does it."""
    with Target(uri) as target:
        staging = Staging(target, run, targets, lineage or everything(targets), base.moment)
        load(staging, base)
        staging.replay(entries, until)
        staging.finish()
    return staging


def load(staging: Staging, base: Snapshot) -> None:
    staging.define(base.definitions)
    expected, hashes = {}, {}
    with staging.loader() as loader:
        for name, documents in base.documents.items():
            tally = Tally()
            for document in documents:
                tally.add(document)
            hashes[name] = tally.content_hash
            tracked = staging.tracked(name)
            if tracked is not None:
                expected[name] = Expected(tally.documents, tally.content_hash)
            if tracked is not None and documents:
                loader.add(tracked, b"".join(documents), len(documents))
        loader.flush()
        staging.check_loaded(loader)
        staging.compare(loader, expected, hashes)


def content(client: Client, database: str) -> dict[str, list[bytes]]:
    """All documents of a database, sorted, reserved names apart."""
    found = {}
    for name in client[database].list_collection_names():
        if not name.startswith(("lucid_", "system.views")):
            found[name] = sorted(raw_documents(client, database, name))
    return found


def contents_of(client: Client, staging: Staging) -> dict[str, list[bytes]]:
    """What was staged, by the names that it will get."""
    return {
        tracked.name[1]: sorted(raw_documents(client, tracked.place.database, tracked.place.collection))
        for tracked in staging.catalog.finished()
    }


def parsed(documents: list[bytes]) -> list[dict[str, Any]]:
    return [bson.decode(document) for document in documents]


__all__ = ["RawBSONDocument"]
