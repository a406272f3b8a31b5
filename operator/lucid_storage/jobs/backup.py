"""The backup worker: decides from the chain's manifests, lets each engine take its data, proves them, says so.

Nothing is called good before its proof is written (rule 1.8 and 1.11):
objects -> confirmed by the destination -> manifest, last -> check -> proof.
"""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from time import monotonic

from lucid_storage import __version__
from lucid_storage.archive.decision import Decision
from lucid_storage.archive.manifest import BackupKind, Manifest, OplogPoint, Origin, RetentionRules
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.records import digest_as_written, write_manifest
from lucid_storage.errors import ArchiveDamagedError, LucidError, Reason
from lucid_storage.jobs.clocks import by_either
from lucid_storage.jobs.contract import BackupRun, Taken
from lucid_storage.jobs.destination import Place, Uploads
from lucid_storage.jobs.engines import OBJECT_KINDS, Engines
from lucid_storage.jobs.found_again import found_again
from lucid_storage.jobs.held import held
from lucid_storage.jobs.proving import prove
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.results import made_before, outcome_of, result_of, selection_of, unchecked
from lucid_storage.jobs.worker import Stop, run_worker
from lucid_storage.models.backup import BackupEngine, BackupType
from lucid_storage.models.orders import BackupOrder, BackupResult, EngineOutcome

logger = logging.getLogger(__name__)


def failed(order: BackupOrder, reason: Reason, message: str) -> BackupResult:
    """A result that says why there is no backup."""
    return BackupResult(run=order.run, ok=False, reason=reason, message=message)


def back_up(order: BackupOrder, environ: Mapping[str, str], reporter: Reporter, stop: Stop) -> BackupResult:
    """Makes the backup, or finds that it was made. Raises LucidError when nothing was made."""
    started, begun = by_either(order, datetime.now(UTC)), monotonic()
    place = Place.of(order, environ)
    listing = place.listing()
    records = list(listing.records)
    before = made_before(order, records)
    if before is not None:
        found = found_again(order, place, before, records, environ, reporter, stop)
        if found is not None:
            return found
        if before.id == order.id:
            order = order.model_copy(update={"id": str(uuid.uuid4())})
    if order.look_only:
        return BackupResult(run=order.run, ok=False, reason=Reason.QUEUED)
    with Engines.of(order, place, environ) as engines:
        uploads = Uploads(place, order.id)
        run = BackupRun(order, uploads.open, reporter.add, reporter.expect, stop.event)
        decision = engines.decide(run, place, listing)
        if decision.kind is BackupKind.FULL and not order.may_dump:
            return _asks_for_full(order, decision)
        watcher = _Watcher(stop, uploads)
        publishing = False
        try:
            with _reading(order, place, decision):
                taken, failures = _take(run, decision, records, engines, uploads)
                run.check()
                if decision.kind is BackupKind.FULL:
                    # A slicer may have begun a new timeline meanwhile: then this full belongs to that one.
                    decision = engines.decide(run, place, place.listing(), BackupKind.FULL, _end(taken))
                ended = by_either(order, datetime.now(UTC), timedelta(seconds=monotonic() - begun))
                manifest = _manifest(order, place, decision, taken, (started, ended))
                _refuse_gone(place, manifest)
                publishing = True
                digest = _publish(place, manifest, uploads)
        except BaseException:
            if not publishing:
                uploads.take_back()
            raise
        finally:
            watcher.end()
    try:
        proof, note = prove(order, place, manifest, environ, reporter, stop)
    except Exception as error:  # noqa: BLE001 - whatever it is, the data are there and somebody must know
        written = result_of(order, place, Recorded(manifest), failures, None, decision, digest)
        return unchecked(written, stop, error)
    return result_of(order, place, Recorded(manifest, proof=proof), failures, note, decision, digest)


def _end(taken: Mapping[BackupEngine, Taken]) -> OplogPoint | None:
    mongodb = taken[BackupEngine.MONGODB].record.mongodb if BackupEngine.MONGODB in taken else None
    return mongodb.to if mongodb is not None else None


def _asks_for_full(order: BackupOrder, decision: Decision) -> BackupResult:
    """One dump at a time for each deployment, and only the operator knows of the others."""
    return BackupResult(
        run=order.run, ok=False, reason=Reason.QUEUED, message=decision.note, type=BackupType.FULL
    )


def _refuse_gone(place: Place, manifest: Manifest) -> None:
    """What one engine uploaded may have lain there for hours while another was at work. Raises ArchiveDamagedError."""
    for stored in manifest.objects:
        entry = place.store.head(stored.path)
        if entry is None or entry.size != stored.stored_bytes:
            raise ArchiveDamagedError(
                f"The object {stored.path} went or changed while the backup ran: see what else deletes or writes in"
                f" {place.store.location}, such as a lifecycle rule of the bucket."
            )


def _publish(place: Place, manifest: Manifest, uploads: Uploads) -> str:
    """Writes the manifest; returns its digest. An answer can be lost: a manifest that is there was written, and data
    are taken back only when there is surely none. Raises LucidError.
    """
    try:
        return write_manifest(place.store, place.folder, manifest, place.key)
    except Exception as error:
        digest = digest_as_written(place.store, place.folder, manifest, place.key)
        if digest is not None:
            logger.warning("the manifest is there, although it was said: %s", error)
            return digest
        if place.store.get(place.folder.manifest(manifest.id)) is None:
            uploads.take_back()
        raise


@contextmanager
def _reading(order: BackupOrder, place: Place, decision: Decision) -> Iterator[None]:
    """What the backup builds on is not removed meanwhile (rule 1.9). Raises LucidError when it is going."""
    needed = [*decision.copied, *([decision.base] if decision.base is not None else [])]
    if not needed:
        yield
        return
    with held(order, place.store, place.folder, needed) as going:
        if going:
            raise LucidError(
                f"The backup {min(going)}, which this one needs, is being removed by retention. Make a full backup.",
                reason=Reason.NO_BASE,
            )
        yield


@dataclass(slots=True)
class _Watcher:
    """Gives the uploads up as soon as the worker is to stop: one that blocks in a write ends too."""

    stop: Stop
    uploads: Uploads
    over: threading.Event

    def __init__(self, stop: Stop, uploads: Uploads) -> None:
        self.stop, self.uploads, self.over = stop, uploads, threading.Event()
        threading.Thread(target=self._watch, name="watch for a stop", daemon=True).start()

    def _watch(self) -> None:
        while not self.over.is_set():
            if self.stop.event.wait(0.2):
                self.uploads.give_up()
                return

    def end(self) -> None:
        self.over.set()


def _take(
    run: BackupRun, decision: Decision, records: list[Recorded], engines: Engines, uploads: Uploads
) -> tuple[dict[BackupEngine, Taken], tuple[EngineOutcome, ...]]:
    """All engines side by side. Raises the error of the only one, or of MongoDB where others build on it."""
    taken: dict[BackupEngine, Taken] = {}
    errors: dict[BackupEngine, LucidError] = {}
    with ThreadPoolExecutor(len(run.order.engines), thread_name_prefix="engine") as pool:
        work = {
            engine: pool.submit(engines.take, engine, run, decision, records) for engine in run.order.engines
        }
        for engine, future in work.items():
            try:
                taken[engine] = future.result()
            except LucidError as error:
                errors[engine] = error
                uploads.take_back(OBJECT_KINDS[engine])
    run.check()
    if not taken or (BackupEngine.MONGODB in errors and decision.kind is not BackupKind.FULL):
        raise next(iter(errors.values()))
    return taken, tuple(outcome_of(engine, error) for engine, error in errors.items())


def _manifest(
    order: BackupOrder,
    place: Place,
    decision: Decision,
    taken: Mapping[BackupEngine, Taken],
    time: tuple[datetime, datetime],
) -> Manifest:
    owner = order.owner
    return Manifest(
        id=order.id,
        kind=decision.kind,
        timeline=decision.timeline,
        origin=Origin(
            cluster=owner.cluster,
            namespace=owner.namespace,
            name=owner.name,
            spec_hash=owner.spec_hash,
            schedule=owner.schedule,
            slot=owner.slot,
            chain=order.chain,
        ),
        selection=selection_of(order),
        packing=place.packing,
        base=decision.base,
        parent=decision.parent,
        prev=decision.prev if decision.kind is BackupKind.DIFFERENTIAL else None,
        engines=tuple(t.record.model_copy(update={"notes": t.notes}) for t in taken.values()),
        objects=tuple(stored for t in taken.values() for stored in t.objects),
        retention=RetentionRules.model_validate(order.retention) if order.retention else None,
        retention_days=order.retention_days,
        started_at=time[0],
        completed_at=time[1],
        operator_version=__version__,
    )


def run() -> int:
    """The command `lucid-storage backup`; returns its exit status."""
    return run_worker(BackupOrder, back_up, failed)
