"""What reached MongoDB: commands that change definitions, as the server's profiler saw them."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from pymongo import MongoClient

COMMANDS = ("create", "createIndexes", "collMod", "drop", "dropIndexes", "renameCollection")
OURS = "lucid-storage"
"""The name under which the operator's client logs in."""

Document = dict[str, Any]


@dataclass(frozen=True)
class Ran:
    """One command as the server's profiler saw it."""

    command: str
    collection: str
    by_operator: bool
    began: datetime
    ended: datetime


@contextmanager
def profiled(client: MongoClient[Document], database: str) -> Iterator[None]:
    """While the block runs, the server records these commands of a database in its system.profile, emptied before."""
    db = client[database]
    db["system.profile"].drop()
    either = {"$or": [{f"command.{name}": {"$exists": True}} for name in COMMANDS]}
    db.command("profile", 1, filter=either)
    try:
        yield
    finally:
        db.command("profile", 0, filter="unset")


def ran(client: MongoClient[Document], database: str) -> list[Ran]:
    """What was recorded, in the order of beginning."""
    recorded = [_read(entry) for entry in client[database]["system.profile"].find()]
    return sorted(recorded, key=lambda entry: entry.began)


def _read(entry: Document) -> Ran:
    command = next(name for name in COMMANDS if name in entry["command"])
    ended: datetime = entry["ts"]
    return Ran(
        command,
        str(entry["command"][command]),
        entry.get("appName") == OURS,
        ended - timedelta(milliseconds=entry["millis"]),
        ended,
    )
