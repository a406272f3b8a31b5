"""What a run left behind, and what whoever comes next does with it: finishes what is live, removes the rest."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lucid_storage.stores.elasticsearch.ages import POLICY_NAME, deletes, deletes_after, origin
from lucid_storage.stores.elasticsearch.backup.definitions import mark_of, with_meta
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp, Parameters, encoded
from lucid_storage.stores.elasticsearch.backup.names import SCRATCH_PREFIX, live_alias, run_part
from lucid_storage.stores.elasticsearch.backup.rawjson import joined, members
from lucid_storage.stores.elasticsearch.backup.shield import lower_shield, shields
from lucid_storage.stores.elasticsearch.backup.staging import remove
from lucid_storage.stores.elasticsearch.backup.strictness import LIMITS
from lucid_storage.stores.elasticsearch.reading import moment
from lucid_storage.stores.mongodb.types import JsonValue

_WAIT = "30s"
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
    mappings: str
    created: datetime | None
    """When it was made; for one out of a snapshot, when the one that went into it was."""
    switched: bool
    """It carries the name of its target, so it is live."""
    was_switched: bool = False
    """It has been live, whatever carries the name by now."""


def complete(http: ElasticHttp, left: Leftover) -> list[str]:
    """The index is live, or was: shows it, and gives it its last settings. Idempotent.

    Whoever comes next may do it again. Returns notes.
    """
    path = f"/{encoded(left.name)}"
    waits: dict[str, str | int | bool] = {"master_timeout": _WAIT, "timeout": _WAIT}
    early = {k: v for k, v in left.last.items() if not k.startswith(("index.blocks.", *LIMITS))}
    notes = _deleted_again(http, left)
    if notes:
        early = {k: v for k, v in early.items() if not k.startswith("index.lifecycle.")}
    http.must("PUT", f"{path}/_settings", {"index.hidden": None, **early}, waits)
    _no_longer_unfinished(http, left.name, waits)
    done = json.dumps({"target": left.target, "run": left.run})
    meta = members(with_meta(left.mappings, done))["_meta"]
    http.must("PUT", f"{path}/_mapping", joined({"_meta": meta}).encode(), waits)
    blocks = {k: v for k, v in left.last.items() if k.startswith("index.blocks.")}
    limits = {key: left.last.get(key) for key in LIMITS}
    http.must("PUT", f"{path}/_settings", {**limits, **blocks}, waits)
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
    if not answer.ok:
        why = " (the login lacks read_ilm)" if answer.status == 403 else ""
        return [
            f"{left.target} follows no lifecycle now, since its policy {name} cannot be read{why}. {_AGAIN}"
        ]
    policy = (answer.json().get(name) or {}).get("policy") or {}
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
    answer = http.ask(
        "GET",
        f"/*-r-*,{SCRATCH_PREFIX}*",
        parameters={
            "flat_settings": True,
            "expand_wildcards": "open,closed,hidden",
            "ignore_unavailable": True,
            "allow_no_indices": True,
        },
    )
    if answer.status == 404:
        return []
    if not answer.ok:
        raise http.refused(answer)
    runs = shields(http)
    found = []
    for name, text in members(answer.body.decode()).items():
        parts = members(text)
        made = mark_of(parts["mappings"]) or _by_name(name, runs)
        if made is not None and "until" in made:
            found.append(_leftover(name, parts, made))
    return found


def _by_name(name: str, runs: dict[str, dict[str, JsonValue]]) -> dict[str, JsonValue] | None:
    for part, made in runs.items():
        if name.endswith(f"-r-{part}"):
            return {**made, "target": name.removesuffix(f"-r-{part}")}
        if name.startswith(f"{SCRATCH_PREFIX}{part}_"):
            return {**made, "target": name}
    return None


def _leftover(name: str, parts: dict[str, str], made: dict[str, Any]) -> Leftover:
    target, run, last = str(made.get("target")), str(made.get("run")), made.get("last")
    settings = json.loads(parts["settings"])
    return Leftover(
        name=name,
        uuid=str(settings.get("index.uuid")),
        target=target,
        run=run,
        until=int(made["until"]),
        last=dict(last) if isinstance(last, dict) else {},
        mappings=parts["mappings"],
        created=moment(settings.get("index.creation_date")),
        switched=target in members(parts["aliases"]),
        was_switched=live_alias(name) in members(parts["aliases"]),
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
    and the other one finds that its index is gone. Others are removed when their run has ended for certain.
    """
    notes = []
    ours = run_part(run)
    found = leftovers(http)
    for left in found:
        if left.target not in targets and run_part(left.run) != ours and left.until > now:
            continue
        if left.switched:
            notes += complete(http, left)
            notes.append(f"{left.target} was restored by an earlier run, which was finished.")
        elif left.was_switched:
            notes += complete(http, left)
            notes.append(
                f"{left.name} was {left.target} after an earlier run, and something else is now; it stays. Delete it if"
                " nobody needs it."
            )
        else:
            remove(http, left.name, left.uuid)
            notes.append(f"{left.name}, left by an earlier run, was removed.")
    return Cleared(notes, frozenset(run_part(left.run) for left in found))


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
        over = int(str(made.get("until", 0))) <= now
        named = made.get("targets")
        same = isinstance(named, list) and any(target in targets for target in named)
        if part not in standing and part != ours and (over or same or part in met):
            lower_shield(http, part)
