"""`lucid-storage verify --id ID` at a prompt: proves one backup again, from the destination and the keys alone."""

from __future__ import annotations

import argparse
import os
import sys
import uuid

from lucid_storage.app.archives import Archive
from lucid_storage.archive.chains import find_backup
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.verify import verify
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import BackupResult, Owner, VerifyOrder

DEADLINE_SECONDS = 24 * 3600
"""A hold of a command that was killed ends after this long."""


def run_verify(given: argparse.Namespace) -> int:
    """Exit status: 0 proved, 1 the backup is not good or nothing was found out. Progress goes to standard error."""
    try:
        archive = Archive.of(given, os.environ)
        folder = find_backup(archive.open(), archive.destination.root, given.id)
        if folder is None:
            raise RefusedError(
                f"No backup with the id {given.id} lies in the destination; see `lucid-storage catalog`.",
                reason=Reason.RESTORE_BLOCKED,
            )
        order = _order(archive, folder, given.id, Verify(given.level))
        result = verify(order, archive.environ, Reporter(out=sys.stderr), Stop())
    except LucidError as error:
        print(f"lucid-storage: {error.message}", file=sys.stderr)
        return 1
    print(_sentence(result))
    return 0 if result.ok else 1


def _order(archive: Archive, folder: ChainFolder, backup_id: str, level: Verify) -> VerifyOrder:
    owner = Owner(cluster=folder.cluster, namespace=folder.namespace, name=backup_id, uid="", spec_hash="")
    return VerifyOrder(
        run=uuid.uuid4().hex[:12],
        owner=owner,
        destination=archive.destination.model_copy(update={"root": folder.root}),
        chain=folder.chain,
        deadline_seconds=DEADLINE_SECONDS,
        backup_id=backup_id,
        verify=level,
    )


def _sentence(result: BackupResult) -> str:
    if not result.ok:
        return f"The backup {result.id} is not good: {result.message}"
    note = f" ({result.verify_note}: {result.verify_message})" if result.verify_note is not None else ""
    return (
        f"The backup {result.id} is proved: {result.verified}, {result.verified_at:%Y-%m-%dT%H:%M:%SZ}{note}."
    )
