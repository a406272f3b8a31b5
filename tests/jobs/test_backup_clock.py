"""The clock of a node that was off for long may be far behind: what is made there is not old when it is done."""

from datetime import UTC, datetime, timedelta, tzinfo
from typing import Any

import pytest
from workshop import CLUSTER, Workshop

from lucid_storage.archive.manifest import BackupKind
from lucid_storage.jobs import backup, mongodb_slices
from lucid_storage.jobs.clocks import by_either
from lucid_storage.models.orders import BackupResult, Owner, Task
from testbed.stores.mongodb import MongoDB

AT = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OWNER = Owner(cluster=CLUSTER, namespace="n", name="s", uid="u", spec_hash="")


class Behind(datetime):
    """The clock of a board without a battery."""

    @classmethod
    def now(cls, tz: tzinfo | None = None) -> Any:
        return datetime.now(tz) - timedelta(days=40)


def ordered(at: datetime | None) -> Task:
    return Task(run="r", owner=OWNER, deadline_seconds=60, ordered_at=at)


def made(shop: Workshop, name: str, database: str, **more: Any) -> BackupResult:
    return shop.made(name, database, **{"orderedAt": datetime.now(UTC), **more})


@pytest.mark.parametrize(
    ("at", "now", "worked", "ended"),
    [
        (AT, AT + timedelta(hours=1), timedelta(minutes=50), AT + timedelta(hours=1)),
        (AT, AT - timedelta(days=40), timedelta(minutes=50), AT + timedelta(minutes=50)),
        (AT, AT + timedelta(days=40), timedelta(minutes=50), AT + timedelta(days=40)),
        (None, AT, timedelta(minutes=50), AT),
    ],
)
def test_what_is_done_was_ordered_and_worked_at_before(
    at: datetime | None, now: datetime, worked: timedelta, ended: datetime
) -> None:
    assert by_either(ordered(at), now, worked) == ended


@pytest.mark.mongodb
def test_a_backup_made_by_a_clock_that_is_behind_is_not_over_its_days(
    shop: Workshop, mongodb: MongoDB, database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with mongodb.client() as client:
        client[database]["a"].insert_one({"_id": 1})
    begun = datetime.now(UTC)
    with monkeypatch.context() as patched:
        patched.setattr(backup, "datetime", Behind)
        first = made(shop, "first", database)
    second = made(shop, "second", database)
    assert first.ok and second.ok
    assert first.completed_at is not None and begun <= first.completed_at <= datetime.now(UTC)

    shop.swept(datetime.now(UTC))

    assert {record.manifest.origin.name for record in shop.records()} == {"first", "second"}


@pytest.mark.mongodb
@pytest.mark.parametrize("told", ["when it was ordered", "by the entries alone"])
def test_a_slice_is_no_older_than_what_is_in_it(
    shop: Workshop, mongodb: MongoDB, database: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that slices for weeks has no moment at which it was ordered."""
    with mongodb.client() as client:
        client[database]["a"].insert_one({"_id": 1})
        made(shop, "full", database)
        client[database]["a"].insert_one({"_id": 2})
    begun = datetime.now(UTC).replace(microsecond=0) - timedelta(seconds=1)
    monkeypatch.setattr(mongodb_slices, "datetime", Behind)
    more = {"orderedAt": None} if told == "by the entries alone" else {}
    assert made(shop, "inc", database, type="incremental", **more).ok

    (piece,) = (r.manifest for r in shop.records() if r.kind is BackupKind.SLICE)
    assert begun <= piece.completed_at <= datetime.now(UTC) + timedelta(seconds=1)
