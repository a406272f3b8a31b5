"""Transactions apply as a whole at their commit's optime, whatever the borders of slices (rule 2.5)."""

import pytest
from oplog_entries import Replaying, abort, apply_ops, collection, commit, insert, raw

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.entries import entry
from lucid_storage.stores.mongodb.restore.transactions import Transactions, Unit

A = "shop.a"


def feed(transactions: Transactions, seconds: int, operation: dict[str, object]) -> Unit | None:
    return transactions.feed(entry(raw(seconds, operation)))


def keys(unit: Unit | None) -> list[object]:
    assert unit is not None
    return [operation.document["_id"] for operation in unit.operations]


def test_a_transaction_of_one_entry_takes_effect_with_it() -> None:
    unit = feed(Transactions(), 5, apply_ops([insert(A, 1), insert(A, 2)], 1))
    assert keys(unit) == [1, 2]
    assert unit is not None
    assert unit.transaction


def test_a_chain_takes_effect_whole_with_its_last_entry() -> None:
    transactions = Transactions()
    assert feed(transactions, 5, apply_ops([insert(A, 1)], 1, partialTxn=True)) is None
    assert feed(transactions, 6, apply_ops([insert(A, 2)], 1, partialTxn=True)) is None
    unit = feed(transactions, 7, apply_ops([insert(A, 3)], 1, count=3))
    assert keys(unit) == [1, 2, 3]
    assert unit is not None
    assert unit.moment == (7, 1)
    assert transactions.open == 0


def test_a_prepared_transaction_takes_effect_with_its_commit() -> None:
    transactions = Transactions()
    assert feed(transactions, 5, apply_ops([insert(A, 1)], 1, partialTxn=True)) is None
    assert feed(transactions, 6, apply_ops([insert(A, 2)], 1, prepare=True, count=2)) is None
    unit = feed(transactions, 9, commit(1))
    assert keys(unit) == [1, 2]
    assert unit is not None
    assert unit.moment == (9, 1)


def test_an_aborted_transaction_never_takes_effect() -> None:
    transactions = Transactions()
    feed(transactions, 5, apply_ops([insert(A, 1)], 1, prepare=True))
    assert feed(transactions, 6, abort(1)) is None
    assert transactions.open == 0


def test_sessions_do_not_mix() -> None:
    transactions = Transactions()
    feed(transactions, 5, apply_ops([insert(A, 1)], 1, session="x", partialTxn=True))
    feed(transactions, 5, apply_ops([insert(A, 2)], 1, session="y", partialTxn=True))
    assert keys(feed(transactions, 6, apply_ops([insert(A, 3)], 1, session="x", count=2))) == [1, 3]
    assert keys(feed(transactions, 7, apply_ops([insert(A, 4)], 1, session="y", count=2))) == [2, 4]


def test_an_apply_ops_of_a_client_takes_effect_at_once() -> None:
    unit = feed(Transactions(), 5, apply_ops([insert(A, 1)]))
    assert unit is not None
    assert not unit.transaction


@pytest.mark.parametrize(
    "operation", [commit(1), apply_ops([insert(A, 2)], 1, count=2)], ids=["prepared", "chain"]
)
def test_an_end_without_its_beginning_fails(operation: dict[str, object]) -> None:
    with pytest.raises(LucidError) as failed:
        feed(Transactions(), 5, operation)
    assert failed.value.reason is Reason.REPLAY_REFUSED


def test_what_is_open_at_the_restored_moment_never_happened() -> None:
    replay = Replaying(collection(A))
    assert replay.feed(200, apply_ops([insert(A, 1)], 1, prepare=True)) == []
    assert replay.transactions.open == 1
    assert replay.rewriter.done.operations == 0
