"""Entries of one written document are told by their bytes just as by decoding them, whatever the document holds."""

from __future__ import annotations

from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import Binary, Timestamp
from bson.int64 import Int64
from hypothesis import given, settings
from hypothesis import strategies as st

from lucid_storage.stores.mongodb.dump.entries import EntryFilter
from lucid_storage.stores.mongodb.dump.oplog import Oplog
from lucid_storage.stores.mongodb.dump.optimes import OpTime
from lucid_storage.stores.mongodb.dump.pinning import pin
from lucid_storage.stores.mongodb.dump.plain import plain
from testbed.stores.mongodb import MongoDB

END: dict[str, object] = {"ts": Timestamp(7, 9), "t": Int64(3), "v": Int64(2)}
SESSION: dict[str, object] = {
    "lsid": {"id": Binary(bytes(16), 4), "uid": bytes(32)},
    "txnNumber": Int64(1),
}
UUID = Binary(bytes(range(16)), 4)
FALSE_END = bson.encode({"o2": {"_id": 1}, "ts": Timestamp(1, 1), "t": Int64(1), "v": Int64(2)})[4:-1]
"""What the end of an entry looks like."""


def entry(op: str, namespace: str, document: object, **more: object) -> dict[str, object]:
    return {"op": op, "ns": namespace, "ui": UUID, "o": document, **more, **END}


def new_filter() -> EntryFilter:
    return EntryFilter(lambda name: name.startswith("shop."), lambda name: name == "shop", lambda _: ())


def looked_twice(*entries: dict[str, object]) -> None:
    """What a filter says of entries that it knows is what one says that sees each for the first time."""
    known = new_filter()
    for one in entries:
        known.look(bson.encode(one))
    for one in entries:
        raw = memoryview(bson.encode(one))
        assert known.look(raw) == new_filter().look(raw)


keys = st.text(max_size=4).filter(lambda key: "\0" not in key) | st.sampled_from(
    ["o2", "ts", "t", "v", "op", "ns"]
)
values = st.recursive(
    st.none() | st.integers(-(2**63), 2**63 - 1) | st.text(max_size=5) | st.sampled_from([FALSE_END, END]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(keys, inner, max_size=3),
    max_leaves=6,
)
documents = st.dictionaries(keys, values, max_size=5)


@given(
    st.sampled_from("iudn"),
    st.sampled_from(["shop.a", "shop.system.buckets.t", "shop.system.views", "other.a", ""]),
    documents,
    st.none() | documents,
    st.booleans(),
    st.none() | st.integers(0, 5),
    st.integers(1, 2**32 - 1),
)
@settings(max_examples=200, deadline=None)
def test_bytes_tell_what_decoding_tells_whatever_documents_hold(
    op: str,
    namespace: str,
    document: dict[str, object],
    selector: dict[str, object] | None,
    retryable: bool,
    statement: int | None,
    seconds: int,
) -> None:
    one = entry(
        op,
        namespace,
        document,
        **({"o2": selector} if selector is not None else {}),
        **({"stmtId": statement} if statement is not None else {}),
    )
    one = {**(SESSION if retryable else {}), **one, "ts": Timestamp(seconds, 5)}
    found = plain(bson.encode(one))
    assert found is not None
    assert found.optime == OpTime(seconds, 5, 3)
    looked_twice(one)


@pytest.mark.parametrize(
    "one",
    [
        entry("c", "shop.$cmd", {"drop": "a"}),
        {"ts": Timestamp(7, 9), "t": Int64(3), "op": "i", "ns": "shop.a", "o": {"_id": 1}},
        entry("i", "shop.a", {"_id": 1}, fromMigrate=True),
        entry("u", "shop.a", {"$v": 2}, stmtId=[1, 2]),
        {"lsid": {"id": UUID, "uid": bytes(32), "txnUUID": UUID}, **entry("i", "shop.a", {"_id": 1})},
        entry("i", "shop.a", {"_id": 1}, o3={"ts": Timestamp(1, 1)}),
        {**entry("i", "shop.a", {"_id": 1}), "t": 3},
    ],
)
def test_an_unusual_entry_is_decoded(one: dict[str, object]) -> None:
    assert plain(bson.encode(one)) is None
    looked_twice(one)


def test_views_are_told_apart_although_their_entries_share_a_namespace() -> None:
    wanted = EntryFilter(lambda name: name == "shop.mine", lambda _: False, lambda _: ())
    raws = [
        bson.encode(entry("i", "shop.system.views", {"_id": name})) for name in ("shop.mine", "shop.other")
    ]
    assert [wanted.look(raw).kept is not None for raw in raws * 2] == [True, False, True, False]


def test_an_entry_that_ends_in_the_middle_is_no_plain_one() -> None:
    raw = bson.encode(entry("u", "shop.a", {"x": 1}, o2={"_id": 1}))
    end = raw.index(b"\x12v\x00")
    assert all(plain(raw[:cut]) is None for cut in range(end))


def test_servers_write_entries_that_need_no_decoding(mongodb: MongoDB, database: str) -> None:
    """Held to the real server: its order of fields is what the quick way depends on."""
    with mongodb.client() as client, closing(pin(mongodb.uri)) as member:
        oplog = Oplog(member)
        before = oplog.last()
        mine = client[database]
        mine.create_collection("series", timeseries={"timeField": "at"})
        mine["series"].insert_one({"at": datetime(2026, 1, 1, tzinfo=UTC), "x": 1})
        for number in range(20):
            mine["a"].insert_one({"_id": number, "x": FALSE_END})
            mine["a"].update_one({"_id": number}, {"$set": {"ts": Timestamp(1, 1)}})
        mine["a"].replace_one({"_id": 1}, {"o2": {"_id": 1}})
        mine["a"].insert_many([{"_id": f"many{number}"} for number in range(20)])
        mine["a"].delete_one({"_id": 2})
        with mongodb.client(retryWrites=False) as simple:
            simple[database]["a"].update_many({}, {"$inc": {"n": 1}})
            simple[database]["a"].delete_many({"_id": {"$gt": 10}})
        after = oplog.last()
        raws = [bytes(raw) for raw in oplog.entries(before, after.optime)]
    known = EntryFilter(lambda _: True, lambda _: True, lambda _: ())
    quick = 0
    for raw in raws:
        document: dict[str, Any] = bson.decode(raw)
        fresh = EntryFilter(lambda _: True, lambda _: True, lambda _: ())
        assert known.look(raw) == fresh.look(raw)
        found = plain(raw)
        if document["op"] != "c" and document["ns"].startswith(database):
            assert found is not None, document
            assert found.optime == OpTime(document["ts"].time, document["ts"].inc, document["t"])
            quick += 1
    assert quick > 60


def test_the_drop_of_all_views_of_a_database_is_of_each_selection_that_has_something_of_it() -> None:
    views = EntryFilter(lambda _: False, lambda name: name == "shop", lambda _: ())
    drops = [bson.encode(entry("c", f"{name}.$cmd", {"drop": "system.views"})) for name in ("shop", "other")]
    assert [views.look(raw).kept for raw in drops] == [drops[0], None]
