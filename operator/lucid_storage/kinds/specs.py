"""What all kinds do with a spec before they think: parse, resolve the database, check what CEL cannot see."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import TypeVar

from pydantic import ValidationError

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds.connections import Connections
from lucid_storage.kube.resources import Resource
from lucid_storage.models.base import JsonDoc, SpecModel
from lucid_storage.models.meta import RESERVED_DATABASES

SweepSeconds = Callable[[Resource, str | None], float]
"""How often a resource with these credentials is looked at without any trigger."""

M = TypeVar("M", bound=SpecModel)
SPEC_LIMIT = 256 * 1024
NAMESPACE_LIMIT = 255
PATH_PARTS = 12
"""Of a field's path that are shown: a document can be nested without measure."""


def parse(model: type[M], resource: Resource) -> M:
    """The spec as a model. The CRD refuses most bad input at apply; this is for what came past it."""
    size = len(json.dumps(resource.spec))
    if size > SPEC_LIMIT:
        raise RefusedError(
            f"The spec has {size // 1024} KiB; at most {SPEC_LIMIT // 1024} KiB can be handled. Make it smaller.",
            reason=Reason.INVALID_SPEC,
        )
    try:
        return model.model_validate(resource.spec)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
        path = ".".join(str(part) for part in first["loc"][:PATH_PARTS])
        more = "..." if len(first["loc"]) > PATH_PARTS else ""
        raise RefusedError(f"spec.{path}{more}: {first['msg']}.", reason=Reason.INVALID_SPEC) from None


def check_free_form(field: str, document: JsonDoc | None, problems: Callable[[JsonDoc], list[str]]) -> None:
    """Refuse what must not be in a free-form document (JavaScript, excess)."""
    found = problems(document) if document is not None else []
    if found:
        raise RefusedError(f"spec.{field}: {found[0]}", reason=Reason.INVALID_SPEC)


async def resolve_database(
    connections: Connections, resource: Resource, secret: str | None, declared: str | None
) -> str:
    """The declared database, or the default of the credentials. Raises RefusedError when there is neither."""
    database = declared or await connections.default_database(resource.key.namespace, secret)
    if database is None:
        raise RefusedError(
            "No database is named: set spec.database, or MONGODB_DATABASE beside the credentials.",
            reason=Reason.INVALID_SPEC,
        )
    if database in RESERVED_DATABASES:
        raise RefusedError(
            f"The database {database} belongs to MongoDB itself; name another one.",
            reason=Reason.INVALID_SPEC,
        )
    connections.check_database(resource.key.namespace, secret, database)
    return database


def check_namespace(database: str, collection: str) -> None:
    """What the server takes as a namespace (at most 255 bytes), and the driver as a name (no empty part).

    Raises RefusedError.
    """
    if ".." in collection or collection.endswith("."):
        raise RefusedError(
            f"The collection name {collection} has an empty part, which MongoDB's drivers cannot address; remove the"
            " dot that is too much.",
            reason=Reason.INVALID_SPEC,
        )
    if len(f"{database}.{collection}".encode()) > NAMESPACE_LIMIT:
        raise RefusedError(
            f"The name {database}.{collection} is longer than MongoDB's {NAMESPACE_LIMIT} bytes; choose a shorter"
            " one.",
            reason=Reason.INVALID_SPEC,
        )


async def mongodb_identity(
    connections: Connections, resource: Resource, secret: str | None, database: str
) -> str:
    """Identity of the MongoDB behind these credentials; the database is noted for narrow change streams."""
    deployment = await connections.mongodb(resource.key.namespace, secret)
    deployment.use(database)
    async with connections.watching(deployment) as port:
        return (await port.info()).identity
