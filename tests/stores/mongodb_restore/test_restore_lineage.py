"""Chosen collections are followed backwards through renames (rule 2.5)."""

from typing import Any

import pytest
from oplog_entries import apply_ops, create, delete, drop, events, insert, rename

from lucid_storage.stores.mongodb.restore.lineage import chosen, everything


def test_a_chosen_collection_is_found_under_its_earlier_names() -> None:
    lineage = chosen(
        [("shop", "c")], events((200, rename("shop.a", "shop.b")), (201, rename("shop.b", "shop.c")))
    )
    assert lineage.base(("shop", "a"))
    assert not lineage.base(("shop", "b"))
    assert not lineage.base(("shop", "c"))


def test_a_name_that_was_taken_anew_later_is_another_collection() -> None:
    lineage = chosen([("shop", "a")], events((200, rename("shop.a", "shop.b")), (201, create("shop.a"))))
    assert not lineage.base(("shop", "a"))
    assert lineage.created((201, 1), ("shop", "a"))


def test_what_a_rename_replaced_is_not_needed() -> None:
    lineage = chosen(
        [("shop", "report")],
        events(
            (200, create("shop.tmp.1", temp=True)),
            (201, rename("shop.tmp.1", "shop.report", dropTarget=True)),
        ),
    )
    assert not lineage.base(("shop", "report"))
    assert lineage.created((200, 1), ("shop", "tmp.1"))


def test_dropped_and_made_again_means_the_last_one() -> None:
    lineage = chosen(
        [("shop", "a")], events((200, drop("shop.a")), (201, create("shop.a", of="2")), (202, drop("shop.b")))
    )
    assert not lineage.base(("shop", "a"))
    assert lineage.created((201, 1), ("shop", "a"))


@pytest.mark.parametrize(
    "entries",
    [
        [(200, rename("shop.a", "shop.b"))],
        [(200, drop("shop.a"))],
        [(200, rename("shop.x", "shop.a")), (201, rename("shop.a", "shop.b"))],
        [(200, create("shop.a")), (201, drop("shop.a"))],
    ],
    ids=["renamed", "dropped", "passing", "made and dropped"],
)
def test_a_name_that_nothing_has_at_the_moment_brings_nothing_back(
    entries: list[tuple[int, dict[str, Any]]],
) -> None:
    """What had the name before is called otherwise then, and was not chosen."""
    lineage = chosen([("shop", "a")], events(*entries))
    assert not any(lineage.base(("shop", name)) for name in ("a", "b", "x"))
    assert not lineage.created((200, 1), ("shop", "a"))


VIEW = {"viewOn": "b", "pipeline": []}


@pytest.mark.parametrize(
    ("entries", "there"),
    [
        ([], True),
        ([insert("shop.system.views", "shop.v", **VIEW)], True),
        ([drop("shop.v"), insert("shop.system.views", "shop.v", **VIEW)], True),
        ([insert("shop.system.views", "shop.v", **VIEW), delete("shop.system.views", "shop.v")], False),
        ([delete("shop.system.views", "shop.v"), insert("shop.system.views", "shop.v", **VIEW)], True),
    ],
)
def test_a_chosen_view_comes_back_as_it_is_at_the_moment(entries: list[dict[str, Any]], there: bool) -> None:
    found = events(*((200 + number, entry) for number, entry in enumerate(entries)))
    assert chosen([("shop", "v")], found).base(("shop", "v")) is there


def test_changes_inside_of_a_transaction_count() -> None:
    lineage = chosen([("shop", "a")], events((200, apply_ops([create("shop.a"), insert("shop.a", 1)], 1))))
    assert lineage.created((200, 1), ("shop", "a"))


def test_a_time_series_goes_by_its_public_name() -> None:
    lineage = chosen([("shop", "ts")], [])
    assert lineage.base(("shop", "system.buckets.ts"))
    assert not lineage.base(("shop", "ts2"))


def test_everything_is_all_that_the_backup_holds_of_the_databases() -> None:
    lineage = everything(["shop"])
    assert lineage.base(("shop", "a"))
    assert not lineage.base(("bank", "a"))
    assert not lineage.base(("shop", "system.profile"))
    assert not lineage.base(("shop", "lucid_stg_x_1"))
    partial = everything(["shop"], [("shop", "a")])
    assert partial.base(("shop", "a"))
    assert not partial.base(("shop", "b"))
