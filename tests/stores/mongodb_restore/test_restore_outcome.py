"""What the replay will make under which name, known before anything is written."""

from collections.abc import Mapping
from typing import Any

import pytest
from oplog_entries import command, create, delete, drop, events, insert, rename

from lucid_storage.stores.mongodb.restore.lineage import chosen, everything
from lucid_storage.stores.mongodb.restore.outcome import Made, outcome

A = ("shop", "a")
BASE = {A: "collection", ("shop", "v"): "view"}
ALL = everything(["shop"])
Entry = tuple[int, Mapping[str, Any]]


def view(name: str, on: str = "a") -> dict[str, Any]:
    return insert("shop.system.views", f"shop.{name}", viewOn=on, pipeline=[])


@pytest.mark.parametrize(
    ("entries", "made", "gone"),
    [
        ([], (), set()),
        ([create("shop.b")], (Made(("shop", "b"), "collection"),), set()),
        ([create("shop.b"), drop("shop.b")], (), set()),
        ([drop("shop.a")], (), {A}),
        ([drop("shop.a"), create("shop.a", of="2")], (), set()),
        ([rename("shop.a", "shop.b")], (Made(("shop", "b"), "collection"),), {A}),
        ([create("shop.tmp", temp=True)], (), set()),
        (
            [create("shop.tmp", temp=True), rename("shop.tmp", "shop.b")],
            (Made(("shop", "b"), "collection"),),
            set(),
        ),
        ([drop("shop.a"), view("a", on="x")], (Made(A, "view"),), set()),
        ([view("w"), delete("shop.system.views", "shop.w")], (), set()),
        ([view("v", on="x")], (), set()),
        ([drop("shop.system.views")], (), {("shop", "v")}),
        ([command("shop", {"dropDatabase": 1}, "shop")], (), {("shop", "v")}),
        ([command("other", {"dropDatabase": 1}, "other")], (), set()),
        (
            [
                create("shop.system.buckets.ts", timeseries={"timeField": "t"}),
                view("ts", "system.buckets.ts"),
            ],
            (Made(("shop", "ts"), "timeseries", stageable=False),),
            set(),
        ),
        # It lies under its own name on the way, though nothing has the name in the end.
        (
            [
                create("shop.system.buckets.ts", timeseries={"timeField": "t"}),
                drop("shop.system.buckets.ts"),
            ],
            (Made(("shop", "ts"), "timeseries", stageable=False),),
            set(),
        ),
        (
            [create("shop.e", encryptedFields={"fields": []})],
            (Made(("shop", "e"), "collection", stageable=False),),
            set(),
        ),
        ([create("other.b"), create("shop.lucid_stg_r_1")], (), set()),
    ],
)
def test_the_names_at_the_restored_moment(
    entries: list[Mapping[str, Any]], made: tuple[Made, ...], gone: set[tuple[str, str]]
) -> None:
    found = outcome(BASE, events(*enumerate(entries, 200)), ALL, ALL.base)
    assert (found.made, found.gone) == (made, gone)


def test_of_chosen_collections_only_these() -> None:
    happened = events((200, create("shop.b")), (201, create("shop.c")))
    names = [("shop", "c")]
    found = outcome(BASE, happened, chosen(names, happened), names.__contains__)
    assert found.made == (Made(("shop", "c"), "collection"),)
