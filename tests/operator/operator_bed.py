"""Specs of resources, and how the servers look, in the words of these tests."""

import json
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import datetime, timedelta
from typing import Any

from pymongo.database import Database

from lucid_storage.kube.client import Json
from lucid_storage.models.meta import ANNOTATION_PREFIX
from testbed.pytest_operator import OperatorProcess, World

CONFIRM = "storage.lucid-blockchain.org/confirm-delete"
PAUSED = "storage.lucid-blockchain.org/paused"

Order = int | str
_ALWAYS_LOGGED = {"time", "level", "logger", "message"}


def index_spec(
    collection: str, *keys: tuple[str, Order], options: Json | None = None, **spec: object
) -> dict[str, Any]:
    """An Index on MongoDB; `options` go into the mongodb block."""
    fields = [{"field": field, "order": order} for field, order in keys]
    return {
        "engine": "mongodb",
        "mongodb": {"collection": collection, "keys": fields, **(options or {})},
        **spec,
    }


def indexes(db: Database[Any], collection: str) -> dict[str, dict[str, Any]]:
    """The indexes of a collection by name, without the one on _id."""
    found = db.command("listIndexes", collection)["cursor"]["firstBatch"]
    return {ix["name"]: ix for ix in found if ix["name"] != "_id_"}


def said(resource: Json, kind: str = "Ready") -> Json:
    """One condition of a resource."""
    conditions: Sequence[Json] = resource.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind), {})


def changed() -> Json:
    """A patch after which a resource is looked at, and that changes no declaration."""
    return {"metadata": {"annotations": {f"{ANNOTATION_PREFIX}look": uuid.uuid4().hex}}}


@asynccontextmanager
async def one_more_look(world: World, operator: OperatorProcess, kind: str) -> AsyncIterator[None]:
    """What is done inside is a reason to look at a resource of this kind; wait until that is over."""
    before = operator.metric("lucid_reconciles_total", kind=kind)
    yield

    async def over() -> bool:
        return operator.metric("lucid_reconciles_total", kind=kind) > before

    await world.until(over, 15, f"one more look at a {kind}")


async def looked_at(world: World, operator: OperatorProcess, kind: str, name: str) -> Json:
    """Have it looked at once more, declared as it is, and wait until that is over; returns what was patched."""
    async with one_more_look(world, operator, kind):
        return await world.patch(kind, name, changed())


async def version(world: World, kind: str, name: str) -> str:
    return str((await world.get(kind, name))["metadata"]["resourceVersion"])


async def noted(world: World, name: str, reason: str) -> dict[str, Any]:
    """The Event about an object with this reason, as soon as it is there: Events are posted in the background."""
    found: list[dict[str, Any]] = []

    async def there() -> bool:
        found[:] = [event for event in await world.events(name) if event["reason"] == reason]
        return bool(found)

    await world.until(there, 20, f"the event {reason} of {name}")
    return found[0]


def log_lines(operator: OperatorProcess) -> list[dict[str, Any]]:
    """All that the operator logged. Each line is as docs/monitoring.md says."""
    lines: list[dict[str, Any]] = [json.loads(line) for line in operator.log.splitlines()]
    for line in lines:
        assert line.keys() >= _ALWAYS_LOGGED, line
        assert line.keys() <= {*_ALWAYS_LOGGED, "resource", "store", "lease", "exception"}, line
        assert all(isinstance(value, str) and value for value in line.values()), line
        assert datetime.fromisoformat(line["time"]).utcoffset() == timedelta(0), line
        assert line["level"] in {"debug", "info", "warning", "error", "critical"}, line
    return lines
