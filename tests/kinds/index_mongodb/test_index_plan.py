"""What is done about an index: plans as values."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from index_builder import EMAIL, NAME, NOW, desired, fresh, index, observed, scope, server, status

from lucid_storage.errors import Reason
from lucid_storage.kinds.contract import Plan
from lucid_storage.kinds.index_mongodb.actions import (
    BuildIndex,
    ChangeIndex,
    CheckDuplicates,
    ConvertToUnique,
    CountExpired,
    DropIndex,
    StopPreparingUnique,
)
from lucid_storage.kinds.index_mongodb.desired import default_name
from lucid_storage.kinds.index_mongodb.plan import IndexObserved, plan
from lucid_storage.kinds.protection import Need
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.base import Origin
from lucid_storage.models.index import DuplicateSummary, IndexStatus, PendingIndex, SupersededIndex
from lucid_storage.stores.mongodb.types import (
    BuildProgress,
    DuplicateReport,
    IndexChange,
    IndexDefinition,
    ServerInfo,
)

TARGET = "app.users"


def reason(made: Plan[IndexStatus]) -> Reason | None:
    return made.verdict.reason if made.verdict is not None else None


def dropped(made: Plan[IndexStatus]) -> list[str]:
    return [a.name for a in made.actions if isinstance(a, DropIndex)]


def test_an_absent_index_is_built() -> None:
    made = plan(desired(), observed(), fresh(), scope())
    assert made.actions == (BuildIndex(TARGET, NAME, IndexDefinition(EMAIL)),)


def test_without_its_collection_it_waits_and_makes_none() -> None:
    made = plan(desired(), IndexObserved(server(), None), fresh(), scope())
    assert reason(made) is Reason.COLLECTION_NOT_READY
    assert not made.actions


def test_an_equal_index_is_adopted_whatever_its_name() -> None:
    made = plan(desired(), observed(index("my_own_name")), fresh(), scope())
    assert not made.actions
    assert made.verdict is None
    assert (made.status.index_name, made.status.origin) == ("my_own_name", Origin.ADOPTED)


def test_an_index_is_never_adopted_by_its_name_alone() -> None:
    made = plan(desired(unique=True), observed(index(NAME)), fresh(), scope())
    assert reason(made) is Reason.INDEX_CONFLICT
    assert made.verdict is not None
    assert "unique" in made.verdict.message


def test_a_second_text_index_is_refused_before_the_server_is_asked() -> None:
    asked = desired(keys=[{"field": "bio", "order": "text"}])
    made = plan(asked, observed(index("search", keys=(("title", "text"),))), fresh(), scope())
    assert reason(made) is Reason.INDEX_CONFLICT
    assert made.verdict is not None
    assert "search" in made.verdict.message


def test_a_build_is_shown_with_its_progress() -> None:
    seen = observed(index(building=True), progress=(BuildProgress((NAME,), 42, 100),))
    made = plan(desired(), seen, fresh(), scope())
    assert reason(made) is Reason.BUILDING
    assert made.status.progress == "42%"
    assert made.recheck_seconds is not None


def test_a_build_whose_call_has_not_returned_is_not_begun_twice() -> None:
    made = plan(desired(), observed(running=frozenset({NAME})), fresh(), scope())
    assert reason(made) is Reason.BUILDING
    assert not made.actions


@pytest.mark.parametrize(
    ("asked", "have", "change"),
    [
        ({"hidden": True}, {}, IndexChange(hidden=True)),
        ({"expireAfterSeconds": 900}, {"expire_after_seconds": 60}, IndexChange(expire_after_seconds=900)),
    ],
)
def test_changes_that_the_server_makes_in_place(
    asked: dict[str, Any], have: dict[str, Any], change: IndexChange
) -> None:
    made = plan(desired(**asked), observed(index(**have)), status(), scope())
    assert made.actions == (ChangeIndex(TARGET, NAME, change),)


def test_an_index_becomes_unique_in_place_from_6_0_on() -> None:
    made = plan(desired(unique=True), observed(index()), status(), scope())
    assert made.actions == (ConvertToUnique(TARGET, NAME),)


@pytest.mark.parametrize(
    ("info", "in_place"), [(server(5), False), (replace(server(6), compatibility=(5, 0)), True)]
)
def test_an_index_becomes_a_ttl_one_in_place_where_the_program_can(info: ServerInfo, in_place: bool) -> None:
    counted = observed(index(), server=info, answers={CountExpired("email", 60): 0})
    made = plan(desired(expireAfterSeconds=60), counted, status(), scope())
    assert [type(a) for a in made.actions] == ([ChangeIndex] if in_place else [])


@pytest.mark.parametrize("old", [server(5), replace(server(6), compatibility=(5, 0))])
def test_before_6_0_a_unique_one_is_built_first(old: ServerInfo) -> None:
    made = plan(desired(unique=True), observed(index(), server=old), status(), scope())
    assert [type(a) for a in made.actions] == [BuildIndex]
    assert made.status.pending == PendingIndex(index_name=f"{NAME}_g2", generation=2)


def test_a_conversion_that_was_cut_off_half_way_goes_on() -> None:
    made = plan(desired(unique=True), observed(index(prepare_unique=True)), status(), scope())
    assert made.actions == (ConvertToUnique(TARGET, NAME),)


def test_a_conversion_that_is_no_longer_wanted_lets_writes_in_again() -> None:
    made = plan(desired(), observed(index(prepare_unique=True)), status(), scope())
    assert made.actions == (StopPreparingUnique(TARGET, NAME),)


@pytest.mark.parametrize(
    "asked",
    [
        {"collation": {"locale": "de"}},
        {"partialFilterExpression": {"active": True}},
        {"sparse": True},
        {"keys": [{"field": "email", "order": -1}]},
    ],
)
def test_where_both_can_live_the_successor_is_built_first_and_recorded_before_it(
    asked: dict[str, Any],
) -> None:
    made = plan(desired({"name": NAME}, **asked), observed(index()), status(), scope())
    assert [a.name for a in made.actions if isinstance(a, BuildIndex)] == [f"{NAME}_g2"]
    assert not dropped(made)
    assert made.journal
    assert made.status.pending is not None
    assert made.status.index_name == NAME, "the old one serves until the new one is ready"


OLD = index(NAME)
NEW = index(f"{NAME}_g2", sparse=True)
PENDING = PendingIndex(index_name=f"{NAME}_g2", generation=2)


def test_the_old_index_is_hidden_when_its_successor_is_ready() -> None:
    made = plan(desired(sparse=True), observed(OLD, NEW), status(pending=PENDING), scope())
    assert made.actions == (ChangeIndex(TARGET, NAME, IndexChange(hidden=True)),)
    assert made.journal
    assert made.status.index_name == NEW.name
    assert made.status.superseded == [SupersededIndex(index_name=NAME, hidden_at=NOW)]
    assert made.status.to_dict()["superseded"], (
        "and it is written without a warning, which would be no line of JSON"
    )


@pytest.mark.parametrize(("seconds", "goes"), [(599, False), (600, True)])
def test_a_hidden_index_is_dropped_when_its_time_has_passed(seconds: int, goes: bool) -> None:
    hidden = index(NAME, hidden=True)
    entry = SupersededIndex(index_name=NAME, hidden_at=NOW - timedelta(seconds=seconds))
    known = status(index_name=NEW.name, superseded=[entry])
    made = plan(desired(sparse=True), observed(hidden, NEW), known, scope(settled=True))
    assert dropped(made) == ([NAME] if goes else [])
    assert goes or made.recheck_seconds == 1.0


@pytest.mark.parametrize("acts", [{"unique": True}, {"expire_after_seconds": 60}])
def test_an_old_index_that_acts_while_hidden_is_dropped_at_once(acts: dict[str, Any]) -> None:
    made = plan(desired(sparse=True), observed(index(NAME, **acts), NEW), status(pending=PENDING), scope())
    assert dropped(made) == [NAME]


def test_drop_after_zero_drops_at_once() -> None:
    asked = desired(sparse=True, dropAfterSeconds=0)
    assert dropped(plan(asked, observed(OLD, NEW), status(pending=PENDING), scope())) == [NAME]


def test_what_another_resource_declares_is_never_hidden_or_dropped() -> None:
    seen = observed(OLD, NEW, claimed=((NAME, OLD.definition),))
    made = plan(desired(sparse=True), seen, status(pending=PENDING), scope())
    assert not made.actions
    assert made.status.superseded is None


def test_what_status_never_recorded_is_never_dropped() -> None:
    stranger = index("stranger", sparse=True, collation={"locale": "fr"})
    made = plan(desired(sparse=True), observed(NEW, stranger), status(index_name=NEW.name), scope())
    assert not made.actions


def test_a_successor_of_a_superseded_generation_is_dropped() -> None:
    halfway = index(f"{NAME}_g2", sparse=True, building=True)
    known = status(observed_generation=3, pending=PENDING)
    made = plan(desired(collation={"locale": "de"}), observed(OLD, halfway), known, scope())
    assert dropped(made) == [f"{NAME}_g2"]
    assert [a.name for a in made.actions if isinstance(a, BuildIndex)] == [f"{NAME}_g3"]


def test_going_back_to_the_old_definition_drops_the_successor_and_keeps_the_old() -> None:
    halfway = index(f"{NAME}_g2", sparse=True, building=True)
    made = plan(desired(), observed(OLD, halfway), status(observed_generation=3, pending=PENDING), scope())
    assert dropped(made) == [f"{NAME}_g2"]
    assert made.status.index_name == NAME


def test_going_back_while_the_old_one_is_hidden_shows_it_again() -> None:
    hidden = index(NAME, hidden=True)
    known = status(
        index_name=NEW.name,
        observed_generation=3,
        superseded=[SupersededIndex(index_name=NAME, hidden_at=NOW)],
    )
    made = plan(desired(), observed(hidden, NEW), known, scope())
    assert made.actions[0] == ChangeIndex(TARGET, NAME, IndexChange(hidden=False))


TEXT = {"keys": [{"field": "bio", "order": "text"}]}
TEXT_INDEX = index("t", keys=(("bio", "text"),))


@pytest.mark.parametrize(
    ("asked", "have"),
    [
        ({**TEXT, "defaultLanguage": "german"}, TEXT_INDEX),
        ({}, index("t", expire_after_seconds=60)),
    ],
)
def test_what_cannot_live_side_by_side_is_dropped_first_only_when_asked_to(
    asked: dict[str, Any], have: Any
) -> None:
    known = status(index_name="t")
    refused = plan(desired(**asked), observed(have), known, scope())
    assert reason(refused) is Reason.NOT_IN_PLACE
    assert refused.verdict is not None
    assert "replacePolicy: DropFirst" in refused.verdict.message
    assert not refused.actions
    made = plan(desired({"replacePolicy": "DropFirst"}, **asked), observed(have), known, scope())
    assert [type(a) for a in made.actions] == [DropIndex, BuildIndex]


@pytest.mark.parametrize(
    ("have", "asks"),
    [
        (None, True),
        (index(), True),
        (index(expire_after_seconds=900), True),
        (index(expire_after_seconds=30), False),
    ],
)
def test_a_new_or_shorter_ttl_is_counted_first(have: Any, asks: bool) -> None:
    seen = observed() if have is None else observed(have)
    known = fresh() if have is None else status()
    made = plan(desired(expireAfterSeconds=60), seen, known, scope())
    assert made.questions == ((CountExpired("email", 60),) if asks else ())


OLD_FILTER = {"partial_filter": {"active": True}}


@pytest.mark.parametrize(
    ("asked", "have", "asks"),
    [
        ({"keys": [{"field": "seen", "order": 1}]}, {}, "seen"),
        ({"partialFilterExpression": {"active": False}}, OLD_FILTER, "email"),
        ({}, OLD_FILTER, "email"),
        ({"partialFilterExpression": {"active": True}, "sparse": True}, OLD_FILTER, None),
    ],
)
def test_a_ttl_of_the_same_seconds_over_other_documents_is_counted_first(
    asked: dict[str, Any], have: dict[str, Any], asks: str | None
) -> None:
    old = index(expire_after_seconds=60, **have)
    wanted = desired({"name": NAME}, expireAfterSeconds=60, **asked)
    made = plan(wanted, observed(old), status(), scope())
    assert made.questions == ((CountExpired(asks, 60),) if asks else ())
    if asks:
        counted = observed(old, answers={CountExpired(asks, 60): 3})
        assert reason(plan(wanted, counted, status(), scope())) is Reason.DATA_LOSS_REFUSED
    else:
        assert any(isinstance(a, BuildIndex) for a in made.actions)


def test_documents_that_would_expire_at_once_need_consent() -> None:
    seen = observed(answers={CountExpired("email", 60): 12})
    refused = plan(desired(expireAfterSeconds=60), seen, fresh(), scope())
    assert reason(refused) is Reason.DATA_LOSS_REFUSED
    assert refused.verdict is not None
    assert "allowDataLoss: app.users" in refused.verdict.message
    agreed = desired({"allowDataLoss": TARGET}, expireAfterSeconds=60)
    assert isinstance(plan(agreed, seen, fresh(), scope()).actions[0], BuildIndex)
    with_backup = desired({"allowDataLoss": TARGET, "backupBefore": True}, expireAfterSeconds=60)
    protected = plan(with_backup, seen, fresh(), scope())
    assert protected.protect == Need(BackupEngine.MONGODB, collections=("app.users",))
    nothing = observed(answers={CountExpired("email", 60): 0})
    assert plan(with_backup, nothing, fresh(), scope()).protect is None
    assert plan(agreed, seen, fresh(), scope()).protect is None


def test_a_count_that_took_too_long_is_taken_for_a_loss() -> None:
    seen = observed(answers={CountExpired("email", 60): None})
    assert reason(plan(desired(expireAfterSeconds=60), seen, fresh(), scope())) is Reason.DATA_LOSS_REFUSED


def test_known_duplicates_are_looked_for_before_the_next_attempt() -> None:
    summary = DuplicateSummary(key_pattern="email:1", groups=1, documents=2, complete=True)
    known = fresh().model_copy(update={"duplicates": summary})
    asked = desired(unique=True)
    assert plan(asked, observed(), known, scope()).questions == (CheckDuplicates(),)
    still = observed(answers={CheckDuplicates(): DuplicateReport("email:1", 1, 2, complete=True)})
    assert reason(plan(asked, still, known, scope())) is Reason.DUPLICATE_KEYS
    gone = observed(answers={CheckDuplicates(): DuplicateReport("email:1", 0, 0, complete=True)})
    assert isinstance(plan(asked, gone, known, scope()).actions[0], BuildIndex)


@pytest.mark.parametrize("policy", ["Correct", "Report", "Ignore"])
def test_a_dropped_index_comes_back_as_the_policy_says(policy: str) -> None:
    made = plan(desired({"driftPolicy": policy}), observed(), status(), scope(settled=True))
    assert bool(made.actions) == (policy == "Correct")
    assert [d.field for d in made.drift] == ([] if policy == "Ignore" else ["index"])


@pytest.mark.parametrize(
    ("collection", "keys", "name"),
    [
        ("users", [("email", 1)], "users_email_1"),
        ("users", [("user_id", 1), ("created_at", -1)], "users_user_id_1_created_at_-1"),
        ("places", [("at", "2dsphere")], "places_at_2dsphere"),
    ],
)
def test_default_names_follow_the_rule(collection: str, keys: list[tuple[str, Any]], name: str) -> None:
    assert default_name(collection, keys) == name


def test_default_names_of_different_keys_differ() -> None:
    one, two = default_name("c", [("a_1_b", 1)]), default_name("c", [("a", 1), ("b", 1)])
    assert one != two
    assert len(default_name("c" * 100, [("f" * 90, 1), ("g" * 90, 1)])) <= 250
