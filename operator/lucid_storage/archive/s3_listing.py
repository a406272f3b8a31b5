"""The objects of a bucket, also of one that others use too, whose keys can be anything.

Answers are searched for what counts and not parsed as XML: no entity is expanded, and a character that XML 1.0 forbids,
which S3 keeps in a key all the same, ends nothing. So keys need no `encoding-type`, which some servers overlook.
S3 documentation: "ListObjectsV2".
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from typing import Final

from lucid_storage.archive.destination import Entry
from lucid_storage.archive.s3_client import Answer, Connection
from lucid_storage.errors import DestinationError

_END = b"</ListBucketResult>"
_OBJECT = re.compile(rb"<Contents(?:\s[^>]*)?>")
_FIELD = re.compile(rb"<(Key|Size|LastModified)(?:\s[^>]*)?>([^<]*)<")
_TRUNCATED = re.compile(rb"<IsTruncated>\s*true\s*<")
_TOKEN = re.compile(rb"<NextContinuationToken>\s*([^<]+?)\s*<")
_REFERENCE = re.compile(r"&(?:#x([0-9A-Fa-f]{1,6})|#([0-9]{1,7})|(amp|lt|gt|quot|apos));")
_NAMED: Final = {"amp": "&", "lt": "<", "gt": ">", "quot": '"', "apos": "'"}
_NO_PATH = frozenset({"", ".", ".."})
_NO_NAME = re.compile("[\x00-\x1f\x7f\ud800-\udfff]")


def list_objects(connection: Connection, where: str, prefix: str) -> Iterator[Entry]:
    """Those whose key begins with `prefix`, a page of the server at a time; `where` is the endpoint, for people.

    Keys that are no path (`a//b`, `a/../b`, a folder's own, one with a line break) are left out: none of ours is like
    that, and no other request for one would reach it. Raises DestinationError; an answer that is no whole page is never
    taken for a short one.
    """
    query = {"list-type": "2", "prefix": prefix}
    while True:
        body = connection.request("GET", "", query, accept=_whole).body
        try:
            entries = [entry for entry in map(_entry, _OBJECT.split(body)[1:]) if _is_path(entry.path)]
            following = _following(body)
        except (KeyError, ValueError):
            raise DestinationError(
                f"{where} lists objects without name, size or time, or does not say how the list goes on; it is no"
                " S3 server."
            ) from None
        yield from entries
        if following is None:
            return
        if following == query.get("continuation-token"):
            raise DestinationError(f"{where} gives the same part of a list again; it is no S3 server.")
        query["continuation-token"] = following


def _whole(answer: Answer) -> bool:
    # A connection that breaks in the middle shows in nothing else where the server does not say the length.
    return answer.status == 200 and _END in answer.body


def _entry(text: bytes) -> Entry:
    """Raises KeyError, ValueError."""
    fields: dict[bytes, bytes] = dict(reversed(_FIELD.findall(text)))
    modified = datetime.fromisoformat(fields[b"LastModified"].decode().strip())
    if modified.tzinfo is None:
        raise ValueError("a time without its zone")
    return Entry(_text(fields[b"Key"]), int(fields[b"Size"]), modified)


def _following(body: bytes) -> str | None:
    """Names the next page; None when this is the last one. Raises ValueError."""
    if not _TRUNCATED.search(body):
        return None
    token = _TOKEN.search(body)
    if token is None:
        raise ValueError("more, and no word of where")
    return _text(token.group(1))


def _text(xml: bytes) -> str:
    """As it was before it was written as XML, control characters too. Raises ValueError."""
    return _REFERENCE.sub(_character, xml.decode(errors="replace"))


def _character(reference: re.Match[str]) -> str:
    hexadecimal, decimal, name = reference.groups()
    return _NAMED[name] if name else chr(int(hexadecimal, 16) if hexadecimal else int(decimal))


def _is_path(key: str) -> bool:
    return _NO_PATH.isdisjoint(key.split("/")) and _NO_NAME.search(key) is None
