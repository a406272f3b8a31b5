"""Indices of others in the same cluster, however they are made, stop no backup, restore or proof; nor do many."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from jobs.elastic.elastic_bed import Backup, Bed, Killed, killed
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs import elastic_restore
from lucid_storage.jobs.elastic_restore import prove, restore
from lucid_storage.models.backup import ElasticSelection
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp
from testbed.pytest_stores import private
from testbed.stores.elasticsearch import Elasticsearch
from testbed.testrun import TestRun

pytestmark = pytest.mark.elasticsearch

SINGLE = {"number_of_replicas": 0}
MARK = "lucid-storage-restore"
SMALL = 100_000
"""Bytes of an answer in the tests of large ones."""


def around(bed: Bed, index: str) -> Backup:
    """Backs the index up, proves it and restores it."""
    backup = bed.back_up(ElasticSelection(indices=[index]))
    assert prove(bed.restore_run(backup))[0] == 1
    assert restore(bed.restore_run(backup, drop_existing=True)).documents == 1
    return backup


@pytest.fixture(scope="module")
def server(testbed_run: TestRun) -> Iterator[Elasticsearch]:
    """One of its own: with such a block, no test that runs at the same time could look at all indices, and a restore
    that is over would be ended by others.
    """
    for make in private(testbed_run, Elasticsearch, "elasticsearch"):
        yield make()


@pytest.fixture
def own(server: Elasticsearch, index_prefix: str) -> Bed:
    if not server.running():
        server.start()
    return Bed(server, index_prefix)


@pytest.mark.slow
@pytest.mark.parametrize("closed", ["plain", "x-r-0123456789ab"])
async def test_an_index_of_others_whose_metadata_are_blocked_is_passed_by(own: Bed, closed: str) -> None:
    foreign = f"foreign-{own.name(closed)}"
    own.call("PUT", f"/{foreign}", {"settings": {**SINGLE, "index.blocks.metadata": True}})
    alias = own.name("alias")
    index = own.index("kept", {"settings": SINGLE, "aliases": {alias: {"is_write_index": True}}})
    own.put(index, "1", "{}")
    around(own, index)
    (after,) = own.call("GET", f"/{index}/_alias").values()
    assert after["aliases"] == {index: {}, alias: {"is_write_index": True}}
    with pytest.raises(LucidError) as failed:
        own.back_up(ElasticSelection(indices=[foreign]))
    assert "take the block away" in failed.value.message


@pytest.mark.parametrize(
    "mark",
    [
        "x",
        [1],
        5,
        {"until": "abc"},
        {"target": "t", "run": 5},
        {"target": "t", "run": "0123456789ab", "until": "abc", "last": {}},
        {"target": "t", "run": "0123456789ab", "until": [], "last": {}},
        {"target": "t", "run": "0123456789ab", "until": 5, "last": 7},
    ],
    ids=json.dumps,
)
async def test_a_mark_that_somebody_made_up_stops_nobody(bed: Bed, mark: Any) -> None:
    settings = {**SINGLE, "index.hidden": True}
    for name in ("x-r-0123456789ab", "x-r-ba9876543210"):
        hidden = settings if name.endswith("ab") else SINGLE
        bed.index(name, {"settings": hidden, "mappings": {"_meta": {MARK: mark}}})
    index = bed.index("kept")
    bed.put(index, "1", "{}")
    around(bed, index)
    assert bed.exists(bed.name("x-r-0123456789ab"))


async def test_a_restore_that_somebody_made_up_and_nobody_can_finish_stops_nobody(bed: Bed) -> None:
    foreign = bed.name("x")
    bed.index(
        "x-r-0123456789ab",
        {
            "settings": {**SINGLE, "index.hidden": True, "index.mapping.total_fields.limit": 1_000_000},
            "mappings": {
                "_meta": {
                    MARK: {
                        "target": foreign,
                        "run": "0123456789ab",
                        "until": 5,
                        "last": {"index.nonsense": 1},
                    }
                }
            },
        },
    )
    index = bed.index("kept")
    bed.put(index, "1", "{}")
    around(bed, index)
    assert bed.exists(f"{foreign}-r-0123456789ab")


def lost_restore(bed: Bed, index: str, monkeypatch: pytest.MonkeyPatch, step: str) -> str:
    """A restore that is over, and whose worker was lost before this step; returns the index that it left."""
    bed.put(bed.index(index, {"settings": SINGLE}), "1", "{}")
    run = bed.restore_run(bed.back_up(ElasticSelection(indices=[bed.name(index)])), drop_existing=True)
    run.deadline_seconds = -1
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(elastic_restore, step, killed)
        patched.setattr(elastic_restore, "discard", lambda *_: None)
        patched.setattr(elastic_restore, "_lower_if_empty", lambda *_: None)
        restore(run)
    return f"{bed.name(index)}-r-{run.run}"


@pytest.mark.slow
@pytest.mark.parametrize("step", ["switch", "complete"])
async def test_what_a_restore_of_others_left_and_its_owner_blocked_stops_nobody(
    own: Bed, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    left = lost_restore(own, "foreign", monkeypatch, step)
    own.call("PUT", f"/{left}/_settings", {"index.blocks.read_only": True})
    index = own.index("kept", {"settings": SINGLE})
    own.put(index, "1", "{}")
    try:
        around(own, index)
        assert own.exists(left)
    finally:
        own.call("PUT", f"/{left}/_settings", {"index.blocks.read_only": None})
    around(own, index)
    assert own.exists(left) == (step == "complete")


@pytest.mark.slow
@pytest.mark.parametrize("step", ["switch", "complete"])
async def test_a_restore_says_nothing_of_what_others_left(
    own: Bed, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    index = own.index("kept", {"settings": SINGLE})
    own.put(index, "1", "{}")
    backup = own.back_up()
    lost_restore(own, "foreign", monkeypatch, step)
    assert restore(own.restore_run(backup, drop_existing=True)).notes == ()


@pytest.mark.parametrize(
    "made", ["x", {"until": "abc"}, {"until": None, "run": 5, "targets": 1}], ids=json.dumps
)
async def test_a_template_named_like_a_shield_stops_nobody(bed: Bed, made: Any) -> None:
    name = f"lucid-restore-{bed.prefix.strip('-')}"
    body = {"index_patterns": [bed.name("never")], "_meta": {MARK: made}}
    index = bed.index("kept")
    bed.put(index, "1", "{}")
    bed.index(f"x-r-{bed.prefix.strip('-')}")
    bed.call("PUT", f"/_index_template/{name}", body)
    try:
        around(bed, index)
    finally:
        bed.call("DELETE", f"/_index_template/{name}")


def wide(fields: int, length: int) -> dict[str, Any]:
    return {"properties": {f"{n:0{length}}": {"type": "long"} for n in range(fields)}}


async def test_definitions_that_are_too_large_for_one_answer_are_asked_for_in_parts(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every index that was restored keeps the -r- in its name, so all of them are looked at by each run."""
    alias = bed.name("alias")
    body = {"settings": SINGLE, "mappings": wide(700, 60), "aliases": {alias: {}}}
    for n in range(4):
        bed.put(bed.index(f"large.{n}", body), "1", "{}")
    monkeypatch.setitem(ElasticHttp.ask.__kwdefaults__, "largest", SMALL)
    for _ in range(2):
        backup = bed.back_up()
        assert prove(bed.restore_run(backup))[0] == 4
        assert restore(bed.restore_run(backup, drop_existing=True)).documents == 4
    found = bed.call("GET", f"/{alias}/_alias").values()
    assert sorted(name for one in found for name in one["aliases"] if name != alias) == [
        bed.name(f"large.{n}") for n in range(4)
    ]


async def test_a_definition_that_alone_is_too_large_is_said(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = bed.index("huge", {"settings": SINGLE, "mappings": wide(900, 150)})
    monkeypatch.setitem(ElasticHttp.ask.__kwdefaults__, "largest", SMALL)
    with pytest.raises(LucidError, match=f"The definition of {index}") as failed:
        bed.back_up()
    assert failed.value.reason is Reason.NOT_SUPPORTED


@pytest.mark.parametrize("depth", [940, 960, 980, 990])
@pytest.mark.parametrize("marked", [False, True])
async def test_mappings_of_others_that_are_nested_too_deep_to_be_read_stop_nobody(
    bed: Bed, depth: int, marked: bool
) -> None:
    deep = '{"a":' * depth + "1" + "}" * depth
    meta = f'{{"{MARK}":{deep}}}' if marked else deep
    foreign = bed.name("x-r-0123456789ab")
    bed.raw("PUT", f"/{foreign}", f'{{"mappings":{{"_meta":{meta}}}}}'.encode())
    index = bed.index("kept", {"settings": SINGLE})
    bed.put(index, "1", "{}")
    around(bed, index)
    with pytest.raises(LucidError, match=f"The definition of {foreign} .* leave the index out"):
        bed.back_up(ElasticSelection(indices=[foreign]))
