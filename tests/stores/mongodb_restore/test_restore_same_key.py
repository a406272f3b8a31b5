"""What has a document's key gives way to it: also where only the collection's collation takes the keys for the same,
and where the new document could not be written over the old one (rule 1.12, 1.13, 2.4)."""

import random
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import bson
import pytest
from deployment import Client, content, contents_of, now, oplog, raw_documents, staged, take
from pymongo.collection import Collection
from pymongo.errors import DuplicateKeyError

from lucid_storage.errors import Reason, StoreUnavailableError
from lucid_storage.stores.mongodb.restore.catalog import Place, Tracked
from lucid_storage.stores.mongodb.restore.replacing import refused
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

IGNORES_CASE = {"locale": "en", "strength": 2}
CAPPED = {"capped": True, "size": 100_000}
NAMES = ("bob", "Bob", "BOB", "eve", "Eve")

Act = Callable[[Collection[Any]], object]


@pytest.fixture
def dumped(mongodb: MongoDB, client: Client, database: str) -> Iterator[Callable[..., None]]:
    """A collection that is read early, in the middle, or at the end of what is written to it, or early and at the end
    in one stream; compares what is staged of it with what is there."""
    other = f"{database}_t"

    def compare(options: dict[str, Any], before: Act, meanwhile: Act, behind: Act, *reads: str) -> None:
        live = client[database].create_collection("c", **options)
        before(live)
        begun = now(client)
        early = raw_documents(client, database, "c")
        meanwhile(live)
        base = take(client, database)
        middle = base.documents[(database, "c")]
        behind(live)
        base.moment = now(client)
        wanted = content(client, database)
        late = raw_documents(client, database, "c")
        read = {"early": early, "middle": middle, "late": late}
        for number, moments in enumerate(reads):
            base.documents[(database, "c")] = [raw for moment in moments.split() for raw in read[moment]]
            run = f"r{number}"
            staging = staged(mongodb.uri, base, oplog(client, begun), base.moment, {database: other}, run=run)
            assert contents_of(client, staging) == wanted, moments
            (tracked,) = staging.catalog.finished()
            if options.get("capped"):
                in_order = raw_documents(client, other, tracked.place.collection)
                assert [bson.decode(raw) for raw in in_order] == [bson.decode(raw) for raw in late], moments

    yield compare
    client.drop_database(other)


def nothing(_: Collection[Any]) -> None:
    pass


def test_a_name_whose_case_changed_while_it_was_read_comes_back(dumped: Callable[..., None]) -> None:
    def rename(people: Collection[Any]) -> None:
        people.replace_one({"_id": "bob"}, {"n": 2})
        people.delete_one({"_id": "bob"})
        people.insert_one({"_id": "Bob", "n": 3})
        people.replace_one({"_id": "bob"}, {"n": 4})

    dumped(
        {"collation": IGNORES_CASE},
        lambda people: people.insert_one({"_id": "bob", "n": 1}),
        rename,
        nothing,
        *("early", "late", "early late"),
    )


def test_a_document_with_a_dollar_in_a_name_comes_back_when_it_was_read_twice(
    dumped: Callable[..., None],
) -> None:
    def again(prices: Collection[Any]) -> None:
        prices.delete_one({"_id": 1})
        prices.insert_one({"_id": 1, "$cost": 4})

    dumped(
        {},
        lambda prices: prices.insert_one({"_id": 1, "$cost": 3}),
        again,
        nothing,
        "early",
        "late",
        "early late",
    )


@pytest.mark.parametrize("options", [{}, CAPPED], ids=["plain", "capped"])
@pytest.mark.parametrize("seed", range(4))
def test_names_of_one_key_come_back_as_they_ended(
    dumped: Callable[..., None], seed: int, options: dict[str, Any]
) -> None:
    chance = random.Random(seed)

    def work(people: Collection[Any]) -> None:
        for n in range(60):
            name = {"_id": chance.choice(NAMES)}
            with suppress(DuplicateKeyError):
                chance.choice(
                    [
                        lambda name=name, n=n: people.insert_one({**name, "n": n, "list": [1, 2, 3]}),
                        lambda name=name: people.delete_one(name),
                        lambda name=name, n=n: people.update_one(name, {"$set": {"n": n, "list.1": n}}),
                        lambda name=name, n=n: people.replace_one(name, {"replaced": n}),
                    ]
                )()

    reads = ("early", "middle", "late", "early middle late")
    dumped({"collation": IGNORES_CASE, **options}, work, work, work, *reads)


def test_a_document_of_a_capped_collection_whose_name_was_read_as_it_became_later_comes_back(
    dumped: Callable[..., None],
) -> None:
    def rename(people: Collection[Any]) -> None:
        people.replace_one({"_id": "bob"}, {"n": 2})
        people.insert_one({"_id": "eve", "n": 1})
        for old, new in (("bob", "Bob"), ("eve", "Eve")):
            people.delete_one({"_id": old})
            people.insert_one({"_id": new, "n": 3})
        people.replace_one({"_id": "bob"}, {"n": 4})

    dumped(
        {**CAPPED, "collation": IGNORES_CASE},
        lambda people: people.insert_many([{"_id": "bob", "n": 1}, {"_id": "ann", "n": 1}]),
        rename,
        nothing,
        *("early", "late", "early late"),
    )


@pytest.mark.parametrize("options", [{}, {"collation": IGNORES_CASE}])
def test_a_capped_collection_is_in_its_order_when_documents_came_back_to_it(
    dumped: Callable[..., None], options: dict[str, Any]
) -> None:
    def again(queue: Collection[Any]) -> None:
        queue.insert_many([{"_id": n} for n in range(2, 6)])
        queue.delete_one({"_id": 3})
        queue.insert_one({"_id": 3})
        queue.insert_one({"_id": 6})

    def more(queue: Collection[Any]) -> None:
        queue.delete_one({"_id": 5})
        queue.insert_many([{"_id": 5}, {"_id": 7}])

    dumped(
        {**CAPPED, **options},
        lambda queue: queue.insert_many([{"_id": n} for n in range(3)]),
        lambda queue: (queue.delete_one({"_id": 2}), again(queue)),
        more,
        *("early", "middle", "late", "early middle", "early middle late"),
    )


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        (2, Reason.CONTENT_REFUSED),
        (14031, StoreUnavailableError.reason),
        (13, Reason.ACCESS_DENIED),
        (388, Reason.SERVER_REFUSED),
    ],
)
def test_a_document_that_is_refused_is_told_from_a_server_that_cannot(code: int, reason: Reason) -> None:
    tracked = Tracked(("shop", "a"), Place("shop", "lucid_stg_r1_1"))
    assert refused(tracked, {"code": code, "errmsg": "no"}).reason is reason
