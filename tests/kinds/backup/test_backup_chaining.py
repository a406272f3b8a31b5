"""Rule 1.1: the destination of a chain is fixed by its first full, for backups by hand."""

from dataclasses import replace
from typing import Any

import pytest
from backup_builder import completed, desired, resource, served, settings

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.backup.chaining import check_destination
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.models.meta import SCHEDULE

GIVEN = settings(SERVED_NAMESPACES=served())
ELSEWHERE: dict[str, Any] = {"storage": {"s3": {"bucket": "other-vault", "secretName": "keys"}}}


def earlier(status: BackupStatus | None = None, namespace: str = "app", **spec: Any) -> Resource:
    made = resource(status=status or completed(chain="manual"), namespace=namespace, **spec)
    return replace(made, key=Key("backups", namespace, "earlier"), uid="earlier")


def test_another_place_is_refused_with_the_way_out() -> None:
    with pytest.raises(LucidError) as error:
        check_destination(desired(**ELSEWHERE), [earlier()], GIVEN)
    assert error.value.reason is Reason.CHAIN_MISMATCH
    assert "spec.chain" in error.value.message
    assert "Backup earlier" in error.value.message


@pytest.mark.parametrize(
    ("spec", "other"),
    [
        ({}, earlier()),
        ({**ELSEWHERE, "chain": "own"}, earlier()),
        ({**ELSEWHERE, "engines": ["redis"]}, earlier()),
        (ELSEWHERE, earlier(completed(chain="nightly"))),
        (ELSEWHERE, earlier(completed(phase=BackupPhase.EXPIRED, chain="manual"))),
        (ELSEWHERE, earlier(namespace="another")),
        (ELSEWHERE, earlier(**ELSEWHERE)),
    ],
    ids=["same place", "own chain", "redis", "other chain", "nothing there", "other namespace", "both there"],
)
def test_everything_else_fits(spec: dict[str, Any], other: Resource) -> None:
    check_destination(desired(**spec), [other], GIVEN)


def test_a_schedule_begins_anew_in_the_new_place() -> None:
    made = resource(annotations={SCHEDULE: "manual"}, **ELSEWHERE)
    check_destination(desired(made), [earlier()], GIVEN)
