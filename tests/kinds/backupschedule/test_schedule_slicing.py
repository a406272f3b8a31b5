"""The slicing worker of a schedule: what it is told, what is believed of what it tells."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

import pytest
from schedule_builder import SETTINGS, at, backup, look, schedule

from lucid_storage.errors import RefusedError
from lucid_storage.kinds.backupschedule import slicing
from lucid_storage.kinds.backupschedule.actions import CreateBackup
from lucid_storage.kinds.backupschedule.desired import place_of
from lucid_storage.kinds.backupschedule.plan import SchedulePlan
from lucid_storage.kinds.workers.job import Image, WorkerJob
from lucid_storage.kinds.workers.standing import APPLIED, SECRET_VERSION, deployment
from lucid_storage.kube.resources import Resource
from lucid_storage.models.backupschedule import BackupScheduleStatus
from lucid_storage.models.settings import Settings
from lucid_storage.models.slicing import SliceOrder, SliceReport

PITR: dict[str, Any] = {"pointInTime": {"enabled": True, "intervalSeconds": 600}}


def known(**more: Any) -> BackupScheduleStatus:
    return BackupScheduleStatus(last_slot=at("2026-05-02T02:00"), runs_since_full=0, **more)


def words(to: str, timeline: str = "t1", **more: Any) -> SliceReport:
    return SliceReport(ok=True, timeline=timeline, to=at(to), written_at=at(to), **more)


def listened(
    report: SliceReport | None, now: str, *, status: BackupScheduleStatus | None = None, **more: Any
) -> SchedulePlan:
    full = backup("2026-05-02T02:00", timeline="t1", type="full")
    return look(schedule(**PITR), now, full, status=status or known(), slicing=report, **more)


def windows(step: SchedulePlan) -> list[tuple[datetime, datetime]]:
    return [(w.from_time, w.to) for w in step.status.recoverable or ()]


def test_slices_make_every_second_since_the_full_restorable() -> None:
    step = listened(words("2026-05-02T02:30"), "2026-05-02T02:31")
    assert windows(step) == [(at("2026-05-02T02:01"), at("2026-05-02T02:29:59"))]
    assert step.status.slicer is not None
    assert step.status.slicer.last_slice_at == at("2026-05-02T02:30")
    assert step.verdict is None


def test_the_window_grows_with_the_slices_but_not_oftener_than_figures_may_move() -> None:
    first = listened(words("2026-05-02T02:30"), "2026-05-02T02:31").status
    soon = listened(words("2026-05-02T02:40"), "2026-05-02T02:41", status=first)
    assert soon.status.to_dict() == first.to_dict()
    later = listened(words("2026-05-02T02:50"), "2026-05-02T02:51", status=soon.status)
    assert windows(later) == [(at("2026-05-02T02:01"), at("2026-05-02T02:49:59"))]


def test_a_full_after_the_first_slice_is_covered_as_soon_as_a_slice_reaches_it() -> None:
    early = listened(words("2026-05-02T02:00"), "2026-05-02T02:01:30").status
    assert early.recoverable is None
    step = listened(words("2026-05-02T02:02"), "2026-05-02T02:03", status=early)
    assert windows(step) == [(at("2026-05-02T02:01"), at("2026-05-02T02:01:59"))]


def test_slices_of_a_timeline_without_a_full_claim_nothing() -> None:
    """After a gap the slicer goes on elsewhere: the old window must not grow over the hole."""
    first = listened(words("2026-05-02T02:30"), "2026-05-02T02:31").status
    step = listened(words("2026-05-02T03:30", "t2"), "2026-05-02T03:31", status=first)
    assert windows(step) == windows(listened(words("2026-05-02T02:30"), "2026-05-02T02:31"))
    assert step.status.timeline == "t2"


def test_a_full_of_the_new_timeline_begins_a_window_of_its_own() -> None:
    status = listened(words("2026-05-02T02:30"), "2026-05-02T02:31").status
    old, new = (
        backup("2026-05-02T02:00", timeline="t1", type="full"),
        backup("2026-05-02T04:00", timeline="t2", type="full"),
    )
    step = look(
        schedule(**PITR), "2026-05-02T05:00", old, new, status=status, slicing=words("2026-05-02T04:59", "t2")
    )
    assert windows(step) == [
        (at("2026-05-02T02:01"), at("2026-05-02T02:29:59")),
        (at("2026-05-02T04:01"), at("2026-05-02T04:58:59")),
    ]


@pytest.mark.parametrize(
    ("report", "more", "said"),
    [
        (SliceReport(ok=False, message="The bucket is away."), {}, "The bucket is away."),
        (None, {"slicing_trouble": "its container waits (ErrImagePull)"}, "ErrImagePull"),
        (words("2026-05-02T02:20"), {}, "2460 s old"),
        (words("2026-05-02T02:59", oplog_window_seconds=1100), {}, "less than two intervals"),
    ],
)
def test_slices_that_do_not_come_make_the_schedule_not_ready(
    report: SliceReport | None, more: dict[str, Any], said: str
) -> None:
    step = listened(report, "2026-05-02T03:01", **more)
    assert step.verdict is not None
    assert said in step.verdict.message


WROTE_NOTHING = SliceReport(ok=True, timeline="t1", oplog_window_seconds=90_000)


def test_a_worker_that_writes_nothing_for_hours_is_told_whatever_its_last_words_are() -> None:
    first = listened(words("2026-05-02T02:30"), "2026-05-02T02:31").status
    for report in (WROTE_NOTHING, SliceReport(ok=True)):
        assert listened(report, "2026-05-02T03:10", status=first).verdict is None, "status lags behind slices"
        late = listened(report, "2026-05-02T03:16", status=first).verdict
        assert late is not None
        assert (
            "No slice was written since 2026-05-02 02:30:00Z, and one should come every 600 s" in late.message
        )


def test_a_worker_that_never_wrote_a_slice_is_told() -> None:
    first = listened(WROTE_NOTHING, "2026-05-02T02:05")
    assert first.verdict is None
    later = listened(WROTE_NOTHING, "2026-05-02T02:50", status=first.status)
    assert later.verdict is None
    late = listened(WROTE_NOTHING, "2026-05-02T02:51", status=later.status)
    assert late.verdict is not None
    assert "2026-05-02 02:05:00Z" in late.verdict.message


def test_a_timeline_that_began_gets_its_full_at_once_before_its_first_slice() -> None:
    """After a gap or a restore: until then nothing of now can be restored."""
    desired = schedule(**PITR, template={"type": "incremental"})
    full = backup("2026-05-02T02:00", timeline="t1", type="full")
    begun = SliceReport(ok=True, timeline="t2-is-new", oplog_window_seconds=90_000)
    step = look(desired, "2026-05-02T03:00", full, status=known(), slicing=begun)
    (made,) = [a for a in step.actions if isinstance(a, CreateBackup)]
    assert (made.name, made.body["spec"]["type"]) == ("nightly-began-t2-is-ne", "full")
    # Once: also when the full began a third timeline, which the worker has not joined yet, and when others began.
    done = backup("2026-05-02T03:00", name=made.name, timeline="t3", type="full")
    other = SliceReport(ok=True, timeline="t4", oplog_window_seconds=90_000)
    for report, minute, full_again in ((begun, "02", False), (other, "02", False), (other, "04", True)):
        again = look(desired, f"2026-05-02T03:{minute}", full, done, status=step.status, slicing=report)
        assert any(isinstance(a, CreateBackup) for a in again.actions) is full_again


def test_a_suspended_schedule_goes_on_slicing() -> None:
    desired = schedule(**PITR, suspend=True)
    assert slicing.wanted(desired)
    step = look(
        desired,
        "2026-05-02T02:31",
        backup("2026-05-02T02:00", timeline="t1", type="full"),
        status=known(),
        slicing=words("2026-05-02T02:30"),
    )
    assert len(windows(step)) == 1


def test_point_in_time_without_mongodb_is_refused() -> None:
    with pytest.raises(RefusedError, match="mongodb"):
        slicing.wanted(schedule(**PITR, template={"type": "full", "engines": ["redis"]}))


def test_before_the_first_full_its_slot_is_waited_for() -> None:
    step = look(schedule(**PITR), "2026-05-01T01:00", slicing=words("2026-05-01T00:59"))
    assert [a for a in step.actions if type(a).__name__ == "CreateBackup"] == []


def test_the_next_run_after_a_gap_is_a_full() -> None:
    desired = schedule(**PITR, template={"type": "incremental"})
    full = backup("2026-05-02T02:00", timeline="t1", type="full")
    out_of_turn = backup("2026-05-02T03:00", "Failed", name="nightly-began-t2", reason="WorkerLost")
    step = look(
        desired,
        "2026-05-03T02:00:01",
        full,
        out_of_turn,
        status=known(),
        slicing=words("2026-05-03T01:59", "t2"),
    )
    (made,) = [a for a in step.actions if type(a).__name__ == "CreateBackup"]
    assert made.body["spec"]["type"] == "full"  # type: ignore[attr-defined]


def test_the_last_report_of_a_log_counts_and_cut_lines_do_not() -> None:
    lines = [
        "noise",
        '{"slicing":{"ok":true,"timeline":"t1"}}',
        '{"slicing":{"ok":true,"timeline":"t2"}}',
        '{"slicing":{"ok":tr',
    ]
    report = slicing.report_in("\n".join(lines))
    assert report is not None
    assert report.timeline == "t2"
    assert slicing.report_in("nothing") is None


def worker(**spec: Any) -> WorkerJob:
    desired = schedule(**{**PITR, **spec})
    request = slicing.request(
        desired,
        cluster="c",
        place=place_of(desired, SETTINGS.model_copy(update={"operator_namespace": "default"})),
        database_patterns=("*",),
    )
    image = Image("i", "IfNotPresent", (), {"requests": {}, "limits": {}})
    return WorkerJob(request.command, request.name, "default", request.owner, request.order, image, {})


def test_the_deployment_is_one_restricted_replica_that_is_recreated() -> None:
    body = deployment(worker(), "7")
    spec = body["spec"]
    assert (spec["replicas"], spec["strategy"]["type"]) == (1, "Recreate")
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Always"
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    container = pod["containers"][0]
    assert container["args"] == ["slice"]
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert spec["template"]["metadata"]["annotations"][SECRET_VERSION] == "7"
    selector, labels = spec["selector"]["matchLabels"], spec["template"]["metadata"]["labels"]
    assert selector.items() <= labels.items()
    order = next(e["value"] for e in container["env"] if e["name"] == "LUCID_ORDER")
    assert SliceOrder.model_validate(json.loads(order)).interval_seconds == 600


def test_the_deployment_changes_with_what_the_worker_is_told_and_with_nothing_else() -> None:
    applied = [
        deployment(w, v)["metadata"]["annotations"][APPLIED]
        for w, v in (
            (worker(), "7"),
            (worker(suspend=True, retention={"days": 9}), "7"),
            (worker(pointInTime={"enabled": True, "intervalSeconds": 60}), "7"),
            (worker(), "8"),
        )
    ]
    assert applied[0] == applied[1]
    assert len(set(applied)) == 3


class TestWhereTheWorkerBelongs:
    """A worker holds logins: it is where its schedule may use them, or nowhere."""

    settings = Settings.read(
        {
            "POD_NAMESPACE": "system",
            "SERVED_NAMESPACES": json.dumps({"default": {}}),
            "MONGODB_URI": "mongodb://a",
        }
    )

    def home(self, settings: Settings | None = None, **spec: Any) -> str | None:
        return slicing.home(schedule(**{**PITR, **spec}).resource, settings or self.settings)

    def test_with_the_operators_logins_it_is_beside_the_operator(self) -> None:
        assert self.home() == "system"

    def test_with_logins_of_the_namespace_it_is_there(self) -> None:
        assert self.home(template={"connection": {"secretName": "mine"}}) == "default"

    def test_in_a_namespace_that_is_not_served_any_more_there_is_none(self) -> None:
        given = Settings.read({"POD_NAMESPACE": "system", "SERVED_NAMESPACES": json.dumps({"other": {}})})
        assert self.home(given) is None
        assert self.home(given, template={"connection": {"secretName": "mine"}}) == "default"

    def test_without_slices_or_without_mongodb_there_is_none(self) -> None:
        assert self.home(pointInTime={"enabled": False}) is None
        assert self.home(template={"engines": ["redis"]}) is None

    def test_where_it_is_stands_in_status(self) -> None:
        step = listened(words("2026-05-02T02:30"), "2026-05-02T02:31", slicer_namespace="system")
        assert step.status.slicer is not None
        assert step.status.slicer.namespace == "system"


def test_a_restore_knows_whose_slices_follow_its_target_into_its_place() -> None:
    settings = Settings.read(
        {
            "SERVED_NAMESPACES": json.dumps({"default": {}}),
            "BACKUP_STORAGE_TYPE": "s3",
            "BACKUP_S3_BUCKET": "vault",
        }
    )
    sliced = schedule(**PITR).resource
    place = place_of(schedule(**PITR), settings)

    def chains(
        *schedules: Resource, namespace: str = "default", secret: str | None = None
    ) -> tuple[str, ...]:
        return slicing.following(schedules, namespace, secret, place, settings)

    assert chains(sliced) == ("nightly",)
    assert chains(sliced, namespace="other") == ()
    assert chains(sliced, secret="mine") == ()
    assert chains(schedule().resource) == ()
    elsewhere = {"storage": {"s3": {"bucket": "vault", "prefix": "else"}}}
    assert chains(schedule(**PITR, template=elsewhere).resource) == ()
