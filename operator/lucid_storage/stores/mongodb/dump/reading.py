"""The documents of a collection as the server's own bytes, in replies of a few MiB."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from pymongo.client_session import ClientSession
from pymongo.errors import OperationFailure

from lucid_storage.errors import StoreUnavailableError
from lucid_storage.stores.mongodb.dump.listing import FoundCollection
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.optimes import OpTime
from lucid_storage.stores.mongodb.dump.replies import replies

REPLY_BYTES = 2 * 1024 * 1024
"""What a reply should hold, so that several fit the memory of a worker. The server's own limit is 16 MiB."""
UNKNOWN_BATCH = 1000
LARGEST_BATCH = 100_000
CAPPED_RESTARTS = 3

_CAPPED_POSITION_LOST = 136
_GONE = frozenset({26, 175, 168})
"""NamespaceNotFound, QueryPlanKilled: the collection was dropped or renamed under the cursor. InvalidPipelineOperator:
a view, which takes no noCursorTimeout, has the name of a collection that was dropped.
"""


class CollectionGoneError(Exception):
    """The collection was dropped or renamed while it was read; the oplog says which."""


def batch_size(average_bytes: int) -> int:
    """How many documents of this size make a reply."""
    if average_bytes <= 0:
        return UNKNOWN_BATCH
    return max(1, min(LARGEST_BATCH, REPLY_BYTES // average_bytes))


def batches(
    member: PinnedMember,
    session: ClientSession,
    one: FoundCollection,
    restarted: Callable[[FoundCollection, OpTime], None],
) -> Iterator[list[memoryview]]:
    """Documents in the collection's own order, reply by reply.

    A capped collection whose writer overtakes the cursor is read from its beginning again, so that documents can come
    twice; `restarted` gets the moment from which on the new pass saw everything. Other collections can hold a document
    twice that was deleted and inserted again meanwhile.
    Raises CollectionGoneError, and StoreUnavailableError when the member is lost or a capped collection is rewritten
    faster than it can be read.
    """
    for _ in range(1 + CAPPED_RESTARTS):
        try:
            yield from _pass(member, session, one)
        except _PositionLostError:
            restarted(one, member.committed())
            continue
        return
    raise StoreUnavailableError(
        f"{member.label}: the capped collection {one.namespace} is overwritten faster than it can be read; make it"
        " larger, or leave it out of the backup."
    )


class _PositionLostError(Exception):
    pass


def _pass(member: PinnedMember, session: ClientSession, one: FoundCollection) -> Iterator[list[memoryview]]:
    with member.asking(f"read {one.namespace}", "find"):
        try:
            # No hint and no sort: a forward scan, which neither an index build nor a dropped index ends.
            query = {"noCursorTimeout": True, "readConcern": {"level": "majority"}}
            database = member.client.get_database(one.database)
            yield from replies(database, session, one.place, query, batch_size(one.average_bytes))
        except OperationFailure as error:
            if error.code == _CAPPED_POSITION_LOST and one.capped:
                raise _PositionLostError from None
            if error.code in _GONE:
                raise CollectionGoneError(one.namespace) from None
            raise
