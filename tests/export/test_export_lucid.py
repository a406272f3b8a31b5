"""The Lucid data layer, built on a real server, exported: the same definitions come back."""

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from lucid_storage.__main__ import main
from lucid_storage.kinds.collection import desired as collections
from lucid_storage.kinds.collection.differences import differences
from lucid_storage.kinds.index_mongodb import desired as indexes
from lucid_storage.models.collection import CollectionSpec
from lucid_storage.models.index import IndexSpec
from lucid_storage.stores.mongodb.adapter import MongoDeployment
from lucid_storage.stores.mongodb.definition import same_definition
from testbed.paths import project_root
from testbed.stores.mongodb import MongoDB

LAYER = project_root() / "manifests" / "lucid"


def declared(folder: Path) -> tuple[dict[str, CollectionSpec], dict[tuple[str, str], IndexSpec]]:
    """Collections by name; MongoDB indexes by collection and name."""
    found: tuple[dict[str, CollectionSpec], dict[tuple[str, str], IndexSpec]] = ({}, {})
    for name in yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]:
        for document in yaml.safe_load_all((folder / name).read_text()):
            if document["kind"] == "Collection":
                spec = CollectionSpec.model_validate(document["spec"])
                found[0][spec.name or ""] = spec
            elif document["kind"] == "Index":
                index = IndexSpec.model_validate(document["spec"])
                if index.mongodb is not None:
                    resolved = indexes.resolve(index, index.mongodb, "any")
                    found[1][resolved.collection, resolved.name] = index
    return found


@pytest.mark.mongodb
async def test_the_lucid_layer_comes_back_as_it_was_declared(
    mongodb: MongoDB, database: str, tmp_path: Path
) -> None:
    wanted_collections, wanted_indexes = declared(LAYER)
    deployment = MongoDeployment(mongodb.uri, label="test", app_name="lucid-test", guard=lambda: None)
    server = await deployment.info()
    options = {n: collections.resolve(s, n, database).options for n, s in wanted_collections.items()}
    for name, wanted in options.items():
        await deployment.create_collection(database, name, wanted)
    for index in wanted_indexes.values():
        assert index.mongodb is not None
        made = indexes.resolve(index, index.mongodb, database)
        await deployment.create_index(database, made.collection, made.name, made.definition)
    await deployment.close()
    run_export(mongodb.uri, database, tmp_path)
    found_collections, found_indexes = declared(tmp_path)
    assert not (tmp_path / "SKIPPED.md").exists()
    assert found_collections.keys() == wanted_collections.keys()
    assert found_indexes.keys() == wanted_indexes.keys()
    for name, spec in found_collections.items():
        assert differences(options[name], collections.resolve(spec, name, database).options, server) == []
    for key, index in found_indexes.items():
        ours = wanted_indexes[key]
        assert index.mongodb is not None
        assert ours.mongodb is not None
        there = indexes.resolve(index, index.mongodb, database).definition
        assert same_definition(indexes.resolve(ours, ours.mongodb, database).definition, there) == [], key
    counted = Counter(collection for collection, _ in found_indexes)
    assert sum(counted.values()) >= 47


def run_export(uri: str, database: str, folder: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MONGODB_URI", uri)
        assert in_a_thread(["export", "--database", database, "--output", str(folder)]) == 0


def in_a_thread(arguments: list[str]) -> int:
    """The command has an event loop of its own."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(main, arguments).result(120)
