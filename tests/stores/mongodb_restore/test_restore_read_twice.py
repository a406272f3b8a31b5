"""Documents that a dump read twice take the place of their first copies, many of them at once (rule 1.12)."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import DBRef, Decimal128, Int64, MaxKey, MinKey
from deployment import Client, contents_of, raw_documents, staged, take

from lucid_storage.stores.mongodb.restore.catalog import Definition
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.loading import Loaded
from lucid_storage.stores.mongodb.restore.staging import Staging
from lucid_storage.stores.mongodb.restore.target import Target
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

IGNORES_CASE = {"collation": {"locale": "en", "strength": 2}}


class Counting(Target):
    """Counts what is sent, and can lose the answers to inserts."""

    def __init__(self, uri: str, *, losing: bool = False) -> None:
        super().__init__(uri)
        self.sent = 0
        self.losing = losing

    def command(self, database: str, command: Mapping[str, object], task: str, **more: Any) -> dict[str, Any]:
        self.sent += 1
        return super().command(database, command, task, **more)

    def write(self, database: str, command: Mapping[str, object], task: str, **more: Any) -> dict[str, Any]:
        if self.losing and "insert" in command:
            super().write(database, command, task, **{**more, "sent_again": lambda: None})
            more["sent_again"]()
        return super().write(database, command, task, **more)


def loaded(
    target: Counting, database: str, batches: list[list[dict[str, Any]]], options: dict[str, Any]
) -> tuple[str, Loaded, int]:
    """Where they were loaded, one batch after the other; what is told of it; how many commands the last one took."""
    staging = Staging(target, "r1", {database: database}, everything([database]), (1, 1))
    staging.define([Definition(database, "c", options=options)])
    tracked = staging.tracked((database, "c"))
    assert tracked is not None
    before = 0
    with staging.loader() as loader:
        for batch in batches:
            before = target.sent
            loader.add(tracked, b"".join(map(bson.encode, batch)), len(batch))
            loader.flush()
        staging.check_loaded(loader)
        return tracked.place.collection, loader.loaded(tracked), target.sent - before


@pytest.mark.parametrize("options", [{}, IGNORES_CASE])
@pytest.mark.parametrize("losing", [False, True])
def test_many_cost_few_commands(
    mongodb: MongoDB, client: Client, database: str, options: dict[str, Any], losing: bool
) -> None:
    old = [{"_id": f"k{n}", "n": 0} for n in range(300)]
    changed = [{"_id": f"{'K' if options else 'k'}{n}", "n": 1} for n in range(200)]
    new = [{"_id": n} for n in range(100)]
    with Counting(mongodb.uri, losing=losing) as target:
        name, told, commands = loaded(target, database, [old, [*changed, *old[200:], *new]], options)
    assert sorted(raw_documents(client, database, name)) == sorted(
        map(bson.encode, changed + old[200:] + new)
    )
    assert commands < 20, "for 300 documents that were there"
    assert told.documents == 700
    assert told.replaced + told.undecided >= 300
    if not losing:
        assert (told.replaced, told.undecided) == (300, 0)


def test_keys_of_every_form_give_way(mongodb: MongoDB, client: Client, database: str) -> None:
    keys: list[Any] = [
        *(None, True, 1, 2.5, "k", b"k", MinKey(), MaxKey(), Decimal128("7")),
        *(
            {},
            {"a": 1},
            DBRef("c", 1),
            DBRef("c", 1, "d"),
            bson.ObjectId(),
            bson.Timestamp(1, 1),
        ),
    ]
    again: list[Any] = [Int64(1) if key == 1 and key is not True else key for key in keys]
    old = [{"_id": key, "n": 0} for key in keys]
    new = [{"_id": key, "$n": 1} for key in again]
    with Counting(mongodb.uri) as target:
        name, told, commands = loaded(target, database, [old, new], {})
    assert sorted(raw_documents(client, database, name)) == sorted(map(bson.encode, new))
    assert told.replaced == len(keys)
    assert commands < 10


def test_of_copies_in_one_batch_the_last_stays(mongodb: MongoDB, client: Client, database: str) -> None:
    copies = [{"_id": 1, "n": n} for n in (0, 1, 2, 3, 1)]
    with Counting(mongodb.uri) as target:
        name, told, _ = loaded(target, database, [copies[:2], copies[2:]], {})
    assert raw_documents(client, database, name) == [bson.encode(copies[-1])]
    assert (told.documents, told.replaced) == (5, 4)


def test_first_copies_larger_than_an_answer_give_way(mongodb: MongoDB, client: Client, database: str) -> None:
    old = [{"_id": n, "text": "x" * 3_000_000} for n in range(7)]
    new = [{"_id": n} for n in range(7)]
    with Counting(mongodb.uri) as target:
        name, told, _ = loaded(target, database, [*([one] for one in old), new], {})
    assert sorted(raw_documents(client, database, name)) == sorted(map(bson.encode, new))
    assert (told.documents, told.replaced) == (14, 7)


def test_where_nothing_can_be_deleted_from_a_capped_collection_its_document_is_written_over(
    mongodb: MongoDB, client: Client, database: str
) -> None:
    class Old(Counting):
        def write(
            self, database: str, command: Mapping[str, object], task: str, **more: Any
        ) -> dict[str, Any]:
            if "delete" in command:
                return {"ok": 1, "n": 0, "writeErrors": [{"index": 0, "code": 20}]}
            return super().write(database, command, task, **more)

    first, second = [{"_id": n, "n": 0} for n in range(3)], [{"_id": n, "n": 1} for n in range(1, 4)]
    with Old(mongodb.uri) as target:
        name, told, _ = loaded(target, database, [first + second], {"capped": True, "size": 100_000})
    assert raw_documents(client, database, name) == list(map(bson.encode, [first[0], *second]))
    assert (told.documents, told.replaced) == (6, 2)


@pytest.mark.parametrize(
    "options",
    [
        {"timeseries": {"timeField": "at"}},
        {"clusteredIndex": {"key": {"_id": 1}, "unique": True}},
        {"validator": {"n": {"$gt": 5}}},
    ],
    ids=lambda options: next(iter(options)),
)
def test_in_each_kind_of_collection(
    mongodb: MongoDB, client: Client, database: str, options: dict[str, Any]
) -> None:
    live = client[database].create_collection("c", **options)
    place = "system.buckets.c" if "timeseries" in options else "c"
    reads = []
    for n in range(2):
        many = [{"_id": m, "at": datetime(2026, 1, 1 + m, tzinfo=UTC)} for m in range(3)]
        for one in many:
            live.database.command("insert", "c", documents=[{**one, "n": n}], bypassDocumentValidation=True)
        reads.append(raw_documents(client, database, place))
        if "timeseries" not in options:
            live.delete_many({})
    assert reads[0] != reads[1]
    base = take(client, database)
    base.documents[(database, place)] = reads[0] + reads[1]
    other = f"{database}_t"
    try:
        staging = staged(mongodb.uri, base, [], base.moment, {database: other})
        assert contents_of(client, staging) == {place: sorted(reads[1])}
    finally:
        client.drop_database(other)
