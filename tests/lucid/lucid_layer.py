"""The resources of manifests/lucid as models, and documents for their collections."""

from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from lucid_storage.kinds.collection import desired as collections
from lucid_storage.kinds.collection.desired import CollectionDesired
from lucid_storage.kinds.index_mongodb import desired as indexes
from lucid_storage.kinds.index_mongodb.desired import IndexDesired
from lucid_storage.models.collection import CollectionSpec
from lucid_storage.models.elasticindex import ElasticIndex
from lucid_storage.models.index import IndexSpec

FOLDER = Path(__file__).parents[2] / "manifests" / "lucid"


@dataclass(frozen=True)
class Layer:
    collections: dict[str, CollectionDesired]
    indexes: dict[str, IndexDesired]
    """By the name of the resource."""
    search: dict[str, ElasticIndex]


def documents() -> list[dict[str, Any]]:
    """All resources that the kustomization lists, in its order."""
    listed = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"]
    return [d for name in listed for d in yaml.safe_load_all((FOLDER / name).read_text())]


@cache
def layer() -> Layer:
    found = Layer({}, {}, {})
    for document in documents():
        name = document["metadata"]["name"]
        if document["kind"] == "Collection":
            spec = CollectionSpec.model_validate(document["spec"])
            assert name not in found.collections
            found.collections[name] = collections.resolve(spec, name, spec.database or "")
        elif document["kind"] == "Index":
            index = IndexSpec.model_validate(document["spec"])
            assert name not in found.indexes
            assert name not in found.search
            if index.mongodb is not None:
                found.indexes[name] = indexes.resolve(index, index.mongodb, index.mongodb.database or "")
            if index.elasticsearch is not None:
                found.search[name] = index.elasticsearch
    return found


def schema(collection: CollectionDesired) -> dict[str, Any]:
    validator = collection.options.validator
    assert validator is not None
    found = validator["$jsonSchema"]
    assert isinstance(found, dict)
    return found


_VALUES: dict[str, Any] = {
    "string": "x",
    "date": datetime(2026, 11, 1, tzinfo=UTC),
    "object": {"a": 1},
    "array": [],
    "bool": True,
    "int": 7,
}


def valid_document(collection: CollectionDesired, *, everything: bool) -> dict[str, Any]:
    """A document with the required fields, or with all that the validator knows."""
    whole = schema(collection)
    fields = whole["properties"] if everything else whole["required"]
    return {field: valid_value(field, whole["properties"][field]) for field in fields}


def valid_value(field: str, rule: dict[str, Any]) -> Any:
    if "enum" in rule:
        return rule["enum"][0]
    types = rule["bsonType"]
    kind = types if isinstance(types, str) else types[0]
    return f"{field}-value" if kind == "string" else _VALUES[kind]


def wrong_value(rule: dict[str, Any]) -> Any:
    """A value that the rule of one field refuses."""
    if "enum" in rule:
        return "none of these"
    types = [rule["bsonType"]] if isinstance(rule["bsonType"], str) else rule["bsonType"]
    return next(_VALUES[kind] for kind in ("bool", "date", "string", "object") if kind not in types)
