"""The right of a run to write under live names (rule 2.9).

A worker that loads in place renews it before every batch. Whoever gives the run up takes its journal away or marks it
revoked, so that a worker nobody hears of any more ends at its next batch; and the next run waits until the time of the
last renewal is long over, in case that batch is still on its way. Times are the server's own. A lease that ran out and
that nobody took away is taken away by the next run, so that its worker cannot renew it later.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.journal import JOURNALS
from lucid_storage.stores.mongodb.restore.target import MAJORITY, Target

LEASE_SECONDS = 90
"""Longer than a batch takes, and than a server waits for a client's next word."""
_FRESH_SECONDS = LEASE_SECONDS / 3
"""A renewal that took longer to be answered is repeated: not enough of the lease may be left for a batch."""
_LAPSED = "lapsed"
"""Revoked by the next run. The journal stays: the operator undoes by it what the run put under live names."""

Command = dict[str, object]


class Lease:
    """Of one run. `renew` may be called by several threads."""

    def __init__(
        self, target: Target, database: str, run: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._target = target
        self._database = database
        self._run = run

    def await_others(self, databases: Sequence[str]) -> None:
        """Returns when no other run can be writing here any more, and clears away what revoked ones left."""
        for database in databases:
            self._revoke_lapsed(database)
            while self._held(database):
                self._target.pause()
                self._revoke_lapsed(database)
            gone = {"_id": {"$ne": self._run}, "revoked": True}
            self._target.write(
                database,
                {"delete": JOURNALS, "deletes": [{"q": gone, "limit": 0}]},
                "clear away what given-up restores left",
            )

    def renew(self) -> None:
        """Raises LucidError (WorkerLost) when the run was given up."""
        while True:
            sent = self._clock()
            answer = self._target.command(
                self._database,
                {
                    "update": JOURNALS,
                    "updates": [{"q": {"_id": self._run, "revoked": {"$exists": False}}, "u": renewal()}],
                    "writeConcern": dict(MAJORITY),
                },
                "renew the restore's lease",
            )
            if not answer.get("n"):
                raise LucidError(
                    "The operator gave this restore up, so its worker ends. Restore again.",
                    reason=Reason.WORKER_LOST,
                )
            if self._clock() - sent <= _FRESH_SECONDS:
                return

    def _revoke_lapsed(self, database: str) -> None:
        over = {"$expr": {"$lte": ["$leaseUntil", "$$NOW"]}, "leaseUntil": {"$exists": True}}
        query = {"_id": {"$ne": self._run}, "revoked": {"$exists": False}, **over}
        self._target.write(
            database,
            {
                "update": JOURNALS,
                "updates": [{"q": query, "u": {"$set": {"revoked": _LAPSED}}, "multi": True}],
            },
            "take away the leases that ran out",
        )

    def _held(self, database: str) -> bool:
        # One that ran out since the last look is not revoked yet.
        alive = {
            "_id": {"$ne": self._run},
            "leaseUntil": {"$exists": True},
            "$or": [{"$expr": {"$gt": ["$leaseUntil", "$$NOW"]}}, {"revoked": {"$exists": False}}],
        }
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
