"""A mapping or limit that was tightened in place, which Elasticsearch checks for new documents only."""

import urllib.error
from collections.abc import Callable
from typing import Any

import pytest
from workshop import Workshop

from jobs.elastic.elastic_bed import Bed
from lucid_storage.errors import LucidError, Reason, StoreUnavailableError
from lucid_storage.jobs import elastic_loading
from lucid_storage.jobs.elastic_restore import prove, restore
from lucid_storage.models.backup import ElasticMethod, ElasticSelection
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp

pytestmark = pytest.mark.elasticsearch

SINGLE = {"number_of_replicas": 0}
LONG = {"type": "long"}
FIELDS: dict[str, Any] = {f"f{n}": LONG for n in range(30)}
# Mapping before, a source, and what tightens it.
TIGHTENED: dict[str, tuple[dict[str, Any], str, str, dict[str, Any]]] = {
    "unknown fields are refused": (
        {"dynamic": False, "properties": {"a": LONG}},
        '{"a":1,"extra":"x"}',
        "_mapping",
        {"dynamic": "strict"},
    ),
    "unknown fields that are null": (
        {"properties": {"a": LONG}},
        '{"b":null}',
        "_mapping",
        {"dynamic": "strict"},
    ),
    "unknown fields of an object": (
        {"properties": {"o": {"dynamic": False, "properties": {"a": LONG}}}},
        '{"o":{"x":1}}',
        "_mapping",
        {"properties": {"o": {"type": "object", "dynamic": "strict"}}},
    ),
    "new fields are mapped": (
        {"dynamic": False, "properties": {"a": LONG}},
        '{"x":5,"a":1}',
        "_mapping",
        {"dynamic": True},
    ),
    "new fields are runtime fields": (
        {"dynamic": False, "properties": {"a": LONG}},
        '{"x":5,"a":1}',
        "_mapping",
        {"dynamic": "runtime"},
    ),
    "new fields of an object are mapped": (
        {"properties": {"o": {"dynamic": False, "properties": {"a": LONG}}}},
        '{"o":{"x":5}}',
        "_mapping",
        {"properties": {"o": {"type": "object", "dynamic": True}}},
    ),
    "fewer fields": (
        {"properties": FIELDS},
        '{"f1":1}',
        "_settings",
        {"index.mapping.total_fields.limit": 10},
    ),
    "fewer parts": (
        {"properties": {"a": {"type": "nested", "properties": {"x": LONG}}}},
        '{"a":[{"x":1},{"x":2},{"x":3}]}',
        "_settings",
        {"index.mapping.nested_objects.limit": 2},
    ),
    "shorter names": (
        {"properties": {"a_long_name": LONG}},
        '{"a_long_name":1}',
        "_settings",
        {"index.mapping.field_name_length.limit": 5},
    ),
}


def without_mark(found: dict[str, Any]) -> dict[str, Any]:
    meta = {key: value for key, value in found.pop("_meta", {}).items() if key != "lucid-storage-restore"}
    return {**found, **({"_meta": meta} if meta else {})}


@pytest.mark.parametrize("how", TIGHTENED)
async def test_documents_that_are_older_come_back_and_what_was_tightened_is_tight(bed: Bed, how: str) -> None:
    mappings, source, where, change = TIGHTENED[how]
    index = bed.index("tight", {"settings": SINGLE, "mappings": {"_meta": {"n": 1}, **mappings}})
    bed.put(index, "1", source)
    bed.call("PUT", f"/{index}/{where}", change)
    before = bed.call("GET", f"/{index}")[index]
    backup = bed.back_up()
    assert prove(bed.restore_run(backup))[0] == 1
    restore(bed.restore_run(backup, drop_existing=True, compare_hashes=True))
    assert bed.source(index, "1") == source.encode()
    (after,) = bed.call("GET", f"/{index}").values()
    assert without_mark(after["mappings"]) == before["mappings"]
    assert after["settings"]["index"].get("mapping") == before["settings"]["index"].get("mapping")
    if how.startswith("unknown"):
        with pytest.raises(urllib.error.HTTPError):
            bed.put(index, "2", source)


UNMAPPED: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "dynamic again": ({}, {"dynamic": False}, {"dynamic": True}),
    "fields beyond the limit": (
        {
            "index.mapping.total_fields.limit": 1,
            "index.mapping.total_fields.ignore_dynamic_beyond_limit": True,
        },
        {},
        {},
    ),
}


@pytest.mark.parametrize("how", UNMAPPED)
async def test_fields_of_older_documents_that_are_not_mapped_may_be_anything(bed: Bed, how: str) -> None:
    settings, mappings, change = UNMAPPED[how]
    mappings = {**mappings, "properties": {"a": LONG}}
    index = bed.index("mixed", {"settings": {**SINGLE, **settings}, "mappings": mappings})
    bed.put(index, "1", '{"x":5}')
    bed.put(index, "2", '{"x":{"y":1}}')
    bed.call("PUT", f"/{index}/_mapping", change)
    (before,) = bed.call("GET", f"/{index}/_mapping").values()
    backup = bed.back_up()
    assert prove(bed.restore_run(backup))[0] == 2
    restore(bed.restore_run(backup, drop_existing=True))
    (after,) = bed.call("GET", f"/{index}").values()
    assert without_mark(after["mappings"]) == {"dynamic": "true", **before["mappings"]}
    bed.call("PUT", f"/{index}/_settings", {"index.mapping.total_fields.limit": 100})
    bed.put(index, "3", '{"new":1}')
    (mapped,) = bed.call("GET", f"/{index}/_mapping").values()
    assert "new" in mapped["mappings"]["properties"]


async def test_a_snapshot_of_more_fields_than_the_limit_comes_back(bed: Bed) -> None:
    repository = bed.name("repository")
    location = str(bed.server.snapshots / repository)
    bed.call("PUT", f"/_snapshot/{repository}", {"type": "fs", "settings": {"location": location}})
    index = bed.index("tight", {"settings": SINGLE, "mappings": {"properties": FIELDS}})
    bed.put(index, "1", "{}")
    bed.call("PUT", f"/{index}/_settings", {"index.mapping.total_fields.limit": 10})
    chosen = ElasticSelection(
        indices=[index], method=ElasticMethod.SNAPSHOT, repository=repository, allow_unencrypted=True
    )
    backup = bed.back_up(chosen)
    try:
        restore(bed.restore_run(backup, drop_existing=True))
        (after,) = bed.call("GET", f"/{index}/_settings").values()
        assert after["settings"]["index"]["mapping"] == {"total_fields": {"limit": "10"}}
        assert bed.count(index) == 1
    finally:
        bed.call("DELETE", f"/_snapshot/{repository}/{backup.record.snapshot}")
        bed.call("DELETE", f"/_snapshot/{repository}")


async def test_a_proof_in_which_the_server_refuses_a_document_fails_the_backup(
    bed: Bed, workshop: Callable[..., Workshop]
) -> None:
    """Malformed values were ignored once, and are not any more: no setting takes them back."""
    mappings = {"properties": {"a": {**LONG, "ignore_malformed": True}}}
    index = bed.index("malformed", {"settings": SINGLE, "mappings": mappings})
    bed.put(index, "1", '{"a":"a-secret"}')
    bed.call("PUT", f"/{index}/_mapping", {"properties": {"a": {**LONG, "ignore_malformed": False}}})
    shop = workshop(ELASTICSEARCH_URL=bed.server.url)
    told = shop.back_up("proved", ["elasticsearch"], elasticsearch={"indices": [index]}, verify="Restore")
    assert (told.ok, told.reason) == (False, Reason.VERIFY_FAILED), told
    assert f"refused a document of the backup for {index}" in told.message
    assert "field a" in told.message
    assert "a-secret" not in told.message
    backup = bed.back_up()
    with pytest.raises(LucidError) as failed:
        restore(bed.restore_run(backup, drop_existing=True))
    assert failed.value.reason is Reason.CONTENT_REFUSED
    assert bed.indices() == {index}


async def test_a_block_of_the_server_is_not_the_backups_fault(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when its disk is full."""
    bed.put(bed.index("fine"), "1", "{}")
    backup = bed.back_up()
    genuine = elastic_loading.stage

    def stage(http: ElasticHttp, name: str, *rest: Any) -> str:
        uuid = genuine(http, name, *rest)
        bed.call("PUT", f"/{name}/_settings", {"index.blocks.write": True})
        return uuid

    monkeypatch.setattr(elastic_loading, "stage", stage)
    with pytest.raises(StoreUnavailableError, match="block"):
        prove(bed.restore_run(backup))


async def test_a_proof_in_which_the_server_refuses_a_definition_fails_the_backup(
    bed: Bed, workshop: Callable[..., Workshop]
) -> None:
    """A file of the server that the analysis of an index reads, and that is gone by now."""
    words = bed.server._configuration / f"{bed.prefix}words.txt"
    words.write_text("the\n")
    analysis = {
        "filter": {"words": {"type": "stop", "stopwords_path": words.name}},
        "analyzer": {"mine": {"tokenizer": "standard", "filter": ["words"]}},
    }
    try:
        index = bed.index("analysed", {"settings": {**SINGLE, "analysis": analysis}})
        bed.put(index, "1", "{}")
    finally:
        words.unlink()
    shop = workshop(ELASTICSEARCH_URL=bed.server.url)
    told = shop.back_up("proved", ["elasticsearch"], elasticsearch={"indices": [index]}, verify="Restore")
    assert (told.ok, told.reason) == (False, Reason.VERIFY_FAILED), told
    assert f"The definition of {index} in the backup is refused" in told.message
