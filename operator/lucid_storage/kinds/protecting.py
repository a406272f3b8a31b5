"""The part of one look that is about backupBefore: nothing that could lose data is done before its Backup is there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime

from lucid_storage.errors import Reason
from lucid_storage.kinds import protection
from lucid_storage.kinds.contract import Plan, S, Verdict
from lucid_storage.kinds.protection import Need, Protector, Seen, Standing
from lucid_storage.kinds.telling import Teller
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.base import Protection


class Protecting:
    """Stands between a plan and its actions. Every call may raise KubeApiError."""

    def __init__(self, protector: Protector, now: Callable[[], datetime]) -> None:
        self._protector = protector
        self._now = now

    async def under_way(self, resource: Resource, status: S) -> Plan[S] | None:
        """The plan while a Backup that was begun is at work: what would be lost is counted when it is there."""
        known = protection.opened(_known(status), resource)
        if known is None:
            return None
        seen = await self._seen(resource, status, known, ())
        return _waiting(status, seen) if seen.standing is Standing.UNDER_WAY else None

    async def missing(self, resource: Resource, status: S, need: Need, teller: Teller[S]) -> Plan[S] | None:
        """The plan as long as the Backup is not there; None when the actions may be done.

        Raises LucidError(BackupUnavailable) where none can be made.
        """
        known = protection.opened(_known(status), resource, need.engine)
        seen = await self._seen(resource, status, known, (need,)) if known is not None else None
        if known is None or seen is None or _over(known, seen):
            known, seen = protection.begun(resource, need.engine, self._now()), Seen(Standing.ABSENT)
            _note(status, known)
            # Its name first: whoever comes next finds it and makes no second one.
            said = f"Makes the Backup {known.backup}, which backupBefore asks for."
            await teller.write(resource, status, Verdict(Reason.PROGRESSING, said), "")
        if seen.standing is Standing.ABSENT:
            await self._protector.make(resource, known.backup, [need])
            said = f"Waits for the Backup {known.backup}, which backupBefore asks for."
            seen = Seen(Standing.UNDER_WAY, said)
        return None if seen.standing is Standing.DONE else _waiting(status, seen)

    async def _seen(self, resource: Resource, status: S, known: Protection, needs: tuple[Need, ...]) -> Seen:
        """The Backup of a record. That it was seen is noted: one that is removed is not made again under its name,
        where the data of the first would be taken for its own (rule 1.10).
        """
        servers: dict[BackupEngine, str] = {}
        if status.server_identity is not None:
            servers = {n.engine: status.server_identity for n in needs if n.engine is not BackupEngine.REDIS}
        wanted = protection.demand(resource, known.since, needs, servers)
        now = self._now()
        seen = await self._protector.seen(resource, known.backup, replace(wanted, uid=known.uid), now)
        if seen.uid is not None and known.uid is None:
            _note(status, known.model_copy(update={"uid": seen.uid}))
        return seen


def _over(known: Protection, seen: Seen) -> bool:
    """Whether nothing can come of the Backup any more, so that another one is needed."""
    removed = seen.standing is Standing.ABSENT and known.uid is not None
    return removed or seen.standing is Standing.STALE


def note_done(resource: Resource, status: object) -> None:
    """The change was made, or is not wanted any more: the next change is another one."""
    known = protection.opened(_known(status), resource)
    if known is not None:
        _note(status, known.model_copy(update={"used": True}))


def _known(status: object) -> Protection | None:
    """Only kinds with backupBefore in their spec have it."""
    return getattr(status, "protection", None)


def _note(status: object, known: Protection) -> None:
    status.protection = known  # type: ignore[attr-defined]


def _waiting(status: S, seen: Seen) -> Plan[S]:
    """`protect` says that the change is still to come."""
    failed = seen.standing is Standing.FAILED
    said = protection.failed_said(seen.message) if failed else seen.message
    reason = Reason.BACKUP_UNAVAILABLE if failed else Reason.PROGRESSING
    seconds = protection.FAILED_SECONDS if failed else protection.WATCH_SECONDS
    verdict = Verdict(reason, said, stalled=failed)
    return Plan(status, verdict=verdict, recheck_seconds=seconds, protect=Need(BackupEngine.MONGODB))
