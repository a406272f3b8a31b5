"""What the plan lets pass is what the worker can do: documents that stand in the way are told before anything goes
(rule 2.1).
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from lucid_storage.archive.manifest import CollectionRecord
from lucid_storage.archive.mongodump import CollectionEntry, Prelude
from lucid_storage.archive.mongodump_prelude import Namespace
from lucid_storage.archive.restore_path import RestorePath
from lucid_storage.errors import DestinationError, Reason, RefusedError
from lucid_storage.jobs.mongodb_restore_plan import MongoPlan
from lucid_storage.jobs.mongodb_restore_warnings import warnings_of
from lucid_storage.jobs.restore import _incomplete_when_failed
from lucid_storage.jobs.restore_planning import told
from lucid_storage.models.orders import Destination, Owner, RestoreOrder
from lucid_storage.stores.mongodb.restore.catalog import Definition
from lucid_storage.stores.mongodb.restore.expiring import Expired, Expiring, Rule
from lucid_storage.stores.mongodb.restore.lineage import everything
from lucid_storage.stores.mongodb.restore.outcome import Made
from lucid_storage.stores.mongodb.restore.port import MemberSpace, Occupant
from lucid_storage.stores.mongodb.restore.staging import InPlace, Staging
from lucid_storage.stores.mongodb.restore.target import Target

ENCRYPTED: Mapping[str, object] = {"encryptedFields": {"fields": []}}
Case = tuple[str, str, Mapping[str, object], bool]
NOW = datetime(2026, 11, 21, tzinfo=UTC)
PLAIN: Case = ("a", "collection", {}, True)
SERIES: Case = ("ts", "timeseries", {}, True)
MOVING_SERIES: Case = ("ts", "timeseries", {}, False)
FUNCTIONS: Case = ("system.js", "collection", {}, True)
SECRET: Case = ("e", "collection", ENCRYPTED, True)
MOVING_SECRET: Case = ("e", "collection", ENCRYPTED, False)


def order(**more: object) -> RestoreOrder:
    owner = Owner(cluster="c", namespace="n", name="r", uid="u", spec_hash="h")
    given = {"run": "r1", "owner": owner, "destination": Destination(), "chain": "manual", "backup_id": "b"}
    return RestoreOrder.model_validate({**given, "deadline_seconds": 1, **more})


def plan_of(case: Case, *, written: str = "") -> MongoPlan:
    """`written` names what was written while the full ran."""
    name, kind, options, steady = case
    mongodb = SimpleNamespace(operations=[SimpleNamespace(namespace=written)] if written else [])
    manifest = SimpleNamespace(
        objects=[SimpleNamespace(kind="mongodbArchive", stored_bytes=1)], mongodb=mongodb
    )
    full = SimpleNamespace(id="b", manifest=manifest)
    moving = frozenset() if steady else frozenset({("shop", name)})
    return _Plan(
        path=RestorePath(cast(Any, full), (), None),
        until=(1, 1),
        dump_end=(1, 1),
        prelude=Prelude("6.0", "x", (CollectionEntry(Namespace("shop", name), options, type=kind),)),
        targets={"shop": "shop"},
        lineage=everything({"shop": "shop"}),
        records=(CollectionRecord(database="shop", name=name, type=kind, documents=1),),
        cut_transactions=0,
        warnings=(),
        moving=moving,
    )


class _Plan(MongoPlan):
    read_bytes = 0


@pytest.mark.parametrize(
    ("case", "drop", "beside", "in_place"),
    [
        (PLAIN, False, False, True),
        (PLAIN, True, True, True),
        (SERIES, False, False, False),
        (SERIES, True, False, True),
        (MOVING_SERIES, True, False, False),
        (FUNCTIONS, False, False, False),
        (FUNCTIONS, True, False, False),
        (SECRET, False, False, False),
        (SECRET, True, False, True),
        (MOVING_SECRET, True, False, False),
    ],
)
def test_documents_that_the_worker_would_refuse_block_the_plan(
    case: Case, drop: bool, beside: bool, in_place: bool
) -> None:
    occupants = (Occupant("shop", case[0], case[1], 1),)
    for where, passes in ((False, beside), (True, in_place)):
        given = order(drop_existing=drop, in_place=where)
        planned = told(given, plan_of(case), occupants, (MemberSpace("m", 10**12),))
        assert planned.blocked_reason is (None if passes else Reason.TARGET_NOT_EMPTY), (where, planned)


SERIES_MADE = Made(("shop", "late"), "timeseries", stageable=False)
MADE = Made(("shop", "late"), "collection")
VIEW_MADE = Made(("shop", "late"), "view")


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(
    ("made", "there", "drop", "reason"),
    [
        (MADE, Occupant("shop", "late", "collection", 1), True, None),
        (MADE, Occupant("shop", "late", "collection", 0), False, None),
        (MADE, Occupant("shop", "late", "view", 0), True, Reason.RESTORE_BLOCKED),
        (VIEW_MADE, Occupant("shop", "late", "collection", 0), True, Reason.RESTORE_BLOCKED),
        (SERIES_MADE, Occupant("shop", "late", "timeseries", 1), True, Reason.TARGET_NOT_EMPTY),
        (SERIES_MADE, Occupant("shop", "late", "timeseries", 0), True, None),
        (SERIES_MADE, Occupant("shop", "late", "collection", 0), True, Reason.RESTORE_BLOCKED),
    ],
)
def test_what_the_replay_makes_is_refused_by_the_plan_and_not_when_something_was_dropped_already(
    made: Made, there: Occupant, drop: bool, reason: Reason | None, in_place: bool
) -> None:
    plan = replace(plan_of(PLAIN), made=(made,))
    planned = told(order(drop_existing=drop, in_place=in_place), plan, (there,), (MemberSpace("m", 10**12),))
    assert planned.blocked_reason is reason
    item = planned.targets[-1]
    assert (item.target, item.overwrites) == ("shop.late", there.documents or None)


def test_consent_is_asked_for_what_the_replay_makes_too() -> None:
    plan = replace(plan_of(PLAIN), made=(MADE,))
    there = (Occupant("shop", "late", "collection", 1),)
    planned = told(order(), plan, there, (MemberSpace("m", 10**12),))
    assert planned.blocked_reason is Reason.TARGET_NOT_EMPTY
    assert "shop.late" in (planned.blocked_by or "")


@pytest.mark.parametrize("in_place", [True, False])
@pytest.mark.parametrize(
    ("on", "drop", "passes"), [("a", False, True), ("x", False, False), ("x", True, True)]
)
def test_another_view_of_the_name_is_refused_before_anything_is_written(
    on: str, drop: bool, passes: bool, in_place: bool
) -> None:
    plan = plan_of(("v", "view", {"viewOn": "a", "pipeline": []}, True))
    there = (Occupant("shop", "v", "view", 0, view={"viewOn": on, "pipeline": []}),)
    planned = told(order(drop_existing=drop, in_place=in_place), plan, there, (MemberSpace("m", 10**12),))
    assert planned.blocked_reason is (None if passes else Reason.TARGET_NOT_EMPTY)


def test_a_view_that_may_read_another_database_is_named_by_the_plan() -> None:
    for reads, named in (("b", False), ({"db": "local", "coll": "oplog.rs"}, True)):
        view = {"viewOn": "a", "pipeline": [{"$lookup": {"from": reads, "pipeline": [], "as": "x"}}]}
        plan = plan_of(("v", "view", view, True))
        warnings = warnings_of(order(), plan.prelude, plan.records)
        assert any("Left out" in said and "the views shop.v." in said for said in warnings) is named


def test_a_name_that_nothing_has_at_the_moment_overwrites_nothing() -> None:
    plan = replace(plan_of(PLAIN), gone=frozenset({("shop", "a")}))
    there = (Occupant("shop", "a", "collection", 5),)
    planned = told(order(), plan, there, (MemberSpace("m", 10**12),))
    assert planned.blocked_reason is None
    assert planned.targets[0].overwrites is None


@pytest.mark.parametrize(
    ("counted", "shown", "said"),
    [
        (None, None, "are deleted soon after the restore: shop.a; a dry run counts them."),
        (
            {("shop", "a"): 2},
            2,
            "2 documents of the full backup are past their time to live and are deleted soon",
        ),
        ({}, 0, "0 documents of the full backup"),
    ],
)
def test_what_a_ttl_deletes_at_once_is_a_number_where_it_was_counted(
    counted: dict[tuple[str, str], int] | None, shown: int | None, said: str
) -> None:
    rules = (Rule("at", 60),)
    plan = replace(plan_of(PLAIN), expiring=(Expiring(("shop", "a"), rules, ("shop", "a")),))
    expired = None if counted is None else {name: Expired(rules, NOW) for name in counted}
    for name, count in (counted or {}).items():
        assert expired is not None
        expired[name].documents = count
    planned = told(order(), plan, (), (MemberSpace("m", 10**12),), expired)
    assert planned.expiring_documents == shown
    assert said in planned.warnings[-1]
    assert planned.targets[0].note == ("2 past their time to live" if shown == 2 else None)


def counted(exact: bool = True) -> dict[tuple[str, str], Expired]:
    """Two documents of the collection that are past their time."""
    found = Expired((Rule("at", 60),), NOW)
    found.documents, found.exact = 2, exact
    return {("shop", "a"): found}


EXPIRING = (Expiring(("shop", "a"), (Rule("at", 60),), ("shop", "a")),)


@pytest.mark.parametrize(
    ("written", "more"),
    [("", False), ("shop.a", True), ("bank.a", False)],
    ids=["nothing", "what is restored", "something else"],
)
def test_what_was_written_while_the_full_ran_is_not_in_the_number_and_that_is_said(
    written: str, more: bool
) -> None:
    plan = replace(plan_of(PLAIN, written=written), expiring=EXPIRING)
    planned = told(order(), plan, (), (MemberSpace("m", 10**12),), counted())
    said = "Later writes, updates and deletes are not taken into account."
    assert (said in planned.warnings[-1]) is more


@pytest.mark.parametrize(("exact", "note"), [(True, "2 past"), (False, "up to 2 past")])
def test_a_number_that_is_the_most_says_so_at_the_collection_too(exact: bool, note: str) -> None:
    plan = replace(plan_of(PLAIN), expiring=EXPIRING)
    planned = told(order(), plan, (), (MemberSpace("m", 10**12),), counted(exact))
    assert planned.targets[0].note == f"{note} their time to live"
    assert planned.warnings[-1].startswith("2 " if exact else "Up to 2 ")


@pytest.mark.parametrize("reads", [True, False], ids=["a dry run", "a plan that is carried out"])
@pytest.mark.parametrize(
    ("there", "drop", "merges"), [(True, False, True), (True, True, False), (False, False, False)]
)
def test_the_ttls_of_what_is_only_added_to_a_collection_are_not_switched_on_and_not_told(
    there: bool, drop: bool, merges: bool, reads: bool
) -> None:
    plan = replace(plan_of(PLAIN), expiring=EXPIRING)
    occupants = (Occupant("shop", "a", "collection", 0),) if there else ()
    given = order(in_place=True, drop_existing=drop)
    planned = told(given, plan, occupants, (MemberSpace("m", 10**12),), counted() if reads else None)
    assert planned.expiring_documents == ((0 if merges else 2) if reads else None)
    assert any("soon after the restore: shop.a" in warning for warning in planned.warnings) is not merges
    assert (planned.targets[0].note is None) is (merges or not reads)


class Occupied(Target):
    """Every collection is there and holds a document; what is dropped is remembered."""

    def __init__(self) -> None:
        self.dropped: list[str] = []
        self.before_write = lambda: None

    def command(self, database: str, command: Mapping[str, object], task: str, **_: Any) -> dict[str, object]:
        if "drop" in command:
            self.dropped.append(str(command["drop"]))
        return {"ok": 1, "n": 1, "cursor": {"firstBatch": []}}

    def collection_uuid(self, database: str, name: str) -> bytes | None:
        return b"1"

    def count(self, database: str, name: str) -> int:
        return 1


def test_a_restore_in_place_refuses_before_it_drops_anything() -> None:
    target = Occupied()
    in_place = InPlace(replace=True)
    targets = {"shop": "shop"}
    staging = Staging(target, "r1", targets, everything(targets), (1, 1), in_place=in_place)
    with pytest.raises(RefusedError) as refused:
        staging.define([Definition("shop", "a"), Definition("shop", "system.js")])
    assert refused.value.reason is Reason.TARGET_NOT_EMPTY
    assert (target.dropped, staging.touched) == ([], False)


@pytest.mark.parametrize("in_place", [True, False])
def test_a_failure_after_mongodb_was_restored_in_place_says_that_the_target_is_incomplete(
    in_place: bool,
) -> None:
    with (
        pytest.raises(DestinationError) as failed,
        _incomplete_when_failed(order(in_place=in_place), plan_of(PLAIN)),
    ):
        raise DestinationError("Redis cannot be reached.")
    assert ("The target is incomplete" in failed.value.message) is in_place


@pytest.mark.parametrize(
    ("known", "reason"),
    [(("SHOP",), Reason.RESTORE_BLOCKED), (("shop",), None), (("shops",), None), ((), None)],
)
def test_a_database_that_differs_from_another_in_case_alone_blocks_the_plan(
    known: tuple[str, ...], reason: Reason | None
) -> None:
    planned = told(order(), plan_of(PLAIN), (), (MemberSpace("m", 10**12),), databases=known)
    assert planned.blocked_reason is reason
