"""The right of a run to write under live names (rule 2.9).

A worker that loads in place renews it before every batch. Whoever gives the run up takes its journal away or marks it
revoked, so that a worker nobody hears of any more ends at its next batch; and the next run waits until the time of the
last renewal is long over, in case that batch is still on its way. Times are the server's own.
"""

from __future__ import annotations

from collections.abc import Sequence

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.journal import JOURNALS
from lucid_storage.stores.mongodb.restore.target import MAJORITY, Target

LEASE_SECONDS = 90
"""Longer than a batch takes, and than a server waits for a client's next word."""

Command = dict[str, object]


class Lease:
    """Of one run. `renew` may be called by several threads."""

    def __init__(self, target: Target, database: str, run: str) -> None:
        self._target = target
        self._database = database
        self._run = run

    def await_others(self, databases: Sequence[str]) -> None:
        """Returns when no other run can be writing here any more, and clears away what revoked ones left."""
        for database in databases:
            while self._held(database):
                self._target.pause()
            gone = {"_id": {"$ne": self._run}, "revoked": True}
            self._target.write(
                database,
                {"delete": JOURNALS, "deletes": [{"q": gone, "limit": 0}]},
                "clear away what given-up restores left",
            )

    def renew(self) -> None:
        """Raises LucidError (WorkerLost) when the run was given up."""
        answer = self._target.command(
            self._database,
            {
                "update": JOURNALS,
                "updates": [{"q": {"_id": self._run, "revoked": {"$ne": True}}, "u": renewal()}],
                "writeConcern": dict(MAJORITY),
            },
            "renew the restore's lease",
        )
        if not answer.get("n"):
            raise LucidError(
                "The operator gave this restore up, so its worker ends. Restore again.",
                reason=Reason.WORKER_LOST,
            )

    def _held(self, database: str) -> bool:
        alive = {"_id": {"$ne": self._run}, "$expr": {"$gt": ["$leaseUntil", "$$NOW"]}}
        answer = self._target.command(
            database,
            {"find": JOURNALS, "filter": alive, "limit": 1, "singleBatch": True, "projection": {"_id": 1}},
            "look whether another restore writes here",
        )
        cursor = answer["cursor"]
        assert isinstance(cursor, dict)
        return bool(cursor["firstBatch"])


def renewal() -> list[Command]:
    """The update that moves the lease's end, by the server's clock."""
    return [{"$set": {"leaseUntil": {"$add": ["$$NOW", LEASE_SECONDS * 1000]}}}]


def over(run: str) -> Command:
    """The command that ends a lease in peace."""
    return {"update": JOURNALS, "updates": [{"q": {"_id": run}, "u": {"$unset": {"leaseUntil": 1}}}]}


def revocation(run: str) -> Command:
    """The update that takes a lease away. One that was never held has nothing to revoke."""
    return {"q": {"_id": run, "leaseUntil": {"$exists": True}}, "u": {"$set": {"revoked": True}}}
