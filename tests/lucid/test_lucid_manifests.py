"""manifests/lucid against the facts of the data layer in catalog.yaml."""

from pathlib import Path
from typing import Any

import yaml
from lucid_layer import FOLDER, documents, layer, schema

CATALOG: dict[str, Any] = yaml.safe_load((Path(__file__).parent / "catalog.yaml").read_text())

BEYOND_CATALOG = {"users": [((("tron_address", 1),), True, False, None)]}
"""Indexes on catalogued collections that come from the build guide."""


def facts(entry: dict[str, Any]) -> tuple[Any, ...]:
    return (
        tuple(entry["keys"].items()),
        entry.get("unique", False),
        entry.get("sparse", False),
        entry.get("expireAfterSeconds"),
    )


def declared(collection: str) -> list[tuple[Any, ...]]:
    return [
        (d.keys, d.unique, d.sparse, d.expire_after_seconds)
        for d in (i.definition for i in layer().indexes.values() if i.collection == collection)
    ]


def test_the_catalog_has_47_indexes() -> None:
    assert sum(len(entries) for entries in CATALOG["indexes"].values()) == 47


def test_the_indexes_of_the_catalog_are_all_declared_and_equal() -> None:
    for collection, entries in CATALOG["indexes"].items():
        expected = [facts(entry) for entry in entries] + BEYOND_CATALOG.get(collection, [])
        assert sorted(declared(collection), key=str) == sorted(expected, key=str), collection


def test_catalogued_indexes_have_no_option_that_the_catalog_does_not_name() -> None:
    for index in layer().indexes.values():
        if index.collection in CATALOG["indexes"]:
            d = index.definition
            others = (d.partial_filter, d.collation, d.hidden, d.weights, d.wildcard_projection)
            assert others == (None,) * 5, index.name


def test_every_collection_that_is_named_is_declared_and_no_other() -> None:
    assert sorted(c.name for c in layer().collections.values()) == CATALOG["collections"]


def test_everything_lies_in_the_database_of_the_catalog_by_an_explicit_name() -> None:
    for document in documents():
        spec = document.get("spec", {})
        if document["kind"] == "Collection":
            assert spec["database"] == CATALOG["database"]
            assert spec["name"]
        elif document["kind"] == "Index" and spec["engine"] == "mongodb":
            assert spec["mongodb"]["database"] == CATALOG["database"]


def test_every_index_belongs_to_a_declared_collection() -> None:
    assert {i.collection for i in layer().indexes.values()} <= set(CATALOG["collections"])


def test_index_names_are_unique_within_a_collection() -> None:
    names = [(i.collection, i.name) for i in layer().indexes.values()]
    assert len(set(names)) == len(names)


def test_a_field_with_a_unique_index_is_required_unless_others_stand_beside_it() -> None:
    """Two documents without the field would collide in it."""
    for index in layer().indexes.values():
        if index.definition.unique:
            (collection,) = (c for c in layer().collections.values() if c.name == index.collection)
            fields = {field for field, _ in index.definition.keys}
            assert fields <= set(schema(collection)["required"]), index.name


def test_the_date_of_a_ttl_index_is_known_to_the_validator_as_a_date() -> None:
    """MongoDB never expires a document whose field is no date, and says nothing about it."""
    for index in layer().indexes.values():
        if index.definition.expire_after_seconds is not None:
            (collection,) = (c for c in layer().collections.values() if c.name == index.collection)
            ((field, _),) = index.definition.keys
            types = schema(collection)["properties"][field]["bsonType"]
            assert types in ("date", ["date", "null"]), index.name


def test_text_indexes_do_not_take_a_language_from_the_documents() -> None:
    """With the default languageOverride a document whose field language names no known one is refused."""
    found = [i for i in layer().indexes.values() if any(o == "text" for _, o in i.definition.keys)]
    assert {i.collection for i in found} == {"audit_logs", "logs", "reports"}
    assert all(i.definition.language_override == "text_language" for i in found)


def test_every_search_entity_has_its_series_with_shards_and_lifecycle() -> None:
    series = {index.pattern: index for index in layer().search.values()}
    expected = CATALOG["search"]
    assert set(series) == {f"lucid-{entity}-{{YYYY.MM}}" for entity in expected["entities"]}
    for index in series.values():
        assert index.settings == expected["settings"]
        assert index.lifecycle is not None
        days = index.lifecycle.model_dump(mode="json", by_alias=True)
        assert days == {**expected["lifecycle"], "managedBy": "Server"}
        assert index.mappings
        assert index.mappings["properties"]


def test_the_keys_with_a_ttl_are_enforced() -> None:
    spaces = {s.pattern: s for c in layer().collections.values() for s in c.cache}
    assert len(spaces) == sum(len(c.cache) for c in layer().collections.values()), "each pattern once"
    for pattern, seconds in CATALOG["enforced_keys"].items():
        assert spaces[pattern].ttl_seconds == seconds
        assert spaces[pattern].enforce


def test_files_are_by_entity_and_all_of_them_are_listed() -> None:
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    assert sorted(listed[1:]) == listed[1:]
    assert sorted(path.name for path in FOLDER.glob("*.yaml")) == sorted([*listed, "kustomization.yaml"])
    for name in set(listed[1:]) - {"backup-schedule.yaml"}:
        first, *others = yaml.safe_load_all((FOLDER / name).read_text())
        assert first["kind"] == "Collection"
        assert name == f"{first['metadata']['name']}.yaml"
        for other in others:
            of = other["spec"].get("mongodb", {}).get("collection")
            assert (
                of == first["spec"]["name"]
                or "search-" + first["metadata"]["name"] == other["metadata"]["name"]
            )
