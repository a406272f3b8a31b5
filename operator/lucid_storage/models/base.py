"""What the models of all kinds are made of: base classes, bounded strings, free-form documents.

A spec is what a person declares. A field that is None is absent: the server's value is left alone, and the
CRD has no default for it. A field with another Python default has that default in the CRD too.
"""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import BaseModel, ConfigDict, Field, GetJsonSchemaHandler, JsonValue, StringConstraints
from pydantic.alias_generators import to_camel
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema

from lucid_storage.models.cel import ListMap, Rule, Rules
from lucid_storage.models.meta import RESERVED_DATABASES, RESERVED_PREFIXES


class SpecModel(BaseModel):
    """Part of a spec. Frozen, so that a plan cannot change what it was given.

    `rules` become CEL rules of the object in the CRD; they are checked by the API server, not here.
    """

    model_config = ConfigDict(
        frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True, defer_build=True
    )

    rules: ClassVar[tuple[Rule, ...]] = ()


class StatusModel(BaseModel):
    """Part of a status. Unknown fields are ignored: an older operator may read what a newer one wrote."""

    model_config = ConfigDict(
        extra="ignore", alias_generator=to_camel, populate_by_name=True, defer_build=True
    )

    def to_dict(self) -> dict[str, object]:
        """The JSON form that belongs into the object: camelCase, and no absent field."""
        document: dict[str, object] = self.model_dump(mode="json", by_alias=True, exclude_none=True)
        return document


class FreeForm:
    """Marks a document whose inside only the store understands; the API server keeps it as it is."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"type": "object", "x-kubernetes-preserve-unknown-fields": True}


JsonDoc = Annotated[dict[str, JsonValue], FreeForm()]
"""A document of the store: MongoDB Extended JSON v2, or an Elasticsearch body."""


def _quoted(values: tuple[str, ...]) -> str:
    return ", ".join(f"'{value}'" for value in values)


_NO_NUL = Rule(r"!self.contains('\u0000')", "A name cannot hold a NUL character; remove it.")

DatabaseName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63),
    Rules(
        Rule(
            r"!self.matches('[/\\\\. \"$*<>:|?\\x00]')",
            'A database name cannot hold any of / \\ . " $ * < > : | ? or a blank; choose another name.',
        ),
        Rule(
            "size(bytes(self)) <= 63",
            "A database name has at most 63 bytes in UTF-8; choose a shorter name.",
        ),
        Rule(
            f"!(self.lowerAscii() in [{_quoted(RESERVED_DATABASES)}])",
            "The databases admin, local and config belong to MongoDB itself; name a database of your own.",
        ),
    ),
]

CollectionName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    Rules(
        Rule("!self.contains('$')", "A collection name cannot hold a $; choose another name."),
        _NO_NUL,
        Rule(
            "!self.startsWith('system.')",
            "Collections whose name starts with system. belong to MongoDB itself; choose another name.",
        ),
        Rule(
            "!self.startsWith('.')",
            "A collection name cannot start with a dot; choose another name.",
        ),
        Rule(
            " && ".join(f"!self.startsWith('{prefix}')" for prefix in RESERVED_PREFIXES),
            f"Names that start with {' or '.join(RESERVED_PREFIXES)} are reserved for restores; "
            "choose another name.",
        ),
    ),
]

IndexName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=512),
    Rules(
        Rule("self != '*'", "An index cannot be named *; choose another name."),
        Rule("self != '_id_'", "The index _id_ is made by MongoDB itself and cannot be declared."),
        _NO_NUL,
    ),
]

FieldPath = Annotated[
    str,
    StringConstraints(min_length=1, max_length=250),
    Rules(
        _NO_NUL,
        Rule(
            "!self.startsWith('.') && !self.endsWith('.') && !self.contains('..')",
            "A field path cannot have an empty part; remove the dot that is too much.",
        ),
    ),
]

DnsName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=253),
    Rules(
        Rule(
            "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
            "Give the name of a Kubernetes object: lower-case letters, digits, - and . only.",
        )
    ),
]
"""The name of another Kubernetes object."""

Consent = Annotated[str, StringConstraints(max_length=8192)]
"""Names of targets, separated by commas."""

ShortText = Annotated[str, StringConstraints(max_length=256)]

Percent = Annotated[int, Field(ge=1, le=100)]
Count = Annotated[int, Field(ge=0, le=9_007_199_254_740_991)]
"""A number of documents, keys or bytes; within what every JSON reader keeps exactly."""


class DeletionPolicy(StrEnum):
    """What happens to the data when the resource is deleted."""

    RETAIN = "Retain"
    DELETE = "Delete"


class DriftPolicy(StrEnum):
    """What happens when the server differs from the declaration."""

    CORRECT = "Correct"
    REPORT = "Report"
    IGNORE = "Ignore"


class Origin(StrEnum):
    """Where the real object came from: only what was created here is dropped without a confirmation."""

    CREATED = "Created"
    ADOPTED = "Adopted"


class Connection(SpecModel):
    """Which credentials are used. Without it, those of the operator, in the namespaces that it serves."""

    secret_name: DnsName
    """A Secret in the same namespace with the label `storage.lucid-blockchain.org/allowed: "true"` and the
    operator's settings as keys: `MONGODB_URI`, `REDIS_URL`, `ELASTICSEARCH_URL` or their parts."""


class ConditionStatus(StrEnum):
    """As Kubernetes has it."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


class Condition(StatusModel):
    """One aspect of the resource's state, in the form that all Kubernetes tools read."""

    type: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    """What it is about: Ready, Reconciling, Stalled, Drifted..."""
    status: ConditionStatus
    """True, False or Unknown."""
    reason: Annotated[str, StringConstraints(min_length=1, max_length=128)]
    """Why, as one word of the documented list."""
    message: Annotated[str, StringConstraints(max_length=2048)] = ""
    """One sentence that says what to do."""
    last_transition_time: datetime
    """When `status` last changed."""
    observed_generation: Count | None = None
    """The generation of the spec that this was said about."""


Conditions = Annotated[list[Condition], Field(max_length=16), ListMap("type")]


class DriftEntry(StatusModel):
    """One field in which the server differs from the declaration."""

    field: ShortText
    """Path of the field in the spec."""
    expected: ShortText
    """The declared value, shortened."""
    actual: ShortText
    """The server's value, shortened."""
    since: datetime | None = None
    """When it was first seen."""


ManagedFields = Annotated[list[ShortText], Field(max_length=64)]
Drift = Annotated[list[DriftEntry], Field(max_length=20)]


class Protection(StatusModel):
    """The Backup that backupBefore asked for, before a change that could lose data."""

    backup: DnsName
    """Its name."""
    engine: ShortText
    """Which store it holds."""
    generation: Count
    """The generation of the spec that asked for the change."""
    since: datetime
    """When it was asked for."""
    uid: ShortText | None = None
    """Its UID, once it was seen: another Backup of its name protects from nothing."""
    used: bool | None = None
    """Whether the change was made, or is not wanted any more: the next one gets a Backup of its own."""


class KindStatus(StatusModel):
    """What the status of every kind has."""

    observed_generation: Count | None = None
    """The generation of the spec that was last looked at."""
    applied_generation: Count | None = None
    """The generation that was last applied in full: a difference found after that is drift."""
    conditions: Conditions | None = None
    """Ready, Reconciling, Stalled and the kind's own."""
