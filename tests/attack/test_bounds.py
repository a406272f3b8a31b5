"""Whatever is declared, and whatever a server says: status stays within what the CRD has room for."""

from datetime import UTC, datetime

import pytest

from lucid_storage.errors import Reason
from lucid_storage.kinds import conditions, drift
from lucid_storage.kinds.contract import Verdict
from lucid_storage.kinds.identity import kept, same_server, surely_another
from lucid_storage.kinds.index_mongodb.checks import duplicates_said
from lucid_storage.models.base import Condition, DriftEntry
from lucid_storage.models.index import DuplicateSummary
from lucid_storage.stores.mongodb.duplicates import key_pattern
from lucid_storage.stores.mongodb.types import DuplicateReport, IndexDefinition

NOW = datetime(2026, 11, 21, tzinfo=UTC)


def test_duplicates_of_thirty_two_long_fields_can_be_told() -> None:
    definition = IndexDefinition(tuple((f"{'f' * 245}{n}", 1) for n in range(32)), unique=True)
    report = DuplicateReport(key_pattern(definition), groups=3, documents=7, complete=True)
    summary, said = duplicates_said(report)
    assert DuplicateSummary.model_validate(summary.to_dict()) == summary
    assert "3 keys" in said
    assert "Remove" in conditions.bounded(said)


def test_a_condition_and_a_drift_entry_take_texts_of_any_length() -> None:
    verdict = Verdict(Reason.INDEX_CONFLICT, "x" * 9_000, stalled=True)
    for condition in conditions.build([], generation=1, now=NOW, verdict=verdict, message=""):
        Condition.model_validate(condition.to_dict())
    entry = drift.entry(f"mappings.properties.{'n' * 900}.type", "a" * 900, {"b": "b" * 900}, NOW)
    DriftEntry.model_validate(entry.to_dict())


def test_an_identity_by_many_hosts_fits_and_is_still_recognised() -> None:
    hosts = ",".join(f"mongodb-{n}.mongodb-headless.data.svc.cluster.local:27017" for n in range(7))
    identity = f"replicaSet/rs0/{hosts}"
    assert len(kept(identity)) <= 256
    assert same_server(kept(identity), identity)
    assert not same_server(kept(identity), "replicaSet/rs0/elsewhere:27017")
    assert kept("656f1c2a9d") == "656f1c2a9d"


@pytest.mark.parametrize(
    ("mine", "theirs", "another"),
    [
        ("656f1c2a9d", "70aa12bb34", True),
        ("656f1c2a9d", "656f1c2a9d", False),
        ("656f1c2a9d", "replicaSet/rs0/a:27017", False),
        ("replicaSet/rs0/a:27017", "replicaSet/rs0/b:27017", False),
        (None, "70aa12bb34", False),
        ("656f1c2a9d", None, False),
    ],
)
def test_only_ids_of_servers_prove_that_two_servers_are_two(
    mine: str | None, theirs: str | None, another: bool
) -> None:
    assert surely_another(mine, theirs) is another
