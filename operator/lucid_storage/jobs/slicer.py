"""The slicing worker of a chain: runs for ever and writes a slice of the oplog each interval (rule 1.5).

It holds nothing that a restart would lose: where to go on is read from the destination. What is away, store or
destination, is tried again with back-off; only what nobody can help by waiting begins a new timeline.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from time import monotonic
from typing import TextIO

from pydantic import ValidationError

from lucid_storage.archive.continuity import begin
from lucid_storage.archive.decision import Decision, OplogView, Refusal, Request
from lucid_storage.archive.layout import SliceName
from lucid_storage.archive.manifest import BackupKind, Manifest
from lucid_storage.archive.recorded import Recorded
from lucid_storage.archive.timeline import anchors, decide
from lucid_storage.errors import DestinationError, LucidError, Reason
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.destination import Place
from lucid_storage.jobs.mongodb_looking import look
from lucid_storage.jobs.mongodb_scope import scope
from lucid_storage.jobs.mongodb_slices import SliceThereError, SliceWriter, Written
from lucid_storage.jobs.signals import on_sigterm
from lucid_storage.jobs.worker import trust_stores
from lucid_storage.models.backup import BackupEngine, ReadPreference
from lucid_storage.models.order_text import order_in
from lucid_storage.models.orders import ORDER_VARIABLE
from lucid_storage.models.settings import SettingsError, StoreSettings
from lucid_storage.models.slicing import SliceOrder, SliceReport
from lucid_storage.stores.mongodb.dump.member import PinnedMember
from lucid_storage.stores.mongodb.dump.oplog import Oplog
from lucid_storage.stores.mongodb.dump.pinning import pin

logger = logging.getLogger(__name__)

CUT_POLL_SECONDS = 5.0
"""Between two looks whether somebody asked for a slice."""
FIRST_BACKOFF_SECONDS = 5.0
LONGEST_BACKOFF_SECONDS = 300.0
WRITERS = 5
"""So often another writer may be faster in a row."""
REMEMBERED_SLICES = 3
"""Of the newest ones; older ones decide nothing."""
BEGUN_SECONDS = 15.0
"""Until the first slice of a timeline is tried again: an idle primary writes a no-op every 10 s."""


@dataclass(slots=True)
class Slicer:
    """Writes slices until `stop` is set. `wait` takes seconds and returns early when stopped."""

    order: SliceOrder
    uri: str
    place: Place
    stop: threading.Event = field(default_factory=threading.Event)
    out: TextIO = field(default_factory=lambda: sys.stdout)
    poll_seconds: float = CUT_POLL_SECONDS
    jitter: Callable[[], float] = random.random
    _slices: list[Recorded] | None = None
    _taken: frozenset[SliceName] = frozenset()
    _begun: Decision | None = None
    """The timeline that begins with the next slice. Nothing was written behind its beginning yet, so no manifest tells
    of it."""
    _member: PinnedMember | None = None
    _deadline: float = float("inf")

    def run(self) -> None:
        """Returns when it is stopped. A slice that was begun is given up then; the next worker writes it."""
        backoff = FIRST_BACKOFF_SECONDS
        try:
            while not self.stop.is_set():
                report = self.step()
                self._tell(report)
                if report.ok:
                    backoff = FIRST_BACKOFF_SECONDS
                    interval = self.order.interval_seconds
                    self._wait(min(interval, BEGUN_SECONDS) if self._begun is not None else interval)
                elif report.reason is not Reason.CANCELLED:
                    # With jitter, so that all slicers of a cluster do not come back at once.
                    self._wait(min(backoff * (0.5 + self.jitter()), self.order.interval_seconds))
                    backoff = min(backoff * 2, LONGEST_BACKOFF_SECONDS)
        finally:
            self.close()

    def close(self) -> None:
        """Ends the connection; a further step makes a new one."""
        if self._member is not None:
            self._member.close()
            self._member = None

    def step(self) -> SliceReport:
        """One slice, or why there is none. Never raises for what is away."""
        self._deadline = monotonic() + self.order.deadline_seconds
        try:
            return self._slice()
        except CancelledError:
            return SliceReport(ok=False, reason=Reason.CANCELLED, message="The worker was told to stop.")
        except LucidError as error:
            self._forget()
            return SliceReport(ok=False, reason=error.reason, message=error.message)

    def _slice(self) -> SliceReport:
        for _ in range(WRITERS):
            decision = self._decide(self._records())
            member = self._pinned()
            assert decision.prev is not None
            try:
                written = self._writer().write(member, decision.timeline, decision.prev, self._check)
            except SliceThereError:
                logger.info("another writer was faster; going on behind its slice")
                self._slices = None
                continue
            window = Oplog(member).window_seconds()
            if written is None:
                return SliceReport(ok=True, timeline=decision.timeline, oplog_window_seconds=window)
            self._remember(written.manifest)
            self._begun = None
            return _report(written, window)
        raise DestinationError("Other writers keep writing the slices of this chain; it is tried again.")

    def _decide(self, records: Sequence[Recorded]) -> Decision:
        member = self._pinned()
        owner, key = self.order.owner, self.place.key
        request = Request(
            kind=BackupKind.SLICE,
            cluster=owner.cluster,
            namespace=owner.namespace,
            chain=self.order.chain,
            selection=self._writer().scope.selection,
            new_timeline=str(uuid.uuid4()),
            identity=member.identity().identity,
            scheduled=True,
            key_id=self.order.key_id,
            fingerprints={key.id: key.fingerprint} if key is not None else {},
            taken=self._taken,
        )
        view = self._look(member, records)
        decision = decide(request, records, view)
        if isinstance(decision, Refusal):
            raise LucidError(decision.message, reason=decision.reason)
        if not decision.begins:
            self._begun = None
        elif self._begun is None or self._begun.prev not in view.held:
            if decision.because is not None:
                logger.warning("a new timeline begins: %s", decision.note)
            # A timeline that begins for another reason than the oplog begins where the oplog stands.
            self._begun = replace(decision, kind=BackupKind.SLICE, prev=decision.prev or view.last)
        return self._begun or decision

    def _look(self, member: PinnedMember, records: Sequence[Recorded]) -> OplogView:
        """What the oplog holds. From here on the member is read that holds most of it."""
        begun = (self._begun.prev,) if self._begun is not None and self._begun.prev is not None else ()
        seen = look(self.uri, member, self._preference, (*anchors(records), *begun), self._check)
        self._member = seen.member
        return seen.view

    def _writer(self) -> SliceWriter:
        order = self.order
        chosen = scope((BackupEngine.MONGODB,), order.mongodb, order.database_patterns)
        return SliceWriter(order, self.place, chosen)

    def _pinned(self) -> PinnedMember:
        if self._member is None:
            member = pin(self.uri, self._preference)
            expected = self.order.server_identity
            if expected is not None and member.identity().identity != expected:
                member.close()
                raise LucidError(
                    "The worker reached another MongoDB than the operator; check the hosts of the connection.",
                    reason=Reason.TARGET_CHANGED,
                )
            self._member = member
        return self._member

    @property
    def _preference(self) -> ReadPreference:
        chosen = self.order.mongodb
        return chosen.read_preference if chosen is not None else ReadPreference.SECONDARY_PREFERRED

    # What is known of the chain

    def _records(self) -> list[Recorded]:
        """Backups as they are now; of the slices the newest, which nobody else writes as a rule."""
        if self._slices is None:
            found = self.place.listing()
            self._slices = self._newest([r for r in found.records if r.kind is BackupKind.SLICE])
            self._taken = found.taken(self.place.folder)
        return [*self.place.backups(), *self._slices]

    def _remember(self, manifest: Manifest) -> None:
        self._slices = self._newest([*(self._slices or ()), Recorded(manifest)])

    @staticmethod
    def _newest(slices: Sequence[Recorded]) -> list[Recorded]:
        known = [r for r in slices if r.manifest.prev is not None]
        return sorted(known, key=lambda r: (r.moment, begin(r.manifest).optime.seconds))[-REMEMBERED_SLICES:]

    # Waiting and telling

    def _check(self) -> None:
        if self.stop.is_set():
            raise CancelledError("The worker was told to stop.")
        if monotonic() > self._deadline:
            raise LucidError(
                f"The slice took longer than {self.order.deadline_seconds} s; it is tried again.",
                reason=Reason.DEADLINE_EXCEEDED,
            )

    def _wait(self, seconds: float) -> None:
        """Until the time is over, a slice is asked for, or the worker is stopped."""
        end = monotonic() + seconds
        while not self.stop.is_set() and (left := end - monotonic()) > 0:
            self.stop.wait(min(left, self.poll_seconds))
            if self._asked():
                return

    def _asked(self) -> bool:
        """Whether somebody asks for a slice now. The question is taken away first: a later one counts again."""
        store, path = self.place.store, self.place.folder.cut
        with suppress(LucidError):
            if store.head(path) is not None:
                store.delete(path)
                return True
        return False

    def _forget(self) -> None:
        """After a failure everything is looked at anew."""
        self._slices = None
        self.close()

    def _tell(self, report: SliceReport) -> None:
        document = report.model_dump(mode="json", by_alias=True, exclude_none=True)
        print(json.dumps({"slicing": document}, separators=(",", ":")), file=self.out, flush=True)


def _report(written: Written, window: int) -> SliceReport:
    manifest = written.manifest
    return SliceReport(
        ok=True,
        timeline=manifest.timeline,
        closed=manifest.closing is not None,
        to=datetime.fromtimestamp(written.to.optime.seconds, UTC),
        to_optime=str(written.to.optime),
        entries=written.entries,
        stored_bytes=sum(stored.stored_bytes for stored in manifest.objects),
        oplog_window_seconds=window,
        written_at=manifest.completed_at,
    )


def run(environ: Mapping[str, str] | None = None) -> int:
    """The command `lucid-storage slice`; its exit status: 0 when it was stopped, 1 when it could not begin, 2 for an
    order that is none.
    """
    environ = os.environ if environ is None else environ
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(levelname)s %(name)s %(message)s")
    try:
        order = SliceOrder.model_validate_json(order_in(environ))
    except (KeyError, ValidationError) as error:
        print(f"lucid-storage: {ORDER_VARIABLE} holds no order: {error}", file=sys.stderr)
        return 2
    try:
        trust_stores(environ)
        slicer = Slicer(order, _configured(environ), Place.of(order, environ))
    except (LucidError, SettingsError) as error:
        print(f"lucid-storage: {error}", file=sys.stderr)
        return 1
    on_sigterm(slicer.stop.set)
    slicer.run()
    return 0


def _configured(environ: Mapping[str, str]) -> str:
    uri = StoreSettings.read(environ).mongodb()
    if uri is None:
        raise LucidError("No MongoDB is configured: set MONGODB_URI.", reason=Reason.NOT_CONFIGURED)
    return uri
