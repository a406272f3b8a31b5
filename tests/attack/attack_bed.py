"""Resources as the operator holds them, for attacks that need no server."""

from typing import Any

from lucid_storage.kube.resources import Resource


def collection(namespace: str, **spec: Any) -> Resource:
    return _resource("collections", namespace, spec)


def series(namespace: str, stem: str, aliases: list[str]) -> Resource:
    block = {"pattern": f"{stem}-{{YYYY.MM}}", "aliases": aliases}
    return _resource("indexes", namespace, {"engine": "elasticsearch", "elasticsearch": block})


def _resource(plural: str, namespace: str, spec: dict[str, Any]) -> Resource:
    meta = {"name": "mine", "namespace": namespace, "uid": "u", "resourceVersion": "1", "generation": 1}
    return Resource.from_body(plural, {"metadata": meta, "spec": spec})
