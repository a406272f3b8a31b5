"""Definitions and documents of one backup belong together, whatever changes while it begins."""

from collections.abc import Callable
from typing import Any

import pytest

from jobs.elastic.elastic_bed import Bed
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs import elastic_backup
from lucid_storage.jobs.elastic_restore import restore
from lucid_storage.stores.elasticsearch.backup import listing
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp

pytestmark = pytest.mark.elasticsearch

SINGLE = {"number_of_replicas": 0}


def before_first(
    monkeypatch: pytest.MonkeyPatch, module: Any, step: str, between: Callable[[], object]
) -> None:
    """The first call of a step comes after something that others do."""
    genuine, seen = getattr(module, step), []

    def later(*given: Any) -> Any:
        if not seen:
            seen.append(step)
            between()
        return genuine(*given)

    monkeypatch.setattr(module, step, later)


async def test_a_mapping_that_grows_before_the_documents_are_held_is_in_the_backup(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    mappings = {"dynamic": "strict", "properties": {"a": {"type": "long"}}}
    index = bed.index("grows", {"settings": SINGLE, "mappings": mappings})
    bed.put(index, "1", '{"a":1}')

    def grow() -> None:
        bed.call("PUT", f"/{index}/_mapping", {"properties": {"b": {"type": "keyword"}}})
        bed.put(index, "2", '{"a":2,"b":"x"}')

    before_first(monkeypatch, elastic_backup, "open_point", grow)
    backup = bed.back_up()
    assert restore(bed.restore_run(backup, drop_existing=True)).documents == 2
    (after,) = bed.call("GET", f"/{index}/_mapping").values()
    assert set(after["mappings"]["properties"]) == {"a", "b"}


@pytest.mark.parametrize("anew", [True, False])
async def test_an_index_that_is_replaced_before_its_documents_are_held_fails_the_backup(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, anew: bool
) -> None:
    index, other = bed.index("gone"), bed.index("other")
    genuine = elastic_backup.open_point

    def later(http: ElasticHttp, name: str) -> Any:
        if name == index and anew:
            bed.call("DELETE", f"/{index}")
            bed.index("gone")
        point = genuine(http, name)
        if name == other and not anew:
            bed.call("DELETE", f"/{index}")
        return point

    monkeypatch.setattr(elastic_backup, "open_point", later)
    with pytest.raises(LucidError, match=f"{index} was deleted or replaced") as failed:
        bed.back_up()
    assert failed.value.reason is Reason.STORE_UNAVAILABLE
    assert bed.sink is not None
    assert bed.sink.aborted


async def test_an_alias_that_is_rolled_over_meanwhile_has_one_write_index_in_the_backup(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    alias = bed.name("write")
    one = bed.index("s-2026.10", {"settings": SINGLE, "aliases": {alias: {"is_write_index": True}}})
    two = bed.index("s-2026.11", {"settings": SINGLE, "aliases": {alias: {"is_write_index": False}}})
    genuine = listing._named

    def rolled(http: ElasticHttp, names: list[str], *rest: Any) -> Any:
        if names == [two]:
            actions = [
                {"add": {"index": index, "alias": alias, "is_write_index": index == two}}
                for index in (one, two)
            ]
            bed.call("POST", "/_aliases", {"actions": actions})
        return genuine(http, names, *rest)

    monkeypatch.setattr(listing, "_LINE_BYTES", 1)
    monkeypatch.setattr(listing, "_named", rolled)
    backup = bed.back_up()
    for index in (one, two):
        bed.call("DELETE", f"/{index}")
    assert restore(bed.restore_run(backup)).indices == (one, two)
    found = bed.call("GET", f"/_alias/{alias}").values()
    assert sorted(body["aliases"][alias]["is_write_index"] for body in found) == [False, True]
