"""What the tests of sharding share."""

from typing import Any

from testbed.pytest_sharded import Foreign
from testbed.stores.sharded import Sharded

Cluster = Sharded | Foreign
Document = dict[str, Any]


def insert(cluster: Cluster, database: str, collection: str, documents: list[Document]) -> None:
    """Through the router, as a user would."""
    with cluster.client() as client:
        client[database][collection].insert_many(documents)


def counted(
    cluster: Cluster, database: str, collection: str, match: Document | None = None
) -> dict[str, int]:
    """Documents on each shard that has some, past the router."""
    counts = {}
    for shard in cluster.shard_names:
        with cluster.shard_client(shard) as client:
            count = client[database][collection].count_documents(match or {})
        if count:
            counts[shard] = count
    return counts
