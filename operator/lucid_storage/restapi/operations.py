"""Every operation of the two API contracts. A test keeps this table equal to `contracts/`."""

from __future__ import annotations

from lucid_storage.restapi.limits import OperationGroup

BASE_PATH = "/api/v1"

OPERATIONS: tuple[tuple[str, str], ...] = (
    ("GET", "/database/health"),
    ("GET", "/database/stats"),
    ("GET", "/database/collections"),
    ("POST", "/database/collections"),
    ("GET", "/database/collections/{collection_name}"),
    ("DELETE", "/database/collections/{collection_name}"),
    ("GET", "/database/collections/{collection_name}/indexes"),
    ("POST", "/database/collections/{collection_name}/indexes"),
    ("DELETE", "/database/collections/{collection_name}/indexes/{index_name}"),
    ("GET", "/database/sharding/status"),
    ("POST", "/database/sharding/enable"),
    ("POST", "/database/sharding/shard-collection"),
    ("GET", "/database/sharding/balancer"),
    ("POST", "/database/sharding/balancer/start"),
    ("POST", "/database/sharding/balancer/stop"),
    ("GET", "/backups"),
    ("POST", "/backups"),
    ("GET", "/backups/{backup_id}"),
    ("DELETE", "/backups/{backup_id}"),
    ("POST", "/backups/{backup_id}/restore"),
    ("GET", "/backups/schedules"),
    ("POST", "/backups/schedules"),
    ("GET", "/cache/stats"),
    ("GET", "/cache/keys"),
    ("GET", "/cache/keys/{key}"),
    ("PUT", "/cache/keys/{key}"),
    ("DELETE", "/cache/keys/{key}"),
    ("POST", "/cache/flush"),
    ("GET", "/cache/memory"),
    ("GET", "/volumes"),
    ("POST", "/volumes"),
    ("GET", "/volumes/{volume_id}"),
    ("PUT", "/volumes/{volume_id}"),
    ("DELETE", "/volumes/{volume_id}"),
    ("PUT", "/volumes/{volume_id}/resize"),
    ("GET", "/volumes/{volume_id}/usage"),
    ("POST", "/volumes/{volume_id}/migrate"),
    ("GET", "/search/indices"),
    ("POST", "/search/indices"),
    ("GET", "/search/indices/{index_name}"),
    ("DELETE", "/search/indices/{index_name}"),
    ("POST", "/search/indices/{index_name}/reindex"),
    ("GET", "/search/indices/{index_name}/stats"),
    ("POST", "/search/query"),
)


def group_of(path: str) -> OperationGroup:
    """The rate limit that holds for a path; one without a limit in the specification counts as database."""
    below = path.removeprefix(BASE_PATH)
    if below == "/backups" or below.startswith("/backups/"):
        return OperationGroup.BACKUPS
    if below.startswith("/database/sharding/"):
        return OperationGroup.SHARDING
    return OperationGroup.DATABASE
