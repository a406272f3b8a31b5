"""How much may be written before Elasticsearch defends its disks."""

from __future__ import annotations

from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp

FLOOD_SHARE = 0.05
FLOOD_HEADROOM = 100 * 1024**3
"""Of a disk, or so many bytes of a large one: with less free, every index with a shard there takes no more documents
(https://www.elastic.co/guide/en/elasticsearch/reference/8.19/modules-cluster.html, "flood stage", by default).
"""


def free_bytes(http: ElasticHttp) -> int | None:
    """Over all nodes; None where one of them does not say. Raises LucidError."""
    asked = {"filter_path": "nodes.*.fs.total.total_in_bytes,nodes.*.fs.total.available_in_bytes"}
    found = http.must("GET", "/_nodes/data:true/stats/fs", parameters=asked).json()
    try:
        disks = [node["fs"]["total"] for node in found["nodes"].values()]
        rooms = [_room(int(one["total_in_bytes"]), int(one["available_in_bytes"])) for one in disks]
    except (KeyError, TypeError, AttributeError):
        return None
    return sum(rooms) if rooms else None


def _room(total: int, available: int) -> int:
    return max(0, available - int(min(total * FLOOD_SHARE, FLOOD_HEADROOM)))
