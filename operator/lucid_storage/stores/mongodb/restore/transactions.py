"""Transactions applied whole at their commit (rule 2.5). Pure, apart from what it carries along.

The server writes a transaction as one `applyOps`, as a chain of them (`partialTxn`), or prepared (`prepare`) and later
committed by an entry of its own. Entries of one transaction share session and number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from lucid_storage.stores.mongodb.restore.entries import (
    Entry,
    Moment,
    Operation,
    OperationKind,
    nested,
    refused,
)

Session = tuple[bytes, int]


@dataclass(frozen=True, slots=True)
class Unit:
    """Operations that take effect together, at the optime of the entry that commits them."""

    moment: Moment
    operations: Sequence[Operation]
    transaction: bool = False


@dataclass(slots=True)
class _Open:
    """A transaction whose commit has not been read yet."""

    began: Moment
    operations: list[Operation] = field(default_factory=list)
    prepared: bool = False


class Transactions:
    """Carries open transactions from entry to entry, and so from slice to slice."""

    def __init__(self, *, whole: bool = True) -> None:
        """`whole` False looks at a part of the oplog: a transaction that begins before it is passed over."""
        self._open: dict[Session, _Open] = {}
        self._whole = whole

    @property
    def open(self) -> int:
        """How many are not committed yet. What is open at the restored moment never happened by then."""
        return len(self._open)

    def feed(self, entry: Entry) -> Unit | None:
        """What takes effect with this entry; None for no-ops, for parts of transactions and for aborts.

        Raises RefusedError (ReplayRefused) for a transaction whose beginning is missing.
        """
        operation = entry.operation
        if operation.kind is OperationKind.NOTHING:
            return None
        command = operation.command
        if command == "applyOps":
            return self._apply_ops(entry, operation)
        if command == "commitTransaction":
            return self._commit(entry)
        if command == "abortTransaction":
            if entry.session is not None:
                self._open.pop(entry.session, None)
            return None
        return Unit(entry.moment, (operation,))

    def _apply_ops(self, entry: Entry, operation: Operation) -> Unit | None:
        inner = nested(operation.document)
        partial = bool(operation.document.get("partialTxn"))
        prepared = bool(operation.document.get("prepare"))
        if entry.session is None:
            if partial or prepared:
                raise refused("the oplog holds a part of a transaction without its session")
            return Unit(entry.moment, inner)
        held = self._open.pop(entry.session, None) or _Open(began=entry.moment)
        held.operations.extend(inner)
        if not partial and self._whole:
            _check_whole(operation, held)
        if partial or prepared:
            held.prepared = prepared
            self._open[entry.session] = held
            return None
        return Unit(entry.moment, held.operations, transaction=True)

    def _commit(self, entry: Entry) -> Unit | None:
        held = self._open.pop(entry.session, None) if entry.session is not None else None
        if held is None or not held.prepared:
            if not self._whole:
                return None
            raise _without_beginning()
        return Unit(entry.moment, held.operations, transaction=True)


def _check_whole(operation: Operation, held: _Open) -> None:
    # The last of several entries says how many operations there are in all.
    count = operation.document.get("count")
    if isinstance(count, int | float) and int(count) != len(held.operations):
        raise _without_beginning()


def _without_beginning() -> Exception:
    return refused("the oplog holds the end of a transaction whose beginning is missing")
