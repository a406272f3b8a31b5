"""How things stand: figures of each shard, the balancer, and a resharding that runs."""

from __future__ import annotations

from collections.abc import Mapping

from lucid_storage.errors import AccessDeniedError, Reason, ServerRefusedError
from lucid_storage.stores.mongodb.connection import Connection, Document
from lucid_storage.stores.mongodb.errors import not_ready
from lucid_storage.stores.mongodb.sharding.catalogue import Catalogue, shard_key, whole
from lucid_storage.stores.mongodb.sharding.types import (
    Balance,
    BalancerState,
    BalancerWindow,
    Resharding,
    ReshardPhase,
    ShardFigures,
)

_PHASES = {
    "initializing": ReshardPhase.PREPARING,
    "preparing-to-donate": ReshardPhase.PREPARING,
    "cloning": ReshardPhase.COPYING,
    "building-index": ReshardPhase.COPYING,
    "applying": ReshardPhase.CATCHING_UP,
    "blocking-writes": ReshardPhase.CATCHING_UP,
    "committing": ReshardPhase.COMMITTING,
    "aborting": ReshardPhase.ABORTING,
}
_OVER = frozenset({"done", "quiesced"})


class Watching:
    def __init__(self, connection: Connection, catalogue: Catalogue) -> None:
        self._connection = connection
        self._catalogue = catalogue

    async def figures(
        self, database: str, name: str, budget_seconds: float
    ) -> tuple[ShardFigures, ...] | None:
        await self._catalogue.require()
        attempt = self._connection.attempt(f"read the sizes of {database}.{name}", action="collStats")
        fields = ("count", "size", "storageSize", "avgObjSize", "numOrphanDocs")
        pipeline: list[Document] = [
            {"$collStats": {"storageStats": {}}},
            {"$project": {"shard": 1, **{f"storageStats.{field}": 1 for field in fields}}},
        ]
        try:
            entries = await self._connection.aggregate_within(
                budget_seconds, database, name, pipeline, attempt
            )
        except ServerRefusedError as refused:
            if refused.reason is Reason.COLLECTION_NOT_READY:
                return ()
            raise
        if entries is None:
            return None
        return tuple(sorted(map(shard_figures, entries), key=lambda figures: figures.shard))

    async def balance(self, database: str, name: str) -> Balance:
        attempt = self._connection.attempt(
            f"ask whether {database}.{name} is balanced", action="enableSharding"
        )
        entry = await self._catalogue.entry(database, name)
        if entry is None:
            raise not_ready(attempt)
        command = {"balancerCollectionStatus": entry["_id"]}
        answer = await self._connection.read("admin", command, attempt)
        violation = answer.get("firstComplianceViolation")
        return Balance(
            compliant=bool(answer.get("balancerCompliant")),
            violation=violation if isinstance(violation, str) else None,
        )

    async def balancer(self) -> BalancerState:
        await self._catalogue.require()
        attempt = self._connection.attempt("ask the balancer", action="find on config.settings")
        answer = await self._connection.read("admin", {"balancerStatus": 1}, attempt)
        found = await self._catalogue.find("settings", {"_id": "balancer"}, "read the balancer's window")
        return BalancerState(
            enabled=answer.get("mode") != "off",
            running=bool(answer.get("inBalancerRound")),
            rounds=whole(answer.get("numBalancerRounds")),
            window=window(found[0].get("activeWindow")) if found else None,
        )

    async def resharding(self, database: str, name: str) -> Resharding | None:
        entry = await self._catalogue.entry(database, name)
        fields = entry.get("reshardingFields") if entry is not None else None
        if not isinstance(fields, Mapping) or fields.get("state") in _OVER:
            return None
        percent, remaining = await self._progress(f"{database}.{name}")
        return Resharding(
            phase=_PHASES.get(str(fields.get("state")), ReshardPhase.PREPARING),
            key=await self._resharding_key(fields.get("reshardingUUID"), fields.get("uuid")),
            percent=percent,
            remaining_seconds=remaining,
        )

    async def _resharding_key(self, *uuids: object) -> tuple[tuple[str, int | str], ...] | None:
        match: Document = {"_id": {"$in": [uuid for uuid in uuids if uuid is not None]}}
        try:
            found = await self._catalogue.find("reshardingOperations", match, "read what runs")
        except AccessDeniedError:
            return None
        return shard_key(found[0]["reshardingKey"]) if found and "reshardingKey" in found[0] else None

    async def _progress(self, namespace: str) -> tuple[int | None, int | None]:
        """Percent and seconds left; nothing without the right to look (inprog)."""
        attempt = self._connection.attempt(f"look at the resharding of {namespace}", action="inprog")
        figures = ("approxBytesToCopy", "bytesCopied", "remainingOperationTimeEstimatedSecs")
        pipeline: list[Document] = [
            {"$currentOp": {"allUsers": True, "localOps": False}},
            {"$match": {"originatingCommand.reshardCollection": namespace}},
            {"$project": dict.fromkeys(figures, 1)},
        ]
        try:
            return progress(await self._connection.aggregate("admin", None, pipeline, attempt))
        except AccessDeniedError:
            return None, None


def progress(operations: list[Document]) -> tuple[int | None, int | None]:
    """Of all shards that receive: percent of the bytes, and the longest of their estimates."""
    total = sum(whole(operation.get("approxBytesToCopy")) for operation in operations)
    copied = sum(whole(operation.get("bytesCopied")) for operation in operations)
    # -1 means that the server does not know yet.
    estimates = [whole(operation.get("remainingOperationTimeEstimatedSecs", -1)) for operation in operations]
    remaining = max((seconds for seconds in estimates if seconds >= 0), default=None)
    return (min(99, copied * 100 // total) if total else None), remaining


def shard_figures(entry: Mapping[str, object]) -> ShardFigures:
    """One shard's answer to $collStats, without what lies there and belongs elsewhere."""
    stats = entry.get("storageStats")
    assert isinstance(stats, Mapping)
    counted = "count" in stats
    orphans = min(whole(stats.get("numOrphanDocs")), whole(stats.get("count")))
    return ShardFigures(
        shard=str(entry.get("shard", "")),
        documents=whole(stats.get("count")) - orphans if counted else None,
        size_bytes=max(0, whole(stats.get("size")) - orphans * whole(stats.get("avgObjSize"))),
        storage_bytes=whole(stats.get("storageSize")),
        orphans=orphans,
    )


def window(document: object) -> BalancerWindow | None:
    if not isinstance(document, Mapping):
        return None
    return BalancerWindow(str(document.get("start", "")), str(document.get("stop", "")))
