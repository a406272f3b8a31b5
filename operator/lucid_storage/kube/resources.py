"""One custom resource as the operator holds it in memory, cut down to what is used."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from lucid_storage.kube.client import Json, resource_path
from lucid_storage.models.meta import ANNOTATION_PREFIX, FINALIZER, PAUSED


class Key(NamedTuple):
    """Names one custom resource."""

    plural: str
    namespace: str
    name: str

    def __str__(self) -> str:
        return f"{self.plural}/{self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class Resource:
    """A snapshot of one object. `status` is the last one known, our own writes included."""

    key: Key
    uid: str
    generation: int
    resource_version: str
    created: str
    """creationTimestamp, RFC 3339: the order of seniority between resources that claim one real object."""
    deleted: str | None
    annotations: Mapping[str, str]
    """Only those of our own group."""
    finalizers: tuple[str, ...]
    spec: Json
    status: Json

    @classmethod
    def from_body(cls, plural: str, body: Mapping[str, object]) -> Resource:
        """Cut a body as watched or read. Everything that is not used is let go, so that thousands stay small."""
        meta = body.get("metadata")
        assert isinstance(meta, Mapping)
        annotations = {
            k: v for k, v in (meta.get("annotations") or {}).items() if k.startswith(ANNOTATION_PREFIX)
        }
        spec, status = body.get("spec") or {}, body.get("status") or {}
        assert isinstance(spec, dict)
        assert isinstance(status, dict)
        return cls(
            key=Key(plural, meta["namespace"], meta["name"]),
            uid=meta["uid"],
            generation=int(meta.get("generation", 0)),
            resource_version=meta.get("resourceVersion", ""),
            created=meta.get("creationTimestamp", ""),
            deleted=meta.get("deletionTimestamp"),
            annotations=annotations,
            finalizers=tuple(meta.get("finalizers") or ()),
            spec=spec,
            status=status,
        )

    @property
    def path(self) -> str:
        return resource_path(self.key.plural, self.key.namespace, self.key.name)

    @property
    def held(self) -> bool:
        """Whether our finalizer is on it."""
        return FINALIZER in self.finalizers

    @property
    def paused(self) -> bool:
        """Whether the annotation stops all writes on its behalf."""
        return self.annotations.get(PAUSED) == "true"

    @property
    def secret(self) -> str | None:
        """The Secret that spec.connection names, as far as the raw object tells."""
        connection = self.spec.get("connection")
        named = connection.get("secretName") if isinstance(connection, dict) else None
        return named if isinstance(named, str) else None

    @property
    def seniority(self) -> tuple[str, str, str]:
        """Sorts the oldest first; ties by namespace and name."""
        return (self.created, self.key.namespace, self.key.name)

    def deleting_since(self) -> datetime | None:
        return datetime.fromisoformat(self.deleted) if self.deleted else None
