"""Which indices a backup takes: what was asked for, what the namespace may use, and what cannot be taken, said."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.stores.elasticsearch.backup.definitions import Definition, definition
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from lucid_storage.stores.elasticsearch.backup.names import Allowed, is_reserved, selected


@dataclass(frozen=True, slots=True)
class Selected:
    """The indices of a backup, by name, and what is left out."""

    indices: tuple[Definition, ...]
    notes: tuple[str, ...]


def choose(http: ElasticHttp, expressions: Sequence[str], allowed: Allowed) -> Selected:
    """Raises LucidError: NotAllowedError, RefusedError(InvalidSpec) for what is asked for by name and cannot be taken.

    Hidden indices and the server's own are never taken.
    """
    listed = http.must("GET", "/_resolve/index/*", parameters={"expand_wildcards": "open,closed"}).json()
    notes = [_data_stream(stream, expressions, allowed) for stream in listed["data_streams"]]
    taken: dict[str, Definition] = {}
    targets: dict[str, Definition] = {}
    for entry in listed["indices"]:
        name, attributes = str(entry["name"]), set(entry.get("attributes", ()))
        if is_reserved(name) or attributes & {"hidden", "system"} or "data_stream" in entry:
            continue
        aliases = [str(alias) for alias in entry.get("aliases", ())]
        if "-r-" not in name and not _meant(name, aliases, expressions, allowed):
            continue
        if "closed" in attributes:
            if _meant(name, aliases, expressions, allowed):
                notes.append(_left_out(name, "is closed; open it", name in expressions))
            continue
        found = definition(http, name)
        if found is None or not _meant(found.target, [*aliases, name], expressions, allowed):
            continue
        if found.target in targets:
            raise LucidError(
                f"The indices {targets[found.target].name} and {name} both stand for {found.target}; delete one.",
                reason=Reason.CONFLICT,
            )
        targets[found.target] = taken[name] = found
    _check_named(expressions, taken, allowed, listed)
    return Selected(tuple(taken[name] for name in sorted(taken)), tuple(note for note in notes if note))


def _meant(name: str, aliases: Sequence[str], expressions: Sequence[str], allowed: Allowed) -> bool:
    return allowed.name(name) and selected(name, aliases, expressions)


def _data_stream(stream: dict[str, Any], expressions: Sequence[str], allowed: Allowed) -> str:
    name = str(stream["name"])
    if is_reserved(name) or not _meant(name, (), expressions, allowed):
        return ""
    return _left_out(
        name, "is a data stream, which the method Export does not read; use Snapshot", name in expressions
    )


def _left_out(name: str, why: str, named: bool) -> str:
    """A note for what a pattern or nothing asked for; a failure for what was asked for by name."""
    if named:
        raise RefusedError(
            f"{name} {why}, or take it out of elasticsearch.indices.", reason=Reason.INVALID_SPEC
        )
    return f"{name} {why}; it is not in this backup."


def _check_named(
    expressions: Sequence[str], taken: dict[str, Definition], allowed: Allowed, listed: dict[str, Any]
) -> None:
    known = {name for found in taken.values() for name in (found.name, found.target)}
    aliases = {str(entry["name"]) for entry in listed["aliases"]}
    for expression in expressions:
        if "*" in expression or expression in known:
            continue
        allowed.check(expression)
        if expression not in aliases:
            raise RefusedError(
                f"There is no index {expression}; change elasticsearch.indices.",
                reason=Reason.INVALID_SPEC,
            )
