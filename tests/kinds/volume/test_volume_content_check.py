"""The check of a volume's content: asked for by annotation, once a value, and told in status and condition."""

import asyncio
import json
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from volume_builders import claim, look, seen, settled
from volume_builders import volume as declared

from lucid_storage.errors import LeadershipLostError, LucidError, Reason
from lucid_storage.jobs.volume_verify import LIST_NAME, Findings, verify_volume
from lucid_storage.kinds.oneshot import Standing
from lucid_storage.kinds.volume.book import UsageBook
from lucid_storage.kinds.volume.checking import (
    ContentChecks,
    check_of,
    due,
    job_name,
    noted,
    request_of,
    rows,
)
from lucid_storage.kinds.volume.metrics import VolumeFigures, VolumeMetrics
from lucid_storage.kinds.workers.job import PodIdentity
from lucid_storage.kinds.workers.state import WorkerPhase, WorkerState
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.base import Origin
from lucid_storage.models.meta import PAUSED, RESTORED_FROM, VERIFY
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeStatus
from lucid_storage.models.volume_check import ContentCheck, FailedCheck

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


def volume(asked: str = "1", **more: Any) -> Resource:
    base = Resource(
        key=Key("volumes", "app", "data"),
        uid="uid-1",
        generation=1,
        resource_version="1",
        created="2026-11-21T11:00:00Z",
        deleted=None,
        annotations={VERIFY: asked} if asked else {},
        finalizers=(),
        spec={"type": "chunks"},
        status={},
    )
    return replace(base, **more)


def check(asked: str = "1", **more: Any) -> ContentCheck:
    base = ContentCheck(
        asked=asked,
        at=NOW,
        intact=True,
        files=3,
        added=0,
        removed=0,
        changed=0,
        corrupted=0,
        unreadable=0,
        message="fine",
    )
    return base.model_copy(update=more)


def ended(**result: Any) -> WorkerState:
    told = {"run": "r", "ok": True, "intact": True, "checkedAt": NOW.isoformat(), **result}
    return WorkerState(WorkerPhase.ENDED, result=json.dumps(told))


def test_a_new_value_is_due_once() -> None:
    assert due(volume(), None, None, NOW)
    assert not due(volume(""), None, None, NOW)
    assert not due(volume(), check(), None, NOW)
    status = VolumeStatus(check=check()).to_dict()
    assert not due(volume(status=status), None, None, NOW)
    assert due(volume("2", status=status), check(), None, NOW)


def test_a_failed_attempt_rests_and_is_made_again() -> None:
    assert not due(volume(), None, NOW - timedelta(minutes=1), NOW)
    assert due(volume(), None, NOW - timedelta(minutes=6), NOW)


def test_nothing_begins_for_a_volume_that_is_paused_or_going() -> None:
    assert not due(volume(annotations={VERIFY: "1", PAUSED: "true"}), None, None, NOW)
    assert not due(volume(deleted=NOW.isoformat()), None, None, NOW)


def test_the_job_is_the_same_for_whoever_leads_and_another_for_another_value() -> None:
    assert job_name(volume()) == job_name(volume()) != job_name(volume("2"))
    request = request_of(volume(spec={"copy": {"runAsUser": 999}}), "n1", "c", 60)
    assert (request.name, request.node, request.beside) == (job_name(volume()), "n1", True)
    assert request.identity == PodIdentity(999, 999, None)
    assert request.mounts[0].read_only is False


def test_rot_is_a_condition_and_a_warning_once() -> None:
    found = check_of(ended(intact=False, corrupted=2, message="2 changed although nobody wrote them"), "1")
    status, notices = noted(seen(check=found), VolumeStatus())
    assert (status.check, status.checksums_at) == (found, NOW)
    assert [(n.reason, n.warning) for n in notices] == [("ContentDamaged", True)]
    ((kind, holds, reason, said), complete) = rows(status)
    assert (kind, holds, reason) == ("Intact", False, Reason.CONTENT_DAMAGED)
    assert "nobody wrote" in said
    assert complete == ("ContentChecked", True, Reason.CHECKED, "")
    assert noted(seen(check=found), status) == (status, ())


def test_an_intact_volume_says_so_and_an_unchecked_one_nothing() -> None:
    assert rows(VolumeStatus()) == []
    assert rows(VolumeStatus(check=check()))[0][:3] == ("Intact", True, Reason.INTACT)


def failure(message: str = "No other pod can mount the claim.", **more: Any) -> FailedCheck:
    return FailedCheck(asked="1", at=NOW, message=message).model_copy(update=more)


def test_a_check_that_comes_to_nothing_is_a_condition_that_says_why_and_a_warning_once() -> None:
    asked = seen(check_failed=failure(), check_asked="1")
    status, notices = noted(asked, VolumeStatus())
    assert [(n.reason, n.warning) for n in notices] == [("CheckFailed", True)]
    ((kind, holds, reason, said),) = rows(status)
    assert (kind, holds, reason) == ("ContentChecked", False, Reason.CHECK_FAILED)
    assert said == (
        'The check "1" has no result since 2026-11-21 12:00:00Z: No other pod can mount the claim. It is tried again'
        " every 5 minutes."
    )
    later = seen(check_failed=failure(at=NOW + timedelta(minutes=5)), check_asked="1")
    assert noted(later, status) == (status, ()), "the same failure costs no write"
    assert noted(seen(check_asked="1"), status) == (status, ()), "another leader knows it from status"


def test_a_failure_is_over_when_the_check_ended_or_nobody_asks_for_it_any_more() -> None:
    status, _ = noted(seen(check_failed=failure(), check_asked="1"), VolumeStatus(check=check("0")))
    assert [row[:2] for row in rows(status)] == [("Intact", True), ("ContentChecked", False)]
    over = check(at=NOW + timedelta(hours=1))
    done, _ = noted(seen(check=over, check_failed=failure(), check_asked="1"), status)
    assert done.check_failed is None
    assert rows(done)[1][:2] == ("ContentChecked", True)
    assert noted(seen(check_asked="2"), status)[0].check_failed is None
    assert noted(seen(), status)[0].check_failed is None


def test_what_changed_and_when_is_in_status() -> None:
    found = check_of(ended(changed=2, lastChange="2026-11-20T08:00:00.5Z"), "1")
    assert (found.changed, found.last_change) == (2, datetime(2026, 11, 20, 8, tzinfo=UTC))


def test_damage_and_failed_checks_are_metrics() -> None:
    registry = CollectorRegistry()
    metrics = VolumeMetrics(registry)
    known = VolumeFigures(
        bound=True, requested=None, warning_percent=80, critical_percent=95, full_at=None, check_failed=True
    )
    labels = {"resource_namespace": "app", "volume": "data"}

    def value(name: str) -> float | None:
        return registry.get_sample_value(f"lucid_volume_content_{name}", labels)

    metrics.tell(Key("volumes", "app", "data"), known)
    assert (value("intact"), value("check_failed")) == (None, 1)
    damaged = check(intact=False, corrupted=2, unreadable=1)
    metrics.tell(Key("volumes", "app", "data"), replace(known, check=damaged, check_failed=False))
    assert (value("intact"), value("damaged_files"), value("check_failed")) == (0, 3, 0)
    assert value("checked_timestamp_seconds") == NOW.timestamp()


@pytest.mark.parametrize(
    "state",
    [
        WorkerState(WorkerPhase.LOST, "its pod was evicted"),
        WorkerState(WorkerPhase.ENDED, result="?"),
        ended(ok=False, message="may not be read"),
        ended(checkedAt=None),
        ended(files=-1),
        ended(corrupted=-1),
        ended(unreadable=2**60),
        ended(checkedAt="2026-11-21T12:00:00"),
        ended(since="2026-11-21T12:00:00"),
    ],
)
def test_a_worker_that_found_nothing_out_is_no_check(state: WorkerState) -> None:
    with pytest.raises(LucidError):
        check_of(state, "1")


def test_a_claim_that_a_restore_made_takes_the_place_of_the_lost_one() -> None:
    status = settled(declared(), seen(claim()))
    restored = claim(uid="other", volume_name="pv-2", annotations={RESTORED_FROM: "backup-1"})
    step = look(declared(), seen(restored), status)
    assert step.said is not None
    assert (step.said.standing, step.status.claim_uid, step.status.origin) == (
        Standing.DONE,
        "other",
        Origin.ADOPTED,
    )


class Checks(ContentChecks):
    """Every check ends when the test says so, in the way that it says."""

    def __init__(self, *volumes: Resource) -> None:
        self.volumes = list(volumes)
        self.begun: list[str] = []
        self.answers: dict[str, asyncio.Future[ContentCheck]] = {}
        self.touched: list[Key] = []
        self.usage = UsageBook()
        super().__init__(
            None,  # type: ignore[arg-type]  # only a check itself asks the API server
            None,  # type: ignore[arg-type]
            self.usage,
            Settings(),
            volumes=lambda: self.volumes,
            touch=self.touched.append,
            now=lambda: NOW,
            pause=0.001,
        )

    async def check(self, resource: Resource) -> ContentCheck:
        name = f"{resource.key.namespace}/{resource.key.name}"
        self.begun.append(name)
        self.answers[name] = asyncio.get_running_loop().create_future()
        return await self.answers[name]

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(5):
            while not condition():  # noqa: ASYNC110 - a deadline is around it
                await asyncio.sleep(0.001)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["asyncio.Task[None]"]:
        task = asyncio.create_task(self.run())
        yield task
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def placed(namespace: str, name: str = "data", **more: Any) -> Resource:
    return volume(key=Key("volumes", namespace, name), uid=f"{namespace}-{name}", **more)


async def test_a_few_volumes_are_checked_at_once_and_one_of_a_namespace() -> None:
    checks = Checks(placed("a"), placed("a", "more"), *(placed(n) for n in "bcde"))
    async with checks.running():
        await checks.until(lambda: len(checks.begun) == 4)
        await asyncio.sleep(0.02)
        assert checks.begun == ["a/data", "b/data", "c/data", "d/data"]
        checks.answers["a/data"].set_result(check())
        await checks.until(lambda: len(checks.begun) == 5)
        checks.answers["b/data"].set_result(check())
        await checks.until(lambda: len(checks.begun) == 6)
    assert set(checks.begun[4:]) == {"a/more", "e/data"}
    assert checks.usage.check(("a", "data")) == check()
    assert checks.touched[0] == Key("volumes", "a", "data")


async def test_a_defect_of_one_check_ends_no_other_and_is_told_in_the_log(
    caplog: pytest.LogCaptureFixture,
) -> None:
    checks = Checks(placed("a"), placed("b"))
    async with checks.running() as task:
        await checks.until(lambda: len(checks.begun) == 2)
        checks.answers["a/data"].set_exception(ValueError("unforeseen"))
        await checks.until(lambda: checks.defects == 1)
        checks.answers["b/data"].set_result(check())
        await checks.until(lambda: bool(checks.touched))
        assert not task.done()
    assert "unforeseen" in caplog.text


async def test_a_volume_whose_status_cannot_be_understood_keeps_no_other_from_its_check() -> None:
    checks = Checks(placed("a", status={"check": {"files": -1}}), placed("b"))
    async with checks.running() as task:
        await checks.until(lambda: checks.begun == ["b/data"])
        assert checks.defects == 1
        assert not task.done()


async def test_a_check_that_came_to_nothing_is_told_to_the_volume() -> None:
    checks = Checks(placed("a"))
    async with checks.running():
        await checks.until(lambda: bool(checks.begun))
        checks.answers["a/data"].set_exception(LucidError("The claim has no volume now."))
        await checks.until(lambda: bool(checks.touched))
    assert checks.usage.failed(("a", "data")) == failure("The claim has no volume now.")


async def test_lost_leadership_ends_the_checks() -> None:
    checks = Checks(placed("a"), placed("b"))
    async with checks.running() as task:
        await checks.until(lambda: len(checks.begun) == 2)
        checks.answers["a/data"].set_exception(LeadershipLostError("lost"))
        with pytest.raises(LeadershipLostError):
            await task
        assert checks.answers["b/data"].cancelled()


class DropsACancellation(Checks):
    """As a driver does whose answer comes at the same moment."""

    async def check(self, resource: Resource) -> ContentCheck:
        try:
            return await super().check(resource)
        except asyncio.CancelledError:
            return await super().check(resource)


async def test_a_check_that_drops_a_cancellation_does_not_hold_up_the_end() -> None:
    checks = DropsACancellation(placed("a"))
    task = asyncio.create_task(checks.run())
    await checks.until(lambda: bool(checks.begun))
    task.cancel()
    _, waiting = await asyncio.wait([task], timeout=5)
    for answer in checks.answers.values():
        answer.cancel()
    assert not waiting


async def test_another_value_is_checked_without_the_rest_of_the_one_before() -> None:
    checks = Checks(placed("a"))
    async with checks.running():
        await checks.until(lambda: len(checks.begun) == 1)
        checks.answers["a/data"].set_result(check())
        await checks.until(lambda: bool(checks.touched))
        checks.volumes = [placed("a", annotations={VERIFY: "2"})]
        await checks.until(lambda: len(checks.begun) == 2)
        checks.answers["a/data"].set_exception(LucidError("The claim has no volume now."))
        await checks.until(lambda: checks.usage.failed(("a", "data")) is not None)
        await asyncio.sleep(0.02)
    assert checks.begun == ["a/data"] * 2


@pytest.mark.parametrize("name", [LIST_NAME, f"{LIST_NAME}.new"])
@pytest.mark.parametrize("what", ["fifo", "link", "folder"])
def test_what_is_no_regular_file_in_the_lists_place_is_refused(tmp_path: Path, name: str, what: str) -> None:
    aim, root = tmp_path / "elsewhere", tmp_path / "volume"
    aim.write_text("not ours")
    root.mkdir()
    place = root / name
    if what == "fifo":
        os.mkfifo(place)
    elif what == "link":
        place.symlink_to(aim)
    else:
        place.mkdir()
    with pytest.raises(LucidError, match="is no regular file; remove it"):
        verify_volume(root, root / LIST_NAME, None, Findings(), lambda: None)
    assert aim.read_text() == "not ours"
