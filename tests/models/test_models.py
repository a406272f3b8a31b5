"""Specs and statuses as Python sees them."""

from datetime import UTC, datetime
from typing import Any

import pytest
from pydantic import ValidationError
from schema_examples import example
from spec_builders import key, mongo_index, samples

from lucid_storage.models.base import Condition, ConditionStatus
from lucid_storage.models.collection import CollectionSpec, CollectionStatus
from lucid_storage.models.index import IndexSpec
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.schema import structural_schema


def _name(sample: dict[str, Any]) -> str:
    return f"{sample['kind']}-{sample['metadata']['name']}"


@pytest.mark.parametrize("sample", samples(), ids=_name)
def test_a_sample_survives_reading_and_writing(sample: dict[str, Any]) -> None:
    spec = KINDS[sample["kind"]].spec.model_validate(sample["spec"])
    written = spec.model_dump(mode="json", by_alias=True, exclude_unset=True)
    assert written == sample["spec"]


@pytest.mark.parametrize("info", KINDS.values(), ids=lambda info: info.kind)
def test_each_kind_has_a_minimal_and_a_full_sample_with_every_field(info: KindInfo) -> None:
    mine = [sample["spec"] for sample in samples() if sample["kind"] == info.kind]
    assert set().union(*mine) == set(structural_schema(info.spec)["properties"])


@pytest.mark.parametrize("info", KINDS.values(), ids=lambda info: info.kind)
def test_a_status_survives_reading_and_writing(info: KindInfo) -> None:
    status = example(structural_schema(info.status))
    assert info.status.model_validate(status).to_dict() == status


def test_a_status_of_a_newer_operator_can_be_read() -> None:
    status = CollectionStatus.model_validate({"target": "a.b", "newThing": 1})
    assert status.to_dict() == {"target": "a.b"}


def test_absent_and_empty_validator_differ() -> None:
    assert CollectionSpec.model_validate({}).validator is None
    assert CollectionSpec.model_validate({"validator": {}}).validator == {}


def test_key_order_keeps_its_type_and_its_sequence() -> None:
    spec = IndexSpec.model_validate(mongo_index(key("b", -1), key("a", "text"), key("c", 1)))
    assert spec.mongodb is not None
    assert [(k.field, k.order) for k in spec.mongodb.keys] == [("b", -1), ("a", "text"), ("c", 1)]


def test_a_spec_cannot_be_changed_or_hold_what_is_not_known() -> None:
    spec = CollectionSpec.model_validate({"name": "a"})
    with pytest.raises(ValidationError, match="frozen"):
        spec.name = "b"  # type: ignore[misc]
    with pytest.raises(ValidationError, match="Extra inputs"):
        CollectionSpec.model_validate({"nome": "a"})


def test_times_are_written_as_kubernetes_writes_them() -> None:
    condition = Condition(
        type="Ready",
        status=ConditionStatus.TRUE,
        reason="Reconciled",
        last_transition_time=datetime(2026, 11, 21, 2, 0, tzinfo=UTC),
    )
    assert condition.to_dict()["lastTransitionTime"] == "2026-11-21T02:00:00Z"
