"""The smallest spec of each kind, with what a test adds; and the samples that users copy."""

from typing import Any

import yaml

from testbed.paths import project_root

Json = dict[str, Any]


def collection(**fields: Any) -> Json:
    return fields


def key(field: str, order: Any = 1) -> Json:
    return {"field": field, "order": order}


def mongo_index(*keys: Json, **fields: Any) -> Json:
    return {
        "engine": "mongodb",
        "mongodb": {"collection": "users", "keys": list(keys or [key("a")]), **fields},
    }


def elastic_index(**fields: Any) -> Json:
    return {"engine": "elasticsearch", "elasticsearch": {"pattern": "lucid-users-{YYYY.MM}", **fields}}


def sharded(*keys: Json, **fields: Any) -> Json:
    return {"collection": "users", "shardKey": list(keys or [key("a")]), **fields}


def schedule(**fields: Any) -> Json:
    return {"schedule": "0 2 * * *", "template": {}, **fields}


def backup(**fields: Any) -> Json:
    return fields


def restore(**fields: Any) -> Json:
    return {"backupName": "nightly", **fields}


def volume(**fields: Any) -> Json:
    return {"type": "logs", **fields}


def samples() -> list[Json]:
    """Every object of manifests/samples."""
    files = sorted((project_root() / "manifests" / "samples").glob("*.yaml"))
    return [document for path in files for document in yaml.safe_load_all(path.read_text())]
