"""What a run left behind, and what whoever comes next does with it: finishes what is live, removes the rest."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lucid_storage.errors import LucidError
from lucid_storage.stores.elasticsearch.ages import POLICY_NAME, deletes, deletes_after, origin
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp, Parameters, encoded
from lucid_storage.stores.elasticsearch.backup.listing import each_of
from lucid_storage.stores.elasticsearch.backup.marks import HIDDEN, mark_of, unfinished
from lucid_storage.stores.elasticsearch.backup.names import (
    MARK,
    SCRATCH_PREFIX,
    gone_alias,
    held_alias,
    live_alias,
    run_part,
    staged_name,
)
from lucid_storage.stores.elasticsearch.backup.rawjson import members
from lucid_storage.stores.elasticsearch.backup.shield import lower_shield, raise_shield, shields
from lucid_storage.stores.elasticsearch.backup.staging import open_to_writes, remove, uuid_of, withdraw
from lucid_storage.stores.elasticsearch.backup.strictness import LIMITS
from lucid_storage.stores.elasticsearch.reading import moment
from lucid_storage.stores.elasticsearch.settings import flat
from lucid_storage.stores.mongodb.types import JsonValue

logger = logging.getLogger(__name__)

_WAIT = "30s"
_LOOKED_AT = ",".join(
    (
        "*.aliases",
        f"*.mappings._meta.{MARK}",
        *(f"*.settings.index.{name}" for name in ("uuid", "creation_date", "hidden", "mapping.*.limit")),
    )
)
_AGAIN = "Set index.lifecycle.name to have it deleted by the policy."


@dataclass(frozen=True, slots=True)
class Leftover:
    """An index that a run left behind."""

    name: str
    uuid: str
    target: str
    run: str
    until: int
    """Seconds since 1970 when that run has ended for certain."""
    last: dict[str, JsonValue]
    created: datetime | None
    """When it was made; for one out of a snapshot, when the one that went into it was."""
    switched: bool
    """It carries the name of its target, so it is live."""
    was_switched: bool = False
    """It has been live, whatever carries the name by now."""
    held: bool = False
    """It may be made live any moment."""


def complete(http: ElasticHttp, left: Leftover) -> list[str]:
    """The index is live, or was: shows it, and gives it its last settings. Idempotent.

    Whoever comes next may do it again. Returns notes.
    """
    path = f"/{encoded(left.name)}"
    waits: dict[str, str | int | bool] = {"master_timeout": _WAIT, "timeout": _WAIT}
    last = {HIDDEN: None, **dict.fromkeys(LIMITS), **left.last}
    notes = _deleted_again(http, left)
    if notes:
        last = {key: value for key, value in last.items() if not key.startswith("index.lifecycle.")}
    _no_longer_unfinished(http, left.name, waits)  # a block among the last settings would forbid it
    http.must("PUT", f"{path}/_settings", last, waits)
    return notes


def _no_longer_unfinished(http: ElasticHttp, name: str, waits: Parameters) -> None:
    gone = {"remove": {"index": name, "alias": live_alias(name)}}
    answer = http.ask("POST", "/_aliases", {"actions": [gone]}, waits)
    if not answer.ok and answer.status != 404:
        raise http.refused(answer)


def _deleted_again(http: ElasticHttp, left: Leftover) -> list[str]:
    """Why the index must not follow its lifecycle policy again; nothing where it may."""
    name = left.last.get(POLICY_NAME)
    if not isinstance(name, str):
        return []
    answer = http.ask("GET", f"/_ilm/policy/{encoded(name)}")
    if answer.status == 404:
        return []  # it deletes nothing
    found = answer.json() if answer.ok else None
    if found is None:
        why = " (the login lacks read_ilm)" if answer.status == 403 else ""
        return [
            f"{left.target} follows no lifecycle now, since its policy {name} cannot be read{why}. {_AGAIN}"
        ]
    policy = (found.get(name) or {}).get("policy") or {}
    age, since = deletes_after(policy), origin(left.last, left.created)
    over = age is None or since is None or since + age <= datetime.now(UTC)
    if not deletes(policy) or not over:
        return []
    return [
        f"{left.target} is past the days of its lifecycle policy {name}, so it follows none now: the server would"
        f" delete it again. {_AGAIN}"
    ]


def leftovers(http: ElasticHttp) -> list[Leftover]:
    """Indices that a run made and has not finished with, by their mark, or by name where its shield still stands."""
    told = each_of(http, f"*-r-*,{SCRATCH_PREFIX}*", "", {"filter_path": _LOOKED_AT})
    runs = shields(http)
    found = []
    for name, text in told.items():
        parts = members(text)
        settings = flat(json.loads(parts["settings"]))
        mark = _own_mark(name, parts.get("mappings", "{}"))
        made = _by_name(name, runs) if mark is None else mark if unfinished(mark, settings) else None
        if made is not None:
            aliases = frozenset(members(parts.get("aliases", "{}")))
            found.append(_leftover(name, settings, aliases, made, marked=mark is not None))
    return found


def _own_mark(name: str, mappings: str) -> dict[str, JsonValue] | None:
    """None also for the mark of a former restore, with which an index comes out of a snapshot."""
    mark = mark_of(mappings)
    if mark is None:
        return None
    target = str(mark["target"])
    return mark if name in (target, staged_name(target, str(mark["run"]))) else None


def _by_name(name: str, runs: dict[str, dict[str, JsonValue]]) -> dict[str, JsonValue] | None:
    for part, made in runs.items():
        if name.endswith(f"-r-{part}"):
            return {**made, "target": name.removesuffix(f"-r-{part}")}
        if name.startswith(f"{SCRATCH_PREFIX}{part}_"):
            return {**made, "target": name}
    return None


def _leftover(
    name: str,
    settings: dict[str, JsonValue],
    aliases: frozenset[str],
    made: dict[str, Any],
    *,
    marked: bool,
) -> Leftover:
    target, last, held = str(made["target"]), made.get("last"), held_alias(name) in aliases
    never = held or gone_alias(name) in aliases
    return Leftover(
        name=name,
        uuid=str(settings.get("index.uuid")),
        target=target,
        run=str(made["run"]),
        until=int(made["until"]),
        last=dict(last) if isinstance(last, dict) else {},
        created=moment(settings.get("index.creation_date")),
        switched=target in aliases,
        was_switched=live_alias(name) in aliases or (marked and not never),
        held=held,
    )


@dataclass(slots=True)
class Cleared:
    """What earlier runs had left."""

    notes: list[str]
    met: frozenset[str]
    """Those runs, by their part in names."""


def clear(http: ElasticHttp, targets: Sequence[str], run: str, now: float) -> Cleared:
    """Ends what earlier runs began: finishes what is live, removes the rest.

    Leftovers of the same targets, and of this run, are nobody's: of two restores of one index the later one goes on,
    and the other one finds that its index is gone. Others are ended when their run has ended for certain; they may be
    another namespace's, so they are in no note, and one that cannot be ended stops nobody.
    """
    notes: list[str] = []
    ours = run_part(run)
    found = leftovers(http)
    for left in found:
        if left.target in targets or run_part(left.run) == ours:
            notes += _end(http, left)
        elif left.until <= now:
            with _of_others(left.name):
                for note in _end(http, left):
                    logger.info("%s", note)
    reopen(http, targets, run, now)
    return Cleared(notes, frozenset(run_part(left.run) for left in found))


@contextmanager
def _of_others(name: str) -> Iterator[None]:
    """What does not work there stays for whoever comes next."""
    try:
        yield
    except LucidError as error:
        logger.warning("%s, left by a run of others, cannot be ended now: %s", name, error.message)


def _end(http: ElasticHttp, left: Leftover) -> list[str]:
    if left.switched:
        notes = complete(http, left)
        return [*notes, f"{left.target} was restored by an earlier run, which was finished."]
    if left.was_switched:
        return [
            *complete(http, left),
            f"{left.name} was {left.target} after an earlier run, and something else is now; it stays. Delete it if"
            " nobody needs it.",
        ]
    if left.held and not withdraw(http, left.name):  # its run may have made it live since
        again = [one for one in leftovers(http) if (one.name, one.uuid) == (left.name, left.uuid)]
        return _end(http, again[0]) if again else []
    remove(http, left.name, left.uuid)
    return [f"{left.name}, left by an earlier run, was removed."]


def reopen(http: ElasticHttp, targets: Sequence[str], run: str, now: float) -> None:
    """Gives writes back to the empty indices that this run, or others which are over, had closed and did not replace.

    Raises LucidError; then what they closed is still on record.
    """
    ours = run_part(run)
    for part, made in shields(http).items():
        closed, named = _names(made.get("closed")), _names(made.get("targets"))
        if not closed:
            continue
        if part == ours or any(one in targets for one in named):
            _open(http, made, closed, named)
        elif _over(made, now):
            with _of_others(", ".join(closed)):
                _open(http, made, closed, named)


def _open(http: ElasticHttp, made: dict[str, JsonValue], closed: list[str], named: list[str]) -> None:
    for name in closed:
        if uuid_of(http, name) is not None:  # or it was replaced, and is an alias of the restored index
            open_to_writes(http, name)
    raise_shield(http, str(made["run"]), int(str(made["until"])), named)


def _names(found: JsonValue) -> list[str]:
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []


def _over(made: dict[str, JsonValue], now: float) -> bool:
    return int(str(made["until"])) <= now


def clear_shields(
    http: ElasticHttp, targets: Sequence[str], run: str, now: float, met: frozenset[str]
) -> None:
    """After a run: its own shield goes, and those of runs that `clear` ended.

    Not sooner: one of them may still send documents, and without its shield the server would make the index anew.
    """
    ours = run_part(run)
    standing = {run_part(left.run) for left in leftovers(http)}
    lower_shield(http, run)
    for part, made in shields(http).items():
        if part in standing or part == ours or _names(made.get("closed")):
            continue  # nothing else names the indices that it closed
        same = any(target in targets for target in _names(made.get("targets")))
        if _over(made, now) or same or part in met:
            with _of_others(part):
                lower_shield(http, part)
