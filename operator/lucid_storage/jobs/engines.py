"""The engines that one backup asks for, with the logins of the environment. Imported when they are asked for."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from types import TracebackType
from typing import TYPE_CHECKING, Self

from lucid_storage.archive.decision import Decision, OplogView, Refusal, Request
from lucid_storage.archive.manifest import BackupKind, ObjectKind, OplogPoint
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import Listing
from lucid_storage.archive.timeline import anchors, decide
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import BackupRun, Taken
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.results import selection_of
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.orders import BackupOrder
from lucid_storage.models.settings import SettingsError, StoreSettings

if TYPE_CHECKING:
    from lucid_storage.jobs.mongodb_backup import MongoBackup

logger = logging.getLogger(__name__)

OBJECT_KINDS: Mapping[BackupEngine, tuple[ObjectKind, ...]] = {
    BackupEngine.MONGODB: (ObjectKind.MONGODB_ARCHIVE, ObjectKind.MONGODB_OPLOG),
    BackupEngine.REDIS: (ObjectKind.REDIS_RDB,),
    BackupEngine.ELASTICSEARCH: (ObjectKind.ELASTICSEARCH_EXPORT,),
    BackupEngine.VOLUMES: (ObjectKind.VOLUME_ARCHIVE,),
}


class Engines:
    """Opened before anything is decided, since a decision about MongoDB asks its oplog."""

    def __init__(self, settings: StoreSettings, environ: Mapping[str, str]) -> None:
        self._settings = settings
        self._environ = environ
        self._open = ExitStack()
        self._mongodb: MongoBackup | None = None

    @classmethod
    def of(cls, order: BackupOrder, place: Place, environ: Mapping[str, str]) -> Engines:
        """Raises LucidError when a login cannot be used or MongoDB cannot be reached."""
        try:
            settings = StoreSettings.read(environ)
        except SettingsError as error:
            raise LucidError(str(error), reason=Reason.SECRET_INVALID) from error
        engines = cls(settings, environ)
        if BackupEngine.MONGODB in order.engines:
            from lucid_storage.jobs.mongodb_backup import MongoBackup

            uri = _configured(settings.mongodb(), "MongoDB", "MONGODB_URI")
            engines._mongodb = engines._open.enter_context(MongoBackup(order, uri, place))
        return engines

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    def decide(
        self,
        run: BackupRun,
        place: Place,
        listing: Listing,
        kind: BackupKind | None = None,
        until: OplogPoint | None = None,
    ) -> Decision:
        """What is made and what it builds on, of the order's type or the given kind; `until` is the end of a full that
        was made already.

        A full behind a restore begins a timeline, also where no slice has read so far: nothing that follows it may be
        joined to what came before (rule 1.7). Raises LucidError with the reason of a refusal.
        """
        decision = self._decide(run.order, place, listing, kind)
        ended: set[tuple[str, OplogPoint | None]] = set()
        while (
            decision.kind is BackupKind.FULL
            and self._mongodb is not None
            and self._mongodb.end_timeline(run, decision, until)
        ):
            run.check()
            if (decision.timeline, decision.prev) in ended:
                return _apart(decision)
            ended.add((decision.timeline, decision.prev))
            decision = self._decide(run.order, place, place.listing(), kind)
        return decision

    def _decide(
        self, order: BackupOrder, place: Place, listing: Listing, kind: BackupKind | None
    ) -> Decision:
        request = Request(
            kind=kind or BackupKind(order.type),
            cluster=order.owner.cluster,
            namespace=order.owner.namespace,
            chain=order.chain,
            selection=selection_of(order),
            new_timeline=str(uuid.uuid4()),
            identity=self._mongodb.identity if self._mongodb is not None else None,
            scheduled=order.scheduled,
            key_id=order.key_id,
            fingerprints={place.key.id: place.key.fingerprint} if place.key is not None else {},
            taken=listing.taken(place.folder),
        )
        decision = decide(request, listing.records, self._oplog(listing.records))
        if isinstance(decision, Refusal):
            raise LucidError(decision.message, reason=decision.reason)
        if decision.note:
            logger.info(decision.note)
        return decision

    def _oplog(self, records: Sequence[Recorded]) -> OplogView | None:
        return self._mongodb.look(anchors(records)) if self._mongodb is not None else None

    def take(
        self, engine: BackupEngine, run: BackupRun, decision: Decision, records: Sequence[Recorded]
    ) -> Taken:
        """The data of one engine. Blocks; raises LucidError."""
        match engine:
            case BackupEngine.MONGODB:
                assert self._mongodb is not None
                return self._mongodb.take(run, decision, records)
            case BackupEngine.REDIS:
                from lucid_storage.jobs import redis_backup

                return redis_backup.take(run, _configured(self._settings.redis(), "Redis", "REDIS_URL"))
            case BackupEngine.ELASTICSEARCH:
                from lucid_storage.jobs import elastic_backup

                url = _configured(self._settings.elasticsearch(), "Elasticsearch", "ELASTICSEARCH_URL")
                return elastic_backup.take(run, url)
            case BackupEngine.VOLUMES:
                from lucid_storage.jobs import volume_backup

                return volume_backup.take(run, self._environ)


def _apart(decision: Decision) -> Decision:
    """A full of a timeline of its own."""
    note = (
        "The former timeline was ended, and the oplog no longer holds all that came before; a new one begins."
    )
    return Decision(BackupKind.FULL, str(uuid.uuid4()), begins=True, because=Reason.OPLOG_GAP, note=note)


def _configured(url: str | None, store: str, variable: str) -> str:
    if url is None:
        raise LucidError(
            f"No {store} is configured: set {variable} in the connection's Secret, or leave it out of engines.",
            reason=Reason.NOT_CONFIGURED,
        )
    return url
