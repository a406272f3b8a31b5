"""Who answers: the cluster's own id and its version."""

from __future__ import annotations

from lucid_storage.errors import ServerRefusedError
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp


def identity(http: ElasticHttp) -> tuple[str, str]:
    """The cluster's uuid and the version of its oldest node. `GET /` is not served by every build."""
    state = http.must("GET", "/_cluster/state/version", parameters={"filter_path": "cluster_uuid"}).json()
    nodes = http.must("GET", "/_nodes/_all/_none", parameters={"filter_path": "nodes.*.version"}).json()
    try:
        versions = [str(node["version"]) for node in nodes["nodes"].values()]
        return str(state["cluster_uuid"]), min(versions, key=_numbers)
    except (KeyError, TypeError, ValueError) as error:
        raise ServerRefusedError(f"{http.subject} does not say who it is.") from error


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split("-", maxsplit=1)[0].split(".") if part.isdigit()]
