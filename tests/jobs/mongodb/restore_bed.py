"""Restores of a chain by the worker's own code in this process, swapped as the operator does it, and databases compared
as a whole."""

import asyncio
import io
import uuid
from datetime import UTC, datetime
from typing import Any

from chain_bed import OWNER, Chain
from dump_bed import live
from pymongo import MongoClient

from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.restore import restore
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.orders import Destination, RestoreOrder, RestoreResult
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores


def restored(
    chain: Chain, backup: str, *, second: int | None = None, swapped: bool = True, **more: Any
) -> RestoreResult:
    """To the backup's own end, or to the end of a second. Call it where no event loop runs."""
    order = RestoreOrder(
        run=uuid.uuid4().hex[:12],
        owner=OWNER,
        destination=Destination(),
        chain="manual",
        key_id="k1",
        deadline_seconds=600,
        backup_id=backup,
        point_in_time=datetime.fromtimestamp(second, UTC) if second is not None else None,
        **{"drop_existing": True, **more},
    )
    environ = {
        "MONGODB_URI": chain.uri,
        "LUCID_KEYS": str(chain.folder / "keys"),
        "LUCID_DESTINATION": str(chain.folder / "destination"),
    }
    told = restore(order, environ, Reporter(out=io.StringIO()), Stop())
    if swapped and not order.plan_only:
        asyncio.run(_swap(chain.uri, told, order.drop_existing))
    return told


async def _swap(uri: str, told: RestoreResult, drop_existing: bool) -> None:
    port = MongoRestores(uri, label="the test's MongoDB", app_name="lucid-test", guard=lambda: None)
    try:
        await port.swap(told.run, told.databases, drop_existing=drop_existing, keep_minutes=0)
    finally:
        await port.close()


_DEFAULTS = {"validationLevel": "strict", "validationAction": "error"}
"""A server lists them for a collection that got its validator later, and not for one that was made with it."""


def whole(client: MongoClient[Any], database: str) -> dict[str, Any]:
    """Everything that people see of a database: definitions, indexes, and documents byte for byte.

    Documents of capped collections are in their order.
    """
    found = {}
    for entry in client[database].list_collections():
        name, kind = entry["name"], entry["type"]
        if name.startswith(("lucid_", "system.")):
            continue
        indexes, documents = [], []
        if kind != "view":
            place = f"system.buckets.{name}" if kind == "timeseries" else name
            indexes = [list(index.items()) for index in client[database][name].list_indexes()]
            documents = live(client, database, place)
            if not entry["options"].get("capped"):
                documents.sort()
        found[name] = {
            "type": kind,
            "options": {k: v for k, v in entry["options"].items() if _DEFAULTS.get(k) != v},
            "indexes": sorted(indexes, key=repr),
            "documents": documents,
        }
    return found


def numbers(client: MongoClient[Any], database: str, collection: str) -> list[Any]:
    """The `_id`s that are there."""
    return [d["_id"] for d in client[database][collection].find({}, {"_id": 1}, sort=[("_id", 1)])]
