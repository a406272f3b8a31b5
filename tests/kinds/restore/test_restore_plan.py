"""The plan of a Restore: until the swap everything can be undone, from there it only goes forward."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from lucid_storage.errors import LucidError, NotAllowedError, Reason, RefusedError
from lucid_storage.kinds.oneshot import Standing
from lucid_storage.kinds.protection import Need, Seen, backup_body
from lucid_storage.kinds.protection import Standing as Protected
from lucid_storage.kinds.restore.actions import (
    Discard,
    DropOld,
    MakeBackup,
    Mark,
    StartWorker,
    StopWorker,
    Swap,
    Unmark,
)
from lucid_storage.kinds.restore.desired import (
    RestoreDesired,
    backup_needs,
    resolve,
    run_id,
    spec_hash,
    wants_backup,
    worker_request,
)
from lucid_storage.kinds.restore.ending import hindered
from lucid_storage.kinds.restore.observed import Plan, RestoreObserved, telling
from lucid_storage.kinds.restore.plan import plan
from lucid_storage.kinds.workers.place import Place
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupEngine, BackupSpec
from lucid_storage.models.meta import PAUSED, RUN_AGAIN
from lucid_storage.models.orders import (
    Destination,
    PlannedItem,
    Progress,
    RestoreOrder,
    RestorePlanned,
    RestoreResult,
)
from lucid_storage.models.restore import (
    PlannedTarget,
    RestorePhase,
    RestorePlan,
    RestoreSpec,
    RestoreStatus,
)
from lucid_storage.models.settings import Settings
from lucid_storage.stores.mongodb.restore.port import Marker
from lucid_storage.stores.mongodb.types import Topology

NOW = datetime(2026, 11, 21, 6, 0, tzinfo=UTC)
RUN = run_id("u1", "", "rs")


def resource(deleted: bool = False, annotations: dict[str, str] | None = None, **spec: Any) -> Resource:
    return Resource(
        key=Key("restores", "n", "back"),
        uid="u1",
        generation=1,
        resource_version="1",
        created="2026-11-21T05:00:00Z",
        deleted="2026-11-21T05:30:00Z" if deleted else None,
        annotations=annotations or {},
        finalizers=(),
        spec={"backupName": "full", **spec},
        status={},
    )


def desired(of: Resource) -> RestoreDesired:
    return RestoreDesired(
        resource=of,
        spec=RestoreSpec.model_validate(of.spec),
        backup_id="b1",
        shown="full",
        chain="manual",
        elsewhere=False,
        place=Place(Destination(bucket="b")),
        keys_secret=None,
        key_id=None,
        engines=(BackupEngine.MONGODB,),
        database_patterns=("*",),
        index_patterns=("*",),
        key_patterns=("*",),
        deadline_seconds=60,
    )


def fit(of: Resource, **more: Any) -> RestoreObserved:
    seen = RestoreObserved(
        desired=desired(of),
        cluster="c",
        topology=Topology.REPLICA_SET,
        identity="rs",
        spec_hash=spec_hash(RestoreSpec.model_validate(of.spec)),
    )
    return replace(seen, **more)


def status(phase: RestorePhase, **more: Any) -> RestoreStatus:
    return RestoreStatus.model_validate(
        {
            "phase": phase,
            "run": RUN,
            "job_name": "back-restore-x",
            "server_identity": "rs",
            "databases": ["shop"],
            **more,
        }
    )


def ended(**result: Any) -> WorkerState:
    told = RestoreResult.model_validate({"run": RUN, "ok": True, **result})
    return WorkerState(WorkerPhase.ENDED, result=told.model_dump_json(by_alias=True))


def marker(of: Resource, **more: Any) -> Marker:
    fields = {
        "cluster": "c",
        "identity": "rs",
        "namespace": "n",
        "name": "back",
        "spec_hash": spec_hash(RestoreSpec.model_validate(of.spec)),
        "run": RUN,
        "result": "Completed",
        **more,
    }
    return Marker(**fields)


class TestBefore:
    def test_it_begins_with_a_plan(self) -> None:
        mine = resource()
        step = plan(mine, fit(mine), RestoreStatus(), NOW)
        assert step.status.phase is RestorePhase.PLANNING
        assert step.hold
        (start,) = step.actions
        assert isinstance(start, StartWorker)
        assert step.status.run == RUN == start.request.order.run
        assert step.status.job_name == start.request.name

    def test_it_waits_for_others_of_the_deployment(self) -> None:
        mine = resource()
        step = plan(mine, fit(mine, behind="backup nightly"), RestoreStatus(), NOW)
        assert (step.status.phase, step.status.queued_behind) == (RestorePhase.QUEUED, "backup nightly")
        assert step.actions == ()

    def test_it_waits_for_the_worker_of_the_run_before(self) -> None:
        mine = resource()
        step = plan(mine, fit(mine, earlier=WorkerState(WorkerPhase.RUNNING)), RestoreStatus(), NOW)
        assert step.actions == ()

    def test_done_before_in_this_server_it_writes_nothing(self) -> None:
        mine = resource()
        step = plan(mine, fit(mine, marker=marker(mine)), RestoreStatus(), NOW)
        assert step.status.phase is RestorePhase.COMPLETED
        assert step.said is not None
        assert step.said.reason is Reason.ALREADY_RESTORED
        assert step.actions == ()

    @pytest.mark.parametrize(
        "more",
        [{"identity": "other"}, {"spec_hash": "other"}],
        ids=["server", "spec"],
    )
    def test_the_marker_of_another_does_not_count(self, more: dict[str, str]) -> None:
        mine = resource()
        step = plan(mine, fit(mine, marker=marker(mine, **more)), RestoreStatus(), NOW)
        assert step.status.phase is RestorePhase.PLANNING

    def test_a_marker_that_a_later_run_took_back_does_not_count(self) -> None:
        mine = resource()
        step = plan(mine, fit(mine, marker=marker(mine, result="Begun")), RestoreStatus(), NOW)
        assert step.status.phase is RestorePhase.PLANNING

    def test_of_several_markers_the_one_of_this_spec_and_server_tells(self) -> None:
        mine = resource()
        others = [marker(mine, spec_hash="other"), marker(mine, identity="other")]
        assert telling(mine, [*others, marker(mine)], fit(mine)) == marker(mine)
        assert telling(mine, others, fit(mine)) is None

    @pytest.mark.parametrize("asked", [{}, {RUN_AGAIN: "2"}], ids=["annotation gone", "same annotation"])
    def test_no_run_is_made_that_nobody_asks_for(self, asked: dict[str, str]) -> None:
        mine = resource(annotations=asked)
        step = plan(mine, fit(mine, marker=marker(mine, run_again="2")), RestoreStatus(), NOW)
        assert (step.status.phase, step.actions) == (RestorePhase.COMPLETED, ())

    def test_another_value_of_the_annotation_asks_for_another_run(self) -> None:
        mine = resource(annotations={RUN_AGAIN: "3"})
        step = plan(mine, fit(mine, marker=marker(mine, run_again="2")), RestoreStatus(), NOW)
        assert step.status.phase is RestorePhase.PLANNING

    def test_the_annotation_asks_for_another_run_with_a_name_of_its_own(self) -> None:
        mine = resource(annotations={RUN_AGAIN: "2"})
        step = plan(mine, fit(mine, marker=marker(mine)), RestoreStatus(), NOW)
        assert step.status.run == run_id("u1", "2", "rs") != RUN

    def test_cancelled_before_it_began(self) -> None:
        step = plan(resource(cancel=True), RestoreObserved(), RestoreStatus(), NOW)
        assert (step.status.phase, step.actions) == (RestorePhase.CANCELLED, ())

    def test_paused_it_stays_where_it_is(self) -> None:
        mine = resource(annotations={"storage.lucid-blockchain.org/paused": "true"})
        step = plan(mine, fit(mine), RestoreStatus(), NOW)
        assert step.said is not None
        assert step.said.reason is Reason.PAUSED
        assert step.actions == ()


class TestTrouble:
    refusal = LucidError("exceeded quota", reason=Reason.ACCESS_DENIED)

    def test_while_its_job_cannot_be_made_the_deployment_is_free_for_others(self) -> None:
        begun = status(RestorePhase.PLANNING, databases=None)
        step = hindered(resource(), begun, self.refusal, NOW)
        assert (step.status.phase, step.idle, step.hold) == (RestorePhase.PENDING, True, True)
        mine = resource()
        assert plan(mine, fit(mine), step.status, NOW).status.phase is RestorePhase.PLANNING
        behind = plan(mine, fit(mine, behind="backup nightly"), step.status, NOW)
        assert (behind.status.phase, behind.actions) == (RestorePhase.QUEUED, ())

    def test_a_job_that_cannot_be_made_for_an_hour_ends_it(self) -> None:
        mine = resource()
        step = hindered(mine, status(RestorePhase.LOADING), self.refusal, NOW)
        for minutes in (30, 61):
            now = NOW + timedelta(minutes=minutes)
            begun = plan(mine, fit(mine), step.status, now).status
            step = hindered(mine, begun, self.refusal, now)
        assert step.status.phase is RestorePhase.FAILED
        assert step.said is not None
        assert step.said.reason is Reason.ACCESS_DENIED
        assert step.retry, "what an earlier worker may have staged is dropped in the next look"

    def test_the_time_in_line_is_no_trouble(self) -> None:
        queued = RestoreStatus(phase=RestorePhase.QUEUED, started_at=NOW - timedelta(hours=9))
        away = RestoreObserved(trouble=LucidError("The store is away."))
        step = plan(resource(), away, queued, NOW)
        assert (step.status.phase, step.status.trouble_since, step.idle) == (RestorePhase.PENDING, NOW, True)

    def test_trouble_is_forgotten_when_the_worker_is_there(self) -> None:
        seen = RestoreObserved(worker=WorkerState(WorkerPhase.RUNNING))
        step = plan(resource(), seen, status(RestorePhase.PLANNING, trouble_since=NOW), NOW)
        assert step.status.trouble_since is None

    @pytest.mark.parametrize("waits", ["for its Backup", "in line", "paused"])
    def test_trouble_is_over_where_nothing_is_tried(self, waits: str) -> None:
        mine = resource(backupBefore=True)
        before = "back-before-x" if waits == "for its Backup" else None
        now = status(
            RestorePhase.PENDING, backup_before=before, trouble_since=NOW, plan=RestorePlan(target_count=1)
        )
        seen = fit(mine, behind="backup big" if waits == "in line" else None)
        if before:
            seen = replace(seen, protection=Seen(Protected.UNDER_WAY, "Waits."))
        if waits == "paused":
            mine = replace(mine, annotations={PAUSED: "true"})
        well = plan(mine, seen, now, NOW + timedelta(minutes=1)).status
        assert well.trouble_since is None
        later = NOW + timedelta(minutes=61)
        away = RestoreObserved(trouble=LucidError("The store is away."))
        step = plan(mine, away, well, later)
        assert (step.status.phase, step.status.trouble_since) == (RestorePhase.PENDING, later)

    def test_a_backup_before_it_that_cannot_be_made_for_an_hour_ends_it(self) -> None:
        mine = resource(backupBefore=True)
        now = status(RestorePhase.PENDING, backup_before="x", plan=RestorePlan(target_count=1))
        seen = replace(fit(mine), protection=Seen(Protected.ABSENT))
        step = hindered(mine, now, self.refusal, NOW)
        for minutes in (30, 61):
            at = NOW + timedelta(minutes=minutes)
            tried = plan(mine, seen, step.status, at)
            assert tried.actions
            step = hindered(mine, tried.status, self.refusal, at)
        assert step.status.phase is RestorePhase.FAILED

    def test_cancelled_meanwhile_a_job_that_was_made_and_never_let_begin_goes(self) -> None:
        waits = status(RestorePhase.PENDING, databases=None, trouble_since=NOW)
        mine = resource(cancel=True)
        seen = RestoreObserved(worker=WorkerState(WorkerPhase.SUSPENDED))
        assert [type(a) for a in plan(mine, seen, waits, NOW).actions] == [StopWorker]
        assert plan(mine, RestoreObserved(), waits, NOW).status.phase is RestorePhase.CANCELLED


class TestPlanning:
    planned = RestorePlanned(
        targets=(PlannedItem(target="shop.a", documents=5, overwrites=3),), target_count=1
    )

    def test_a_plan_that_fits_goes_on_to_loading(self) -> None:
        seen = RestoreObserved(worker=ended(plan=self.planned, databases=("shop",)))
        step = plan(resource(), seen, status(RestorePhase.PLANNING), NOW)
        assert step.status.phase is RestorePhase.LOADING
        assert step.status.job_name == f"back-restore-{RUN[:8]}"
        assert step.status.plan is not None
        assert step.status.plan.target_count == 1

    def test_a_dry_run_ends_with_its_plan(self) -> None:
        blocked = self.planned.model_copy(
            update={"blocked_by": "No.", "blocked_reason": Reason.TARGET_NOT_EMPTY}
        )
        seen = RestoreObserved(worker=ended(plan=blocked, databases=("shop",)))
        step = plan(resource(dryRun=True), seen, status(RestorePhase.PLANNING), NOW)
        assert step.status.phase is RestorePhase.COMPLETED
        assert step.said is not None
        assert step.said.reason is Reason.PLANNED

    @pytest.mark.parametrize("told", [{"reason": Reason.INTERNAL_ERROR}, {}])
    def test_a_dry_run_that_broke_has_planned_nothing(self, told: dict[str, Any]) -> None:
        seen = RestoreObserved(worker=ended(ok=False, message="The worker failed.", **told))
        step = plan(resource(dryRun=True), seen, status(RestorePhase.PLANNING), NOW)
        assert step.status.phase is RestorePhase.FAILED
        assert step.said is not None
        assert (step.said.reason, step.said.standing) == (Reason.INTERNAL_ERROR, Standing.FAILED)

    def test_a_dry_run_that_was_refused_says_by_what(self) -> None:
        seen = RestoreObserved(worker=ended(ok=False, reason=Reason.RESTORE_BLOCKED, message="A gap."))
        step = plan(resource(dryRun=True), seen, status(RestorePhase.PLANNING), NOW)
        assert step.status.phase is RestorePhase.COMPLETED
        assert step.said is not None
        assert "A gap." in step.said.message

    def test_what_blocks_it_fails_it(self) -> None:
        blocked = self.planned.model_copy(
            update={"blocked_by": "No.", "blocked_reason": Reason.TARGET_NOT_EMPTY}
        )
        seen = RestoreObserved(worker=ended(plan=blocked, databases=("shop",)))
        step = plan(resource(), seen, status(RestorePhase.PLANNING), NOW)
        assert step.status.phase is RestorePhase.FAILED
        assert step.said is not None
        assert (step.said.reason, step.said.standing) == (Reason.TARGET_NOT_EMPTY, Standing.FAILED)


class TestBackupBefore:
    """What the restore overwrites is backed up first, and nothing is written before that is verified."""

    planned = RestorePlanned(target_count=1)

    def waits(self, **spec: Any) -> RestoreStatus:
        seen = RestoreObserved(worker=ended(plan=self.planned, databases=("shop",)))
        of = resource(backupBefore=True, dropExisting=True, **spec)
        return plan(of, seen, status(RestorePhase.PLANNING), NOW).status

    def look(self, seen: Seen, **more: Any) -> Plan:
        mine = resource(backupBefore=True, dropExisting=True)
        return plan(mine, fit(mine, protection=seen, **more), self.waits(), NOW)

    def test_planned_it_makes_way_for_its_backup(self) -> None:
        made = self.waits()
        assert (made.phase, made.backup_before) == (RestorePhase.PENDING, f"back-before-{RUN[:8]}")
        step = self.look(Seen(Protected.ABSENT))
        (make,) = step.actions
        assert isinstance(make, MakeBackup)
        assert make.name == made.backup_before
        assert make.needs == (Need(BackupEngine.MONGODB, databases=("shop",)),)
        assert step.idle, "the backup needs the deployment"

    def test_it_waits_as_long_as_that_is_at_work(self) -> None:
        step = self.look(Seen(Protected.UNDER_WAY, "Waits for the Backup x."))
        assert (step.actions, step.status.phase, step.idle) == ((), RestorePhase.PENDING, True)

    def test_verified_it_loads_without_planning_again(self) -> None:
        step = self.look(Seen(Protected.DONE))
        assert (step.status.phase, step.hold) == (RestorePhase.LOADING, True)
        mine = resource(backupBefore=True, dropExisting=True)
        (start,) = plan(mine, fit(mine), step.status, NOW).actions
        assert isinstance(start, StartWorker)
        assert isinstance(start.request.order, RestoreOrder)
        assert (start.request.name, start.request.order.plan_only) == (step.status.job_name, False)
        behind = self.look(Seen(Protected.DONE), behind="backup nightly")
        assert behind.status.phase is RestorePhase.QUEUED

    @pytest.mark.parametrize("standing", [Protected.FAILED, Protected.STALE])
    def test_without_a_proof_nothing_is_restored(self, standing: Protected) -> None:
        step = self.look(Seen(standing, "The Backup x is Failed." if standing is Protected.FAILED else ""))
        assert step.status.phase is RestorePhase.FAILED
        assert step.said is not None
        assert step.said.reason is Reason.BACKUP_UNAVAILABLE
        assert "run-again" in step.said.message

    def test_each_run_has_its_own(self) -> None:
        mine = resource(annotations={RUN_AGAIN: "2"}, backupBefore=True)
        fresh = plan(
            mine, RestoreObserved(), status(RestorePhase.FAILED, databases=None, backup_before="x"), NOW
        )
        assert fresh.status.backup_before is None
        assert run_id("u1", "2", "rs")[:8] != RUN[:8]

    def test_a_dry_run_makes_none(self) -> None:
        assert self.waits(dryRun=True).backup_before is None

    @pytest.mark.parametrize(
        ("spec", "wanted"),
        [
            ({}, False),
            ({"strategy": "InPlace"}, True),
            ({"strategy": "InPlace", "backupBefore": False}, False),
            ({"strategy": "Staged", "backupBefore": True}, True),
        ],
    )
    def test_in_place_has_one_unless_that_is_declined(self, spec: dict[str, Any], wanted: bool) -> None:
        """Rule 2.3."""
        assert wants_backup(spec) is wanted

    @pytest.mark.parametrize(
        ("indices", "overwrites", "wanted"),
        [
            (["a", "b"], (3, 0), [Need(BackupEngine.ELASTICSEARCH, indices=("a",))]),
            (["a", "b"], (0, 0), []),
            (["a*"], (3, 0), [Need(BackupEngine.ELASTICSEARCH)]),
            (None, (0, 0), [Need(BackupEngine.ELASTICSEARCH)]),
        ],
    )
    def test_of_indices_by_name_only_those_that_hold_something(
        self, indices: list[str] | None, overwrites: tuple[int, int], wanted: list[Need]
    ) -> None:
        """A Backup that names an index which is not there fails."""
        mine = resource(engines=["elasticsearch"], elasticsearch={"indices": indices} if indices else {})
        targets = [
            PlannedTarget(target=n, overwrites=o or None) for n, o in zip("ab", overwrites, strict=True)
        ]
        planned = RestorePlan(targets=targets, target_count=2)
        made = replace(desired(mine), engines=(BackupEngine.ELASTICSEARCH,))
        assert list(backup_needs(made, (), planned)) == wanted

    def test_where_nothing_is_overwritten_no_backup_is_made(self) -> None:
        mine = resource(engines=["elasticsearch"], elasticsearch={"indices": ["a"]}, backupBefore=True)
        seen = fit(mine, protection=Seen(Protected.ABSENT))
        assert seen.desired is not None
        seen = replace(seen, desired=replace(seen.desired, engines=(BackupEngine.ELASTICSEARCH,)))
        planned = RestorePlan(targets=[PlannedTarget(target="a")], target_count=1)
        waits = status(RestorePhase.PENDING, databases=None, backup_before="x", plan=planned)
        step = plan(mine, seen, waits, NOW)
        assert (step.actions, step.status.backup_before) == ((), None)
        then = plan(mine, replace(seen, protection=None, identity="rs"), step.status, NOW)
        assert then.status.phase is RestorePhase.LOADING

    def test_it_lies_where_the_restored_backup_lies_and_under_its_key(self) -> None:
        storage = {"s3": {"bucket": "vault", "secretName": "keys"}}
        encryption = {"secretName": "keys", "keyId": "k1"}
        found = Resource.from_body(
            "backups",
            {
                "metadata": {"name": "full", "namespace": "n", "uid": "b"},
                "status": {"id": "b1", "manifestSha256": "x"},
            },
        )
        backup = BackupSpec.model_validate({"storage": storage, "encryption": encryption})
        of = resource(backupBefore=True)
        made = resolve(
            of,
            RestoreSpec.model_validate(of.spec),
            Settings.read({"SERVED_NAMESPACES": '{"n": {}}'}),
            (found, backup),
        )
        body = backup_body(of, "x", backup_needs(made, ("shop",), None), made.like)
        assert body["spec"]["storage"]["s3"]["bucket"] == "vault"
        assert body["spec"]["encryption"] == encryption
        assert body["spec"]["mongodb"] == {"databases": ["shop"]}
        assert "compression" not in body["spec"]
        BackupSpec.model_validate(body["spec"])


class TestLoading:
    def test_the_phase_follows_the_worker(self) -> None:
        progress = Progress(phase="Replaying", done_bytes=50, total_bytes=100)
        seen = RestoreObserved(worker=WorkerState(WorkerPhase.RUNNING, progress=progress))
        step = plan(resource(), seen, status(RestorePhase.LOADING), NOW)
        assert (step.status.phase, step.status.progress) == (RestorePhase.REPLAYING, "50%")

    def test_staged_it_is_swapped(self) -> None:
        seen = RestoreObserved(worker=ended(databases=("shop",), loaded_documents=7))
        step = plan(resource(dropExisting=True, keepOldMinutes=5), seen, status(RestorePhase.REPLAYING), NOW)
        assert step.status.phase is RestorePhase.SWAPPING
        assert step.actions == (Swap(RUN, ("shop",), True, 5),)
        assert step.status.loaded_documents == 7

    @pytest.mark.parametrize(
        "worker",
        [
            WorkerState(WorkerPhase.LOST, "its pod is gone", over=True),
            ended(ok=False, reason=Reason.COUNT_MISMATCH, message="Not the same."),
            WorkerState(WorkerPhase.ENDED, result="{"),
        ],
        ids=["lost", "failed", "unreadable"],
    )
    def test_a_failure_drops_what_was_staged(self, worker: WorkerState) -> None:
        step = plan(resource(), RestoreObserved(worker=worker), status(RestorePhase.LOADING), NOW)
        assert step.status.phase is RestorePhase.FAILED
        assert step.actions == (Discard(RUN, ("shop",)),)
        assert step.hold

    def test_a_worker_that_may_still_act_is_stopped_first(self) -> None:
        worker = WorkerState(WorkerPhase.LOST, "its node does not answer")
        step = plan(resource(), RestoreObserved(worker=worker), status(RestorePhase.LOADING), NOW)
        assert [type(action) for action in step.actions] == [StopWorker, Discard]

    @pytest.mark.parametrize("phase", [RestorePhase.FAILED, RestorePhase.CANCELLED])
    def test_a_worker_that_was_not_stopped_the_first_time_is_stopped_before_anything_is_dropped(
        self, phase: RestorePhase
    ) -> None:
        """The call failed, or the leader changed after the end was written down."""
        for worker in (WorkerState(WorkerPhase.RUNNING), WorkerState(WorkerPhase.LOST, "no answer")):
            step = plan(resource(), RestoreObserved(worker=worker), status(phase), NOW)
            assert [type(action) for action in step.actions] == [StopWorker, Discard]
        going = RestoreObserved(worker=WorkerState(WorkerPhase.STOPPING))
        step = plan(resource(), going, status(phase), NOW)
        assert (step.actions, step.hold) == ((), True)
        assert step.recheck_seconds is not None

    def test_what_was_staged_is_dropped_until_that_is_done(self) -> None:
        failed = status(RestorePhase.FAILED)
        assert plan(resource(), RestoreObserved(), failed, NOW).actions == (Discard(RUN, ("shop",)),)
        away = RestoreObserved(trouble=LucidError("The store is away."))
        assert plan(resource(), away, failed, NOW).retry
        done = failed.model_copy(update={"databases": None})
        assert plan(resource(), RestoreObserved(), done, NOW).actions == ()

    def test_deleted_it_keeps_nobody_waiting_when_its_worker_is_gone(self) -> None:
        """What it staged may be out of reach for long: its Secret went with it, say."""
        loading = status(RestorePhase.LOADING, databases=["shop"])
        step = plan(resource(deleted=True), RestoreObserved(), loading, NOW)
        assert (step.status.phase, step.idle, step.hold) == (RestorePhase.CANCELLED, True, True)
        busy = RestoreObserved(worker=WorkerState(WorkerPhase.RUNNING))
        assert not plan(resource(deleted=True), busy, loading, NOW).idle

    @pytest.mark.parametrize("leaving", [{"cancel": True}, {"deleted": True}], ids=["cancel", "delete"])
    def test_leaving_stops_the_worker_and_then_drops_what_it_staged(self, leaving: dict[str, Any]) -> None:
        mine = resource(**leaving)
        running = RestoreObserved(worker=WorkerState(WorkerPhase.RUNNING))
        step = plan(mine, running, status(RestorePhase.LOADING), NOW)
        assert [type(action) for action in step.actions] == [StopWorker]
        assert step.hold
        gone = plan(mine, RestoreObserved(), status(RestorePhase.LOADING), NOW)
        assert gone.status.phase is RestorePhase.CANCELLED
        assert gone.actions == (Discard(RUN, ("shop",)),)

    def test_nothing_of_mongodb_needs_no_swap(self) -> None:
        seen = RestoreObserved(worker=ended(databases=()))
        step = plan(resource(engines=["redis"]), seen, status(RestorePhase.LOADING, databases=None), NOW)
        assert (step.status.phase, step.actions) == (RestorePhase.COMPLETED, ())


class TestSwapping:
    swapping = status(RestorePhase.SWAPPING)

    @pytest.mark.parametrize(
        "leaving", [{"cancel": True}, {"deleted": True}, {}], ids=["cancel", "delete", "none"]
    )
    def test_nothing_stops_it_any_more(self, leaving: dict[str, Any]) -> None:
        step = plan(resource(**leaving), RestoreObserved(), self.swapping, NOW)
        assert step.actions == (Swap(RUN, ("shop",), False, 60),)
        assert step.hold
        if "cancel" in leaving:
            assert step.said is not None
            assert "no longer be cancelled" in step.said.message

    def test_it_is_finished_even_in_a_namespace_that_is_going(self) -> None:
        """Rule 3: a started swap is finished first."""
        leaving = resource(deleted=True)
        assert plan(leaving, RestoreObserved(), self.swapping, NOW).must_finish
        assert hindered(leaving, self.swapping, LucidError("Away."), NOW).must_finish

    def test_but_not_when_its_login_went_with_the_namespace(self) -> None:
        gone = LucidError("The Secret is gone.", reason=Reason.SECRET_NOT_FOUND)
        assert not hindered(resource(deleted=True), self.swapping, gone, NOW).must_finish

    def test_an_error_in_it_is_tried_again(self) -> None:
        step = hindered(resource(), self.swapping, LucidError("Away."), NOW + timedelta(days=9))
        assert (step.status.phase, step.retry, step.hold) == (RestorePhase.SWAPPING, True, True)

    def test_a_target_that_filled_up_meanwhile_ends_it_untouched(self) -> None:
        unfit = RefusedError("shop.a is not empty.", reason=Reason.TARGET_NOT_EMPTY)
        step = plan(resource(), RestoreObserved(unfit=unfit), self.swapping, NOW)
        assert step.status.phase is RestorePhase.FAILED
        assert step.actions == (Discard(RUN, ("shop",)),)

    def test_swapped_it_leaves_a_marker_and_then_is_completed(self) -> None:
        mine, swapped = resource(keepOldMinutes=5), self.swapping.model_copy(update={"swapped": 2})
        first = plan(mine, RestoreObserved(), swapped, NOW)
        assert first.actions == (Mark(("shop",)),)
        assert first.status.phase is RestorePhase.SWAPPING
        done = plan(mine, RestoreObserved(marker=marker(mine), replaced=1), swapped, NOW)
        assert done.status.phase is RestorePhase.COMPLETED
        assert done.status.old_until == NOW + timedelta(minutes=5)


class TestAfterwards:
    def test_the_replaced_collections_stay_for_their_time(self) -> None:
        done = status(RestorePhase.COMPLETED, old_until=NOW + timedelta(minutes=5))
        step = plan(resource(), RestoreObserved(), done, NOW)
        assert (step.actions, step.recheck_seconds) == ((), 301)

    def test_then_they_are_dropped_and_forgotten_only_when_that_is_done(self) -> None:
        done = status(RestorePhase.COMPLETED, old_until=NOW)
        step = plan(resource(), RestoreObserved(), done, NOW)
        assert step.actions == (DropOld(RUN, ("shop",), "rs"),)
        assert step.status.old_until == NOW
        after = plan(resource(), RestoreObserved(settled=True), done, NOW)
        assert (after.actions, after.status.old_until) == ((), None)

    def test_a_new_value_of_the_annotation_runs_it_again(self) -> None:
        done = status(RestorePhase.COMPLETED, old_until=NOW + timedelta(hours=1))
        mine = resource(annotations={RUN_AGAIN: "2"})
        step = plan(mine, RestoreObserved(), done, NOW)
        assert (step.status.phase, step.status.run) == (RestorePhase.PENDING, None)
        again = status(RestorePhase.COMPLETED, run_again="2")
        assert plan(mine, RestoreObserved(), again, NOW).status.run == RUN


@pytest.mark.parametrize(
    ("phase", "said"),
    [
        (RestorePhase.PLANNING, "the target is as it was"),
        (RestorePhase.LOADING, "the target may be incomplete"),
        (RestorePhase.REPLAYING, "the target may be incomplete"),
    ],
)
def test_a_lost_worker_in_place_may_leave_an_incomplete_target(phase: RestorePhase, said: str) -> None:
    """Rule 2.3."""
    mine = resource(strategy="InPlace", dropExisting=True, backupBefore=False)
    lost = RestoreObserved(worker=WorkerState(WorkerPhase.LOST, message="the node is gone"))
    step = plan(mine, lost, status(phase), NOW)
    assert step.status.phase is RestorePhase.FAILED
    assert step.said is not None
    assert said in step.said.message


@pytest.mark.parametrize(
    ("spec", "said"),
    [
        ({}, "It took too long; the target is as it was."),
        (
            {"engines": ["mongodb", "redis"]},
            "It took too long; MongoDB is as it was, and Redis may be restored already, in whole or in part:"
            " restore again.",
        ),
        (
            {"engines": ["elasticsearch"]},
            "It took too long; Elasticsearch may be restored already, in whole or in part: restore again.",
        ),
        (
            {"engines": ["redis"], "strategy": "InPlace", "dropExisting": True},
            "It took too long; Redis may be restored already, in whole or in part: restore again; the Backup before"
            " holds what was there before.",
        ),
        # In place the worker itself knows whether it had touched anything.
        (
            {"strategy": "InPlace", "dropExisting": True},
            "It took too long; the Backup before holds what was there before.",
        ),
    ],
)
def test_a_deadline_says_what_became_of_the_target(spec: dict[str, Any], said: str) -> None:
    worker = ended(ok=False, reason=Reason.DEADLINE_EXCEEDED, message="It took too long.")
    step = plan(
        resource(**spec),
        RestoreObserved(worker=worker),
        status(RestorePhase.LOADING, backup_before="before"),
        NOW,
    )
    assert step.said is not None
    assert (step.said.reason, step.said.message) == (Reason.DEADLINE_EXCEEDED, said)


def test_the_worker_is_told_to_load_in_place() -> None:
    mine = resource(strategy="InPlace", dropExisting=True, backupBefore=False)
    order = worker_request(desired(mine), RUN, "c", "rs", run_again="", plan_only=False).order
    assert isinstance(order, RestoreOrder)
    assert order.in_place


SOURCE = {"id": "00000000-0000-4000-8000-000000000000", "storage": {"s3": {"bucket": "the-bucket"}}}


@pytest.mark.parametrize(("secret", "only"), [(None, "n"), ("mine", None)])
def test_with_the_operators_own_keys_only_backups_of_the_same_namespace_are_read(
    secret: str | None, only: str | None
) -> None:
    """The operator's keys open the backups of all namespaces."""
    storage = {"s3": {"bucket": "the-bucket", **({"secretName": secret} if secret else {})}}
    of = resource(backupName=None, source={**SOURCE, "storage": storage})
    spec = RestoreSpec.model_validate({k: v for k, v in of.spec.items() if v is not None})
    settings = Settings.read(
        {
            "SERVED_NAMESPACES": '{"n": {}}',
            "BACKUP_STORAGE_TYPE": "s3",
            "BACKUP_S3_BUCKET": "the-bucket",
        }
    )
    request = worker_request(resolve(of, spec, settings, None), "r", "c", None, run_again="", plan_only=True)
    assert isinstance(request.order, RestoreOrder)
    assert (request.order.elsewhere, request.order.only_namespace) == (True, only)


def test_users_and_roles_with_the_operators_credentials_are_for_its_own_namespace() -> None:
    """A user of the backup may have more rights than the namespace that asks."""
    of = resource(backupName=None, usersAndRoles=True, source=SOURCE)
    spec = RestoreSpec.model_validate({k: v for k, v in of.spec.items() if v is not None})
    environ = {
        "SERVED_NAMESPACES": '{"n": {}}',
        "BACKUP_STORAGE_TYPE": "s3",
        "BACKUP_S3_BUCKET": "the-bucket",
    }
    with pytest.raises(NotAllowedError, match="name a Secret of this namespace") as refused:
        resolve(of, spec, Settings.read(environ), None)
    assert refused.value.reason is Reason.INVALID_SPEC
    own = Settings.read({**environ, "POD_NAMESPACE": "n"})
    assert resolve(of, spec, own, None).spec.users_and_roles


def test_in_place_the_marker_of_an_earlier_run_is_taken_back_before_anything_is_written() -> None:
    mine = resource(strategy="InPlace", dropExisting=True, backupBefore=False)
    step = plan(mine, fit(mine), status(RestorePhase.LOADING), NOW)
    assert [type(action) for action in step.actions] == [Unmark, StartWorker]
    planning = plan(mine, fit(mine), status(RestorePhase.PLANNING), NOW)
    assert [type(action) for action in planning.actions] == [StartWorker], "a plan writes nothing"


def test_a_marker_that_was_taken_back_is_left_anew_after_the_swap() -> None:
    mine = resource(strategy="InPlace", dropExisting=True)
    seen = RestoreObserved(marker=marker(mine, result="Begun"))
    step = plan(mine, seen, status(RestorePhase.SWAPPING, swapped=2), NOW)
    assert [type(action) for action in step.actions] == [Mark]


def test_the_moment_is_shown_in_utc_as_its_sign_says() -> None:
    of = resource(pointInTime="2026-11-21T06:30:00+05:30")
    step = plan(of, fit(of), RestoreStatus(), NOW)
    assert step.status.point_in_time == "2026-11-21T01:00:00Z"
