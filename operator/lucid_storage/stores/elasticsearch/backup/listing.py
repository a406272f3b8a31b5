"""Looks at many indices at once: past those that nobody may look at, in parts where one answer would be too large."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from lucid_storage.errors import NotSupportedError, ServerRefusedError
from lucid_storage.stores.elasticsearch.backup.http import (
    Answer,
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


def each_of(http: ElasticHttp, patterns: str, rest: str, parameters: Parameters) -> dict[str, str]:
    """What a GET of the patterns says of each index, as JSON texts. Raises LucidError.

    Whoever may use one index can block its metadata (index.blocks.metadata), and then the server refuses the whole
    request: without these it is made in parts.
    """
    asked = {**parameters, "expand_wildcards": _ALL, "ignore_unavailable": True, "allow_no_indices": True}
    try:
        answer = http.ask("GET", f"/{patterns}{rest}", parameters=asked)
    except TooLargeError:
        answer = None
    if answer is None or answer.kind == _BLOCKED:
        listed = http.must("GET", f"/_resolve/index/{patterns}", parameters={"expand_wildcards": _ALL}).json()
        names = [str(entry["name"]) for entry in listed["indices"]]
        return named(http, names, rest, parameters, passing=names)
    if answer.status == 404:
        return {}
    return _told(http, answer)


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
        answer = http.ask("GET", f"/{path}{rest}", parameters=parameters)
    except TooLargeError:
        answer = None
    if answer is not None and answer.ok:
        return _told(http, answer)
    several = len(names) > 1
    if answer is not None and answer.status != 404 and (answer.kind != _BLOCKED or not several):
        if answer.kind == _BLOCKED and names[0] in passing:
            return {}
        raise http.refused(answer)
    if several:
        half = len(names) // 2
        first, second = names[:half], names[half:]
        return _named(http, first, rest, parameters, passing) | _named(
            http, second, rest, parameters, passing
        )
    if answer is None and names[0] not in passing:
        raise NotSupportedError(
            f"The definition of {names[0]} at {http.subject} is too large to be read; leave the index out."
        )
    return {}


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


def _told(http: ElasticHttp, answer: Answer) -> dict[str, str]:
    if not answer.ok:
        raise http.refused(answer)
    try:
        return members(answer.body.decode())
    except ValueError as error:
        raise ServerRefusedError(f"{http.subject} described its indices in an unknown form.") from error
