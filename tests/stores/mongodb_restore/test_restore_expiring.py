"""What a TTL deletes at once is told as a number, with the TTLs that slices build and change (rule 2.6)."""

from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import bson
import pytest
from oplog_entries import DUMP_END, bound, collection, command, create, drop, raw, rename

from lucid_storage.stores.mongodb.restore.catalog import Definition
from lucid_storage.stores.mongodb.restore.expiring import Definitions, Expired, Expiring, Rule
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.scanning import Scan

A, B = "shop.a", "shop.b"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
AT: Mapping[str, Any] = {"v": 2, "key": {"at": 1}, "name": "at_1"}
TTL = {**AT, "expireAfterSeconds": 60}


def build(namespace: str, index: Mapping[str, Any], of: str = "") -> dict[str, Any]:
    return command("shop", {"createIndexes": namespace.partition(".")[2], **index}, of or namespace)


def change(namespace: str, of: str = "", **fields: Any) -> dict[str, Any]:
    return command("shop", {"collMod": namespace.partition(".")[2], **fields}, of or namespace)


def expiring(base: Iterable[Definition], *entries: Mapping[str, Any]) -> tuple[Expiring, ...]:
    scan = Scan(DUMP_END, bound(2**31))
    scan.feed([raw(200 + number, entry) for number, entry in enumerate(entries)])
    return Definitions(base, everything(["shop"])).follow(scan.commands)


ONE = (Expiring(("shop", "a"), (Rule("at", 60),), ("shop", "a")),)
PLAIN, WITH_TTL = collection(A), collection(A, indexes=[TTL])
SERIES = Definition(
    "shop", "ts", "timeseries", {"timeseries": {"timeField": "t"}, "expireAfterSeconds": bson.Int64(60)}
)
BYID = collection(A, clusteredIndex={"key": {"_id": 1}, "unique": True}, expireAfterSeconds=60)
PARTIAL = {**TTL, "partialFilterExpression": {"done": True}}


@pytest.mark.parametrize(
    ("base", "entries", "found"),
    [
        ([PLAIN], [], ()),
        ([WITH_TTL], [], ONE),
        ([PLAIN], [build(A, TTL)], ONE),
        ([PLAIN], [command("shop", {"commitIndexBuild": "a", "indexes": [AT, TTL]}, A)], ONE),
        ([WITH_TTL], [command("shop", {"dropIndexes": "a", "index": "at_1"}, A)], ()),
        ([WITH_TTL], [command("shop", {"dropIndexes": "a", "index": "*"}, A)], ()),
        ([WITH_TTL], [drop(A)], ()),
        ([WITH_TTL], [drop(A), create(A, of="2")], ()),
        ([collection(A, indexes=[AT])], [change(A, index={"name": "at_1", "expireAfterSeconds": 60})], ONE),
        (
            [WITH_TTL],
            [change(A, index={"keyPattern": {"at": 1}, "expireAfterSeconds": 5})],
            (Expiring(("shop", "a"), (Rule("at", 5),), ("shop", "a")),),
        ),
        ([WITH_TTL], [rename(A, B)], (Expiring(("shop", "b"), (Rule("at", 60),), ("shop", "a")),)),
        ([WITH_TTL, collection(B)], [rename(B, A, dropTarget=True)], ()),
        ([], [create(A), build(A, TTL)], (Expiring(("shop", "a"), (Rule("at", 60),), None),)),
        ([BYID], [], (Expiring(("shop", "a"), (Rule("_id", 60),), ("shop", "a")),)),
        ([BYID], [change(A, expireAfterSeconds="off")], ()),
        (
            [SERIES],
            [],
            (Expiring(("shop", "ts"), (Rule("control.max.t", 60),), ("shop", "system.buckets.ts"), False),),
        ),
        (
            [collection(A, indexes=[PARTIAL])],
            [],
            (Expiring(("shop", "a"), (Rule("at", 60, {"done": True}),), ("shop", "a")),),
        ),
        ([collection("bank.a", indexes=[TTL])], [], ()),
        ([collection(A, indexes=[TTL], temp=True)], [], ()),
        ([], [create(A, temp=True), build(A, TTL)], ()),
        ([], [create(A, temp=True), build(A, TTL), rename(A, B, stayTemp=True)], ()),
        (
            [collection(B)],
            [create(A, temp=True), build(A, TTL), rename(A, B, dropTarget=True)],
            (Expiring(("shop", "b"), (Rule("at", 60),), None),),
        ),
    ],
)
def test_the_ttls_of_the_restored_moment_are_known(
    base: list[Definition], entries: list[dict[str, Any]], found: tuple[Expiring, ...]
) -> None:
    assert expiring(base, *entries) == found


def past(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


@pytest.mark.parametrize(
    ("document", "expired"),
    [
        ({"at": past(61)}, True),
        ({"at": past(59)}, False),
        ({"at": past(60)}, False),
        ({"at": datetime(1601, 1, 1, tzinfo=UTC)}, True),
        ({"at": bson.datetime_ms.DatetimeMS(-(2**60))}, True),
        ({"at": bson.datetime_ms.DatetimeMS(2**60)}, False),
        ({}, False),
        ({"at": "2001-01-01"}, False),
        ({"at": bson.Timestamp(1, 1)}, False),
        ({"at": [past(1), past(61), "x"]}, True),
        ({"at": []}, False),
        ({"at": None}, False),
    ],
)
def test_a_document_expires_by_its_oldest_date(document: dict[str, Any], expired: bool) -> None:
    count = Expired([Rule("at", 60)], NOW)
    count.look(bson.encode(document))
    assert (count.documents, count.exact) == (int(expired), True)


def test_a_path_leads_through_documents_and_arrays() -> None:
    count = Expired([Rule("a.at", 60)], NOW)
    for document in ({"a": {"at": past(61)}}, {"a": [{"at": past(1)}, {"at": past(61)}]}, {"a": 5}):
        count.look(bson.encode(document))
    assert count.documents == 2


def test_what_two_ttls_delete_is_counted_once_and_a_partial_one_is_not_exact() -> None:
    both = bson.encode({"at": past(99), "done": past(99)})
    for other, exact in ((Rule("done", 60), True), (Rule("done", 60, {"x": 1}), True)):
        count = Expired([Rule("at", 60), other], NOW)
        count.look(both)
        assert (count.documents, count.exact) == (1, exact)
    count = Expired([Rule("at", 60, {"x": 1})], NOW)
    count.look(bson.encode({"at": past(1)}))
    assert (count.documents, count.exact) == (0, True)
    count.look(both)
    assert (count.documents, count.exact) == (1, False)


@pytest.mark.parametrize(
    "data",
    [
        {"control": {"max": {"t": past(61)}, "count": 3}, "data": {"t": b"", "v": b""}},
        {"control": {"max": {"t": past(61)}}, "data": {"t": {"0": 1, "1": 2, "2": 3}, "v": {"0": 1}}},
    ],
    ids=["compressed", "plain"],
)
def test_of_a_time_series_measurements_are_counted_as_the_most_that_can_go(data: dict[str, Any]) -> None:
    count = Expired([Rule("control.max.t", 60)], NOW)
    count.look(bson.encode(data))
    assert (count.documents, count.exact) == (3, False)
