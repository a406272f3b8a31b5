"""What a Collection declares, in the store's terms. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lucid_storage.models.base import DeletionPolicy, DriftPolicy
from lucid_storage.models.collection import CollectionSpec, TtlPolicy
from lucid_storage.stores.mongodb.types import Capped, CollectionOptions, JsonDoc
from lucid_storage.stores.redis.types import KeySpace

OPTION_FIELDS: Mapping[str, str] = {
    "capped": "capped",
    "time_series": "timeSeries",
    "clustered_index": "clusteredIndex",
    "collation": "collation",
    "pre_and_post_images": "preAndPostImages",
    "validator": "validator",
    "validation_level": "validationLevel",
    "validation_action": "validationAction",
}
"""Options by the names of `CollectionOptions`, with the names people write."""
EXPIRY = "expireAfterSeconds"
CAPPED_DOCUMENTS = "capped.maxDocuments"


@dataclass(frozen=True, slots=True)
class CollectionDesired:
    """A Collection with its defaults resolved. An option that is None is unmanaged."""

    database: str
    name: str
    secret: str | None
    options: CollectionOptions
    cache: tuple[KeySpace, ...]
    deletion_policy: DeletionPolicy
    drift_policy: DriftPolicy
    allow_data_loss: str | None
    backup_before: bool

    @property
    def target(self) -> str:
        return f"{self.database}.{self.name}"

    @property
    def managed(self) -> list[str]:
        """Names of the declared options, as they are kept in status; of some also the parts that can change alone."""
        options = self.options
        names = [shown for field, shown in OPTION_FIELDS.items() if getattr(options, field) is not None]
        names += [
            f"{OPTION_FIELDS[field]}.{EXPIRY}"
            for field in ("time_series", "clustered_index")
            if EXPIRY in (getattr(options, field) or {})
        ]
        if options.capped is not None and options.capped.max_documents is not None:
            names.append(CAPPED_DOCUMENTS)
        return sorted(names)


def resolve(spec: CollectionSpec, resource_name: str, database: str) -> CollectionDesired:
    """The declaration with name and database filled in."""
    return CollectionDesired(
        database=database,
        name=spec.name or resource_name,
        secret=spec.connection.secret_name if spec.connection else None,
        options=_options(spec),
        cache=tuple(
            KeySpace(c.key_pattern, c.ttl_seconds, enforce=c.ttl_policy is TtlPolicy.ENFORCE)
            for c in spec.cache or ()
        ),
        deletion_policy=spec.deletion_policy,
        drift_policy=spec.drift_policy,
        allow_data_loss=spec.allow_data_loss,
        backup_before=spec.backup_before,
    )


def _options(spec: CollectionSpec) -> CollectionOptions:
    capped = spec.capped
    return CollectionOptions(
        capped=Capped(capped.size_bytes, capped.max_documents) if capped else None,
        time_series=_document(spec.time_series),
        clustered_index=_document(spec.clustered_index),
        collation=_document(spec.collation),
        pre_and_post_images=spec.pre_and_post_images.enabled if spec.pre_and_post_images else None,
        validator=spec.validator,
        validation_level=spec.validation_level,
        validation_action=spec.validation_action,
    )


def _document(model: Any) -> JsonDoc | None:
    if model is None:
        return None
    document: JsonDoc = model.model_dump(mode="json", by_alias=True, exclude_none=True)
    return document
