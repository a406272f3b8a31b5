"""The restore worker: plans, or stages what was planned. It never swaps: that is the operator's (rule 2.9)."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from lucid_storage.archive.adoption import homes
from lucid_storage.archive.layout import MANIFEST, ChainFolder
from lucid_storage.archive.manifest import BackupKind, Manifest, StoredObject
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import list_chain, newest_slice
from lucid_storage.archive.restore_path import Blocked, RestorePath, to_backup, to_second
from lucid_storage.errors import DestinationError, LucidError, Reason, RefusedError
from lucid_storage.jobs import restore_marker
from lucid_storage.jobs.contract import CancelledError, Source
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.held import held
from lucid_storage.jobs.mongodb_restore import MongoRestoreRun, incomplete, stage
from lucid_storage.jobs.mongodb_restore_expiring import count_expiring
from lucid_storage.jobs.mongodb_restore_plan import MongoPlan, make_plan
from lucid_storage.jobs.mongodb_restore_targets import check_told
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.restore_engines import OtherEngine, other_engines
from lucid_storage.jobs.restore_planning import Expiries, whole_plan
from lucid_storage.jobs.restore_results import failed, result_of, with_staged
from lucid_storage.jobs.worker import Stop, run_worker
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.orders import EngineOutcome, RestoreOrder, RestorePlanned, RestoreResult
from lucid_storage.models.settings import SettingsError, StoreSettings
from lucid_storage.stores.mongodb.restore.holding import Leases
from lucid_storage.stores.mongodb.restore.staging import InPlace

logger = logging.getLogger(__name__)


def restore(order: RestoreOrder, environ: Mapping[str, str], reporter: Reporter, stop: Stop) -> RestoreResult:
    """Plans or stages. Raises LucidError, and leaves MongoDB as it was then."""
    work = _Work.of(order, environ, reporter, stop)
    with work.reading() as reading:
        reporter.phase("Planning")
        servers = work.servers(reading)
        if order.plan_only:
            restore_marker.refuse_done(work.place.store, order, servers)
        plan = work.plan(reading)
        planned = work.planned(reading, plan, work.expired(plan))
        result = result_of(order, reading.wanted, plan, planned if order.plan_only else None)
        if order.plan_only:
            return result
        _refuse(planned)
        for other in reading.others:
            other.make_ready()
        with ExitStack() as held:
            if plan is not None:
                leases = held.enter_context(work.leases(plan))
                if leases.waited:
                    _refuse(work.planned(reading, plan))  # another restore may have left documents
                result = with_staged(result, stage(work.run(plan, leases)))
            outcomes: list[EngineOutcome] = []
            for other in reading.others:
                reporter.phase("Loading", sum(o.plain_bytes for o in other.manifest.objects))
                with _incomplete_when_failed(order, plan), _told_when_failed(outcomes):
                    outcomes.append(other.restore())
            with _incomplete_when_failed(order, plan), _told_when_failed(outcomes):
                restore_marker.leave(work.place.store, order, servers)
        for other in reading.others:
            other.settle(whole=plan is None)  # collections are swapped after this worker
    return result.model_copy(update={"engines": tuple(outcomes)})


def _refuse(planned: RestorePlanned) -> None:
    if planned.blocked_by is not None:
        raise RefusedError(planned.blocked_by, reason=planned.blocked_reason or Reason.RESTORE_BLOCKED)


@contextmanager
def _told_when_failed(done: Sequence[EngineOutcome]) -> Iterator[None]:
    """Engines that have no swap are live when they are restored: a failure after that says so."""
    try:
        yield
    except LucidError as error:
        if done:
            names = ", ".join(str(one.engine) for one in done)
            error.message = f"{error.message} Restored before that, and not taken back: {names}."
        raise


@contextmanager
def _incomplete_when_failed(order: RestoreOrder, plan: MongoPlan | None) -> Iterator[None]:
    """What was done to MongoDB in place before is not taken back: a failure says so."""
    try:
        yield
    except LucidError as error:
        if order.in_place and plan is not None:
            error.message = f"{error.message} {incomplete(error.reason)}"
        raise


@dataclass(frozen=True, slots=True)
class _Reading:
    """What is read from the destination."""

    wanted: Recorded
    path: RestorePath | None
    """Of MongoDB, where it is restored."""
    others: tuple[OtherEngine, ...]

    @property
    def ids(self) -> list[str]:
        mongodb = (self.path.full, *self.path.then) if self.path is not None else ()
        return sorted({record.id for record in mongodb} | {other.manifest.id for other in self.others})


@dataclass(slots=True)
class _Work:
    """What one order needs."""

    order: RestoreOrder
    place: Place
    folder: ChainFolder
    settings: StoreSettings
    reporter: Reporter
    stop: Stop

    @classmethod
    def of(cls, order: RestoreOrder, environ: Mapping[str, str], reporter: Reporter, stop: Stop) -> _Work:
        try:
            settings = StoreSettings.read(environ)
        except SettingsError as error:
            raise LucidError(str(error), reason=Reason.SECRET_INVALID) from error
        place = Place.of(order, environ)
        folder = _found_folder(place, order) if order.elsewhere else place.folder
        return cls(order, place, folder, settings, reporter, stop)

    @property
    def uri(self) -> str:
        """Raises LucidError (NotConfigured)."""
        uri = self.settings.mongodb()
        if uri is None:
            raise LucidError(
                "No MongoDB is configured: set MONGODB_URI in the connection's Secret.",
                reason=Reason.NOT_CONFIGURED,
            )
        return uri

    def slices_reach(self) -> int | None:
        """The second that the slowest slicing worker of the target has come to (rule 2.8)."""
        place, reached = self.place, []
        for chain in self.order.sliced:
            with suppress(DestinationError):  # asked again soon
                newest = newest_slice(place.store, replace(place.folder, chain=chain), place.keyring)
                if newest is not None and newest.to is not None:
                    reached.append(newest.to.optime.seconds)
        return min(reached, default=None)

    def servers(self, reading: _Reading) -> dict[str, str]:
        """Engine and identity of what is written to."""
        known = {str(other.engine): other.server() for other in reading.others}
        if reading.path is not None:
            known[str(BackupEngine.MONGODB)] = self.order.server_identity
        return {engine: server for engine, server in known.items() if server is not None}

    def source(self, manifest: Manifest, stored: StoredObject) -> Source:
        return self.place.source(manifest, stored)

    def check(self) -> None:
        """Raises CancelledError when the worker is to end."""
        if self.stop.event.is_set():
            raise CancelledError("The restore was stopped.")

    def expired(self, plan: MongoPlan | None) -> Expiries:
        """Counted in the archive only where nothing is loaded: staged documents are counted by the server."""
        if plan is None or not self.order.count_expiring:
            return None
        return count_expiring(plan, self.source, self.check, datetime.now(UTC))

    def plan(self, reading: _Reading) -> MongoPlan | None:
        """Of MongoDB; None where it is not restored."""
        if reading.path is None:
            return None
        plan = make_plan(self.order, reading.path, self.source)
        check_told(plan.databases)
        return plan

    def planned(self, reading: _Reading, plan: MongoPlan | None, expired: Expiries = None) -> RestorePlanned:
        return whole_plan(self.order, lambda: self.uri, plan, reading.others, expired)

    def leases(self, plan: MongoPlan) -> Leases:
        """Of the databases that are written, until the worker ends."""
        return Leases(self.uri, plan.databases, self.order.run, live=self.order.in_place, check=self.check)

    def run(self, plan: MongoPlan, leases: Leases) -> MongoRestoreRun:
        owner = self.order.owner
        return MongoRestoreRun(
            run=self.order.run,
            uri=self.uri,
            plan=plan,
            open_source=self.source,
            owner={
                "cluster": owner.cluster,
                "namespace": owner.namespace,
                "name": owner.name,
                "uid": owner.uid,
            },
            check=self.check,
            report=self.reporter.add,
            phase=self.reporter.phase,
            slices_reach=self.slices_reach,
            in_place=InPlace(self.order.drop_existing, plan.steady) if self.order.in_place else None,
            leases=leases,
            accounts=self.order.users_and_roles,
            now=datetime.now(UTC),
        )

    @contextmanager
    def reading(self) -> Iterator[_Reading]:
        """What is read, held meanwhile (rule 1.9)."""
        found = self._found()
        with held(self.order, self.place.store, self.folder, found.ids, writable=False) as going:
            if going:
                raise RefusedError(
                    f"The backup {min(going)} is being removed by retention right now; choose a newer one.",
                    reason=Reason.RESTORE_BLOCKED,
                )
            yield found

    def _found(self) -> _Reading:
        store, keyring = self.place.store, self.place.keyring
        listing = list_chain(store, homes(store, self.folder), keyring)
        listing.refuse_damaged(self.folder.manifest(self.order.backup_id))
        backups = [record for record in listing.records if record.kind is not BackupKind.SLICE]
        wanted = next((record for record in backups if record.id == self.order.backup_id), None)
        if wanted is None:
            raise RefusedError(
                f"No backup with the id {self.order.backup_id} lies in the destination; see `lucid-storage catalog`.",
                reason=Reason.RESTORE_BLOCKED,
            )
        others = other_engines(
            self.order, backups, wanted, self.settings, self.source, self.reporter.add, self.stop.event
        )
        mongodb = BackupEngine.MONGODB in self.order.engines
        return _Reading(wanted, self._path(listing.records, wanted) if mongodb else None, tuple(others))

    def _path(self, records: Sequence[Recorded], wanted: Recorded) -> RestorePath:
        timeline = wanted.manifest.timeline
        moment = self.order.point_in_time
        found = to_backup(records, wanted.id) if moment is None else to_second(records, moment, timeline)
        if isinstance(found, Blocked):
            raise RefusedError(found.message, reason=found.reason)
        return found


def _found_folder(place: Place, order: RestoreOrder) -> ChainFolder:
    """Of a backup of another cluster, namespace or chain, by its id alone. Raises RefusedError."""
    ending = f"/backups/{order.backup_id}/{MANIFEST}"
    root = order.destination.root
    for entry in place.store.list(root):
        if entry.path.endswith(ending):
            parts = entry.path.removesuffix(ending).removeprefix(root).strip("/").split("/")
            if len(parts) == 3 and order.only_namespace in (None, parts[1]):
                return ChainFolder(root, *parts)
    raise RefusedError(
        f"No backup with the id {order.backup_id} lies in the destination; see `lucid-storage catalog`.",
        reason=Reason.RESTORE_BLOCKED,
    )


def run() -> int:
    """The exit status."""
    return run_worker(RestoreOrder, restore, failed)
