"""Index builds that run now, from $currentOp."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from lucid_storage.errors import AccessDeniedError
from lucid_storage.stores.mongodb.connection import Connection, Document
from lucid_storage.stores.mongodb.types import BuildProgress

_PREFIX = "Index Build: "


async def build_progress(connection: Connection, database: str, collection: str) -> tuple[BuildProgress, ...]:
    """One entry a build; empty without the right to look (the action inprog on the cluster)."""
    attempt = connection.attempt("look at running index builds", action="inprog")
    pipeline: list[Document] = [
        {"$currentOp": {"allUsers": True, "localOps": False}},
        {"$match": {"ns": f"{database}.{collection}", "command.createIndexes": {"$exists": True}}},
        {"$project": {"command.indexes.name": 1, "msg": 1, "progress": 1, "shard": 1}},
    ]
    try:
        operations = await connection.aggregate("admin", None, pipeline, attempt)
    except AccessDeniedError:
        return ()
    return merged(operations)


def merged(operations: list[Document]) -> tuple[BuildProgress, ...]:
    """A build shows as the thread that builds and as the callers that wait for it; on each shard anew."""
    shards: dict[tuple[tuple[str, ...], str], BuildProgress] = {}
    for operation in operations:
        found = _progress(operation)
        if found is None:
            continue
        key = (found.index_names, str(operation.get("shard", "")))
        known = shards.get(key)
        if known is None or (found.total, found.phase) > (known.total, known.phase):
            shards[key] = found
    builds: dict[tuple[str, ...], BuildProgress] = {}
    for (names, _), found in shards.items():
        known = builds.get(names)
        builds[names] = (
            found
            if known is None
            else replace(known, done=known.done + found.done, total=known.total + found.total)
        )
    return tuple(builds[names] for names in sorted(builds))


def _progress(operation: Mapping[str, object]) -> BuildProgress | None:
    command, progress = operation.get("command"), operation.get("progress")
    indexes = command.get("indexes") if isinstance(command, Mapping) else None
    if not isinstance(indexes, list):
        return None
    names = tuple(sorted(str(index.get("name")) for index in indexes if isinstance(index, Mapping)))
    figures = progress if isinstance(progress, Mapping) else {}
    return BuildProgress(
        index_names=names,
        done=int(figures.get("done", 0)),
        total=int(figures.get("total", 0)),
        phase=_phase(str(operation.get("msg", ""))),
    )


def _phase(message: str) -> str:
    """The server repeats the phase with figures: "Index Build: scanning Index Build: scanning: 5/9 55%"."""
    return message.removeprefix(_PREFIX).partition(_PREFIX)[0].strip() if message.startswith(_PREFIX) else ""
