"""A look of a schedule with what the API server answers."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, cast

import pytest
from schedule_builder import SETTINGS, at, schedule

from kinds.surroundings import services
from lucid_storage.kinds.backupschedule.kind import ScheduleCycle
from lucid_storage.kinds.metrics import Metrics
from lucid_storage.kinds.services import Outcome
from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.meta import SCHEDULE
from lucid_storage.models.settings import ServedNamespace, Settings


@dataclass
class Server:
    """Backups as an API server keeps them; nothing else is asked of it."""

    backups: dict[str, Json] = field(default_factory=dict)
    schedules: list[Resource] = field(default_factory=list)
    status: dict[str, Any] = field(default_factory=dict)
    spec: dict[str, Any] = field(default_factory=dict)
    """What is changed of the schedule's."""
    metrics: Metrics = field(default_factory=Metrics)
    settings: Settings = SETTINGS
    refusal: KubeApiError | None = None
    """To a Backup that is made."""

    async def look(self) -> Outcome:
        me = cast("Any", self)
        given = services(self, now=lambda: at("2026-05-02T02:00:01"), metrics=self.metrics)
        known = {"backups": [], "restores": [], "backupschedules": self.schedules}
        cycle = ScheduleCycle(given, me, me, me, self.settings, me, known=lambda plural: known[plural])
        resource = schedule().resource
        resource.status.update(self.status)
        resource.spec.update(self.spec)
        return await cycle.run(resource)

    async def create(self, plural: str, body: Json) -> bool:
        if self.refusal is not None:
            raise self.refusal
        return self.backups.setdefault(body["metadata"]["name"], body) is body

    async def get(self, key: Key) -> Json | None:
        return self.backups.get(key.name)

    async def write(self, resource: Resource, status: dict[str, Any]) -> str:
        self.status = status
        return "2"

    def emit(self, event: object) -> None: ...

    def next_told(self) -> float | None:
        name = "lucid_backup_schedule_next_timestamp_seconds"
        labels = {"resource_namespace": "default", "schedule": "nightly"}
        return self.metrics.registry.get_sample_value(name, labels)

    def ready(self) -> tuple[str, str]:
        found = next(c for c in self.status["conditions"] if c["type"] == "Ready")
        return found["reason"], found["message"]


SOME_ALLOWED = SETTINGS.model_copy(
    update={
        "served_namespaces": {
            "default": ServedNamespace(databases=("shop",), indices=("shop-*",), keys=("shop:*",))
        }
    }
)
SLOT = "nightly-20260502-020000"


async def test_the_backup_of_a_slot_is_made_and_its_own_is_no_stranger() -> None:
    server = Server()
    await server.look()
    assert list(server.backups) == [SLOT]
    server.status = {}  # the operator was killed before it was written
    await server.look()
    assert (list(server.backups), server.ready()[0]) == ([SLOT], "Scheduled")


async def test_a_backup_of_somebody_else_under_the_name_of_a_slot_is_not_taken_for_its_run() -> None:
    server = Server({SLOT: {"metadata": {"name": SLOT, "annotations": {SCHEDULE: "weekly"}}}})
    outcome = await server.look()
    reason, message = server.ready()
    assert (outcome.failed, reason) == (True, "Conflict")
    assert SLOT in message
    assert "lastSlot" not in server.status, "the run is not called handled"
    del server.backups[SLOT]
    await server.look()
    assert server.ready()[0] == "Scheduled"


async def test_the_younger_of_two_schedules_in_each_others_way_makes_nothing() -> None:
    older = schedule(template={"type": "full", "chain": "nightly", "mongodb": {"databases": ["shop"]}})
    body = {"metadata": {"name": "older", "namespace": "default", "uid": "o"}, "spec": older.resource.spec}
    server = Server(schedules=[Resource.from_body("backupschedules", body)])
    await server.look()
    assert (server.backups, server.ready()[0]) == ({}, "ChainMismatch")


async def test_a_schedule_that_cannot_be_followed_any_more_has_no_next_run() -> None:
    server = Server()
    await server.look()
    assert server.status["next"]
    assert server.next_told() is not None
    server.spec = {"schedule": "0 0 31 2 *"}
    await server.look()
    assert server.ready()[0] == "InvalidSpec"
    assert not {"next", "nextAt"} & server.status.keys()
    assert server.next_told() is None
    assert server.status["lastBackup"] == SLOT
    server.spec = {}
    await server.look()
    assert server.status["next"]
    assert server.next_told() is not None


@pytest.mark.parametrize("status", [403, 422])
async def test_a_schedule_whose_backup_is_refused_goes_on_and_says_when(status: int) -> None:
    """An admission policy or a quota is no error of the schedule, and is tried again."""
    server = Server()
    await server.look()
    told = {key: server.status[key] for key in ("next", "nextAt")}
    server.status, server.refusal = dict(told), KubeApiError(status, "Invalid", "denied by a policy")
    outcome = await server.look()
    assert outcome.failed
    assert "denied by a policy" in server.ready()[1]
    assert {key: server.status.get(key) for key in told} == told
    assert server.next_told() is not None


@pytest.mark.parametrize(
    ("template", "reason", "words"),
    [
        ({"type": "incremental", "engines": ["redis"]}, "InvalidSpec", "name mongodb in spec.engines"),
        ({"engines": ["volumes"]}, "InvalidSpec", "Name the Volumes in spec.volumes"),
        ({"connection": {"secretName": "own"}}, "NotConfigured", "set spec.storage"),
        ({"storage": {"s3": {"bucket": "theirs"}}}, "NamespaceNotServed", "needs keys"),
        ({"mongodb": {"databases": ["theirs"]}}, "DatabaseNotAllowed", 'the database "theirs"'),
        ({"elasticsearch": {"indices": ["theirs"]}}, "IndexNotAllowed", 'the indices "theirs"'),
        ({"engines": ["redis"]}, "KeysNotAllowed", "leave redis out"),
    ],
)
async def test_a_template_that_no_backup_can_be_made_of_is_told_before_its_slot(
    template: dict[str, Any], reason: str, words: str
) -> None:
    given = {"type": "full", **template}
    server = Server(spec={"template": given, "schedule": "0 0 1 1 *"}, settings=SOME_ALLOWED)
    await server.look()
    found, message = server.ready()
    assert (found, server.backups) == (reason, {})
    assert words in message
    assert server.status["next"], "it is followed all the same: settings and Secrets change"
