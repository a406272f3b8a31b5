"""The MongoDB half of an Index: its definition, and what the server would always refuse in one.

The rules were compared with a real server: what it accepts is not refused here, but for text and 2d options
on indexes that would ignore them.
"""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, StringConstraints

from lucid_storage.models.base import CollectionName, DatabaseName, FieldPath, JsonDoc, SpecModel
from lucid_storage.models.cel import IntOrString, Rule, Rules, immutable, immutable_optional
from lucid_storage.models.collation import Collation
from lucid_storage.models.collection import MAX_SECONDS

IndexOrder = Annotated[
    Literal[1, -1, "2d", "2dsphere", "text", "hashed"],
    IntOrString(),
    Rules(
        Rule(
            " || ".join(
                f"self == {order}" for order in ("1", "-1", "'2d'", "'2dsphere'", "'text'", "'hashed'")
            ),
            "order must be 1, -1, 2d, 2dsphere, text or hashed.",
        )
    ),
]


_PART = "[^.$][^.]*|[$][*][*]$"
"""Of a regular expression: a plain part of a path, or a wildcard, which ends it."""


class IndexKey(SpecModel):
    """One field of the key pattern."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "!self.field.endsWith('$**') || self.order == 1 || self.order == -1 "
            "|| self.order == 'text' && self.field == '$**'",
            "A wildcard field takes the order 1 or -1, and $** alone also text.",
        ),
        Rule(
            f"self.field.matches('^({_PART})([.]({_PART}|[$](id|ref|db)))*$')",
            "No part of a field path can start with $, but for a wildcard such as data.$** at its end.",
        ),
    )

    field: FieldPath
    """Path of the field, a wildcard such as `$**` or `data.$**`, or `_id`."""
    order: IndexOrder
    """1, -1, "2d", "2dsphere", "text" or "hashed"."""


def _any(*orders: str) -> str:
    """Whether a key has one of the orders. Not `in`: its cost is estimated too high for an int-or-string."""
    tests = " || ".join(f"k.order == '{order}'" for order in orders)
    return f"self.keys.exists(k, {tests})"


_PLAIN_WILDCARD = "self.keys.exists(k, (k.field == '$**' || k.field.endsWith('.$**')) && k.order != 'text')"

_INDEX_RULES = (
    immutable_optional("database"),
    Rule(
        "self.keys.all(k, self.keys.exists_one(other, other.field == k.field))",
        "A field can stand only once in keys; remove the second one.",
    ),
    Rule(
        "!has(self.expireAfterSeconds) || self.keys.size() == 1",
        "A TTL index has exactly one field; remove expireAfterSeconds or the other fields.",
    ),
    Rule(
        "!has(self.expireAfterSeconds) || self.keys.all(k, k.field != '_id')",
        "A TTL index on _id is not possible; name a field with a date.",
    ),
    Rule(
        "!has(self.expireAfterSeconds) || !self.keys.exists(k, k.field.endsWith('$**'))",
        "A wildcard index cannot be a TTL index; remove expireAfterSeconds.",
    ),
    Rule(
        "self.keys.size() != 1 || self.keys[0].field != '_id' || "
        "self.keys[0].order != 1 && self.keys[0].order != -1",
        "The index on _id is made by MongoDB itself and cannot be declared.",
    ),
    Rule(
        "self.keys.filter(k, k.order == 'hashed').size() <= 1",
        "An index can have only one hashed field; give the others 1 or -1.",
    ),
    Rule(
        f"!(has(self.unique) && self.unique) || !{_any('hashed')}",
        "A hashed index cannot be unique; remove unique.",
    ),
    Rule(
        "!(has(self.sparse) && self.sparse && has(self.partialFilterExpression))",
        "sparse and partialFilterExpression exclude one another; keep partialFilterExpression.",
    ),
    Rule(
        f"!{_any('text')} || !{_any('hashed', '2d', '2dsphere')}",
        "A text index cannot also have hashed, 2d or 2dsphere fields.",
    ),
    Rule(
        "self.keys.filter(k, k.order == '2d').size() == 0 || self.keys[0].order == '2d' && "
        "self.keys.filter(k, k.order == '2d').size() == 1 && "
        f"!{_any('hashed', '2dsphere', 'text')}",
        "A 2d field must be the first one, and no other special field can stand beside it.",
    ),
    Rule(
        f"!{_any('hashed')} || !{_any('2dsphere')}",
        "A hashed field cannot stand beside a 2dsphere field.",
    ),
    Rule(
        "!has(self.wildcardProjection) || self.keys.exists(k, k.field == '$**' && k.order != 'text')",
        "wildcardProjection belongs to an index on the field $** alone; remove it or index $**.",
    ),
    Rule(
        f"!({_PLAIN_WILDCARD}) || !((has(self.unique) && self.unique) || (has(self.sparse) && self.sparse))",
        "A wildcard index cannot be unique or sparse; remove that.",
    ),
    Rule(
        "self.keys.filter(k, k.field == '$**' || k.field.endsWith('.$**')).size() <= 1",
        "An index can have only one wildcard field.",
    ),
    Rule(
        f"{_any('text')} || !(has(self.weights) || has(self.defaultLanguage) || has(self.languageOverride) "
        "|| has(self.textIndexVersion))",
        "weights, defaultLanguage, languageOverride and textIndexVersion need a text index; remove them.",
    ),
    Rule(
        f"{_any('2d')} || !(has(self.bits) || has(self.min) || has(self.max))",
        "bits, min and max belong to a 2d index; remove them.",
    ),
    Rule("!(has(self.min) && has(self.max)) || self.min < self.max", "min must be smaller than max."),
    Rule(
        f"!{_any('text')} || !has(self.collation) || self.collation.locale == 'simple'",
        "A text index takes only the collation simple; set collation.locale to simple.",
    ),
    Rule(
        f"!{_any('2d')} || !has(self.collation) || self.collation.locale == 'simple'",
        "A 2d index takes only the collation simple; set collation.locale to simple.",
    ),
    Rule(
        "!has(self.database) || size(bytes(self.database)) + size(bytes(self.collection)) <= 254",
        "database and collection together are too long: MongoDB allows 255 bytes for both with the dot.",
    ),
)


class MongoIndex(SpecModel):
    """An index of a MongoDB collection. Its definition is whole: what is absent is the server's default."""

    rules: ClassVar[tuple[Rule, ...]] = _INDEX_RULES

    database: DatabaseName | None = None
    """Database of the collection; without it, MONGODB_DATABASE of the operator. Pinned in status."""
    collection: Annotated[CollectionName, Rules(immutable("collection"))]
    """Name of the collection."""
    keys: Annotated[list[IndexKey], Field(min_length=1, max_length=32)]
    """The key pattern, in order."""
    unique: bool | None = None
    """No two documents with equal keys."""
    sparse: bool | None = None
    """Leave out documents without the field."""
    expire_after_seconds: Annotated[int, Field(ge=0, le=MAX_SECONDS)] | None = None
    """TTL: age in seconds, by the indexed date, at which documents are deleted."""
    partial_filter_expression: JsonDoc | None = None
    """Index only documents that match; Extended JSON."""
    collation: Collation | None = None
    """Rules for comparing strings; without it, those of the collection."""
    hidden: bool | None = None
    """The planner does not use the index; it is kept up to date. Absent means unmanaged."""
    wildcard_projection: JsonDoc | None = None
    """Which fields an index on `$**` has."""
    weights: Annotated[dict[str, Annotated[int, Field(ge=1, le=99_999)]], Field(max_length=32)] | None = None
    """Weights of the fields of a text index; 1 where none is given."""
    default_language: Annotated[str, StringConstraints(min_length=1, max_length=32)] | None = None
    """Language of a text index; the server's default is english."""
    language_override: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """The field that names a document's language; the server's default is language."""
    text_index_version: Annotated[int, Field(ge=1, le=4)] | None = None
    """Version of the text index."""
    bits: Annotated[int, Field(ge=1, le=32)] | None = None
    """Precision of a 2d index, 1 to 32; the server's default is 26."""
    min: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None
    """Lower bound of a 2d index; the server's default is -180."""
    max: Annotated[float, Field(ge=-1e9, le=1e9)] | None = None
    """Upper bound of a 2d index; the server's default is 180."""
    drop_after_seconds: Annotated[int, Field(ge=0, le=604_800)] | None = None
    """How long a superseded index stays hidden before it is dropped, in seconds; without it, 600."""
