"""The right of a run to write into a database (rule 2.9). The records and commands; who holds it is in `holding`.

Each database that is restored into has one, a record beside the journals. Every run takes those of all its databases
before it writes, in the order of their names, so that no two runs wait for each other. Taking counts a number up
(fencing): what was loaded under a number is swapped only while the record still has it. A lease that nobody renewed is
free when its time is over, by the server's clock.
"""

from __future__ import annotations

from collections.abc import Mapping

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.mongodb.restore.journal import JOURNALS

LEASE = "lease"
"""The record's `_id`; runs are hexadecimal, so none is called so."""
LEASE_SECONDS = 90.0
"""Longer than a batch takes, and than a server waits for a client's next word."""
SWAP_SECONDS = 3600.0
"""Of a swap: it only rolls forward, and an operator that is away for long comes back to it."""

Command = dict[str, object]


def founding() -> Command:
    """The record is there afterwards. Harmless to repeat; two at once may tell of a duplicate key."""
    change = {"q": {"_id": LEASE}, "u": {"$setOnInsert": {"number": 0}}, "upsert": True}
    return {"update": JOURNALS, "updates": [change]}


def taking(run: str, token: str, seconds: float) -> Command:
    """Answers with the record, or with none while somebody else holds it. `token` is one process's own: the command
    may be sent twice.
    """
    free = [
        {"until": {"$exists": False}},
        {"$expr": {"$lte": ["$until", "$$NOW"]}},
        {"token": token},
    ]
    taken = {
        "number": {"$add": ["$number", 1]},
        "run": {"$literal": run},
        "token": {"$literal": token},
        "until": _after(seconds),
    }
    no_longer: Command = {"$unset": ["revoked"]}
    return {
        "findAndModify": JOURNALS,
        "query": {"_id": LEASE, "$or": free},
        "update": [{"$set": taken}, no_longer],
        "new": True,
    }


def renewing(number: int, seconds: float) -> Command:
    """Matches nothing when the lease was taken away, or taken over."""
    later = {"$max": ["$until", _after(seconds)]}
    return _change({"number": number, "revoked": {"$exists": False}}, [{"$set": {"until": later}}])


def releasing(number: int) -> Command:
    """The end in peace: the next one need not wait."""
    return _change({"number": number}, [{"$unset": ["until", "token"]}])


def revoking(run: str, *, at_once: bool) -> Command:
    """Takes a run's lease away. The next one waits until its time is over, for a batch that may be on its way;
    `at_once` where no worker can have one.
    """
    gone: list[Command] = [{"$unset": ["until"]}] if at_once else []
    return _change({"run": run}, [{"$set": {"revoked": True}}, *gone])


def number_in(record: Mapping[str, object] | None) -> int | None:
    """Of a lease that stands; None when there is none, or it was taken away."""
    number = record.get("number") if record is not None and not record.get("revoked") else None
    return int(number) if isinstance(number, int | float) else None


def lost(database: str) -> LucidError:
    """What the former holder is told."""
    return LucidError(
        f"This restore may write into {database} no more: it was given up, or another restore took over there. See"
        " that no other restore into it runs, then restore again.",
        reason=Reason.WORKER_LOST,
    )


def _change(query: Mapping[str, object], update: list[Command]) -> Command:
    wanted: Command = {"_id": LEASE, **query}
    return {"update": JOURNALS, "updates": [{"q": wanted, "u": update}]}


def _after(seconds: float) -> Command:
    return {"$add": ["$$NOW", int(seconds * 1000)]}
