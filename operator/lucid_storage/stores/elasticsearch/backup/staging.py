"""Indices that are loaded beside the live ones: made, filled, compared, and removed when nobody needs them.

A staged index is hidden, so that wildcards pass it by, and carries a mark in its mapping that says which run made it,
what it is to become, and which settings it gets at last. So whoever comes next can tell what to finish and what to
remove. Its uuid tells its run whether it still is the one that it made: another restore of the same index removes it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.elasticsearch.ages import POLICY_NAME, deletes, deletes_after, origin
from lucid_storage.stores.elasticsearch.backup.definitions import Definition, mark_of, with_meta
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp, encoded
from lucid_storage.stores.elasticsearch.backup.names import SCRATCH_PREFIX, run_part
from lucid_storage.stores.elasticsearch.backup.rawjson import joined, members
from lucid_storage.stores.elasticsearch.backup.shield import lower_shield, shields
from lucid_storage.stores.elasticsearch.reading import moment
from lucid_storage.stores.mongodb.types import JsonValue

_WAIT = "30s"
# Take effect while documents come in, or keep the server from taking them.
_LOADING: dict[str, JsonValue] = {
    "index.hidden": "true",
    "index.refresh_interval": "-1",
    "index.number_of_replicas": "0",
    "index.auto_expand_replicas": "false",
    "index.default_pipeline": "_none",
    "index.final_pipeline": "_none",
    "index.translog.durability": "async",
}
# Would act on the index by themselves, or keep it from being finished; they come after the switch.
_LAST = ("index.blocks.", "index.lifecycle.", "index.hidden")
_AGAIN = "Set index.lifecycle.name to have it deleted by the policy."
_AFTER_LOADING = ("index.routing.allocation.",)


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


def stage(http: ElasticHttp, name: str, found: Definition, run: str, target: str, until: int) -> str:
    """Makes the empty index that is loaded; returns its uuid. Raises LucidError, also when no node can take it."""
    settings = {
        key: value for key, value in found.settings.items() if not key.startswith(_LAST + _AFTER_LOADING)
    }
    made = mark_text(target, run, until, found.settings)
    body = joined(
        {"settings": json.dumps({**settings, **_LOADING}), "mappings": with_meta(found.mappings, made)}
    )
    answer = http.must(
        "PUT",
        f"/{encoded(name)}",
        body.encode(),
        {"master_timeout": _WAIT, "timeout": _WAIT, "wait_for_active_shards": 1},
        repeatable=False,
    )
    if not answer.json().get("shards_acknowledged"):
        raise LucidError(
            f"{http.subject} made the index {name} and found no node for its shards; free disk space or add a node.",
            reason=Reason.STORE_UNAVAILABLE,
        )
    return made_uuid(http, name)


def made_uuid(http: ElasticHttp, name: str) -> str:
    """Of an index that this run has just made. Raises LucidError(WorkerLost) when another one took it away."""
    uuid = uuid_of(http, name)
    if uuid is None:
        raise lost(http, name)
    return uuid


def uuid_of(http: ElasticHttp, name: str) -> str | None:
    """None where no index has this very name."""
    path = f"/{encoded(name)}/_settings/index.uuid"
    answer = http.ask("GET", path, parameters={"flat_settings": True})
    if answer.status == 404:
        return None
    if not answer.ok:
        raise http.refused(answer)
    found = answer.json().get(name, {}).get("settings", {}).get("index.uuid")
    return None if found is None else str(found)


def check_own(http: ElasticHttp, name: str, uuid: str) -> None:
    """That this still is the index which this run made. Raises LucidError(WorkerLost)."""
    if uuid_of(http, name) != uuid:
        raise lost(http, name)


def mark_text(target: str, run: str, until: int, settings: dict[str, JsonValue]) -> str:
    """The mark of an index that is being loaded, as JSON."""
    last = {key: value for key, value in settings.items() if key.startswith(_LAST)}
    return json.dumps({"target": target, "run": run, "until": until, "last": last})


def loaded(http: ElasticHttp, name: str, found: Definition) -> None:
    """All documents are in: makes them durable and gives the settings back that loading had taken away."""
    settings: dict[str, JsonValue] = {
        key: found.settings.get(key) for key in _LOADING if not key.startswith(_LAST)
    }
    settings |= {k: v for k, v in found.settings.items() if k.startswith(_AFTER_LOADING)}
    http.must("PUT", f"/{encoded(name)}/_settings", settings, {"master_timeout": _WAIT, "timeout": _WAIT})
    http.must("POST", f"/{encoded(name)}/_flush", parameters={"wait_if_ongoing": True})


def count(http: ElasticHttp, name: str) -> int:
    """Documents after a refresh; nested ones are parts of theirs. Raises LucidError."""
    http.must("POST", f"/{encoded(name)}/_refresh")
    answer = http.must("GET", f"/{encoded(name)}/_count").json()
    if answer["_shards"]["failed"]:
        raise LucidError(
            f"{http.subject} counts only some shards of {name}; make the index healthy first.",
            reason=Reason.STORE_UNAVAILABLE,
        )
    return int(answer["count"])


def complete(http: ElasticHttp, left: Leftover) -> list[str]:
    """The index is live: shows it, and gives it its last settings. Idempotent; whoever comes next may do it again.

    Returns notes.
    """
    path = f"/{encoded(left.name)}"
    waits: dict[str, str | int | bool] = {"master_timeout": _WAIT, "timeout": _WAIT}
    early = {k: v for k, v in left.last.items() if not k.startswith("index.blocks.")}
    notes = _deleted_again(http, left)
    if notes:
        early = {k: v for k, v in early.items() if not k.startswith("index.lifecycle.")}
    http.must("PUT", f"{path}/_settings", {"index.hidden": None, **early}, waits)
    done = json.dumps({"target": left.target, "run": left.run})
    meta = members(with_meta(left.mappings, done))["_meta"]
    http.must("PUT", f"{path}/_mapping", joined({"_meta": meta}).encode(), waits)
    blocks = {k: v for k, v in left.last.items() if k.startswith("index.blocks.")}
    if blocks:
        http.must("PUT", f"{path}/_settings", blocks, waits)
    return notes


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


def mark(http: ElasticHttp, name: str, found: Definition, run: str, target: str, until: int) -> None:
    """For an index that came out of a snapshot, which has no mark yet."""
    meta = members(with_meta(found.mappings, mark_text(target, run, until, found.settings)))["_meta"]
    http.must(
        "PUT", f"/{encoded(name)}/_mapping", joined({"_meta": meta}).encode(), {"master_timeout": _WAIT}
    )


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
    )


def lost(http: ElasticHttp, name: str) -> LucidError:
    """What a run is told whose index was taken away."""
    return LucidError(
        f"{http.subject} no longer has the index {name} that this restore made: another restore of the same index is at"
        " work. This one changed nothing that is live; let the other one end, then restore again if you want this one's"
        " data.",
        reason=Reason.WORKER_LOST,
    )


def remove(http: ElasticHttp, name: str, uuid: str | None = None) -> None:
    """Deletes one index, of that uuid if one is given; absent is no error."""
    path = f"/{encoded(name)}"
    if uuid is not None and uuid_of(http, name) != uuid:
        return
    answer = http.ask("DELETE", path, parameters={"expand_wildcards": "none", "master_timeout": _WAIT})
    if not answer.ok and answer.status != 404:
        raise http.refused(answer)


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
