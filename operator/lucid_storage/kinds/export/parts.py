"""What exported resources are made of: names, the frame of a manifest, and what was left out."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from lucid_storage.models.base import SpecModel
from lucid_storage.models.meta import API_VERSION
from lucid_storage.stores.mongodb.types import JsonValue

Manifest = dict[str, JsonValue]

NAME_LIMIT = 253
"""A DNS subdomain's characters at most."""
_HASH_LENGTH = 8
_PLAIN = re.compile(r"[a-z0-9]([a-z0-9_]*[a-z0-9])?", re.ASCII)
_LABEL_EDGE = re.compile(r"[^a-z0-9]*\.[^a-z0-9]*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Skipped:
    """Something of the server that no resource, or only part of one, describes."""

    what: str
    why: str


def beyond(what: str, names: Sequence[str]) -> tuple[Skipped, ...]:
    """Options that are there and that no resource can declare."""
    why = "A resource cannot declare it: it stays as it is, and what is made anew from the resource is without it."
    return tuple(Skipped(f"{name} of {what}", why) for name in names)


def resource_name(*parts: str) -> str:
    """The parts joined by `-` as a DNS subdomain. Different parts never share a name.

    Parts of lower-case letters, digits and single `_` inside keep all they say, `_` as `.`; for all others a
    hash of the parts stands at the end.
    """
    if all(_PLAIN.fullmatch(part) and "__" not in part for part in parts):
        name = "-".join(part.replace("_", ".") for part in parts)
        if len(name) <= NAME_LIMIT - _HASH_LENGTH - 1:
            return name
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:_HASH_LENGTH]
    rough = re.sub(r"[^a-z0-9.]+", "-", "-".join(parts).lower().replace("_", "."))
    rough = _LABEL_EDGE.sub(".", rough)[: NAME_LIMIT - _HASH_LENGTH - 1].strip("-.")
    return f"{rough}-{digest}" if rough else digest


def manifest(kind: str, name: str, namespace: str | None, spec: Mapping[str, JsonValue]) -> Manifest:
    metadata: dict[str, JsonValue] = {"name": name}
    if namespace is not None:
        metadata["namespace"] = namespace
    return {"apiVersion": API_VERSION, "kind": kind, "metadata": metadata, "spec": dict(spec)}


def given(fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Without the fields that are None."""
    return {name: value for name, value in fields.items() if value is not None}


def misfit(model: type[SpecModel], spec: Mapping[str, JsonValue]) -> str | None:
    """Why the spec cannot be declared, or None."""
    try:
        model.model_validate(dict(spec))
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        return f"{'.'.join(str(part) for part in first['loc'])}: {first['msg']}"
    return None
