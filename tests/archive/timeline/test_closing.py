"""Which renames end a timeline (rule 1.7)."""

from __future__ import annotations

import pytest

from lucid_storage.archive.closing import OplogHeader, closes
from lucid_storage.archive.manifest import Closing, Optime, Selection

ALL = Selection(engines=("mongodb",))
SHOP = Selection(engines=("mongodb",), databases=("shop",))
USERS = Selection(engines=("mongodb",), collections=("shop.users",))


def rename(source: str, target: str) -> OplogHeader:
    return OplogHeader(Optime(seconds=1, counter=1), "c", source, "renameCollection", target)


@pytest.mark.parametrize(
    ("selection", "source", "target", "expected"),
    [
        (ALL, "shop.a", "shop.b", None),
        (ALL, "shop.lucid_stg_r_1", "shop.a", Closing.RESTORE),
        (ALL, "shop.a", "shop.lucid_old_r_1", Closing.RESTORE),
        (ALL, "shop.lucid_stg_r_1", "shop.lucid_stg_r_2", None),
        (SHOP, "shop.a", "shop.b", None),
        (SHOP, "other.a", "shop.a", Closing.RENAME),
        (SHOP, "shop.a", "other.a", Closing.RENAME),
        (SHOP, "other.a", "other.b", None),
        (SHOP, "other.lucid_stg_r_1", "other.b", None),
        (USERS, "shop.users", "shop.people", Closing.RENAME),
        (USERS, "shop.tmp", "shop.users", Closing.RENAME),
        (USERS, "shop.tmp", "shop.other", None),
    ],
)
def test_a_rename_closes_when_it_crosses_the_edge_of_the_selection(
    selection: Selection, source: str, target: str, expected: Closing | None
) -> None:
    assert closes(rename(source, target), selection) is expected


def test_databases_that_the_namespace_may_not_use_are_outside() -> None:
    assert closes(rename("a.x", "b.x"), ALL, ("a",)) is Closing.RENAME
    assert closes(rename("b.x", "c.x"), ALL, ("a",)) is None


@pytest.mark.parametrize("command", ["create", "drop", "collMod", "dropDatabase"])
def test_other_commands_close_nothing(command: str) -> None:
    header = OplogHeader(Optime(seconds=1, counter=1), "c", "shop.lucid_stg_r_1", command, None)
    assert closes(header, ALL) is None
