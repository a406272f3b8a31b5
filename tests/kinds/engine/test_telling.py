"""What people are told fits into a status: one sentence too long would make the API server refuse all of it."""

from datetime import UTC, datetime
from typing import Any, cast

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Verdict
from lucid_storage.kinds.telling import Teller
from lucid_storage.kube.resources import Resource
from lucid_storage.models.collection import CollectionStatus

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


class Told:
    def __init__(self) -> None:
        self.written: list[dict[str, Any]] = []
        self.events: list[Any] = []

    async def write(self, resource: Resource, status: dict[str, Any]) -> str:
        self.written.append(status)
        return "11"

    def emit(self, event: Any) -> None:
        self.events.append(event)


def teller(told: Told) -> Teller[CollectionStatus]:
    spy = cast("Any", told)
    return Teller(
        "Collection",
        CollectionStatus,
        status=spy,
        events=spy,
        remember=lambda resource, version: None,
        now=lambda: NOW,
    )


def resource() -> Resource:
    meta = {"name": "users", "namespace": "ns", "uid": "u", "resourceVersion": "10", "generation": 1}
    return Resource.from_body("collections", {"metadata": meta})


async def test_a_long_sentence_is_cut_wherever_it_is_told() -> None:
    told = Told()
    verdict = Verdict(Reason.DATA_LOSS_REFUSED, "session:{id}, " * 1000, stalled=True)
    await teller(told).write(resource(), CollectionStatus(), verdict, "")
    status = told.written[0]
    CollectionStatus.model_validate(status)
    assert len(status["message"]) <= 2048


async def test_an_event_is_told_when_ready_changed_and_not_again() -> None:
    told, one = Told(), resource()
    say = teller(told)
    waiting = Verdict(Reason.COLLECTION_NOT_READY, "Not there yet.")
    for verdict, message in ((waiting, ""), (waiting, ""), (None, ""), (None, "3 keys have no TTL")):
        await say.write(one, CollectionStatus(), verdict, message)
    assert [event.reason for event in told.events] == ["CollectionNotReady", "Ready"]


async def test_what_is_ready_at_once_is_no_event() -> None:
    told = Told()
    await teller(told).write(resource(), CollectionStatus(), None, "")
    assert told.events == []
