"""Whether a server is fit to load a backup for a proof: it must not cost what it serves otherwise (rule 1.11).

What is asked for here is a sentence that says why it is not, for the note of a proof that stays at Checksum.
"""

from __future__ import annotations

import asyncio
from contextlib import closing

from lucid_storage.archive.manifest import MongoRecord
from lucid_storage.errors import LucidError
from lucid_storage.jobs.elastic_restore import LABEL, ElasticRestoreRun
from lucid_storage.jobs.mongodb_restore_plan import SPACE_FACTOR, MongoPlan
from lucid_storage.kinds.identity import surely_another
from lucid_storage.models.quantity import for_people
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.elasticsearch.backup.room import free_bytes
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.oplog import Oplog
from lucid_storage.stores.mongodb.restore.adapter import MongoRestores
from lucid_storage.stores.mongodb.restore.port import MemberSpace

OPLOG_SHARE = 5
"""The data must be less than this part of the oplog of a server that is proof of itself."""


def too_large(member: PinnedMember, record: MongoRecord, plan: MongoPlan) -> str | None:
    """Why the data are too much for the oplog of the server that was read, if it is that; None when they are not.

    Raises LucidError when the oplog cannot be asked.
    """
    found = member.identity().identity
    if (
        surely_another(record.identity, found)
        or plan.loaded_bytes < Oplog(member).size_bytes() // OPLOG_SHARE
    ):
        return None
    if found == record.identity:
        which = "BACKUP_VERIFY_URI is the server that was read"
    else:
        which = (
            "BACKUP_VERIFY_URI may be the server that was read (its login, or that of the backup, may not read the"
            " replica set's id: the action replSetGetConfig)"
        )
    return f"{which}, and the data are more than a fifth of its oplog; name another server."


def crowded(uri: str, plan: MongoPlan) -> str | None:
    """Why there is no room on the verify server; None where there is, or where nobody says. Raises LucidError."""
    known = [one.free_bytes for one in asyncio.run(_space(uri, plan)) if one.free_bytes is not None]
    if not known or min(known) >= plan.needed_bytes:
        return None
    return (
        f"The proof by a restore needs {for_people(plan.needed_bytes)} free on each member of BACKUP_VERIFY_URI, and"
        f" one has {for_people(min(known))}; enlarge its volume."
    )


async def _space(uri: str, plan: MongoPlan) -> tuple[MemberSpace, ...]:
    port = MongoRestores(uri, label="MongoDB", app_name="lucid-storage-restore", guard=lambda: None)
    try:
        return await port.space(plan.databases)
    finally:
        await port.close()


def crowded_elasticsearch(run: ElasticRestoreRun) -> str | None:
    """The same of the cluster that was read, which blocks writes to all its indices where a disk is nearly full."""
    needed = int(SPACE_FACTOR * sum(index.bytes for index in run.record.indices))
    with closing(ElasticHttp(run.url, LABEL, run.loading().pause, patience=0)) as http:
        try:
            free = free_bytes(http)
        except LucidError:
            return None  # what hinders the proof says so itself
    if free is None or free >= needed:
        return None
    return (
        f"The proof by a restore needs {for_people(needed)} free in Elasticsearch, which has {for_people(free)}"
        " until it blocks its indices; enlarge its volumes."
    )
