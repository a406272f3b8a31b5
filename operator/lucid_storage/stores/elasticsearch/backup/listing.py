"""Looks at many indices at once: past those that nobody may look at, in parts where one answer would be too large."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from lucid_storage.errors import LucidError, NotSupportedError, ServerRefusedError
from lucid_storage.stores.elasticsearch.backup.http import (
    ElasticHttp,
    Parameters,
    TooLargeError,
    encoded,
)
from lucid_storage.stores.elasticsearch.backup.rawjson import members

_ALL = "open,closed,hidden"
# Of the names in one request: the server takes a line of 4096 bytes.
_LINE_BYTES = 3000
_BLOCKED = "cluster_block_exception"


class _UnreadError(Exception):
    """These cannot be read in one request, but some of them may be."""

    def __init__(self, why: LucidError | None = None, *, gone: bool = False) -> None:
        super().__init__()
        self.why = why
        """What the server says about it; None where what it tells is too large or nested too deep."""
        self.gone = gone
        """One of them is not there."""


def each_of(http: ElasticHttp, patterns: str, rest: str, parameters: Parameters) -> dict[str, str]:
    """What a GET of the patterns says of each index, as JSON texts. Raises LucidError.

    Whoever may use one index can block its metadata (index.blocks.metadata), and then the server refuses the whole
    request, or nest its mapping deeper than can be read: without these it is made in parts.
    """
    asked = {**parameters, "expand_wildcards": _ALL, "ignore_unavailable": True, "allow_no_indices": True}
    try:
        return _told(http, f"/{patterns}{rest}", asked)
    except _UnreadError as error:
        if error.gone:
            return {}
    listed = http.must("GET", f"/_resolve/index/{patterns}", parameters={"expand_wildcards": _ALL}).json()
    if not isinstance(listed, dict):
        raise ServerRefusedError(f"{http.subject} described its indices in an unknown form.")
    names = [str(entry["name"]) for entry in listed["indices"]]
    return named(http, names, rest, parameters, passing=names)


def named(
    http: ElasticHttp,
    names: Sequence[str],
    rest: str = "",
    parameters: Parameters | None = None,
    *,
    passing: Collection[str] = (),
) -> dict[str, str]:
    """The same of these very names, without those that are gone, and without those of `passing` that cannot be read.

    Raises LucidError.
    """
    found: dict[str, str] = {}
    for some in _lines(names):
        found |= _named(http, some, rest, parameters, passing)
    return found


def _named(
    http: ElasticHttp,
    names: list[str],
    rest: str,
    parameters: Parameters | None,
    passing: Collection[str],
) -> dict[str, str]:
    path = ",".join(encoded(name) for name in names)
    try:
        return _told(http, f"/{path}{rest}", parameters)
    except _UnreadError as error:
        unread = error
    if len(names) > 1:
        half = len(names) // 2
        first, second = names[:half], names[half:]
        return _named(http, first, rest, parameters, passing) | _named(
            http, second, rest, parameters, passing
        )
    if unread.gone or names[0] in passing:
        return {}
    raise unread.why or NotSupportedError(
        f"The definition of {names[0]} at {http.subject} is too large, or nested too deep, to be read; leave the index"
        " out."
    )


def _told(http: ElasticHttp, path: str, parameters: Parameters | None) -> dict[str, str]:
    """Raises LucidError and _UnreadError."""
    try:
        answer = http.ask("GET", path, parameters=parameters)
        if answer.ok:
            return members(answer.body.decode())
    except (TooLargeError, ValueError) as error:
        raise _UnreadError from error
    why = http.refused(answer)
    if answer.status == 404 or (answer.status == 403 and answer.kind == _BLOCKED):
        raise _UnreadError(why, gone=answer.status == 404)
    raise why


def _lines(names: Sequence[str]) -> Iterator[list[str]]:
    some: list[str] = []
    size = 0
    for name in names:
        more = len(encoded(name)) + 1
        if some and size + more > _LINE_BYTES:
            yield some
            some, size = [], 0
        some.append(name)
        size += more
    if some:
        yield some
