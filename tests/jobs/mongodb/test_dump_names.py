"""Which changes of names a running dump bears, judged from the commands of its oplog (rule 1.7)."""

from types import SimpleNamespace
from typing import Any, cast

import pytest

from lucid_storage.errors import Reason
from lucid_storage.jobs.mongodb_full import DefinitionsChangedError, _Names
from lucid_storage.jobs.mongodb_scope import scope
from lucid_storage.models.backup import MongoSelection
from lucid_storage.stores.mongodb.dump.entries import Header
from lucid_storage.stores.mongodb.dump.optimes import OpTime

EVERYTHING = MongoSelection(databases=["shop"])
ONE = MongoSelection(collections=["shop.a"])


def names(selection: MongoSelection = EVERYTHING, restarted: dict[str, int] | None = None) -> _Names:
    again = {name: OpTime(second, 1, 1) for name, second in (restarted or {}).items()}
    reading = cast(Any, SimpleNamespace(restarted=again))
    return _Names(scope(("mongodb",), selection, ("*",)), reading)


def judged(found: _Names, *commands: tuple[str, ...]) -> _Names:
    """`("create", "a")` or `("renameCollection", "a", "b")`, one a second from 100 on."""
    for second, (command, name, *target) in enumerate(commands, 100):
        to = f"shop.{target[0]}" if target else None
        found.judge(OpTime(second, 1, 1), Header("c", f"shop.{name}", command, to))
    return found


def test_a_new_collection_may_take_the_name_of_another_which_is_dropped_with_it() -> None:
    found = judged(names(), ("create", "tmp"), ("renameCollection", "tmp", "a"))
    assert found.dropped == {"shop.a"}


def test_it_may_go_on_to_another_name() -> None:
    judged(names(), ("create", "tmp"), ("renameCollection", "tmp", "a"), ("renameCollection", "a", "b"))


@pytest.mark.parametrize(
    ("found", "commands"),
    [
        (names(), [("renameCollection", "a", "b")]),
        (names(), [("create", "a"), ("drop", "a"), ("renameCollection", "a", "b")]),
        (
            names(),
            [("create", "a"), ("renameCollection", "a", "b"), ("renameCollection", "a", "c")],
        ),
        (names(ONE), [("create", "tmp"), ("renameCollection", "tmp", "a")]),
        (names(restarted={"shop.a": 200}), [("create", "tmp"), ("renameCollection", "tmp", "a")]),
        (names(restarted={"shop.a": 200}), [("create", "a")]),
        (names(), [("convertToCapped", "a")]),
    ],
    ids=[
        "it was there before",
        "dropped again",
        "its name was free",
        "from outside of the selection",
        "over a capped one that was read twice",
        "a capped one that was read twice is made anew",
        "a command that is not known",
    ],
)
def test_what_the_oplog_cannot_make_good_is_refused(found: _Names, commands: list[tuple[str, ...]]) -> None:
    judged(found, *commands[:-1])
    with pytest.raises(DefinitionsChangedError) as refused:
        judged(found, commands[-1])
    assert refused.value.reason is Reason.DDL_DURING_DUMP


def test_what_is_outside_of_the_selection_does_not_matter() -> None:
    judged(names(ONE), ("renameCollection", "b", "c"), ("drop", "b"))
