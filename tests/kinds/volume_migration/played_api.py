"""An API server in memory with the controllers that a migration meets: the binder, the protection of claims in use,
and the deletion of released volumes under the policy Delete, which really removes their folders.

It makes hundreds of migrations cheap. test_migration_on_server.py holds it against the real one.
"""

import json
import shutil
import uuid
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from lucid_storage.kube.client import Json, KubeApiError
from lucid_storage.kube.volumes import IN_USE

VOLUMES, CREATED = "/api/v1/persistentvolumes/", "2026-11-21T08:00:00Z"


def merged(old: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    result = dict(old) if isinstance(old, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), value)
    return result


def _copy(body: Any) -> Any:
    return json.loads(json.dumps(body))


class Store:
    """Objects by path, and what Kubernetes does with them after each change."""

    def __init__(self) -> None:
        self.objects: dict[str, Json] = {}
        self._version = 0

    def touch(self, body: Json) -> None:
        self._version += 1
        body["metadata"]["resourceVersion"] = str(self._version)

    def under(self, prefix: str) -> list[Json]:
        found = [b for p, b in self.objects.items() if p.startswith(prefix) and "/" not in p[len(prefix) :]]
        return sorted(found, key=lambda b: str(b["metadata"]["name"]))

    def claims(self) -> list[Json]:
        return [b for p, b in self.objects.items() if "/persistentvolumeclaims/" in p]

    def settle(self) -> None:
        """The controllers, until nothing changes."""
        while any([self._protect(), self._bind(), self._reclaim()]):
            pass

    def _protect(self) -> bool:
        used = {
            (pod["metadata"]["namespace"], v["persistentVolumeClaim"]["claimName"])
            for path, pod in self.objects.items()
            if "/pods/" in path and pod["spec"].get("nodeName")
            for v in pod["spec"]["volumes"]
        }
        changed = False
        for path, body in list(self.objects.items()):
            meta = body["metadata"]
            if "deletionTimestamp" not in meta:
                continue
            if IN_USE in meta.get("finalizers", []) and (meta["namespace"], meta["name"]) not in used:
                meta["finalizers"].remove(IN_USE)
                self.touch(body)
                changed = True
            if not meta.get("finalizers"):
                del self.objects[path]
                changed = True
        return changed

    def _bind(self) -> bool:
        changed = False
        for claim in self.claims():
            if claim["status"]["phase"] == "Pending" and "deletionTimestamp" not in claim["metadata"]:
                changed |= self._bound(claim)
            elif claim["status"]["phase"] == "Bound":
                volume = self.objects.get(VOLUMES + claim["spec"]["volumeName"])
                reference = (volume or {"spec": {}})["spec"].get("claimRef") or {}
                if reference.get("uid") != claim["metadata"]["uid"]:
                    claim["status"]["phase"] = "Lost"
                    self.touch(claim)
                    changed = True
        return changed

    def _bound(self, claim: Json) -> bool:
        meta, spec = claim["metadata"], claim["spec"]
        for volume in self.under(VOLUMES):
            reference = volume["spec"].get("claimRef")
            mine = reference is not None and (reference["namespace"], reference["name"]) == (
                meta["namespace"],
                meta["name"],
            )
            if reference is not None and not (mine and reference.get("uid") in (None, meta["uid"])):
                continue
            asked = spec.get("volumeName")
            fits = volume["spec"]["storageClassName"] == spec.get("storageClassName")
            if asked != volume["metadata"]["name"] if asked else not (mine or fits):
                continue
            claim["status"] = {"phase": "Bound", "capacity": volume["spec"]["capacity"]}
            spec["volumeName"] = volume["metadata"]["name"]
            meta.setdefault("annotations", {})["pv.kubernetes.io/bind-completed"] = "yes"
            volume["spec"]["claimRef"] = {
                "namespace": meta["namespace"],
                "name": meta["name"],
                "uid": meta["uid"],
            }
            volume["status"] = {"phase": "Bound"}
            self.touch(claim)
            self.touch(volume)
            return True
        return False

    def _reclaim(self) -> bool:
        uids = {c["metadata"]["uid"] for c in self.claims()}
        for path, volume in list(self.objects.items()):
            uid = (volume["spec"].get("claimRef") or {}).get("uid") if path.startswith(VOLUMES) else None
            if uid is None or uid in uids:
                continue
            if volume["spec"]["persistentVolumeReclaimPolicy"] == "Delete":
                shutil.rmtree(Path(volume["spec"]["hostPath"]["path"]))
                del self.objects[path]
                return True
            volume["status"] = {"phase": "Released"}
        return False


class PlayedApi:
    """One client. `guard` is called before each write, as that of the real one."""

    def __init__(self, store: Store, guard: Callable[[], None] = lambda: None) -> None:
        self._store = store
        self._guard = guard

    async def close(self) -> None:
        """There is nothing to close."""

    async def get(self, path: str, *, seconds: float = 0) -> Json | None:
        return _copy(self._store.objects.get(unquote(path)))

    async def patch(self, path: str, patch: Any, content_type: str = "") -> Json | None:
        try:
            return await self.request("PATCH", path, body=patch)
        except KubeApiError as error:
            if error.status == 404:
                return None
            raise

    async def pages(self, path: str, **_: object) -> AsyncIterator[list[Json]]:
        yield _copy(self._store.under(f"{path}/"))

    async def namespace_terminating(self, namespace: str) -> bool:
        found = self._store.objects.get(f"/api/v1/namespaces/{namespace}")
        return found is None or found["status"].get("phase") == "Terminating"

    async def request(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Any = None, **_: object
    ) -> Json:
        path = unquote(path)
        if method == "GET":
            return self._listed(path, query or {})
        self._guard()
        changed = {"POST": self._post, "PATCH": self._patch, "DELETE": self._delete}[method](path, body or {})
        answer = _copy(changed)
        self._store.settle()
        return answer

    def _listed(self, path: str, query: Mapping[str, str]) -> Json:
        found = self._store.under(f"{path}/")
        name, _, value = query.get("labelSelector", "").partition("=")
        if name:
            found = [b for b in found if (b["metadata"].get("labels") or {}).get(name) == value]
        return {"items": _copy(found)}

    def _post(self, path: str, body: Json) -> Json:
        made = _copy(body)
        full, meta = f"{path}/{made['metadata']['name']}", made["metadata"]
        if full in self._store.objects:
            raise KubeApiError(409, "AlreadyExists", "it exists")
        meta |= {"uid": str(uuid.uuid4()), "creationTimestamp": CREATED, "generation": 1}
        parts = path.split("/")
        if "namespaces" in parts and parts[-1] != "namespaces":
            meta["namespace"] = parts[parts.index("namespaces") + 1]
        made.setdefault("status", {})
        if parts[-1] == "persistentvolumeclaims":
            made["status"] = {"phase": "Pending"}
            meta["finalizers"] = [IN_USE]
        if parts[-1] == "persistentvolumes":
            made["status"] = {"phase": "Available"}
        self._store.touch(made)
        self._store.objects[full] = made
        return made

    def _found(self, path: str) -> Json:
        if path not in self._store.objects:
            raise KubeApiError(404, "NotFound", "it is not there")
        return self._store.objects[path]

    def _patch(self, path: str, patch: Json) -> Json:
        of_status = path.endswith("/status")
        body = self._found(path.removesuffix("/status"))
        for name in ("uid", "resourceVersion"):
            if patch.get("metadata", {}).get(name, body["metadata"][name]) != body["metadata"][name]:
                raise KubeApiError(409, "Conflict", f"another {name}")
        before = _copy(body)
        wanted = (
            {"status": patch["status"]} if of_status else {k: v for k, v in patch.items() if k != "status"}
        )
        fresh = merged(body, wanted)
        if of_status and patch["status"] is None:
            fresh["status"] = {}
        if "deletionTimestamp" in body["metadata"]:
            added = set(fresh["metadata"].get("finalizers", [])) - set(body["metadata"].get("finalizers", []))
            if added:
                raise KubeApiError(422, "Invalid", "no new finalizers can be added to what is being deleted")
        body.clear()
        body.update(fresh)
        if body.get("spec") != before.get("spec"):
            body["metadata"]["generation"] += 1
        self._store.touch(body)
        return body

    def _delete(self, path: str, body: Json) -> Json:
        members = self._store.under(f"{path}/")
        for member in members:
            self._delete(f"{path}/{member['metadata']['name']}", body)
        if members:
            return {"items": members}
        found = self._found(path)
        for name, value in (body.get("preconditions") or {}).items():
            if found["metadata"][name] != value:
                raise KubeApiError(409, "Conflict", f"another {name}")
        if found["metadata"].get("finalizers"):
            found["metadata"]["deletionTimestamp"] = CREATED
            self._store.touch(found)
        else:
            del self._store.objects[path]
        return found
