"""The rules are those of a real MongoDB: what it takes is not refused at apply, what we refuse it refuses too."""

from typing import Any

import pytest
from pymongo.errors import OperationFailure
from refusals import ACCEPTED, COLLECTIONS, INDEXES

from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

Json = dict[str, Any]

OURS_ALONE = (
    "order must be 1, -1",
    "need a text index",
    "belong to a 2d index",
    "takes no other option",
)
"""Sentences about what the server takes although it makes no difference."""

IN_A_SPEC_ONLY = ("database", "collection", "keys", "dropAfterSeconds", "languageOverride", "defaultLanguage")


def _index(spec: Json) -> Json:
    """An index as createIndexes takes it."""
    index = spec["mongodb"]
    options = {name: value for name, value in index.items() if name not in IN_A_SPEC_ONLY}
    for ours, theirs in (("defaultLanguage", "default_language"), ("languageOverride", "language_override")):
        if ours in index:
            options[theirs] = index[ours]
    return {"key": {k["field"]: k["order"] for k in index["keys"]}, "name": spec.get("name", "x"), **options}


def _creation(spec: Json) -> Json:
    """The options of a collection as create takes them."""
    options = {name: value for name, value in spec.items() if name in _SAME}
    if "capped" in spec:
        options |= {"capped": True, "size": spec["capped"]["sizeBytes"]}
        if "maxDocuments" in spec["capped"]:
            options["max"] = spec["capped"]["maxDocuments"]
    if "clusteredIndex" in spec:
        options["clusteredIndex"] = {"key": {"_id": 1}, "unique": True, **spec["clusteredIndex"]}
    if "preAndPostImages" in spec:
        options["changeStreamPreAndPostImages"] = spec["preAndPostImages"]
    return options


_SAME = ("timeSeries", "collation", "validator", "validationLevel", "validationAction")


def _create(client: Any, database: str, spec: Json) -> None:
    options = _creation(spec)
    if "timeSeries" in options:
        options["timeseries"] = options.pop("timeSeries")
    client[database].command({"create": spec.get("name", "users"), **options})


def _repeats_a_field(spec: Json) -> bool:
    """Python's dict cannot send such a key pattern."""
    fields = [k["field"] for k in spec["mongodb"]["keys"]]
    return len(set(fields)) < len(fields)


TAKEN_INDEXES = [spec for kind, spec in ACCEPTED if kind == "Index" and "mongodb" in spec]
TAKEN_COLLECTIONS = [
    spec
    for kind, spec in ACCEPTED
    if kind == "Collection" and "database" not in spec and spec.get("validationAction") != "errorAndLog"
]
SERVER_RULES_INDEX = (
    "TTL",
    "hashed",
    "exclude one another",
    "text index cannot",
    "2d field must",
    "$**",
    "wildcard",
    "min must be smaller",
    "collation simple",
    "No part of a field path",
    "empty part",
    "cannot be named *",
)
SERVER_RULES_COLLECTION = (
    "exclude one another",
    "can have no validator",
    "top-level",
    "must differ",
    "must both be given",
    "cannot hold a $",
    "start with a dot",
    "always unique",
)
REFUSED_INDEXES = [
    (spec, sentence)
    for spec, sentence in INDEXES
    if "mongodb" in spec
    and "elasticsearch" not in spec
    and any(rule in sentence for rule in SERVER_RULES_INDEX)
    and not any(rule in sentence for rule in OURS_ALONE)
    and not _repeats_a_field(spec)
]
REFUSED_COLLECTIONS = [
    (spec, sentence)
    for spec, sentence in COLLECTIONS
    if any(rule in sentence for rule in SERVER_RULES_COLLECTION) and "cache" not in spec
]


def test_the_comparison_covers_the_rules() -> None:
    assert len(REFUSED_INDEXES) > 20
    assert len(REFUSED_COLLECTIONS) > 8


@pytest.mark.parametrize("spec", TAKEN_INDEXES)
def test_an_accepted_index_is_one_for_the_server(mongodb: MongoDB, database: str, spec: Json) -> None:
    with mongodb.client() as client:
        client[database].create_collection("users")
        client[database].command({"createIndexes": "users", "indexes": [_index(spec)]})


@pytest.mark.parametrize(("spec", "sentence"), REFUSED_INDEXES)
def test_a_refused_index_is_refused_by_the_server_too(
    mongodb: MongoDB, database: str, spec: Json, sentence: str
) -> None:
    with mongodb.client() as client:
        client[database].create_collection("users")
        with pytest.raises(OperationFailure):
            client[database].command({"createIndexes": "users", "indexes": [_index(spec)]})


@pytest.mark.parametrize("spec", TAKEN_COLLECTIONS)
def test_an_accepted_collection_is_one_for_the_server(mongodb: MongoDB, database: str, spec: Json) -> None:
    with mongodb.client() as client:
        _create(client, database, spec)


@pytest.mark.parametrize(("spec", "sentence"), REFUSED_COLLECTIONS)
def test_a_refused_collection_is_refused_by_the_server_too(
    mongodb: MongoDB, database: str, spec: Json, sentence: str
) -> None:
    with mongodb.client() as client, pytest.raises(OperationFailure):
        _create(client, database, spec)
