"""Room for a restore (rule 2.8): each member has 1.2 times what is written, or nothing is."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest
from test_restore_blocking import FUNCTIONS, PLAIN, Case, order, plan_of

from lucid_storage.archive.manifest import CollectionRecord, ObjectKind, StoredObject
from lucid_storage.archive.restore_path import RestorePath
from lucid_storage.errors import Reason
from lucid_storage.jobs.mongodb_restore_plan import MongoPlan
from lucid_storage.jobs.restore_planning import told
from lucid_storage.stores.mongodb.restore.port import MemberSpace, Occupant

NEEDED = 1440
"""Of 1000 bytes of documents and 200 of indexes."""
TOO_SMALL, UNKNOWN = Reason.NOT_ENOUGH_SPACE, Reason.SPACE_UNKNOWN


def sized(case: Case = PLAIN) -> MongoPlan:
    plan = plan_of(case)
    record = CollectionRecord(
        database="shop", name=case[0], type=case[1], documents=1, bytes=1000, index_bytes=200
    )
    return replace(plan, records=(record,))


def members(*free: int | None) -> tuple[MemberSpace, ...]:
    return tuple(MemberSpace(f"m{number}", size) for number, size in enumerate(free))


@pytest.mark.parametrize(
    ("free", "allow", "reason"),
    [
        ((NEEDED,), False, None),
        ((NEEDED - 1,), False, TOO_SMALL),
        ((0,), True, TOO_SMALL),
        ((10**9, 10**9, NEEDED), False, None),
        ((10**9, 10**9, NEEDED - 1), False, TOO_SMALL),
        ((10**9, None, 10**9), False, UNKNOWN),
        ((10**9, None, 10**9), True, None),
        ((NEEDED - 1, None), True, TOO_SMALL),
        ((None,), False, UNKNOWN),
        ((None,), True, None),
    ],
)
def test_the_member_with_the_least_room_decides(
    free: tuple[int | None, ...], allow: bool, reason: Reason | None
) -> None:
    planned = told(order(allow_unknown_space=allow), sized(), (), members(*free))
    assert planned.needed_bytes == NEEDED
    assert planned.blocked_reason is reason
    known = [size for size in free if size is not None]
    assert planned.free_bytes == (min(known) if len(known) == len(free) else None)
    if reason is TOO_SMALL:
        assert f"needs {NEEDED} bytes free on each member, and one has {min(known)}" in str(
            planned.blocked_by
        )
    elif reason is UNKNOWN:
        assert "allowUnknownSpace" in str(planned.blocked_by)


def test_what_is_replayed_needs_room_too() -> None:
    kind = ObjectKind.MONGODB_OPLOG
    stored = StoredObject(kind=kind, path="x", stored_bytes=1, sha256="", plain_bytes=100)
    piece = SimpleNamespace(id="s", manifest=SimpleNamespace(objects=[stored]))
    plan = sized()
    plan = replace(plan, path=RestorePath(plan.path.full, (cast(Any, piece),), None))
    assert plan.needed_bytes == NEEDED + 120
    assert told(order(), plan, (), members(NEEDED)).blocked_reason is TOO_SMALL
    assert told(order(), plan, (), members(NEEDED + 120)).blocked_reason is None


def test_a_target_that_is_not_empty_is_told_before_the_room() -> None:
    planned = told(order(), sized(), (Occupant("shop", "a", "collection", 1),), members(0))
    assert planned.blocked_reason is Reason.TARGET_NOT_EMPTY


@pytest.mark.parametrize(
    ("in_place", "drop", "moving", "freed"),
    [
        (True, True, False, True),
        (True, True, True, False),
        (True, False, False, False),
        (False, True, False, False),
    ],
    ids=["replaced", "staged, since it changes its name", "added to", "beside"],
)
def test_only_what_is_dropped_first_gives_room(in_place: bool, drop: bool, moving: bool, freed: bool) -> None:
    plan = sized()
    if moving:
        plan = replace(plan, moving=frozenset({("shop", "a")}))
    others = Occupant("shop", "other", "collection", 5, stored_bytes=10**9)
    there = (Occupant("shop", "a", "collection", 5, stored_bytes=500), others)
    given = order(in_place=in_place, drop_existing=drop)
    for free, passes in ((NEEDED - 500, freed), (NEEDED - 501, False), (NEEDED, True)):
        assert told(given, plan, there, members(free)).blocked_reason is (None if passes else TOO_SMALL)


def test_stored_functions_are_never_dropped_and_give_no_room() -> None:
    there = (Occupant("shop", "system.js", "collection", 0, stored_bytes=500),)
    given = order(in_place=True, drop_existing=True)
    assert told(given, sized(FUNCTIONS), there, members(NEEDED - 500)).blocked_reason is TOO_SMALL
