"""`lucid-storage export`: reads a live database and writes the resources that describe it. It writes to no store."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from lucid_storage.app.stores import store_engines
from lucid_storage.errors import LucidError, NotSupportedError, Reason, RefusedError
from lucid_storage.kinds.export.collection import collection_manifest
from lucid_storage.kinds.export.index_elasticsearch import SeriesFound, policy_name, series, series_manifest
from lucid_storage.kinds.export.index_mongodb import index_manifest
from lucid_storage.kinds.export.parts import Manifest, Skipped
from lucid_storage.kinds.export.render import (
    kustomization_text,
    listed_files,
    manifests_text,
    skipped_text,
)
from lucid_storage.kinds.export.shardedcollection import sharded_manifest
from lucid_storage.models.meta import RESERVED_DATABASES
from lucid_storage.models.settings import Settings, SettingsError
from lucid_storage.stores.elasticsearch.port import ElasticPort
from lucid_storage.stores.elasticsearch.types import LifecyclePolicyState
from lucid_storage.stores.mongodb.port import MongoPort
from lucid_storage.stores.mongodb.types import CollectionState, Topology

KUSTOMIZATION = "kustomization.yaml"
SKIPPED = "SKIPPED.md"
MONTHLY = "*-20*.*"


@dataclass(slots=True)
class Export:
    """Files by name, each with its resources, and what no file says."""

    namespace: str | None
    files: dict[str, list[Manifest]] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def add(self, resources: list[Manifest]) -> None:
        metadata = resources[0]["metadata"]
        assert isinstance(metadata, dict)
        self.files[f"{metadata['name']}.yaml"] = resources

    def texts(self) -> dict[str, str]:
        """Everything that is to be written."""
        found = {name: manifests_text(resources) for name, resources in sorted(self.files.items())}
        found[KUSTOMIZATION] = kustomization_text(sorted(self.files))
        if self.skipped:
            found[SKIPPED] = skipped_text(self.skipped)
        return found


def run_export(database: str, output: str, namespace: str | None, *, elasticsearch: bool) -> int:
    """Exit status: 0 written, 1 a store refused or cannot be reached, 2 cannot be done as asked."""
    export = Export(namespace)
    folder = Path(output)
    try:
        settings = Settings.read(os.environ)
        earlier = _earlier_files(folder)
        asyncio.run(_read(settings, database, export, elasticsearch=elasticsearch))
        texts = export.texts()
        _write(folder, texts, earlier)
    except SettingsError as error:
        return _failed(f"a setting cannot be used: {error}", 2)
    except RefusedError as error:
        return _failed(error.message, 2)
    except LucidError as error:
        return _failed(error.message, 1)
    except OSError as error:
        return _failed(f"{folder} cannot be written: {error.strerror or error}.", 2)
    _report(folder, export)
    return 0


async def _read(settings: Settings, database: str, export: Export, *, elasticsearch: bool) -> None:
    engines = store_engines(settings, _no_writes)
    uri = settings.mongodb()
    if uri is None:
        raise _refused("MongoDB is not configured; set MONGODB_URI.", Reason.NOT_CONFIGURED)
    if database in RESERVED_DATABASES:
        raise _refused(f"The database {database} belongs to MongoDB itself; name another one.")
    url = settings.elasticsearch()
    if elasticsearch and url is None:
        raise _refused("Elasticsearch is not configured; set ELASTICSEARCH_URL.", Reason.NOT_CONFIGURED)
    mongodb = engines.mongodb.open(uri, "MONGODB_URI")
    try:
        await _read_mongodb(mongodb, database, export)
    finally:
        await mongodb.close()
    if elasticsearch and url is not None:
        cluster = engines.elasticsearch.open(url, "ELASTICSEARCH_URL")
        try:
            await _read_elasticsearch(cluster, export)
        finally:
            await cluster.close()


async def _read_mongodb(port: MongoPort, database: str, export: Export) -> None:
    states = await port.collections(database)
    if not states:
        raise _refused(
            f"The database {database} has no collections that this login can see; check the name and the login."
        )
    for state in states:
        await _read_collection(port, state, export)


async def _read_collection(port: MongoPort, state: CollectionState, export: Export) -> None:
    made, skipped = collection_manifest(state, export.namespace)
    export.skipped += skipped
    if made is None:
        return
    resources = [made]
    indexes = await port.indexes(state.database, state.name)
    for index in sorted(indexes or (), key=lambda ix: ix.name):
        resource, left_out = index_manifest(
            state.database,
            state.name,
            index,
            export.namespace,
            default_collation=state.options.collation,
        )
        export.skipped += left_out
        if resource is not None:
            resources.append(resource)
    resources += await _read_sharding(port, state, export)
    export.add(resources)


async def _read_sharding(port: MongoPort, state: CollectionState, export: Export) -> list[Manifest]:
    """How the collection is sharded; nothing where it is not."""
    if (await port.info()).topology is not Topology.SHARDED:
        return []
    sharded = await port.sharding.sharded(state.database, state.name)
    if sharded is None:
        return []
    zones = await port.sharding.zones(state.database, state.name)
    made, skipped = sharded_manifest(sharded, zones, export.namespace)
    export.skipped += skipped
    return [] if made is None else [made]


async def _read_elasticsearch(port: ElasticPort, export: Export) -> None:
    found, skipped = series(await port.templates(), await port.indices(MONTHLY))
    export.skipped += skipped
    for one in found:
        whole = SeriesFound(one.template, one.indices, await _policy(port, one))
        resource, left_out = series_manifest(whole, export.namespace, datetime.now(UTC))
        export.skipped += left_out
        if resource is not None:
            export.add([resource])


async def _policy(port: ElasticPort, found: SeriesFound) -> LifecyclePolicyState | None:
    name = policy_name(found)
    if name is None:
        return None
    try:
        return await port.policy(name)
    except NotSupportedError:
        return None  # a server without lifecycle management: the name means nothing there


def _earlier_files(folder: Path) -> tuple[str, ...]:
    """The files of the export that the folder holds. Raises RefusedError where it holds something else."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return ()
    kustomization = folder / KUSTOMIZATION
    listed = listed_files(kustomization.read_text()) if kustomization.is_file() else None
    if listed is None:
        raise _refused(
            f"{folder} is not empty and holds no earlier export; name a new directory with --output, or empty it."
        )
    return (*listed, SKIPPED)


def _write(folder: Path, texts: Mapping[str, str], earlier: tuple[str, ...]) -> None:
    """The kustomization first: it marks the folder as an export, which the next one may finish or replace."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in set(earlier) - set(texts):
        (folder / name).unlink(missing_ok=True)
    for name in sorted(texts, key=lambda name: (name != KUSTOMIZATION, name)):
        partial = folder / f".{name}.part"
        partial.write_text(texts[name], encoding="utf-8")
        partial.replace(folder / name)


def _report(folder: Path, export: Export) -> None:
    resources = sum(len(resources) for resources in export.files.values())
    print(f"Wrote {resources} resources in {len(export.files)} files; apply them: kubectl apply -k {folder}")
    if export.skipped:
        print(skipped_text(export.skipped), end="", file=sys.stderr)


def _failed(message: str, status: int) -> int:
    print(f"lucid-storage export: {message}", file=sys.stderr)
    return status


def _refused(message: str, reason: Reason = Reason.INVALID_SPEC) -> RefusedError:
    return RefusedError(message, reason=reason)


def _no_writes() -> None:
    """Asked before every write to a store: an export makes none."""
    raise RuntimeError("an export tried to write to a store")
