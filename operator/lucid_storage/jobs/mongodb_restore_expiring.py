"""Counts what a TTL deletes as soon as a backup is restored, for a plan that nobody carries out."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from lucid_storage.archive.mongodump import OPLOG, ArchiveReader, Chunk
from lucid_storage.jobs.mongodb_restore_plan import MongoPlan, OpenSource, archive
from lucid_storage.stores.mongodb.restore.catalog import Name, public_name
from lucid_storage.stores.mongodb.restore.expiring import Expired
from lucid_storage.stores.mongodb.restore.loading import documents_in


def count_expiring(
    plan: MongoPlan, open_source: OpenSource, check: Callable[[], None], now: datetime
) -> dict[Name, Expired]:
    """By public name in the full backup, whose documents are read; those of the oplog are not counted.

    Raises LucidError when the archive cannot be read, and what `check` raises.
    """
    counts = {one.base: Expired(one.rules, now) for one in plan.expiring if one.base is not None}
    if counts:
        manifest = plan.path.full.manifest
        source = open_source(manifest, archive(manifest))
        try:
            for part in ArchiveReader(source).parts():
                check()
                if part.namespace == OPLOG:
                    break  # it comes last
                count = counts.get((part.namespace.database, part.namespace.collection))
                if count is not None and isinstance(part, Chunk):
                    for document in documents_in(part.data):
                        count.look(document)
        finally:
            source.close()
    return {(database, public_name(name)): count for (database, name), count in counts.items()}
