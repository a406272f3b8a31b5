"""What is done about a collection: plans as values."""

from dataclasses import replace
from typing import Any

import pytest
from collection_builder import NOW, UUID, absent, desired, observed, scope, server, state, stats, status

from lucid_storage.errors import Reason
from lucid_storage.kinds.collection.actions import (
    ChangeCollection,
    CountExpired,
    CountViolations,
    CreateCollection,
    MeasureCollection,
)
from lucid_storage.kinds.collection.observed import CollectionObserved
from lucid_storage.kinds.collection.plan import plan
from lucid_storage.kinds.protection import Need
from lucid_storage.models.backup import BackupEngine
from lucid_storage.models.base import Origin
from lucid_storage.models.collection import CollectionStatus
from lucid_storage.stores.mongodb.types import (
    Capped,
    CollectionChange,
    CollectionOptions,
    ServerInfo,
    Violations,
)

VALIDATOR = {"$jsonSchema": {"required": ["email"]}}


def test_an_absent_collection_is_created_with_what_is_declared() -> None:
    made = plan(desired(validator=VALIDATOR), absent(), CollectionStatus(), scope())
    assert made.actions == (CreateCollection("app.users", CollectionOptions(validator=VALIDATOR)),)
    assert not made.drift


def test_a_collection_that_was_dropped_behind_our_back_is_made_again_as_a_new_one() -> None:
    made = plan(desired(), absent(), status(), scope(settled=True))
    assert made.actions == (CreateCollection("app.users", CollectionOptions()),)
    assert [d.field for d in made.drift] == ["collection"]
    assert made.status.uuid is None
    assert made.status.origin is None, "the proof of ownership was the former collection's"


@pytest.mark.parametrize("policy", ["Report", "Ignore"])
def test_a_dropped_collection_is_not_made_again_unless_drift_is_corrected(policy: str) -> None:
    made = plan(desired(driftPolicy=policy), absent(), status(), scope(settled=True))
    assert not made.actions
    assert [d.field for d in made.drift] == (["collection"] if policy == "Report" else [])


def test_what_was_there_before_is_adopted() -> None:
    made = plan(desired(), observed(), CollectionStatus(stats_time=NOW), scope())
    assert not made.actions
    assert made.status.origin is Origin.ADOPTED
    assert made.status.uuid == UUID


def test_a_collection_that_another_one_replaced_is_no_longer_ours() -> None:
    made = plan(desired(), observed(), status(uuid="b" * 32), scope(settled=True))
    assert made.status.origin is Origin.ADOPTED


def test_what_was_created_here_stays_ours_when_its_uuid_becomes_known() -> None:
    made = plan(desired(), observed(), status(uuid=None), scope())
    assert made.status.origin is Origin.CREATED


def test_an_option_that_is_not_declared_is_left_alone() -> None:
    have = CollectionOptions(validator=VALIDATOR, validation_action="warn", capped=Capped(4096))
    assert not plan(desired(), observed(have), status(), scope(settled=True)).actions


def test_all_changes_in_place_go_in_one_step() -> None:
    asked = desired(validationAction="warn", validationLevel="moderate", preAndPostImages={"enabled": True})
    made = plan(asked, observed(), status(), scope())
    change = CollectionChange(validation_action="warn", validation_level="moderate", pre_and_post_images=True)
    assert [a.change for a in made.actions if isinstance(a, ChangeCollection)] == [change]


@pytest.mark.parametrize(
    ("field", "have", "change"),
    [
        ("validator", CollectionOptions(validator=VALIDATOR), CollectionChange(validator={})),
        (
            "validationLevel",
            CollectionOptions(validation_level="off"),
            CollectionChange(validation_level="strict"),
        ),
        (
            "validationAction",
            CollectionOptions(validation_action="warn"),
            CollectionChange(validation_action="error"),
        ),
        (
            "preAndPostImages",
            CollectionOptions(pre_and_post_images=True),
            CollectionChange(pre_and_post_images=False),
        ),
    ],
)
def test_a_field_no_longer_declared_returns_to_the_servers_default(
    field: str, have: CollectionOptions, change: CollectionChange
) -> None:
    made = plan(desired(), observed(have), status(managed_fields=[field]), scope())
    assert [a.change for a in made.actions if isinstance(a, ChangeCollection)] == [change]


def test_a_cap_no_longer_declared_cannot_be_undone_in_place() -> None:
    have = CollectionOptions(capped=Capped(4096))
    made = plan(desired(), observed(have), status(managed_fields=["capped"]), scope())
    assert made.verdict is not None
    assert made.verdict.reason is Reason.NOT_IN_PLACE
    assert not made.actions


EXPIRING: dict[str, dict[str, Any]] = {
    "timeSeries": {"timeField": "at"},
    "clusteredIndex": {"name": "_id_"},
}


def expiring(block: str, seconds: int | None) -> CollectionOptions:
    kept = {} if seconds is None else {"expireAfterSeconds": seconds}
    have = {**EXPIRING[block], **kept}
    if block == "timeSeries":
        return CollectionOptions(time_series=have)
    return CollectionOptions(clustered_index={"unique": True, **have})


@pytest.mark.parametrize("block", ["timeSeries", "clusteredIndex"])
def test_an_expiry_no_longer_declared_is_switched_off(block: str) -> None:
    with_expiry = desired(**{block: {**EXPIRING[block], "expireAfterSeconds": 900}})
    have = expiring(block, 900)
    settled = plan(with_expiry, observed(have), status(), scope()).status
    assert f"{block}.expireAfterSeconds" in (settled.managed_fields or [])
    without = desired(**{block: EXPIRING[block]})
    made = plan(without, observed(have), settled, scope())
    assert [a.change for a in made.actions if isinstance(a, ChangeCollection)] == [
        CollectionChange(expire_after_seconds=-1)
    ]
    done = plan(without, observed(expiring(block, None)), settled, scope())
    assert not done.actions
    assert done.verdict is None
    assert done.status.managed_fields == [block], "from now on an expiry is somebody else's"


@pytest.mark.parametrize("block", ["timeSeries", "clusteredIndex"])
def test_an_expiry_that_was_never_declared_is_left_alone(block: str) -> None:
    made = plan(
        desired(**{block: EXPIRING[block]}),
        observed(expiring(block, 900)),
        status(managed_fields=[block]),
        scope(),
    )
    assert not made.actions
    assert made.verdict is None


def test_a_time_series_no_longer_declared_says_that_documents_go_on_expiring() -> None:
    known = status(managed_fields=["timeSeries", "timeSeries.expireAfterSeconds"])
    made = plan(desired(), observed(expiring("timeSeries", 900)), known, scope())
    assert made.verdict is not None
    assert made.verdict.reason is Reason.NOT_IN_PLACE
    assert "go on expiring" in made.verdict.message


def test_a_limit_on_documents_that_is_not_declared_is_left_alone() -> None:
    have = observed(CollectionOptions(capped=Capped(8192, 100)))
    same = {"sizeBytes": 8192}
    assert not plan(desired(capped=same), have, status(managed_fields=["capped"]), scope()).actions
    larger = plan(desired(capped={"sizeBytes": 16384}), have, status(managed_fields=["capped"]), scope())
    assert [a.change for a in larger.actions if isinstance(a, ChangeCollection)] == [
        CollectionChange(capped_size_bytes=16384)
    ]


def test_a_limit_on_documents_goes_when_it_is_declared_as_none_or_no_longer_declared() -> None:
    have = observed(CollectionOptions(capped=Capped(8192, 100)))
    settled = plan(desired(capped={"sizeBytes": 8192, "maxDocuments": 100}), have, status(), scope()).status
    assert settled.managed_fields == ["capped", "capped.maxDocuments"]
    for asked in ({"sizeBytes": 8192}, {"sizeBytes": 8192, "maxDocuments": 0}):
        made = plan(desired(capped=asked), have, settled, scope())
        assert not made.questions
        assert [a.change for a in made.actions if isinstance(a, ChangeCollection)] == [
            CollectionChange(capped_max_documents=0)
        ]
    none = observed(CollectionOptions(capped=Capped(8192)))
    assert not plan(desired(capped={"sizeBytes": 8192, "maxDocuments": 0}), none, status(), scope()).actions


def test_documents_are_counted_before_a_validator_changes() -> None:
    asked = desired(validator=VALIDATOR)
    made = plan(asked, observed(), status(), scope())
    assert [type(q) for q in made.questions] == [CountViolations]
    assert not made.actions
    counted = observed(answers={made.questions[0]: Violations(10, 3, complete=False)})
    then = plan(asked, counted, status(), scope())
    assert isinstance(then.actions[0], ChangeCollection)
    assert then.status.violations is not None
    assert then.status.violations.violating == 3


def test_a_validator_is_counted_once_and_not_again_for_drift() -> None:
    asked = desired(validator=VALIDATOR)
    question = plan(asked, observed(), status(), scope()).questions[0]
    answered = observed(answers={question: Violations(10, 3, complete=True)})
    counted = plan(asked, answered, status(), scope()).status
    again = plan(asked, observed(), counted, scope(settled=True))
    assert not again.questions
    assert [d.field for d in again.drift] == ["validator"]


def test_a_validator_that_refuses_nothing_needs_no_count() -> None:
    have = CollectionOptions(validator=VALIDATOR)
    assert not plan(desired(validator={}), observed(have), status(), scope()).questions


CAPPED = CollectionOptions(capped=Capped(8192, 100))


@pytest.mark.parametrize(
    ("cap", "documents", "size", "loss"),
    [
        ({"sizeBytes": 4096, "maxDocuments": 100}, 5, 5000, "cut off the oldest 904 of 5000 bytes"),
        ({"sizeBytes": 8192, "maxDocuments": 10}, 15, 100, "cut off the oldest 5 of 15 documents"),
    ],
)
def test_a_smaller_cap_that_would_lose_documents_needs_consent(
    cap: dict[str, int], documents: int, size: int, loss: str
) -> None:
    measured = observed(CAPPED, answers={MeasureCollection(): stats(documents, size)})
    made = plan(desired(capped=cap), measured, status(), scope())
    assert made.verdict is not None
    assert made.verdict.reason is Reason.DATA_LOSS_REFUSED
    assert loss in made.verdict.message
    assert not made.actions
    consent = {"capped": cap, "allowDataLoss": "other.one, app.users"}
    agreed = plan(desired(**consent), measured, status(), scope())
    assert isinstance(agreed.actions[0], ChangeCollection)
    assert agreed.protect is None
    protected = plan(desired(**consent, backupBefore=True), measured, status(), scope())
    assert protected.protect == Need(BackupEngine.MONGODB, collections=("app.users",))


def test_a_smaller_cap_over_few_documents_loses_nothing_and_is_made() -> None:
    measured = observed(CAPPED, answers={MeasureCollection(): stats(1, 10)})
    cap = {"sizeBytes": 4096, "maxDocuments": 50}
    made = plan(desired(capped=cap, backupBefore=True), measured, status(), scope())
    assert isinstance(made.actions[0], ChangeCollection)
    assert made.protect is None


def test_what_could_not_be_measured_counts_as_a_loss() -> None:
    unknown = observed(CAPPED, answers={MeasureCollection(): None})
    made = plan(desired(capped={"sizeBytes": 4096}), unknown, status(), scope())
    assert made.verdict is not None
    assert made.verdict.reason is Reason.DATA_LOSS_REFUSED


def test_a_larger_cap_asks_nothing() -> None:
    made = plan(
        desired(capped={"sizeBytes": 16384, "maxDocuments": 200}), observed(CAPPED), status(), scope()
    )
    assert not made.questions
    assert isinstance(made.actions[0], ChangeCollection)


def test_the_size_that_the_server_rounds_up_is_no_difference() -> None:
    have = CollectionOptions(capped=Capped(5120))
    assert not plan(desired(capped={"sizeBytes": 5000}), observed(have), status(), scope()).actions


@pytest.mark.parametrize("info", [server(5), replace(server(6), compatibility=(5, 0))])
def test_resizing_before_6_0_is_refused_with_the_reason(info: ServerInfo) -> None:
    old = CollectionObserved(info, state(CAPPED))
    made = plan(desired(capped={"sizeBytes": 16384, "maxDocuments": 100}), old, status(), scope())
    assert made.verdict is not None
    assert "6.0" in made.verdict.message


SERIES: dict[str, Any] = {"timeField": "at", "granularity": "seconds"}


def test_a_shorter_expiry_of_a_time_series_is_counted_first() -> None:
    have = CollectionOptions(time_series={**SERIES, "expireAfterSeconds": 900})
    asked = desired(timeSeries={"timeField": "at", "expireAfterSeconds": 60})
    made = plan(asked, observed(have), status(), scope())
    assert made.questions == (CountExpired("at", 60),)
    none = observed(have, answers={CountExpired("at", 60): 0})
    assert isinstance(plan(asked, none, status(), scope()).actions[0], ChangeCollection)
    some = observed(have, answers={CountExpired("at", 60): 7})
    refused = plan(asked, some, status(), scope()).verdict
    assert refused is not None
    assert "delete 7 documents at once" in refused.message


def test_a_longer_expiry_asks_nothing() -> None:
    have = CollectionOptions(time_series={**SERIES, "expireAfterSeconds": 60})
    asked = desired(timeSeries={"timeField": "at", "expireAfterSeconds": 900})
    assert isinstance(plan(asked, observed(have), status(), scope()).actions[0], ChangeCollection)


@pytest.mark.parametrize(
    ("spec", "have", "word"),
    [
        ({"capped": {"sizeBytes": 4096}}, CollectionOptions(), "convertToCapped"),
        ({"timeSeries": SERIES}, CollectionOptions(), "time series"),
        ({"timeSeries": {"timeField": "t"}}, CollectionOptions(time_series=SERIES), "timeField"),
        (
            {"timeSeries": {"timeField": "at", "granularity": "seconds"}},
            CollectionOptions(time_series={"timeField": "at", "granularity": "hours"}),
            "coarser",
        ),
        ({"clusteredIndex": {}}, CollectionOptions(), "clustered"),
        ({"collation": {"locale": "de"}}, CollectionOptions(collation={"locale": "en"}), "collation"),
    ],
)
def test_what_the_server_cannot_change_is_refused_with_the_way_to_do_it(
    spec: dict[str, Any], have: CollectionOptions, word: str
) -> None:
    made = plan(desired(**spec), observed(have), status(), scope())
    assert made.verdict is not None
    assert made.verdict.reason is Reason.NOT_IN_PLACE
    assert made.verdict.stalled
    assert word in made.verdict.message
    assert not made.actions


def test_a_view_under_the_name_is_refused() -> None:
    view = CollectionObserved(server(), state(kind="view"))
    made = plan(desired(), view, CollectionStatus(), scope())
    assert made.verdict is not None
    assert "view" in made.verdict.message


def test_drift_is_corrected_told_or_ignored_as_the_policy_says() -> None:
    have = CollectionOptions(validation_level="off")
    asked = {"validationLevel": "moderate"}
    correct = plan(desired(**asked), observed(have), status(), scope(settled=True))
    report = plan(desired(**asked, driftPolicy="Report"), observed(have), status(), scope(settled=True))
    ignore = plan(desired(**asked, driftPolicy="Ignore"), observed(have), status(), scope(settled=True))
    assert (len(correct.actions), len(report.actions), len(ignore.actions)) == (1, 0, 0)
    assert [d.field for d in correct.drift] == [d.field for d in report.drift] == ["validationLevel"]
    assert not ignore.drift
    assert (report.status.drift_summary, ignore.status.drift_summary) == ("validationLevel", "ignored")


def test_a_new_generation_is_applied_whatever_the_drift_policy_says() -> None:
    have = CollectionOptions(validation_level="off")
    for policy in ("Correct", "Report", "Ignore"):
        made = plan(
            desired(validationLevel="moderate", driftPolicy=policy), observed(have), status(), scope()
        )
        assert made.actions, policy
        assert not made.drift, policy


def test_figures_move_by_ten_percent_or_not_at_all() -> None:
    known = status(documents=100, size_bytes=1000, size="1000B")
    still = plan(desired(), observed(stats=stats(109, 1099)), known, scope(settled=True)).status
    moved = plan(desired(), observed(stats=stats(110, 1000)), known, scope(settled=True)).status
    assert still == plan(desired(), observed(), known, scope(settled=True)).status
    assert moved.documents == 110
