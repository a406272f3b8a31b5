"""Databases in which a backup is proved. Each says how long it is used, so that those of a killed worker go later."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping

from lucid_storage.stores.mongodb.restore.catalog import STAGED_PREFIX
from lucid_storage.stores.mongodb.restore.target import Target

logger = logging.getLogger(__name__)

STAMPS = f"{STAGED_PREFIX}stamp"
_KEY = "scratch"
_NOT_ALLOWED = 13


def scratch_name(run: str, number: int) -> str:
    """Of a database that nobody else uses."""
    return f"{STAGED_PREFIX}{run[:20]}_{number}"


def stamp(target: Target, databases: Iterable[str], seconds: int) -> None:
    """Written before anything is loaded: after so many seconds, by the server's clock, whoever comes may drop them."""
    until = {"$add": ["$$NOW", seconds * 1000]}
    change = {"q": {"_id": _KEY}, "u": [{"$set": {"until": until}}], "upsert": True}
    for database in databases:
        target.write(database, {"update": STAMPS, "updates": [change]}, f"stamp the database {database}")


def drop(target: Target, databases: Iterable[str]) -> None:
    for database in databases:
        target.write(database, {"dropDatabase": 1}, f"drop the scratch database {database}")


def drop_ended(target: Target) -> list[str]:
    """Drops scratch databases whose time is over; returns their names. One without a stamp is of somebody else."""
    ended = [name for name in _reserved(target) if _over(target, name)]
    if ended:
        logger.info("a worker before this one left %s", ", ".join(ended))
    drop(target, ended)
    return ended


def _reserved(target: Target) -> list[str]:
    listing = {
        "listDatabases": 1,
        "filter": {"name": {"$regex": f"^{STAGED_PREFIX}"}},
        "nameOnly": True,
        "authorizedDatabases": True,
    }
    answer = target.command("admin", listing, "look for scratch databases", expected={_NOT_ALLOWED})
    found = answer.get("databases")
    return [str(one["name"]) for one in found] if isinstance(found, list) else []


def _over(target: Target, database: str) -> bool:
    over = {"_id": _KEY, "$expr": {"$lte": ["$until", "$$NOW"]}}
    answer = target.command(
        database, {"find": STAMPS, "filter": over, "limit": 1}, f"look at {database}", expected={_NOT_ALLOWED}
    )
    cursor = answer.get("cursor")
    return isinstance(cursor, Mapping) and bool(cursor["firstBatch"])
