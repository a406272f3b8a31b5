"""The list of collections at the beginning of a mongodump archive, with what each was made of.

Definitions are kept as mongodump writes them into `<collection>.metadata.json`: canonical Extended JSON of the
collection's options and indexes, so that every BSON type comes back as it was.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import bson
from bson import json_util
from bson.codec_options import CodecOptions, DatetimeConversion
from bson.errors import BSONError

from lucid_storage.archive.content import damaged

FORMAT_VERSION = "0.1"
BUCKETS = "system.buckets."
"""A time series lies in a collection of this prefix and its name (servers before 8.3)."""

_FIRST_BUCKETLESS = (8, 3)
_CODEC: CodecOptions[dict[str, object]] = CodecOptions(
    document_class=dict, datetime_conversion=DatetimeConversion.DATETIME_MS
)
_JSON = json_util.JSONOptions(
    json_mode=json_util.JSONMode.CANONICAL,
    document_class=dict,
    datetime_conversion=DatetimeConversion.DATETIME_MS,
    tz_aware=False,
)


class Namespace(NamedTuple):
    """A collection's place in the archive. The oplog has no database."""

    database: str
    collection: str

    def __str__(self) -> str:
        return f"{self.database}.{self.collection}"


@dataclass(frozen=True, slots=True)
class CollectionEntry:
    """What the prelude says of one collection."""

    namespace: Namespace
    """For a time series its own name, not that of its buckets."""
    options: Mapping[str, object] | None = None
    """As listCollections gives them, BSON types kept; None where the archive has no metadata (users, oplog)."""
    indexes: Sequence[Mapping[str, object]] = ()
    """As listIndexes gives them."""
    uuid: str = ""
    """32 hexadecimal digits."""
    type: str = ""
    """collection, view or timeseries."""
    size: int = 0
    """Documents, as an estimate."""

    @property
    def has_data(self) -> bool:
        return self.type != "view"


@dataclass(frozen=True, slots=True)
class Prelude:
    """The beginning of an archive."""

    server_version: str
    tool_version: str
    collections: tuple[CollectionEntry, ...]
    concurrent_collections: int = 1

    def place(self, entry: CollectionEntry) -> Namespace:
        """Where the blocks of the collection are found."""
        database, collection = entry.namespace
        if entry.type == "timeseries" and _version(self.server_version) < _FIRST_BUCKETLESS:
            return Namespace(database, BUCKETS + collection)
        return entry.namespace


def encoded(prelude: Prelude) -> list[bytes]:
    """The documents of the first block: the head, and one a collection."""
    head = {
        "concurrent_collections": prelude.concurrent_collections,
        "version": FORMAT_VERSION,
        "server_version": prelude.server_version,
        "tool_version": prelude.tool_version,
    }
    return [bson.encode(head), *(bson.encode(_entry_document(entry)) for entry in prelude.collections)]


def parsed(documents: Sequence[bytes]) -> Prelude:
    """The opposite of `encoded`. Raises LucidError(ArchiveDamaged)."""
    if not documents:
        raise damaged("it has no list of collections")
    head = decoded(documents[0])
    version = head.get("version")
    if version != FORMAT_VERSION:
        raise damaged(f"its format is {str(version)[:20]}, not {FORMAT_VERSION}")
    concurrent = head.get("concurrent_collections")
    return Prelude(
        server_version=str(head.get("server_version", "")),
        tool_version=str(head.get("tool_version", "")),
        collections=tuple(_parse_entry(decoded(document)) for document in documents[1:]),
        concurrent_collections=concurrent if isinstance(concurrent, int) else 1,
    )


def _entry_document(entry: CollectionEntry) -> dict[str, object]:
    return {
        "db": entry.namespace.database,
        "collection": entry.namespace.collection,
        "metadata": "" if entry.options is None else metadata_json(entry),
        "size": entry.size,
        "type": entry.type,
    }


def metadata_json(entry: CollectionEntry) -> str:
    """What mongodump writes into `<collection>.metadata.json`: canonical Extended JSON."""
    metadata: dict[str, object] = {"options": dict(entry.options)} if entry.options else {}
    metadata["indexes"] = [dict(index) for index in entry.indexes]
    if entry.uuid:
        metadata["uuid"] = entry.uuid
    metadata["collectionName"] = entry.namespace.collection
    if entry.type:
        metadata["type"] = entry.type
    return json_util.dumps(metadata, json_options=_JSON, separators=(",", ":"), ensure_ascii=False)


def _parse_entry(document: Mapping[str, object]) -> CollectionEntry:
    database, collection = document.get("db"), document.get("collection")
    text, size = document.get("metadata"), document.get("size")
    if not isinstance(database, str) or not isinstance(collection, str) or not collection:
        raise damaged("its list of collections cannot be read")
    entry = CollectionEntry(
        Namespace(database, collection),
        type=str(document.get("type") or ""),
        size=size if isinstance(size, int) else 0,
    )
    if not isinstance(text, str) or not text:
        return entry
    try:
        metadata = json_util.loads(text, json_options=_JSON)
        return CollectionEntry(
            entry.namespace,
            options=dict(metadata.get("options") or {}),
            indexes=tuple(dict(index) for index in metadata.get("indexes") or ()),
            uuid=str(metadata.get("uuid") or ""),
            type=entry.type or str(metadata.get("type") or ""),
            size=entry.size,
        )
    except (BSONError, ValueError, TypeError, AttributeError, RecursionError):
        raise damaged("the definition of a collection cannot be read") from None


def decoded(data: bytes) -> Mapping[str, object]:
    """One document, dates as milliseconds. Raises LucidError(ArchiveDamaged)."""
    try:
        return bson.decode(data, _CODEC)
    except (BSONError, ValueError, TypeError):
        raise damaged("a part of its structure cannot be read") from None


def _version(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split("-", maxsplit=1)[0].split(".")[:2] if part.isdigit())
