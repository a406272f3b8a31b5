"""Which database of a backup goes where, and what one restore cannot write at once."""

import pytest

from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.mongodb_restore_targets import check_told, choose_targets
from lucid_storage.models.orders import Destination, Owner, RestoreOrder


def order(**more: object) -> RestoreOrder:
    owner = Owner(cluster="c", namespace="n", name="r", uid="u", spec_hash="h")
    return RestoreOrder.model_validate(
        {
            "run": "r1",
            "owner": owner,
            "destination": Destination(),
            "chain": "manual",
            "deadline_seconds": 1,
            "backup_id": "b",
            **more,
        }
    )


@pytest.mark.parametrize("names", [[f"d{n}" for n in range(65)], [f"d{n:02}{'x' * 58}" for n in range(40)]])
def test_more_databases_than_a_status_can_name_are_refused_in_the_plan(names: list[str]) -> None:
    with pytest.raises(LucidError) as refused:
        check_told(choose_targets(order(), frozenset(names)))
    assert refused.value.reason is Reason.RESTORE_BLOCKED
    assert "sourceDatabase" in refused.value.message
    assert choose_targets(order(source_database=names[0]), frozenset(names)) == {names[0]: names[0]}


def test_as_many_as_fit_are_restored() -> None:
    names = frozenset(f"d{n}" for n in range(64))
    targets = choose_targets(order(), names)
    check_told(targets)
    assert targets == {name: name for name in names}
