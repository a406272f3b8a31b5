"""Snapshots into a repository that the servers have, and indices out of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any

from lucid_storage.errors import LucidError, NotSupportedError, Reason, RefusedError, StoreUnavailableError
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp, encoded
from lucid_storage.stores.elasticsearch.backup.staging import lost

POLL_SECONDS = 0.5
_RED_SECONDS = 5.0
_NO_NODE_SECONDS = 60.0
_MISSING = "snapshot_missing_exception"
_DAMAGE = (
    "CorruptIndexException",
    "CorruptStateException",
    "EOFException",
    "NoSuchFileException",
    "SnapshotMissingException",
)
"""What servers name when a file of a snapshot is missing or damaged; anything else may be their own fault."""
_NAMED_SHARDS = 5
_WAIT = "30s"
_METADATA = "lucid-storage"
"""Field of a snapshot's metadata that says which backup made it."""

Origin = Mapping[str, str]
"""Which backup: its id, cluster, namespace and chain."""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A snapshot that holds all shards of its indices."""

    repository: str
    name: str
    indices: tuple[str, ...]
    bytes: int


def check_repository(http: ElasticHttp, repository: str, *, writing: bool) -> None:
    """Raises LucidError when the servers do not have it or may not write there."""
    answer = http.ask("GET", f"/_snapshot/{encoded(repository)}")
    if answer.status == 404:
        raise RefusedError(
            f"{http.subject} has no snapshot repository {repository}; register it there (PUT _snapshot/{repository}) "
            "or name another one in elasticsearch.repository.",
            reason=Reason.NOT_CONFIGURED,
        )
    if not answer.ok:
        raise http.refused(answer)
    settings = answer.json().get(repository, {}).get("settings", {})
    if writing and str(settings.get("readonly", "")).lower() == "true":
        raise RefusedError(
            f"The snapshot repository {repository} is read-only at {http.subject}; register it without readonly, "
            "or name another one in elasticsearch.repository.",
            reason=Reason.DESTINATION_UNAVAILABLE,
        )


def take_snapshot(
    http: ElasticHttp,
    repository: str,
    name: str,
    indices: Sequence[str],
    origin: Origin,
    check: Callable[[], None],
    report: Callable[[int, int], None],
) -> Snapshot:
    """Waits for the end; `report` gets bytes done and bytes in all. A snapshot that failed is removed.

    `check` raises when the run is to end. Raises LucidError(SnapshotPartial) that names the shards, and RefusedError
    when somebody else's snapshot has the name.
    """
    path = f"/_snapshot/{encoded(repository)}/{encoded(name)}"
    body = {
        "indices": list(indices),
        "include_global_state": False,
        "ignore_unavailable": False,
        # With false the server would refuse without saying which shards it lacks.
        "partial": True,
        "metadata": {_METADATA: dict(origin)},
    }
    # Its name is made from the backup's id: a snapshot of an earlier try is not ours to keep.
    if delete_snapshot(http, repository, name, origin) is None:
        raise RefusedError(
            f"A snapshot {name} that this backup did not make is in the repository {repository}; delete or rename it.",
            reason=Reason.CONFLICT,
        )
    try:
        http.must(
            "PUT", path, body, {"wait_for_completion": False, "master_timeout": _WAIT}, repeatable=False
        )
        while (state := _state(http, path))["state"] in {"IN_PROGRESS", "STARTED", "INIT"}:
            check()
            _progress(http, path, report)
            http.pause(POLL_SECONDS)
        _judge(http, repository, state)
        _check_whole(repository, indices, state)
        done, size = _progress(http, path, report)
        return Snapshot(repository, name, tuple(state["indices"]), size or done)
    except BaseException:
        with suppress(LucidError):  # what went wrong first is what has to be told
            _remove(http, path)
        raise


def delete_snapshot(http: ElasticHttp, repository: str, name: str, origin: Origin) -> bool | None:
    """Deletes a snapshot whose own metadata say that this backup made it.

    False when it was not there; None when it is somebody else's, which is left alone: a manifest without encryption can
    be written by whoever owns the bucket, and names any snapshot. Raises LucidError.
    """
    path = f"/_snapshot/{encoded(repository)}/{encoded(name)}"
    answer = http.ask("GET", path)
    if answer.status == 404:
        return False
    if not answer.ok:
        raise http.refused(answer)
    if not _made_by(answer.json()["snapshots"][0], origin):
        return None
    return _remove(http, path)


def find_snapshot(http: ElasticHttp, repository: str, name: str, origin: Origin) -> None:
    """Raises LucidError when the snapshot is not there, does not hold all shards, or is not of this backup: a
    manifest can name any.
    """
    check_repository(http, repository, writing=False)
    answer = http.ask("GET", f"/_snapshot/{encoded(repository)}/{encoded(name)}")
    if answer.status == 404:
        raise LucidError(
            f"The snapshot {name} is not in the repository {repository} any more; use another backup.",
            reason=Reason.ARCHIVE_DAMAGED,
        )
    if not answer.ok:
        raise http.refused(answer)
    found = answer.json()["snapshots"][0]
    if not _made_by(found, origin):
        raise RefusedError(
            f"The snapshot {name} in the repository {repository} does not say that this backup made it, so nothing of"
            " it is restored; use another backup.",
            reason=Reason.RESTORE_BLOCKED,
        )
    _judge(http, repository, found)


def _made_by(found: Mapping[str, Any], origin: Origin) -> bool:
    metadata = found.get("metadata")
    return isinstance(metadata, dict) and metadata.get(_METADATA) == dict(origin)


def restore_index(
    http: ElasticHttp, repository: str, snapshot: str, index: str, name: str, check: Callable[[], None]
) -> None:
    """Brings one index of a snapshot back under another name, hidden, without its aliases and without what keeps it
    from nodes; returns when all its shards are there.

    Raises LucidError(ArchiveDamaged) when the server says that files are missing or damaged, StoreUnavailableError when
    its shards get to no node, and LucidError(WorkerLost) when somebody took the index away.
    """
    body = {
        "indices": [index],
        "include_global_state": False,
        "include_aliases": False,
        "partial": False,
        "rename_pattern": "^.+$",
        "rename_replacement": name.replace("\\", "\\\\").replace("$", "\\$"),
        "index_settings": {
            "index.hidden": True,
            "index.number_of_replicas": 0,
            "index.auto_expand_replicas": "false",
        },
        "ignore_index_settings": ["index.blocks.*", "index.lifecycle.*", "index.routing.allocation.*"],
    }
    answer = http.ask(
        "POST",
        f"/_snapshot/{encoded(repository)}/{encoded(snapshot)}/_restore",
        body,
        {"wait_for_completion": False, "master_timeout": _WAIT},
        repeatable=False,
    )
    if answer.kind == _MISSING:
        raise _damaged(http, snapshot, index)
    if not answer.ok:
        raise http.refused(answer)
    red: float | None = None
    while (status := _health(http, name)) != "green":
        check()
        # Yellow is one whose primaries come out of the snapshot, or wait for their turn.
        red = (red or monotonic()) if status == "red" else None
        if red is not None and monotonic() - red > _RED_SECONDS:
            if any(sign in why for sign in _DAMAGE for why in _failures(http, name)):
                raise _damaged(http, snapshot, index)
            if monotonic() - red > _NO_NODE_SECONDS:
                raise StoreUnavailableError(
                    f"{http.subject} gets the shards of {index} out of the snapshot {snapshot} to none of its nodes;"
                    f" its log says why. See that they have room and can read the repository {repository}."
                )
        http.pause(POLL_SECONDS)


def _damaged(http: ElasticHttp, snapshot: str, index: str) -> LucidError:
    return LucidError(
        f"{http.subject} could not bring {index} back from the snapshot {snapshot}, of which files are missing or"
        " damaged; its log says which. The target is untouched; use another backup.",
        reason=Reason.ARCHIVE_DAMAGED,
    )


def _health(http: ElasticHttp, name: str) -> str:
    found = http.ask("GET", f"/_cluster/health/{encoded(name)}", parameters={"timeout": "1s"}).json()
    return str((found or {}).get("status"))


def _failures(http: ElasticHttp, name: str) -> list[str]:
    """Of the primaries that the server tried to bring back and does not try now: what it says."""
    columns = {"format": "json", "h": "prirep,state,unassigned.reason,unassigned.details"}
    answer = http.ask("GET", f"/_cat/shards/{encoded(name)}", parameters=columns)
    if answer.status == 404:
        raise lost(http, name)
    if not answer.ok:
        raise http.refused(answer)
    return [
        str(shard["unassigned.details"])
        for shard in answer.json()
        if (shard["prirep"], shard["state"], shard["unassigned.reason"])
        == ("p", "UNASSIGNED", "ALLOCATION_FAILED")
    ]


def _state(http: ElasticHttp, path: str) -> dict[str, Any]:
    found: dict[str, Any] = http.must("GET", path).json()["snapshots"][0]
    return found


def _progress(http: ElasticHttp, path: str, report: Callable[[int, int], None]) -> tuple[int, int]:
    answer = http.ask("GET", f"{path}/_status")
    if not answer.ok:
        return 0, 0
    statistics = answer.json()["snapshots"][0]["stats"]
    done = int(statistics.get("processed", statistics["incremental"])["size_in_bytes"])
    total = int(statistics["total"]["size_in_bytes"])
    report(done, total)
    return done, total


def _judge(http: ElasticHttp, repository: str, state: dict[str, Any]) -> None:
    if state["state"] == "SUCCESS" and not state["shards"]["failed"]:
        return
    if state["state"] == "INCOMPATIBLE":
        raise NotSupportedError(
            f"The snapshot in {repository} was made by another version than that of {http.subject}."
        )
    failed = [f"{f['index']}[{f['shard_id']}]" for f in state.get("failures", ())]
    named = ", ".join(failed[:_NAMED_SHARDS]) + (", ..." if len(failed) > _NAMED_SHARDS else "")
    raise LucidError(
        f"The snapshot in {repository} is {state['state']}: {len(failed)} shards are not in it"
        f"{f' ({named})' if named else ''}. Make these indices healthy and back up again.",
        reason=Reason.SNAPSHOT_PARTIAL,
    )


def _check_whole(repository: str, indices: Sequence[str], state: dict[str, Any]) -> None:
    """An index that is deleted while its shards wait is left out, and the server calls that a success."""
    missing = sorted(set(indices) - set(state["indices"]))
    if missing:
        named = ", ".join(missing[:_NAMED_SHARDS]) + (", ..." if len(missing) > _NAMED_SHARDS else "")
        raise LucidError(
            f"The snapshot in {repository} is without {named}, deleted while it was made. Back up again.",
            reason=Reason.SNAPSHOT_PARTIAL,
        )


def _remove(http: ElasticHttp, path: str) -> bool:
    answer = http.ask("DELETE", path, parameters={"master_timeout": _WAIT}, seconds=600)
    if answer.status == 404:
        return False
    if not answer.ok:
        raise http.refused(answer)
    return True
