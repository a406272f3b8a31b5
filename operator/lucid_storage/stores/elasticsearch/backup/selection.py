"""Which indices a backup takes: what was asked for, what the namespace may use, and what cannot be taken, said."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lucid_storage.errors import LucidError, NotAllowedError, Reason, RefusedError
from lucid_storage.stores.elasticsearch.backup.definitions import Definition, definitions
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.elasticsearch.backup.names import Allowed, is_reserved, selected

_CLOSED = "is closed; open it"
_HIDDEN = "is hidden, and hidden indices are not taken; set its index.hidden to false"
_STREAM = "is a data stream, which no method takes"


@dataclass(frozen=True, slots=True)
class Selected:
    """The indices of a backup, by name, and what is left out."""

    indices: tuple[Definition, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Listed:
    """One index as the server lists it."""

    name: str
    aliases: tuple[str, ...]
    attributes: frozenset[str]
    stream: bool

    @classmethod
    def of(cls, entry: Mapping[str, Any]) -> _Listed:
        aliases = tuple(str(alias) for alias in entry.get("aliases", ()))
        return cls(
            str(entry["name"]), aliases, frozenset(entry.get("attributes", ())), "data_stream" in entry
        )

    @property
    def ordinary(self) -> bool:
        """Neither the server's own, nor a restore's, nor a part of a data stream."""
        return not (is_reserved(self.name) or "system" in self.attributes or self.stream)

    @property
    def may_be_restored(self) -> bool:
        """Its definition has to be read before its name is known."""
        return "-r-" in self.name

    @property
    def hidden(self) -> bool:
        return "hidden" in self.attributes

    @property
    def closed(self) -> bool:
        return "closed" in self.attributes


def choose(http: ElasticHttp, expressions: Sequence[str], allowed: Allowed) -> Selected:
    """Raises LucidError: NotAllowedError, RefusedError(InvalidSpec) for what is asked for by name and cannot be taken.

    Hidden indices and the server's own are never taken, save one that is live and that its restore left hidden.
    """
    listed = http.must(
        "GET", "/_resolve/index/*", parameters={"expand_wildcards": "open,closed,hidden"}
    ).json()
    notes = [_data_stream(stream, expressions, allowed) for stream in listed["data_streams"]]
    indices = [_Listed.of(entry) for entry in listed["indices"]]
    possible = [
        one
        for one in indices
        if one.ordinary
        and (one.may_be_restored or (not one.hidden and _meant(one.name, one.aliases, expressions, allowed)))
    ]
    foreign = {
        one.name
        for one in possible
        if not any(_meant(name, one.aliases, expressions, allowed) for name in (one.name, *one.aliases))
    }
    described = definitions(http, [one.name for one in possible], passing=foreign)
    taken: dict[str, Definition] = {}
    targets: dict[str, Definition] = {}
    for one in possible:
        found = described.get(one.name)
        if found is None or found.hidden:
            continue
        if not _meant(found.target, [*one.aliases, one.name], expressions, allowed):
            continue
        if one.closed:
            named = one.name in expressions or found.target in expressions
            notes.append(_left_out(found.target, _CLOSED, named))
            continue
        if found.target in targets:
            raise LucidError(
                f"The indices {targets[found.target].name} and {one.name} both stand for {found.target}; delete one.",
                reason=Reason.CONFLICT,
            )
        targets[found.target] = taken[one.name] = found
    for expression in expressions:
        if "*" not in expression and not any(_means(found, expression) for found in taken.values()):
            raise _nothing(expression, indices, listed, allowed)
    notes += _behind_aliases(expressions, indices, taken, allowed)
    return Selected(tuple(taken[name] for name in sorted(taken)), tuple(note for note in notes if note))


def read_again(http: ElasticHttp, chosen: Sequence[Definition]) -> tuple[Definition, ...]:
    """The definitions of now, in the same order: once documents are held at a point, mappings may only know more.

    Raises LucidError when one of them is gone, or is another index now.
    """
    found = definitions(http, [one.name for one in chosen])
    for one in chosen:
        now = found.get(one.name)
        if now is None or (now.uuid, now.target) != (one.uuid, one.target):
            raise LucidError(
                f"The index {one.target} was deleted or replaced while the backup began. Make the backup again.",
                reason=Reason.STORE_UNAVAILABLE,
            )
    return tuple(found[one.name] for one in chosen)


def _meant(name: str, aliases: Sequence[str], expressions: Sequence[str], allowed: Allowed) -> bool:
    return allowed.name(name) and selected(name, aliases, expressions)


def _means(found: Definition, expression: str) -> bool:
    return expression in (found.name, found.target) or expression in found.aliases


def _data_stream(stream: dict[str, Any], expressions: Sequence[str], allowed: Allowed) -> str:
    name = str(stream["name"])
    if is_reserved(name) or not _meant(name, (), expressions, allowed):
        return ""
    return _left_out(name, _STREAM, name in expressions)


def _left_out(name: str, why: str, named: bool) -> str:
    """A note for what a pattern or nothing asked for; a failure for what was asked for by name."""
    if named:
        raise _refused(name, why)
    return f"{name} {why}; it is not in this backup."


def _refused(name: str, why: str) -> RefusedError:
    joint = ", or" if why in (_CLOSED, _HIDDEN) else ";"
    return RefusedError(
        f"{name} {why}{joint} take it out of elasticsearch.indices.", reason=Reason.INVALID_SPEC
    )


def _nothing(
    expression: str, indices: Iterable[_Listed], listed: Mapping[str, Any], allowed: Allowed
) -> LucidError:
    """Why a name that was asked for is not in the backup."""
    if not allowed.name(expression):
        return allowed.refusal(expression)
    behind = [one for one in indices if one.name == expression or expression in one.aliases]
    streams = {str(stream["name"]) for stream in listed["data_streams"]}
    aliased = [entry for entry in listed["aliases"] if entry["name"] == expression]
    if any(str(name) in streams for entry in aliased for name in entry.get("indices", ())):
        return _refused(expression, f"stands for what {_STREAM}")
    if not any(one.ordinary for one in behind):
        return RefusedError(
            f"There is no index {expression}; change elasticsearch.indices.", reason=Reason.INVALID_SPEC
        )
    if any(one.closed for one in behind):
        return _refused(expression, _CLOSED)
    if any(one.hidden for one in behind):
        return _refused(expression, _HIDDEN)
    return NotAllowedError(
        f"The alias {expression} stands for indices that the namespace may not use; allow them, or take it out of"
        " elasticsearch.indices.",
        reason=Reason.INDEX_NOT_ALLOWED,
    )


def _behind_aliases(
    expressions: Sequence[str],
    indices: Sequence[_Listed],
    taken: Mapping[str, Definition],
    allowed: Allowed,
) -> list[str]:
    """Notes on indices that an alias stands for and that are left out, without the names of others."""
    left = Counter(
        alias
        for one in indices
        if one.ordinary and not one.closed and one.name not in taken
        if (bool(expressions) if one.hidden else not allowed.name(one.name))
        for alias in one.aliases
    )
    return [
        f"{left[alias]} of the indices that the alias {alias} stands for are hidden, or the namespace may not use them;"
        " they are not in this backup."
        for alias in (expressions or sorted(left))
        if left[alias] and allowed.name(alias)
    ]
