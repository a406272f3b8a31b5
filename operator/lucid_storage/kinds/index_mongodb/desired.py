"""What an Index declares, in the store's terms. Pure."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass

from lucid_storage.models.base import DeletionPolicy, DriftPolicy
from lucid_storage.models.index import IndexSpec, ReplacePolicy
from lucid_storage.models.mongoindex import MongoIndex
from lucid_storage.stores.mongodb.types import IndexDefinition, KeyOrder

NAME_LIMIT = 250
DROP_AFTER_SECONDS = 600
"""How long a replaced index stays hidden where the resource says nothing."""

# A field whose own name looks like "<field>_<order>" would make two key patterns share one default name.
_LOOKS_LIKE_KEYS = re.compile(r"_(1|-1|2d|2dsphere|text|hashed)(_|$)")


@dataclass(frozen=True, slots=True)
class IndexDesired:
    """An Index with its defaults resolved."""

    database: str
    collection: str
    name: str
    secret: str | None
    definition: IndexDefinition
    drop_after_seconds: int
    replace_policy: ReplacePolicy
    deletion_policy: DeletionPolicy
    drift_policy: DriftPolicy
    allow_data_loss: str | None
    backup_before: bool

    @property
    def target(self) -> str:
        return f"{self.database}.{self.collection}"


def default_name(collection: str, keys: Sequence[tuple[str, KeyOrder]]) -> str:
    """`{collection}_{field}_{order}` for each field; with a hash of the key pattern where that is ambiguous or long."""
    name = "_".join([collection, *(f"{field}_{order}" for field, order in keys)])
    if len(name) <= NAME_LIMIT and not any(_LOOKS_LIKE_KEYS.search(field) for field, _ in keys):
        return name
    digest = hashlib.sha256(json.dumps(list(keys)).encode()).hexdigest()[:8]
    return f"{name[: NAME_LIMIT - 9]}_{digest}"


def shown_keys(keys: Sequence[tuple[str, KeyOrder]]) -> str:
    """The KEYS column."""
    return ", ".join(f"{field}:{order}" for field, order in keys)[:1000]


def resolve(spec: IndexSpec, index: MongoIndex, database: str) -> IndexDesired:
    """The declaration with name and database filled in."""
    keys = tuple((k.field, k.order) for k in index.keys)
    return IndexDesired(
        database=database,
        collection=index.collection,
        name=spec.name or default_name(index.collection, keys),
        secret=spec.connection.secret_name if spec.connection else None,
        definition=_definition(index, keys),
        drop_after_seconds=(
            DROP_AFTER_SECONDS if index.drop_after_seconds is None else index.drop_after_seconds
        ),
        replace_policy=spec.replace_policy,
        deletion_policy=spec.deletion_policy,
        drift_policy=spec.drift_policy,
        allow_data_loss=spec.allow_data_loss,
        backup_before=spec.backup_before,
    )


def _definition(index: MongoIndex, keys: tuple[tuple[str, KeyOrder], ...]) -> IndexDefinition:
    collation = (
        index.collation.model_dump(mode="json", by_alias=True, exclude_none=True) if index.collation else None
    )
    return IndexDefinition(
        keys=keys,
        unique=bool(index.unique),
        sparse=bool(index.sparse),
        expire_after_seconds=index.expire_after_seconds,
        partial_filter=index.partial_filter_expression,
        collation=collation,
        hidden=index.hidden,
        wildcard_projection=index.wildcard_projection,
        weights=dict(index.weights) if index.weights else None,
        default_language=index.default_language,
        language_override=index.language_override,
        text_index_version=index.text_index_version,
        bits=index.bits,
        min=index.min,
        max=index.max,
    )
