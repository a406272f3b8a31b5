"""Indices that are loaded beside the live ones: made, filled, compared, and removed when nobody needs them.

A staged index is hidden, so that wildcards pass it by, and carries a mark in its mapping that says which run made it,
what it is to become, and which settings it gets at last. So whoever comes next can tell what to finish and what to
remove. Its uuid tells its run whether it still is the one that it made: another restore of the same index removes it.
"""

from __future__ import annotations

import json

from lucid_storage.errors import LucidError, Reason
from lucid_storage.stores.elasticsearch.backup.definitions import Definition
from lucid_storage.stores.elasticsearch.backup.http import Answer, ElasticHttp, encoded
from lucid_storage.stores.elasticsearch.backup.marks import with_meta
from lucid_storage.stores.elasticsearch.backup.names import gone_alias, held_alias
from lucid_storage.stores.elasticsearch.backup.rawjson import joined, members
from lucid_storage.stores.elasticsearch.backup.strictness import LIMITS, RAISED, loosened, tightened
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
_LAST = ("index.blocks.", "index.lifecycle.", "index.hidden", *LIMITS)
_AFTER_LOADING = ("index.routing.allocation.",)
_WRITES = "index.blocks.write"
_NOT_THE_DEFINITION = {"validation_exception", "resource_already_exists_exception"}


def stage(http: ElasticHttp, name: str, found: Definition, run: str, target: str, until: int) -> str:
    """Makes the empty index that is loaded; returns its uuid. Raises LucidError, also when no node can take it."""
    settings = {
        key: value for key, value in found.settings.items() if not key.startswith(_LAST + _AFTER_LOADING)
    }
    made = mark_text(target, run, until, found.settings)
    body = joined(
        {
            "settings": json.dumps({**settings, **_LOADING, **RAISED}),
            "mappings": with_meta(loosened(found.mappings, found.settings), made),
            "aliases": json.dumps({held_alias(name): {"is_hidden": True}}),
        }
    )
    answer = http.ask(
        "PUT",
        f"/{encoded(name)}",
        body.encode(),
        {"master_timeout": _WAIT, "timeout": _WAIT, "wait_for_active_shards": 1},
        repeatable=False,
    )
    if not answer.ok:
        raise _not_taken(http, answer, found.target)
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


def tighten(http: ElasticHttp, name: str, found: Definition) -> None:
    """All documents are in: refuses again what the mapping refuses. Limits come at last, as they refuse mappings."""
    if loosened(found.mappings, found.settings) == found.mappings:
        return
    parts = {key: text for key, text in members(found.mappings).items() if key != "_meta"}
    mappings = tightened(joined(parts), found.settings)
    path = f"/{encoded(name)}/_mapping"
    answer = http.ask("PUT", path, mappings.encode(), {"master_timeout": _WAIT, "timeout": _WAIT})
    if answer.status == 404:
        raise lost(http, name)
    if not answer.ok:
        raise _not_taken(http, answer, found.target)


def _not_taken(http: ElasticHttp, answer: Answer, target: str) -> LucidError:
    """That the definition is refused is the backup's fault; that there are too many shards is the server's."""
    why = http.refused(answer)
    if answer.status != 400 or answer.kind in _NOT_THE_DEFINITION:
        return why
    return LucidError(
        f"The definition of {target} in the backup is refused: {why.message}", reason=Reason.CONTENT_REFUSED
    )


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


def mark(http: ElasticHttp, name: str, found: Definition, run: str, target: str, until: int) -> None:
    """For an index that came out of a snapshot, which has no mark yet, and may have more fields than its limit."""
    held = {"add": {"index": name, "alias": held_alias(name), "is_hidden": True}}
    http.must("POST", "/_aliases", {"actions": [held]}, {"master_timeout": _WAIT})
    http.must("PUT", f"/{encoded(name)}/_settings", RAISED, {"master_timeout": _WAIT})
    meta = members(with_meta(found.mappings, mark_text(target, run, until, found.settings)))["_meta"]
    http.must(
        "PUT", f"/{encoded(name)}/_mapping", joined({"_meta": meta}).encode(), {"master_timeout": _WAIT}
    )


def lost(http: ElasticHttp, name: str) -> LucidError:
    """What a run is told whose index was taken away."""
    return LucidError(
        f"{http.subject} no longer has the index {name} that this restore made: another restore of the same index is at"
        " work. This one changed nothing that is live; let the other one end, then restore again if you want this one's"
        " data.",
        reason=Reason.WORKER_LOST,
    )


def close_to_writes(http: ElasticHttp, name: str) -> None:
    """Of an empty target, before it is counted for the last time. Absent is no error."""
    _block_writes(http, name, blocked=True)


def open_to_writes(http: ElasticHttp, name: str) -> None:
    """Undoes it. Absent is no error."""
    _block_writes(http, name, blocked=False)


def closed_to_writes(http: ElasticHttp, name: str) -> bool:
    """Whether its owner has closed it."""
    path = f"/{encoded(name)}/_settings/{_WRITES}"
    found = http.must("GET", path, parameters={"flat_settings": True}).json()
    return any(str(one["settings"].get(_WRITES)).lower() == "true" for one in found.values())


def _block_writes(http: ElasticHttp, name: str, *, blocked: bool) -> None:
    answer = http.ask("PUT", f"/{encoded(name)}/_settings", {_WRITES: True if blocked else None})
    if not answer.ok and answer.status != 404:
        raise http.refused(answer)


def is_held(http: ElasticHttp, name: str) -> bool:
    """Whether it can still be made live."""
    return http.ask("HEAD", f"/{encoded(name)}/_alias/{encoded(held_alias(name))}").ok


def withdraw(http: ElasticHttp, name: str) -> bool:
    """Keeps a staged index from being made live, by whichever run; False when it may be, or is gone."""
    held = {"remove": {"index": name, "alias": held_alias(name), "must_exist": True}}
    gone = {"add": {"index": name, "alias": gone_alias(name), "is_hidden": True}}
    answer = http.ask("POST", "/_aliases", {"actions": [held, gone]}, {"master_timeout": _WAIT})
    if not answer.ok and answer.status != 404:
        raise http.refused(answer)
    return answer.ok


def remove(http: ElasticHttp, name: str, uuid: str | None = None) -> None:
    """Deletes one index, of that uuid if one is given; absent is no error."""
    path = f"/{encoded(name)}"
    if uuid is not None and uuid_of(http, name) != uuid:
        return
    answer = http.ask("DELETE", path, parameters={"expand_wildcards": "none", "master_timeout": _WAIT})
    if not answer.ok and answer.status != 404:
        raise http.refused(answer)
