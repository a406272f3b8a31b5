"""The lifecycle of a series: by the operator on a real server, by the server's ILM on the fake that has it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kinds.index_elasticsearch.elastic_bed import NOVEMBER, UID, Series
from lucid_storage.kinds.index_elasticsearch.desired import resolve
from lucid_storage.kinds.index_elasticsearch.lifecycle import Phase, phase, policy_body
from lucid_storage.kinds.index_elasticsearch.losses import left_alone
from lucid_storage.kinds.index_elasticsearch.months import Month
from lucid_storage.models.elasticindex import Lifecycle, ManagedBy
from lucid_storage.models.index import IndexSpec
from lucid_storage.stores.elasticsearch.ages import deletes_after
from lucid_storage.stores.elasticsearch.types import (
    AliasState,
    ElasticIndexState,
    LifecyclePolicyState,
    TemplateState,
)

DAYS: dict[str, Any] = {"hotDays": 7, "warmDays": 30, "coldDays": 90, "deleteDays": 90}
BY_OPERATOR = {**DAYS, "managedBy": "Operator"}
SETTINGS: dict[str, Any] = {"number_of_shards": 1, "number_of_replicas": 0}
END_OF_NOVEMBER = "1796083200000"
"""2026-12-01T00:00:00Z in milliseconds."""


@pytest.mark.parametrize(
    ("day", "expected"),
    [
        ("2026-08-15", Phase.HOT),
        ("2026-09-07", Phase.HOT),
        ("2026-09-08", Phase.WARM),
        ("2026-09-30", Phase.WARM),
        ("2026-10-01", Phase.COLD),
        ("2026-11-29", Phase.COLD),
        ("2026-11-30", Phase.DELETE),
    ],
)
def test_days_count_from_the_end_of_the_month(day: str, expected: Phase) -> None:
    assert phase(Lifecycle(), Month(2026, 8), datetime.fromisoformat(f"{day}T00:00:00Z")) is expected


@pytest.mark.parametrize(
    ("days", "phases"),
    [
        ((7, 30, 90, 90), {"hot": "0ms", "warm": "7d", "cold": "30d", "delete": "90d"}),
        ((7, 30, 60, 90), {"hot": "0ms", "warm": "7d", "cold": "30d", "delete": "90d"}),
        ((7, 7, 90, 90), {"hot": "0ms", "cold": "7d", "delete": "90d"}),
        ((7, 90, 90, 90), {"hot": "0ms", "warm": "7d", "delete": "90d"}),
        ((90, 90, 90, 90), {"hot": "0ms", "delete": "90d"}),
    ],
)
def test_a_phase_that_lasts_no_day_is_left_out(days: tuple[int, ...], phases: dict[str, str]) -> None:
    names = ("hot_days", "warm_days", "cold_days", "delete_days")
    body: Any = policy_body(Lifecycle(**dict(zip(names, days, strict=True))), {})  # type: ignore[arg-type]
    assert {name: phase["min_age"] for name, phase in body["phases"].items()} == phases


@pytest.mark.parametrize(
    ("policy", "days"),
    [
        ({"phases": {"delete": {"min_age": "90d", "actions": {}}}}, 90),
        ({"phases": {"delete": {"min_age": "48h"}}}, 2),
        ({"phases": {"delete": {}}}, 0),
        ({"phases": {"hot": {}}}, None),
        ({"phases": {"delete": {"min_age": "a while"}}}, None),
    ],
)
def test_the_age_at_which_a_policy_deletes_is_read(policy: Any, days: int | None) -> None:
    found = deletes_after(policy)
    assert (found.days if found else found) == days or (days == 0 and found is not None and not found)


# By the operator


async def test_the_operator_deletes_an_index_when_its_days_are_over(sessions: Series) -> None:
    sessions.now = datetime.now(UTC)  # a real server says when it made an index
    month = Month.at(sessions.now)
    await sessions.occupy(str(month), documents=2)
    status = await sessions.declare(settings=SETTINGS, lifecycle=BY_OPERATOR)
    assert status["elasticsearch"]["managedBy"] == "Operator"
    assert status["elasticsearch"]["oldest"] == str(month)
    over = month.end + timedelta(days=90)
    await sessions.look(over - timedelta(hours=1))
    assert str(month) in await sessions.indices()
    status = await sessions.look(over)
    assert str(month) not in await sessions.indices()
    assert str(month.next) in await sessions.indices()
    assert status["elasticsearch"]["oldest"] == str(month.next)
    assert not sessions.drift()


async def test_without_ilm_the_operator_answers_for_it_and_says_so(sessions: Series) -> None:
    status = await sessions.declare(settings=SETTINGS, lifecycle=DAYS)
    assert sessions.is_ready(), sessions.shown()
    assert status["elasticsearch"]["managedBy"] == "Operator"
    assert "policy" not in status["elasticsearch"]
    assert "no index lifecycle management" in status["message"]


async def test_what_would_go_at_once_is_counted_and_refused(sessions: Series) -> None:
    await sessions.occupy("2026.06", documents=2)
    await sessions.occupy("2026.07", documents=3)
    await sessions.declare(settings=SETTINGS, lifecycle=BY_OPERATOR)
    stalled = sessions.condition("Stalled")
    assert stalled["reason"] == "DataLossRefused"
    assert "2 indices with 5 documents" in stalled["message"]
    pattern = f"{sessions.stem}-{{YYYY.MM}}"
    assert f"allowDataLoss: {pattern}" in stalled["message"]
    assert sorted(await sessions.indices()) == ["2026.06", "2026.07"]
    await sessions.declare({"allowDataLoss": pattern}, settings=SETTINGS, lifecycle=BY_OPERATOR)
    assert sessions.is_ready(), sessions.shown()
    assert sorted(await sessions.indices()) == ["2026.11", "2026.12"]


async def test_a_shorter_life_is_refused_until_the_stem_is_named(sessions: Series) -> None:
    await sessions.occupy("2026.09", documents=1)
    await sessions.declare(settings=SETTINGS, lifecycle=BY_OPERATOR)
    assert sessions.is_ready()
    shorter = {"hotDays": 1, "warmDays": 2, "coldDays": 3, "deleteDays": 30, "managedBy": "Operator"}
    await sessions.declare({"allowDataLoss": "another-series"}, settings=SETTINGS, lifecycle=shorter)
    assert sessions.condition("Ready")["reason"] == "DataLossRefused"
    assert "2026.09" in await sessions.indices()
    await sessions.declare({"allowDataLoss": f"x, {sessions.stem}"}, settings=SETTINGS, lifecycle=shorter)
    assert "2026.09" not in await sessions.indices()


async def test_a_backup_that_cannot_be_made_holds_the_deletion_back(sessions: Series) -> None:
    await sessions.occupy("2026.06", documents=2)
    consent = {"allowDataLoss": sessions.stem, "backupBefore": True}
    await sessions.declare(consent, settings=SETTINGS, lifecycle=BY_OPERATOR)
    assert sessions.condition("Ready")["reason"] == "BackupUnavailable"
    assert "2026.06" in await sessions.indices()


async def test_an_old_index_that_turns_up_later_is_left_alone(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS, lifecycle=BY_OPERATOR)
    await sessions.occupy("2025.01", documents=4)
    status = await sessions.look()
    assert "2025.01" in await sessions.indices()
    assert "is left alone" in status["message"]
    assert sessions.is_ready()


async def test_an_old_index_that_a_restore_brought_back_is_left_alone(sessions: Series) -> None:
    await sessions.declare(settings=SETTINGS, lifecycle=BY_OPERATOR)
    marked = {"_meta": {"lucid-storage": UID}}
    await sessions.port.create_index(sessions.month("2025.01"), marked, {}, {sessions.stem: AliasState()})
    status = await sessions.look()
    assert "2025.01" in await sessions.indices()
    assert "is left alone" in status["message"]
    assert status["elasticsearch"]["oldest"] == "2026.11"
    await sessions.declare(settings={**SETTINGS, "refresh_interval": "5s"}, lifecycle=BY_OPERATOR)
    assert sessions.condition("Stalled")["reason"] == "DataLossRefused", "a new generation counts it"
    consent = {"allowDataLoss": sessions.stem}
    await sessions.declare(consent, settings={**SETTINGS, "refresh_interval": "5s"}, lifecycle=BY_OPERATOR)
    assert "2025.01" not in await sessions.indices()


async def test_where_drops_are_forbidden_the_operator_deletes_nothing_and_says_so(sessions: Series) -> None:
    sessions.now = datetime.now(UTC)  # a real server says when it made an index
    month = Month.at(sessions.now)
    await sessions.declare(settings=SETTINGS, lifecycle=BY_OPERATOR)
    sessions.cycle._services.forbid_drops = True
    status = await sessions.look(month.end + timedelta(days=90))
    assert sessions.is_ready(), sessions.shown()
    assert str(month) in await sessions.indices()
    assert "FORBID_DROPS" in status["message"]
    sessions.cycle._services.forbid_drops = False
    await sessions.look()
    assert str(month) not in await sessions.indices()


OVERDUE = ElasticIndexState(
    "lucid-sessions-2026.07",
    "uuid",
    {"_meta": {"lucid-storage": UID}},
    {},
    {"lucid-sessions": AliasState()},
    "green",
    1,
    227,
    created=datetime(2026, 7, 1, tzinfo=UTC),
)
OVER = datetime(2026, 10, 30, tzinfo=UTC)
"""90 days after July."""


@pytest.mark.parametrize(
    ("change", "oldest", "by_policy", "alone"),
    [
        ({}, "2026.07", False, False),
        ({}, None, False, False),
        ({"created": OVER - timedelta(seconds=1)}, "2026.07", False, False),
        ({"created": OVER}, "2026.07", False, True),
        ({}, "2026.08", False, True),
        ({"aliases": {}, "mappings": {}}, "2026.07", False, True),
        ({"settings": {"index.lifecycle.name": "lucid-sessions"}}, "2026.08", True, False),
        ({}, "2026.08", True, True),
    ],
)
def test_what_cannot_be_the_index_that_was_agreed_to_is_left_alone(
    change: dict[str, Any], oldest: str | None, by_policy: bool, alone: bool
) -> None:
    spec: dict[str, Any] = {"engine": "elasticsearch"}
    block = {"pattern": "lucid-sessions-{YYYY.MM}", "lifecycle": BY_OPERATOR}
    declared = IndexSpec.model_validate({**spec, "elasticsearch": block})
    assert declared.elasticsearch is not None
    desired = resolve(declared, declared.elasticsearch, UID)
    index = replace(OVERDUE, **change)
    assert left_alone(desired, [index], oldest, by_policy=by_policy) == ((index,) if alone else ())


# By the server


async def test_ilm_gets_a_policy_and_each_index_its_origin(with_ilm: Series) -> None:
    await with_ilm.occupy("2026.10", documents=1)
    status = await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    assert with_ilm.is_ready(), with_ilm.shown()
    assert status["elasticsearch"]["policy"] == "lucid-sessions"
    assert status["elasticsearch"]["managedBy"] == "Server"
    policy: Any = await with_ilm.port.policy("lucid-sessions")
    assert policy.policy["_meta"] == {"managed-by": "lucid-storage", "uid": UID}
    assert policy.policy["phases"]["delete"] == {"min_age": "90d", "actions": {"delete": {}}}
    indices = await with_ilm.indices()
    assert {
        month: index.settings["index.lifecycle.origination_date"] for month, index in indices.items()
    } == {
        "2026.10": "1793491200000",
        "2026.11": END_OF_NOVEMBER,
        "2026.12": "1798761600000",
    }
    assert {index.settings["index.lifecycle.name"] for index in indices.values()} == {"lucid-sessions"}
    assert (await with_ilm.template()).settings["index.lifecycle.name"] == "lucid-sessions"
    writes = len(with_ilm.port.writes)  # type: ignore[attr-defined]
    await with_ilm.look()
    assert len(with_ilm.port.writes) == writes  # type: ignore[attr-defined]


async def test_ilm_is_given_no_index_that_it_would_delete_at_once(with_ilm: Series) -> None:
    await with_ilm.occupy("2026.06", documents=2)
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    assert with_ilm.condition("Ready")["reason"] == "DataLossRefused"
    assert await with_ilm.port.policy("lucid-sessions") is None
    assert "index.lifecycle.name" not in (await with_ilm.indices())["2026.06"].settings
    await with_ilm.declare({"allowDataLoss": "lucid-sessions"}, settings=SETTINGS, lifecycle=DAYS)
    assert with_ilm.is_ready(), with_ilm.shown()
    assert "index.lifecycle.name" in (await with_ilm.indices())["2026.06"].settings, "the server deletes it"


async def test_an_index_that_the_policy_deletes_anyway_is_no_new_loss(with_ilm: Series) -> None:
    await with_ilm.occupy("2026.08", documents=2)
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    await with_ilm.look(datetime(2026, 11, 30, 1, tzinfo=UTC))
    await with_ilm.declare(settings={**SETTINGS, "refresh_interval": "5s"}, lifecycle=DAYS)
    assert with_ilm.is_ready(), with_ilm.shown()


async def test_a_shorter_policy_is_refused_until_the_loss_is_agreed_to(with_ilm: Series) -> None:
    await with_ilm.occupy("2026.09", documents=4)
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    before = await with_ilm.port.policy("lucid-sessions")
    shorter = {"hotDays": 1, "warmDays": 2, "coldDays": 3, "deleteDays": 30}
    await with_ilm.declare(settings=SETTINGS, lifecycle=shorter)
    assert with_ilm.condition("Stalled")["reason"] == "DataLossRefused"
    assert "1 index with 4 documents" in with_ilm.condition("Stalled")["message"]
    assert await with_ilm.port.policy("lucid-sessions") == before
    await with_ilm.declare({"allowDataLoss": "lucid-sessions"}, settings=SETTINGS, lifecycle=shorter)
    assert with_ilm.is_ready(), with_ilm.shown()
    policy: Any = await with_ilm.port.policy("lucid-sessions")
    assert policy.policy["phases"]["delete"]["min_age"] == "30d"


LATER = datetime(2026, 12, 5, tzinfo=UTC)
"""The days of August are over, and the server has not deleted its index yet."""


@pytest.mark.parametrize("how", ["a longer policy", "no policy", "detached", "another origin"])
async def test_putting_a_lifecycle_back_is_counted_where_it_would_delete_at_once(
    with_ilm: Series, how: str
) -> None:
    await with_ilm.occupy("2026.08", documents=4)
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    await with_ilm.look(LATER)
    assert with_ilm.is_ready(), with_ilm.shown()
    old = with_ilm.month("2026.08")
    if how == "a longer policy":
        longer: Any = policy_body(Lifecycle(delete_days=365), {})
        await with_ilm.port.put_policy(LifecyclePolicyState("lucid-sessions", longer))
    elif how == "no policy":
        await with_ilm.port.delete_policy("lucid-sessions")
    elif how == "detached":
        await with_ilm.port.put_settings(old, {"index.lifecycle.name": None})
    else:
        await with_ilm.port.put_settings(old, {"index.lifecycle.origination_date": END_OF_NOVEMBER})
    before = (await with_ilm.port.policy("lucid-sessions"), (await with_ilm.indices())["2026.08"].settings)
    await with_ilm.look(datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC))
    assert with_ilm.condition("Stalled")["reason"] == "DataLossRefused", with_ilm.shown()
    assert "1 index with 4 documents" in with_ilm.condition("Stalled")["message"]
    assert with_ilm.drift()
    after = (await with_ilm.port.policy("lucid-sessions"), (await with_ilm.indices())["2026.08"].settings)
    assert after == before
    assert await with_ilm.writes_to() == ["2027.01"], "the months turn all the same"
    await with_ilm.declare({"allowDataLoss": "lucid-sessions"}, settings=SETTINGS, lifecycle=DAYS)
    assert with_ilm.is_ready(), with_ilm.shown()
    assert (await with_ilm.indices())["2026.08"].settings["index.lifecycle.name"] == "lucid-sessions"


@pytest.mark.parametrize("lifecycle", [None, BY_OPERATOR])
async def test_ilm_is_left_cleanly_and_entered_again(with_ilm: Series, lifecycle: Any) -> None:
    await with_ilm.occupy("2026.10")
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    block = {"lifecycle": lifecycle} if lifecycle else {}
    status = await with_ilm.declare(settings=SETTINGS, **block)
    assert with_ilm.is_ready(), with_ilm.shown()
    assert await with_ilm.port.policy("lucid-sessions") is None
    for index in (await with_ilm.indices()).values():
        assert not [name for name in index.settings if name.startswith("index.lifecycle.")]
    assert "index.lifecycle.name" not in (await with_ilm.template()).settings
    assert "policy" not in status["elasticsearch"]
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    assert await with_ilm.port.policy("lucid-sessions") is not None


async def test_a_changed_policy_and_a_detached_index_are_put_back(with_ilm: Series) -> None:
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    shorter: Any = policy_body(Lifecycle(delete_days=90, hot_days=3, managed_by=ManagedBy.SERVER), {})
    await with_ilm.port.put_policy(LifecyclePolicyState("lucid-sessions", shorter))
    await with_ilm.port.put_settings(with_ilm.month("2026.11"), {"index.lifecycle.name": None})
    await with_ilm.look()
    assert "DriftCorrected" in with_ilm.reasons()
    policy: Any = await with_ilm.port.policy("lucid-sessions")
    assert policy.policy["phases"]["warm"]["min_age"] == "7d"
    assert "index.lifecycle.name" in (await with_ilm.indices())["2026.11"].settings


async def test_a_policy_of_that_name_that_differs_is_a_conflict(with_ilm: Series) -> None:
    await with_ilm.port.put_policy(
        LifecyclePolicyState("lucid-sessions", {"phases": {"hot": {"actions": {}}}})
    )
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    assert with_ilm.condition("Stalled")["reason"] == "IndexConflict"
    assert "lifecycle policy lucid-sessions" in with_ilm.condition("Stalled")["message"]
    assert await with_ilm.indices() == {}


@pytest.mark.parametrize(
    ("named", "ready"), [("another-policy", False), ("lucid-sessions", True), (None, True)]
)
async def test_a_template_that_names_another_policy_is_a_conflict(
    with_ilm: Series, named: str | None, ready: bool
) -> None:
    settings = {"index.lifecycle.name": named} if named else {}
    await with_ilm.port.put_template(
        TemplateState("lucid-sessions", ("lucid-sessions-*",), 150, {}, settings, {})
    )
    await with_ilm.declare(lifecycle=DAYS)
    assert with_ilm.is_ready() is ready, with_ilm.shown()
    assert ready or "settings.index.lifecycle.name" in with_ilm.condition("Stalled")["message"]


async def test_an_equal_policy_is_adopted_and_outlives_the_resource(with_ilm: Series) -> None:
    equal = LifecyclePolicyState("lucid-sessions", policy_body(Lifecycle(), {}))
    await with_ilm.port.put_policy(equal)
    await with_ilm.occupy("2026.10", documents=1)
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS, spec={"deletionPolicy": "Delete"})
    assert with_ilm.is_ready(), with_ilm.shown()
    await with_ilm.delete()
    assert await with_ilm.port.policy("lucid-sessions") == equal
    left = await with_ilm.indices()
    assert list(left) == ["2026.10"]
    assert left["2026.10"].settings["index.lifecycle.name"] == "lucid-sessions"


async def test_delete_drops_the_policy_and_frees_the_indices_that_stay(with_ilm: Series) -> None:
    await with_ilm.occupy("2026.10", documents=1)
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS, spec={"deletionPolicy": "Delete"})
    await with_ilm.delete()
    assert await with_ilm.port.policy("lucid-sessions") is None
    indices = await with_ilm.indices()
    assert list(indices) == ["2026.10"]
    assert "index.lifecycle.name" not in indices["2026.10"].settings


async def test_the_lifecycle_setting_cannot_be_declared_twice(with_ilm: Series) -> None:
    await with_ilm.declare(settings={"lifecycle": {"name": "mine"}}, lifecycle=DAYS)
    assert with_ilm.condition("Stalled")["reason"] == "InvalidSpec"


async def test_a_red_index_is_not_ready_and_looked_at_soon(with_ilm: Series) -> None:
    await with_ilm.declare(settings=SETTINGS, lifecycle=DAYS)
    with_ilm.port.stored_indices[with_ilm.month("2026.11")].health = "red"  # type: ignore[attr-defined]
    outcome = await with_ilm.run(NOVEMBER)
    assert outcome.again_seconds == 15
    assert not with_ilm.is_ready()
    assert "is red" in with_ilm.condition("Ready")["message"]
