"""What a real API server makes of the CRDs: cost of rules, refusals with sentences, defaults, columns, status."""

from typing import Any

import pytest
from refusals import ACCEPTED, REFUSALS
from schema_examples import example
from spec_builders import (
    backup,
    collection,
    elastic_index,
    key,
    mongo_index,
    restore,
    samples,
    sharded,
    volume,
)

from lucid_storage.kube.client import Json
from lucid_storage.models.kinds import KINDS, KindInfo
from lucid_storage.models.schema import structural_schema

pytestmark = [pytest.mark.apiserver, pytest.mark.asyncio(loop_scope="session")]

TABLE = "application/json;as=Table;v=v1;g=meta.k8s.io"


def _label(value: Any) -> str | None:
    return (
        f"{value['kind']}-{value['metadata']['name']}"
        if isinstance(value, dict) and "kind" in value
        else None
    )


@pytest.mark.parametrize("sample", samples(), ids=_label)
async def test_every_sample_is_accepted_as_it_is(namespace: Any, sample: Json) -> None:
    made = await namespace.create(sample["kind"], sample["spec"], name=sample["metadata"]["name"])
    KINDS[sample["kind"]].spec.model_validate(made["spec"])
    assert _contains(made["spec"], sample["spec"])


@pytest.mark.parametrize(("kind", "spec", "sentence"), REFUSALS)
async def test_bad_spec_is_refused_at_apply_with_a_sentence(
    namespace: Any, kind: str, spec: Json, sentence: str
) -> None:
    assert sentence in await namespace.refusal(kind, spec)


@pytest.mark.parametrize(("kind", "spec"), ACCEPTED)
async def test_what_the_stores_accept_is_accepted(namespace: Any, kind: str, spec: Json) -> None:
    made = await namespace.create(kind, spec, dry_run=True)
    KINDS[kind].spec.model_validate(made["spec"])


@pytest.mark.parametrize(
    ("name", "spec", "sentence"),
    [
        ("system.users", collection(), "belong to MongoDB itself"),
        ("n" * 240, collection(database="d" * 40), "database and metadata.name together are too long"),
    ],
)
async def test_the_resource_name_is_judged_where_it_names_the_collection(
    namespace: Any, name: str, spec: Json, sentence: str
) -> None:
    assert sentence in await namespace.refusal("Collection", spec, name=name)
    await namespace.create("Collection", {**spec, "name": "short"}, name=name, dry_run=True)


async def test_a_schedule_with_a_name_too_long_for_its_jobs_is_refused(namespace: Any) -> None:
    spec = {"schedule": "@daily", "template": {}}
    assert "at most 42 characters" in await namespace.refusal("BackupSchedule", spec, name="n" * 43)
    await namespace.create("BackupSchedule", spec, name="n" * 42, dry_run=True)


FIXED = "cannot be added, changed or removed"
BACKUP_FIXED = "A backup says what was done and cannot be changed"
RESTORE_FIXED = "A restore says what was done and cannot be changed"


@pytest.mark.parametrize(
    ("kind", "before", "patch", "sentence"),
    [
        ("Collection", collection(database="a"), {"database": "b"}, FIXED),
        ("Collection", collection(), {"database": "b"}, FIXED),
        ("Collection", collection(database="a"), {"database": None}, FIXED),
        ("Collection", collection(name="a"), {"name": "b"}, FIXED),
        ("Collection", collection(), {"connection": {"secretName": "s"}}, FIXED),
        (
            "Collection",
            collection(connection={"secretName": "s"}),
            {"connection": {"secretName": "t"}},
            FIXED,
        ),
        ("Index", mongo_index(), {"mongodb": {"collection": "b"}}, "collection cannot be changed"),
        ("Index", mongo_index(), {"mongodb": {"database": "b"}}, FIXED),
        ("Index", mongo_index(), {"name": "b"}, FIXED),
        ("Index", mongo_index(), {"mongodb": None, **elastic_index()}, "engine cannot be changed"),
        (
            "Index",
            elastic_index(),
            {"elasticsearch": {"pattern": "b-{YYYY.MM}"}},
            "pattern cannot be changed",
        ),
        ("ShardedCollection", sharded(), {"collection": "b"}, "collection cannot be changed"),
        ("ShardedCollection", sharded(), {"database": "b"}, FIXED),
        ("Backup", backup(), {"type": "incremental"}, BACKUP_FIXED),
        ("Backup", backup(), {"verify": "Restore"}, BACKUP_FIXED),
        ("Backup", backup(), {"chain": "other"}, BACKUP_FIXED),
        ("Backup", backup(), {"storage": {"volume": {"claimName": "c"}}}, BACKUP_FIXED),
        ("Backup", backup(mongodb={"databases": ["a"]}), {"mongodb": {"databases": ["b"]}}, BACKUP_FIXED),
        ("Backup", backup(cancel=True), {"cancel": False}, "cannot be taken back"),
        ("Restore", restore(), {"backupName": "other"}, RESTORE_FIXED),
        ("Restore", restore(), {"dropExisting": True}, RESTORE_FIXED),
        ("Restore", restore(), {"pointInTime": "2026-01-01T00:00:00Z"}, RESTORE_FIXED),
        ("Restore", restore(cancel=True), {"cancel": None}, "cannot be taken back"),
        ("Volume", volume(), {"type": "blocks"}, "type cannot be changed"),
        ("Volume", volume(size="10Gi"), {"size": "9Gi"}, "A volume cannot shrink"),
        ("Volume", volume(size="1Gi"), {"size": "1023Mi"}, "A volume cannot shrink"),
    ],
)
async def test_a_fixed_field_cannot_be_changed(
    namespace: Any, kind: str, before: Json, patch: Json, sentence: str
) -> None:
    made = await namespace.create(kind, before)
    assert sentence in await namespace.change_refusal(made, {"spec": patch})


@pytest.mark.parametrize(
    ("kind", "before", "patch"),
    [
        ("Collection", collection(database="a"), {"validator": {"a": 1}, "deletionPolicy": "Delete"}),
        ("Index", mongo_index(), {"mongodb": {"keys": [key("b", -1)], "unique": True}}),
        ("Index", elastic_index(), {"elasticsearch": {"lifecycle": {"deleteDays": 400}}}),
        ("Backup", backup(), {"cancel": True, "deletionPolicy": "Delete", "retentionDays": 9}),
        ("Restore", restore(), {"cancel": True}),
        ("Volume", volume(size="10Gi"), {"size": "10240Mi", "storageClassName": "other"}),
        ("Volume", volume(), {"size": "1Gi"}),
        ("ShardedCollection", sharded(), {"shardKey": [key("a"), key("b")], "changePolicy": "Refine"}),
    ],
)
async def test_everything_else_can_be_changed(namespace: Any, kind: str, before: Json, patch: Json) -> None:
    made = await namespace.create(kind, before)
    changed = await namespace.change(made, {"spec": patch})
    assert _contains(changed["spec"], patch)


@pytest.mark.parametrize(
    "moment", ["2026-11-22T05:00:00.5Z", "2026-11-22T05:00:00-11:30", "1970-01-01T00:00:00Z"]
)
async def test_a_restore_of_any_moment_that_was_accepted_takes_its_status(
    namespace: Any, moment: str
) -> None:
    made = await namespace.create("Restore", restore(pointInTime=moment))
    written = await namespace.change(made, {"status": {"phase": "Pending"}}, sub="status")
    assert written["status"]["phase"] == "Pending"


@pytest.mark.parametrize(
    ("kind", "spec", "defaults"),
    [
        (
            "Collection",
            collection(),
            {"deletionPolicy": "Retain", "driftPolicy": "Correct", "backupBefore": False},
        ),
        (
            "Index",
            mongo_index(),
            {
                "deletionPolicy": "Retain",
                "driftPolicy": "Correct",
                "backupBefore": False,
                "replacePolicy": "Refuse",
            },
        ),
        ("Volume", volume(), {"deletionPolicy": "Retain", "resizeStrategy": "Expand"}),
    ],
)
async def test_only_policies_have_defaults(namespace: Any, kind: str, spec: Json, defaults: Json) -> None:
    made = await namespace.create(kind, spec, dry_run=True)
    assert made["spec"] == {**spec, **defaults}


async def test_a_lifecycle_has_the_days_of_the_design(namespace: Any) -> None:
    made = await namespace.create("Index", elastic_index(lifecycle={}), dry_run=True)
    days = {"hotDays": 7, "warmDays": 30, "coldDays": 90, "deleteDays": 90}
    assert made["spec"]["elasticsearch"]["lifecycle"] == {**days, "managedBy": "Server"}


async def test_free_form_documents_are_kept_as_they_are(namespace: Any) -> None:
    document = {
        "$or": [{"a": None}, {"b": {"$in": [1, "x", None, {"$numberLong": "5"}]}}],
        "$jsonSchema": {"properties": {"x.y": {"enum": [None]}}},
        "": {},
    }
    made = await namespace.create("Collection", collection(validator=document))
    assert made["spec"]["validator"] == document
    read = await namespace.kube.get(namespace.path("Collection", made["metadata"]["name"]))
    assert read["spec"]["validator"] == document


@pytest.mark.parametrize("info", KINDS.values(), ids=lambda info: info.kind)
async def test_a_full_status_is_kept_whole_and_leaves_the_spec_alone(namespace: Any, info: KindInfo) -> None:
    sample = next(sample for sample in samples() if sample["kind"] == info.kind)
    made = await namespace.create(info.kind, sample["spec"])
    status = example(structural_schema(info.status))
    written = await namespace.change(made, {"status": status, "spec": {"surprise": 1}}, sub="status")
    assert written["status"] == status
    assert written["metadata"]["generation"] == 1
    assert info.status.model_validate(status).to_dict().keys() == status.keys()


@pytest.mark.parametrize("info", KINDS.values(), ids=lambda info: info.kind)
async def test_columns_of_kubectl_get_have_values(namespace: Any, info: KindInfo) -> None:
    sample = next(sample for sample in samples() if sample["kind"] == info.kind)
    made = await namespace.create(info.kind, sample["spec"])
    status = example(structural_schema(info.status))
    condition = {**status["conditions"][0], "type": "Ready", "status": "True"}
    await namespace.change(made, {"status": {**status, "conditions": [condition]}}, sub="status")
    table = await namespace.kube.request("GET", namespace.path(info.kind), accept=TABLE)
    names = [column["name"] for column in table["columnDefinitions"]]
    assert names == ["Name", *[column.name for column in info.columns], "AGE"]
    row = dict(zip(names, table["rows"][0]["cells"], strict=True))
    assert [name for name, cell in row.items() if cell in {None, ""}] == []


def _contains(whole: Any, part: Any) -> bool:
    """Whether all of `part` is in `whole`, defaults of the API server aside."""
    if isinstance(part, dict):
        return all(name in whole and _contains(whole[name], value) for name, value in part.items())
    if isinstance(part, list):
        return len(whole) == len(part) and all(map(_contains, whole, part))
    return bool(whole == part)
