"""An index that was restored is still the index that resources declare."""

from collections.abc import AsyncIterator

import pytest

from jobs.elastic.elastic_bed import Bed
from lucid_storage.jobs.elastic_restore import restore
from lucid_storage.stores.elasticsearch.adapter import ElasticCluster
from lucid_storage.stores.elasticsearch.types import AliasAction

pytestmark = pytest.mark.elasticsearch


@pytest.fixture
async def cluster(bed: Bed) -> AsyncIterator[ElasticCluster]:
    found = ElasticCluster(bed.server.url, label="test", guard=lambda: None)
    yield found
    await found.close()


async def test_a_restored_index_is_seen_and_changed_under_the_name_it_had(
    bed: Bed, cluster: ElasticCluster
) -> None:
    index = bed.index("s-2026.11", {"aliases": {bed.name("s"): {"is_write_index": True}}})
    bed.put(index, "1", '{"a":1}')
    (before,) = await cluster.indices(bed.name("s-20*.*"))
    restore(bed.restore_run(bed.back_up(), drop_existing=True))
    (after,) = await cluster.indices(bed.name("s-20*.*"))
    assert after.name == index
    assert after.uuid != before.uuid
    assert after.documents == 1
    assert after.aliases == before.aliases
    assert after.mappings == before.mappings
    await cluster.put_mapping(
        index, {"_meta": {"lucid-storage": "uid"}, "properties": {"b": {"type": "keyword"}}}
    )
    await cluster.put_settings(index, {"index.priority": "5"})
    await cluster.update_aliases([AliasAction(index, bed.name("more"), is_write_index=True)])
    (changed,) = await cluster.indices(bed.name("s-20*.*"))
    assert changed.name == index
    assert changed.mappings["_meta"] == {"lucid-storage": "uid"}
    assert "b" in str(changed.mappings["properties"])
    assert changed.settings["index.priority"] == "5"
    assert changed.aliases[bed.name("more")].is_write_index
    assert not await cluster.delete_index(index, before.uuid)
    assert await cluster.delete_index(index, after.uuid)
    assert await cluster.indices(bed.name("s-20*.*")) == ()
    bed.index("s-2026.11")
    (fresh,) = await cluster.indices(bed.name("s-20*.*"))
    await cluster.update_aliases([AliasAction(index, bed.name("more"))])
    assert fresh.name == index
