"""The plan says how many transactions are restored in part only (rule 2.5): as many as the replay then cuts."""

from collections.abc import Iterable, Mapping
from typing import Any

import pytest
from oplog_entries import (
    DUMP_END,
    Replaying,
    apply_ops,
    bound,
    collection,
    commit,
    create,
    delete,
    drop,
    insert,
    raw,
    rename,
    update,
)

from lucid_storage.stores.mongodb.restore.lineage import Lineage, everything
from lucid_storage.stores.mongodb.restore.scanning import Scan

A, B, C = "shop.a", "shop.b", "shop.c"
BASE = (A, B, "bank.a", "bank.b")
Entries = Iterable[Mapping[str, Any]]


def scanned(entries: Entries, until: int = 2**31) -> Scan:
    scan = Scan(DUMP_END, bound(until))
    scan.feed([raw(200 + number, entry) for number, entry in enumerate(entries)])
    return scan


def replayed(entries: Entries, lineage: Lineage, *databases: str) -> int:
    """How many a replay of the same cuts."""
    targets = {name: name for name in databases or ("shop",)}
    replay = Replaying(*(collection(name) for name in BASE), targets=targets, lineage=lineage)
    for number, entry in enumerate(entries):
        replay.feed(200 + number, entry)
    return replay.rewriter.done.cut_transactions


def both(number: int, one: str = A, other: str = B, **more: Any) -> dict[str, Any]:
    """A transaction that writes two collections; `more` says of which UUID they are."""
    of = more.pop("of", (one, other))
    return apply_ops([insert(one, number, of[0]), insert(other, number, of[1])], number, **more)


CASES: dict[str, tuple[list[dict[str, Any]], int]] = {
    "nothing beside it": ([apply_ops([insert(A, 1), update(A, 1), delete(A, 1)], 1)], 0),
    "of others alone": ([both(1, B, C)], 0),
    "another beside it": ([both(1), both(2)], 2),
    "in another database": ([both(1, A, "bank.b")], 1),
    "outside of transactions": ([insert(A, 1), insert(B, 1), apply_ops([insert(A, 2), insert(B, 2)])], 0),
    "a chain of entries": (
        [
            apply_ops([insert(A, 1)], 1, partialTxn=True),
            apply_ops([insert(B, 1)], 1, count=2),
        ],
        1,
    ),
    "prepared and committed": (
        [apply_ops([insert(A, 1), insert(B, 1)], 1, prepare=True), insert(B, 7), commit(1)],
        1,
    ),
    "prepared and open at the moment": ([apply_ops([insert(A, 1), insert(B, 1)], 1, prepare=True)], 0),
    "called otherwise before": (
        [drop(A), both(1, B, C), rename(B, A), both(2, A, C, of=(B, C))],
        2,
    ),
    "called so by another one before": (
        [both(1, A, C), rename(A, "shop.old"), create(A, of="new"), both(2, A, C, of=("new", C))],
        1,
    ),
    "its old and its new name": (
        [drop(A), apply_ops([insert(B, 1), update(B, 1)], 1), rename(B, A), apply_ops([insert(A, 2, B)], 2)],
        0,
    ),
    "replaced by a rename": ([both(1), both(2, B, C), rename(B, A, dropTarget=True)], 2),
    "made in the transaction": (
        [drop(A), apply_ops([create(A, of="n"), insert(A, 1, "n"), insert(B, 1)], 1)],
        1,
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_the_plan_counts_the_transactions_that_the_replay_cuts(name: str) -> None:
    entries, cut = CASES[name]
    scan = scanned(entries)
    assert scan.cut([("shop", "a")]) == cut
    assert replayed(entries, scan.lineage([("shop", "a")])) == cut


def test_what_lies_behind_the_moment_is_not_counted() -> None:
    entries = [both(1), both(2), both(3)]
    assert scanned(entries, until=201).cut([("shop", "a")]) == 2


def test_a_time_series_goes_by_its_public_name() -> None:
    scan = scanned(
        [both(1, "shop.system.buckets.ts", B), apply_ops([insert("shop.system.buckets.ts", 1)], 2)]
    )
    assert scan.cut([("shop", "ts")]) == 1


def test_of_one_database_the_transactions_that_write_another_are_counted() -> None:
    entries = [both(1, A, "bank.a"), both(2), both(3, "bank.a", "bank.b")]
    assert scanned(entries).cut_outside(everything(["shop"]).base) == 1
    assert replayed(entries, everything(["shop"])) == 1
    assert scanned(entries).cut_outside(everything(["shop", "bank"]).base) == 0
    assert replayed(entries, everything(["shop", "bank"]), "shop", "bank") == 0
