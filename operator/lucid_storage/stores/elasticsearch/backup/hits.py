"""A page of a search split into documents whose sources keep the bytes that the server sent. Pure.

Elasticsearch stores a source as it was given and sends it so, blanks, comments and all. To find its ends without a
JSON decoder, the query carries a name drawn at random, which the server repeats behind each hit
(`"matched_queries":["<name>"]`): no document can hold it. In front of the source stand only names and numbers of the
server and strings without a bare quotation mark, so the first `,"_source":` is the one.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from lucid_storage.errors import ServerRefusedError

Hit = tuple[bytes, bytes | None, int, int, int, bytes]
"""id, routing, version, sequence number, primary term, source."""

_SOURCE = b',"_source":'
_SORT = re.compile(rb"-?[0-9]{1,19}")
_FIRST = b'"hits":['


@dataclass(frozen=True, slots=True)
class Page:
    """Hits of one answer. `last` is where the next page begins; None when there was none."""

    hits: list[Hit]
    last: int | None
    bytes: int
    point: str | None
    """The id of the point in time, which may change with each answer."""


class NoSourceError(Exception):
    """A hit has no source: the index does not keep it."""


def split(body: bytes, name: str) -> Page:
    """The answer to a search that was named `name` and sorted by `_shard_doc`.

    Raises ServerRefusedError when it does not have the form that the server is known to send, so that nothing is
    guessed, and NoSourceError.
    """
    begin = body.find(_FIRST)
    if begin < 0:
        raise _unknown()
    begin += len(_FIRST)
    point = _head(body[:begin])
    *parts, rest = body[begin:].split(f',"matched_queries":["{name}"]}}'.encode())
    if rest != b"]}}":
        raise _unknown()
    hits: list[Hit] = []
    size, last = 0, None
    for number, part in enumerate(parts):
        hit, last = _hit(part, 1 if number else 0)
        hits.append(hit)
        size += len(hit[5])
    return Page(hits, last, size, point)


def _head(text: bytes) -> str | None:
    """What stands in front of the hits. Shards that failed would be hits that are missing."""
    try:
        head = json.loads(text + b"]}}")
        complete = not head["timed_out"] and not head["_shards"]["failed"]
    except (ValueError, KeyError, TypeError):
        raise _unknown() from None
    if not complete:
        raise ServerRefusedError("Elasticsearch answered for some shards only; nothing is taken from that.")
    return str(head["pit_id"]) if "pit_id" in head else None


def _hit(part: bytes, separator: int) -> tuple[Hit, int]:
    source_at = part.find(_SOURCE)
    sort_at = part.rfind(b',"sort":[')
    if source_at < 0:
        raise NoSourceError
    if sort_at < source_at or not part.endswith(b"]") or (separator and part[:1] != b","):
        raise _unknown()
    sort = part[sort_at + 9 : -1]
    try:
        about = json.loads(part[separator:source_at] + b"}")
        routing = about.get("_routing")
        hit = (
            about["_id"].encode("utf-8", "surrogatepass"),
            None if routing is None else routing.encode("utf-8", "surrogatepass"),
            about["_version"],
            about["_seq_no"],
            about["_primary_term"],
            part[source_at + len(_SOURCE) : sort_at],
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        raise _unknown() from None
    if not _SORT.fullmatch(sort):
        raise _unknown()
    return hit, int(sort)


def _unknown() -> ServerRefusedError:
    return ServerRefusedError(
        "Elasticsearch sent hits in a form that this version does not know; use the method Snapshot."
    )
