"""Export, apply, export again: the same files, and nothing changed on the servers."""

import os
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from bson import Binary, encode
from pymongo.database import Database

from lucid_storage.__main__ import main
from testbed.cluster.controlplane import ControlPlane
from testbed.paths import project_root
from testbed.pytest_operator import World
from testbed.stores.elasticsearch import Elasticsearch
from testbed.stores.mongodb import MongoDB

STORES = ("MONGODB", "REDIS", "ELASTICSEARCH")


def export(
    database: str, folder: Path, *options: str, **environment: str
) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "lucid_storage", "export"]
    clean = {key: value for key, value in os.environ.items() if not key.startswith(STORES)}
    return subprocess.run(
        [*command, "--database", database, "--output", str(folder), *options],
        env={**clean, "PYTHONPATH": str(project_root() / "operator"), **environment},
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )


def exported(database: str, folder: Path, *options: str, **environment: str) -> str:
    """What was said to be left out."""
    done = export(database, folder, *options, **environment)
    assert done.returncode == 0, done.stderr
    return done.stderr


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def apply(plane: ControlPlane, folder: Path) -> list[tuple[str, str]]:
    """Kind and name of all that `kubectl apply -k` made."""
    kubectl = [plane.kubectl, f"--kubeconfig={plane.kubeconfig}", "apply", "--validate=strict"]
    done = subprocess.run([*kubectl, "-k", folder], check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    listed = yaml.safe_load((folder / "kustomization.yaml").read_text())["resources"]
    read = [d for name in listed for d in yaml.safe_load_all((folder / name).read_text())]
    return [(d["kind"], d["metadata"]["name"]) for d in read]


def definitions(db: Database[Any], *, rebuilt: bool = False) -> dict[str, bytes]:
    """What listCollections and listIndexes say, byte for byte.

    What is `rebuilt` has other UUIDs, and Kubernetes sorts the fields of a validator.
    """
    found = {}
    for entry in db.list_collections():
        if rebuilt:
            entry["info"].pop("uuid", None)
            if "validator" in entry["options"]:
                entry["options"]["validator"] = dict(sorted(entry["options"]["validator"].items()))
        found[entry["name"]] = encode(entry)
        if entry["type"] != "view" and not entry["name"].startswith("system."):
            specs = sorted(db[entry["name"]].list_indexes(), key=lambda spec: spec["name"])
            found[f"indexes of {entry['name']}"] = encode({"all": specs})
    return found


class DdlWatch:
    """All changes of definitions in a database until `seen` is asked for."""

    def __init__(self, db: Database[Any]) -> None:
        self._db = db
        self._seen: list[str] = []
        self._stream = db.watch(show_expanded_events=True)
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        for event in self._stream:
            if event["operationType"] == "insert" and event["ns"]["coll"] == "users":
                return
            self._seen.append(event["operationType"])

    def seen(self) -> list[str]:
        """Ends the watch: an insertion shows that everything before it was read."""
        self._db.users.insert_one({"email": "the end of the watch"})
        self._thread.join(30)
        assert not self._thread.is_alive(), "the change stream did not show the insertion"
        self._stream.close()
        return self._seen


def populate(db: Database[Any]) -> None:
    """One of everything that can be described, and of what cannot."""
    validator = {"email": {"$type": "string"}, "age": {"$not": {"$gt": 150.5}}, "n": {"$ne": 2**40}}
    db.create_collection("users", validator=validator, validationLevel="moderate")
    db.users.create_index("email", unique=True)
    db.users.create_index([("name", 1), ("born", -1)], sparse=True)
    db.users.create_index([("bio", "text"), ("title", "text")], weights={"title": 7}, default_language="none")
    db.users.create_index("seen", expireAfterSeconds=86_400)
    db.users.create_index([("place", "2dsphere")])
    db.users.create_index("age", partialFilterExpression={"age": {"$gte": 18}}, hidden=True)
    db.users.create_index("nick", collation={"locale": "de", "strength": 2})
    db.users.insert_one({"email": "a@example.org", "bio": "text"})
    db.create_collection("Log.Entries", capped=True, size=100_000, max=50)
    db["Log.Entries"].create_index([("at", -1)])
    db.create_collection(
        "metrics", timeseries={"timeField": "at", "metaField": "of"}, expireAfterSeconds=3600
    )
    db.metrics.create_index([("of", 1), ("at", -1)])
    db.create_collection("by_key", clusteredIndex={"key": {"_id": 1}, "unique": True})
    db.create_collection("local_words", collation={"locale": "fr_CA", "strength": 2})
    db.local_words.create_index("inherited")
    db.local_words.create_index("bytes", collation={"locale": "simple"})
    db.create_collection("images", changeStreamPreAndPostImages={"enabled": True})
    db.images.create_index([("flat", "2d"), ("kind", 1)], bits=20, min=-10, max=10.5)
    db.images.create_index([("$**", 1)], wildcardProjection={"meta": 1})
    db.images.create_index([("y", "hashed")], name="yes")
    odd = [{"key": {"old": 0.5}, "name": "half"}, {"key": {"old": -7}, "name": "minus_seven"}]
    db.command({"createIndexes": "images", "indexes": odd})
    db.create_collection("adults", viewOn="users", pipeline=[{"$match": {"age": {"$gte": 18}}}])


@pytest.fixture
def db(mongo_world: World, mongodb: MongoDB) -> Iterator[Database[Any]]:
    with mongodb.client() as client:
        db = client[mongo_world.environment["MONGODB_DATABASE"]]
        populate(db)
        yield db


@pytest.mark.mongodb
@pytest.mark.apiserver
async def test_export_apply_export_gives_the_same_files_and_changes_nothing(
    mongo_world: World, db: Database[Any], control_plane: ControlPlane, mongodb: MongoDB, tmp_path: Path
) -> None:
    before = definitions(db)
    first, second = tmp_path / "first", tmp_path / "second"
    said = exported(db.name, first, f"--namespace={mongo_world.namespace}", MONGODB_URI=mongodb.uri)
    for left_out in ("index half of", "index minus_seven of", f"view {db.name}.adults"):
        assert left_out in said
    assert len(said.splitlines()) == 2 + 3, "nothing else is left out"
    assert (first / "SKIPPED.md").read_text() == said
    watch = DdlWatch(db)
    operator = mongo_world.start_operator()
    resources = apply(control_plane, first)
    assert len([kind for kind, _ in resources if kind == "Collection"]) == 6
    assert len([kind for kind, _ in resources if kind == "Index"]) == 14
    for kind, name in resources:
        status = await mongo_world.ready(kind, name, 60)
        assert status["origin"] == "Adopted"
    assert watch.seen() == []
    assert definitions(db) == before
    assert operator.metric("lucid_drift_corrections_total") == 0
    exported(db.name, second, f"--namespace={mongo_world.namespace}", MONGODB_URI=mongodb.uri)
    assert files(second) == files(first)


@pytest.mark.mongodb
@pytest.mark.apiserver
async def test_an_export_rebuilds_the_database_where_it_is_gone(
    mongo_world: World, db: Database[Any], control_plane: ControlPlane, mongodb: MongoDB, tmp_path: Path
) -> None:
    db.drop_collection("adults")
    for odd in ("half", "minus_seven"):
        db.images.drop_index(odd)
    before = definitions(db, rebuilt=True)
    assert exported(db.name, tmp_path, "--namespace", mongo_world.namespace, MONGODB_URI=mongodb.uri) == ""
    db.client.drop_database(db.name)
    mongo_world.start_operator()
    for kind, name in apply(control_plane, tmp_path):
        status = await mongo_world.ready(kind, name, 90)
        assert status["origin"] == "Created"
    rebuilt = definitions(db, rebuilt=True)
    assert rebuilt.keys() == before.keys()
    assert [name for name in before if before[name] != rebuilt[name]] == []


@pytest.mark.mongodb
def test_each_option_that_no_resource_can_declare_is_listed(
    mongodb: MongoDB, database: str, tmp_path: Path
) -> None:
    engine = {"wiredTiger": {"configString": "block_compressor=zlib"}}
    keys = [{"keyId": Binary(b"0" * 16, 4), "path": "ssn", "bsonType": "string"}]
    with mongodb.client() as client:
        db = client[database]
        db.command({"create": "packed", "storageEngine": engine, "indexOptionDefaults": {}})
        db.command({"create": "secret", "encryptedFields": {"fields": keys}})
        old = {"key": {"place": "2dsphere"}, "name": "place", "2dsphereIndexVersion": 2}
        new = {"key": {"at": "2dsphere"}, "name": "at", "background": True}
        db.command({"createIndexes": "packed", "indexes": [old, new]})
    said = exported(database, tmp_path, MONGODB_URI=mongodb.uri)
    listed = [line for line in said.splitlines() if "cannot declare it" in line]
    assert [next(w for w in line.split() if w[0].isalnum()) for line in listed] == [
        "storageEngine",
        "2dsphereIndexVersion",
        "encryptedFields",
    ], said
    assert (tmp_path / f"{database.replace('_', '.')}-secret.yaml").exists()


@pytest.mark.mongodb
def test_a_second_export_replaces_the_files_of_the_first_and_touches_no_others(
    mongodb: MongoDB, database: str, tmp_path: Path
) -> None:
    with mongodb.client() as client:
        client[database].one.insert_one({})
        client[database].two.insert_one({})
        exported(database, tmp_path, MONGODB_URI=mongodb.uri)
        (tmp_path / "notes.txt").write_text("mine")
        client[database].two.drop()
        exported(database, tmp_path, MONGODB_URI=mongodb.uri)
    stem = database.replace("_", ".")
    assert set(files(tmp_path)) == {f"{stem}-one.yaml", "kustomization.yaml", "notes.txt"}


@pytest.mark.mongodb
def test_a_directory_with_other_files_is_refused_and_left_as_it_is(
    mongodb: MongoDB, database: str, tmp_path: Path
) -> None:
    (tmp_path / "kustomization.yaml").write_text("resources: []\n")
    done = export(database, tmp_path, MONGODB_URI=mongodb.uri)
    assert done.returncode == 2
    assert "is not empty and holds no earlier export" in done.stderr
    assert set(files(tmp_path)) == {"kustomization.yaml"}


@pytest.mark.mongodb
@pytest.mark.parametrize(
    ("name", "environment", "status", "said"),
    [
        ("no_such_database", {}, 2, "has no collections that this login can see"),
        ("admin", {}, 2, "belongs to MongoDB itself"),
        ("any", {"MONGODB_URI": ""}, 2, "MongoDB is not configured"),
        ("any", {"REST_PORT": "many"}, 2, "a setting cannot be used: REST_PORT"),
        ("any", {"MONGODB_URI": "mongodb://127.0.0.1:9/?serverSelectionTimeoutMS=500"}, 1, "MONGODB_URI"),
    ],
    ids=["empty", "reserved", "not configured", "bad setting", "unreachable"],
)
def test_what_cannot_be_done_is_one_sentence(
    mongodb: MongoDB, tmp_path: Path, name: str, environment: Mapping[str, str], status: int, said: str
) -> None:
    done = export(name, tmp_path / "out", **{"MONGODB_URI": mongodb.uri, **environment})
    assert done.returncode == status, done.stderr
    assert said in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert not (tmp_path / "out").exists()


@pytest.mark.mongodb
def test_a_refused_login_is_said_without_the_password(private_mongodb: Any, tmp_path: Path) -> None:
    server = private_mongodb(auth=True)
    uri = server.uri_for("nobody", "a-wrong-password")
    done = export("any", tmp_path / "out", MONGODB_URI=uri)
    assert done.returncode == 1
    assert "login" in done.stderr
    assert "a-wrong-password" not in done.stderr


@pytest.mark.mongodb
def test_export_without_elasticsearch_configured_says_so(
    mongodb: MongoDB, database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    monkeypatch.setenv("MONGODB_URI", mongodb.uri)
    for name in ("ELASTICSEARCH_URL", "ELASTICSEARCH_URI", "ELASTICSEARCH_HOST"):
        monkeypatch.delenv(name, raising=False)
    assert main(["export", "--database", database, "--output", str(tmp_path), "--elasticsearch"]) == 2
    assert "Elasticsearch is not configured; set ELASTICSEARCH_URL." in capsys.readouterr().err


def series_definitions(server: Elasticsearch, prefix: str) -> dict[str, Any]:
    template = server.request("GET", f"/_index_template/{prefix}*")
    indices = server.request("GET", f"/{prefix}*?flat_settings=true")
    return {"template": template, "indices": indices}


@pytest.mark.mongodb
@pytest.mark.elasticsearch
@pytest.mark.apiserver
async def test_a_search_series_is_exported_and_adopted_unchanged(
    mongo_world: World,
    mongodb: MongoDB,
    elasticsearch_server: Elasticsearch,
    index_prefix: str,
    control_plane: ControlPlane,
    tmp_path: Path,
) -> None:
    name = mongo_world.environment["MONGODB_DATABASE"]
    with mongodb.client() as client:
        client[name].create_collection("only")
    mongo_world.environment["ELASTICSEARCH_URL"] = elasticsearch_server.url
    spec = {
        "engine": "elasticsearch",
        "elasticsearch": {
            "pattern": f"{index_prefix}notes-{{YYYY.MM}}",
            "mappings": {
                "dynamic": "false",
                "properties": {"title": {"type": "text"}, "n": {"type": "long"}},
            },
            "settings": {"number_of_shards": 1, "number_of_replicas": 0, "refresh_interval": "5s"},
            "aliases": [f"{index_prefix}all"],
        },
    }
    mongo_world.start_operator()
    await mongo_world.create("Index", "by-hand", spec)
    await mongo_world.ready("Index", "by-hand", 60)
    await mongo_world.delete("Index", "by-hand")
    before = series_definitions(elasticsearch_server, index_prefix)
    where = {"MONGODB_URI": mongodb.uri, "ELASTICSEARCH_URL": elasticsearch_server.url}
    options = (f"--namespace={mongo_world.namespace}", "--elasticsearch")
    exported(name, tmp_path, *options, **where)
    _only_prefix(tmp_path, index_prefix)
    first = files(tmp_path)
    for kind, resource in apply(control_plane, tmp_path):
        status = await mongo_world.ready(kind, resource, 60)
        assert status["origin"] == "Adopted"
    assert series_definitions(elasticsearch_server, index_prefix) == before
    exported(name, tmp_path, *options, **where)
    _only_prefix(tmp_path, index_prefix)
    assert files(tmp_path) == first


def _only_prefix(folder: Path, prefix: str) -> None:
    """Other tests have series on the shared server too: they are not for this one to adopt."""
    for path in folder.glob("search-*.yaml"):
        if f"pattern: {prefix}" not in path.read_text() and f'pattern: "{prefix}' not in path.read_text():
            path.unlink()
    (folder / "SKIPPED.md").unlink(missing_ok=True)
    kustomization = (folder / "kustomization.yaml").read_text().splitlines(keepends=True)
    kept = [line for line in kustomization if ".yaml" not in line or (folder / line.strip("- \n")).exists()]
    (folder / "kustomization.yaml").write_text("".join(kept))
