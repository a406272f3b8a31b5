"""What an export holds, and what a restore of it brings back, on a real server."""

import pytest

from jobs.elastic.elastic_bed import Bed, Readable, hits
from lucid_storage.jobs.elastic_backup import check
from lucid_storage.jobs.elastic_restore import plan, restore
from lucid_storage.models.backup import ElasticSelection

pytestmark = pytest.mark.elasticsearch

EXACT = {
    "float": '{"f":1.0}',
    "wide": '{"x":1e400,"y":-0.0,"z":1.10}',
    "long": '{"n":123456789012345678901234567890,"m":9007199254740993}',
    "escapes": '{"t":"\\u00fc\\/ü\\ud83d\\ude00","q":"\\"_source\\":{}"}',
    "blanks": '  { "a" :\t1 }  ',
    "comment": '{"a":/* kept */ 1}',
    "lines": '{\n "a": 1\n}\n',
    "return": '{"a":1}\r',
    "mimic": '{"_source":{},"hits":[{"_index":"x","sort":[1],"matched_queries":["q"]},{"_id":"y"}]}',
    "empty": "{}",
}


async def test_a_source_comes_back_byte_by_byte(bed: Bed) -> None:
    body = {"settings": {"number_of_replicas": 0}, "mappings": {"enabled": False}}
    index = bed.index("exact", body)
    for identifier, source in EXACT.items():
        bed.put(index, identifier, source)
    backup = bed.back_up()
    restore(bed.restore_run(backup, rename_to="{index}-copy", compare_hashes=True))
    for identifier, source in EXACT.items():
        assert bed.source(f"{index}-copy", identifier) == source.encode(), identifier
        assert bed.source(index, identifier) == source.encode(), identifier


async def test_ids_versions_and_routing_come_back(bed: Bed) -> None:
    index = bed.index("ids", {"settings": {"number_of_shards": 3, "number_of_replicas": 0}})
    for turn in range(3):
        bed.put(index, "c%2Fd%20%22%C3%BC%22", f'{{"turn":{turn}}}', "routing=a%20%26%20b")
    bed.put(index, "plain", "{}")
    bed.put(index, "far", "{}", "version=4611686018427387904&version_type=external")
    backup = bed.back_up()
    restore(bed.restore_run(backup, rename_to="{index}-copy", compare_hashes=True))
    shown = [(h["_id"], h["_version"], h.get("_routing"), h["_source"]) for h in hits(bed, f"{index}-copy")]
    assert shown == [(h["_id"], h["_version"], h.get("_routing"), h["_source"]) for h in hits(bed, index)]
    assert ('c/d "ü"', 3, "a & b", {"turn": 2}) in shown


async def test_50_000_documents_are_exported_and_restored_without_a_difference(bed: Bed) -> None:
    index = bed.index("many", {"settings": {"number_of_shards": 2, "number_of_replicas": 0}})
    bed.fill(index, 50_000)
    backup = bed.back_up()
    assert backup.taken.documents == 50_000
    check(Readable(backup.data), backup.manifest())
    done = restore(bed.restore_run(backup, drop_existing=True, compare_hashes=True))
    assert done.documents == 50_000
    assert bed.count(index) == 50_000
    again = bed.back_up()
    assert again.record.indices == backup.record.indices


async def test_definitions_come_back_as_they_were(bed: Bed) -> None:
    mappings = {
        "dynamic": "strict",
        "_meta": {"owner": {"ratio": 1.0, "big": 123456789012345678901234567890}},
        "runtime": {"day": {"type": "keyword"}},
        "properties": {
            "labels": {"type": "flattened"},
            "parts": {"type": "nested", "properties": {"size": {"type": "long", "null_value": -1}}},
            "vector": {"type": "dense_vector", "dims": 3, "index": False},
            "title": {"type": "text", "analyzer": "folded", "fields": {"raw": {"type": "keyword"}}},
            "n": {"type": "integer", "ignore_malformed": True},
        },
    }
    settings = {
        "number_of_replicas": 0,
        "number_of_shards": 2,
        "refresh_interval": "7s",
        "analysis": {"analyzer": {"folded": {"tokenizer": "standard", "filter": ["lowercase"]}}},
    }
    aliases = {
        bed.name("read"): {"filter": {"term": {"n": 1}}, "routing": "r"},
        bed.name("w"): {"is_write_index": True},
    }
    index = bed.index("defined", {"settings": settings, "mappings": mappings, "aliases": aliases})
    source = '{"labels":{"a":"b"},"parts":[{"size":1},{}],"vector":[1.0,2.5,3],"title":"Ü","n":"many"}'
    bed.put(index, "1", source)
    before = bed.call("GET", f"/{index}")[index]
    backup = bed.back_up()
    bed.call("DELETE", f"/{index}")
    done = restore(bed.restore_run(backup, compare_hashes=True))
    assert done.notes == ()
    (after,) = bed.call("GET", f"/{index}").values()
    assert bed.source(index, "1") == source.encode()
    assert after["aliases"].pop(index) == {}
    assert after["aliases"] == before["aliases"]
    del after["mappings"]["_meta"]["lucid-storage-restore"]
    assert after["mappings"] == before["mappings"]
    changing = {"creation_date", "uuid", "provided_name", "version"}
    kept = [
        {k: v for k, v in each["settings"]["index"].items() if k not in changing} for each in (before, after)
    ]
    assert kept[0] == kept[1]


async def test_templates_that_match_come_back_when_they_are_missing(bed: Bed) -> None:
    component, template = bed.name("part"), bed.name("template")
    bed.call(
        "PUT",
        f"/_component_template/{component}",
        {"template": {"settings": {"index.number_of_replicas": 0}}},
    )
    body = {
        "index_patterns": [bed.name("t-*")],
        "composed_of": [component],
        "priority": 600,
        "template": {
            "aliases": {bed.name("seen"): {}},
            "mappings": {"properties": {"extra": {"type": "keyword"}}},
        },
    }
    bed.call("PUT", f"/_index_template/{template}", body)
    index = bed.index("t-1")
    bed.put(index, "1", '{"a":1}')
    backup = bed.back_up()
    bed.call("DELETE", f"/{index}")
    bed.call("DELETE", f"/_index_template/{template}")
    bed.call("DELETE", f"/_component_template/{component}")
    restore(bed.restore_run(backup))
    (found,) = bed.call("GET", f"/_index_template/{template}")["index_templates"]
    assert found["index_template"]["index_patterns"] == [bed.name("t-*")]
    assert found["index_template"]["composed_of"] == [component]
    assert bed.call("GET", f"/_component_template/{component}")["component_templates"]


async def test_a_template_of_others_does_not_reach_an_index_that_is_restored(bed: Bed) -> None:
    index = bed.index("t-1")
    bed.put(index, "1", '{"a":1}')
    backup = bed.back_up()
    body = {
        "index_patterns": [bed.name("t-*")],
        "priority": 900,
        "template": {
            "aliases": {bed.name("seen"): {"is_write_index": True}},
            "mappings": {"dynamic": "strict", "properties": {"a": {"type": "keyword"}}},
        },
    }
    bed.call("PUT", f"/_index_template/{bed.name('late')}", body)
    restore(bed.restore_run(backup, drop_existing=True))
    (after,) = bed.call("GET", f"/{index}").values()
    assert after["mappings"]["properties"] == {"a": {"type": "long"}}
    assert set(after["aliases"]) == {index}


async def test_a_pipeline_that_is_not_on_the_server_is_said(bed: Bed) -> None:
    pipeline = bed.name("pipeline")
    bed.call("PUT", f"/_ingest/pipeline/{pipeline}", {"processors": []})
    index = bed.index("piped", {"settings": {"number_of_replicas": 0, "default_pipeline": pipeline}})
    backup = bed.back_up()
    assert restore(bed.restore_run(backup, drop_existing=True)).notes == ()
    bed.call("PUT", f"/{index}/_settings", {"index.default_pipeline": None})
    bed.call("DELETE", f"/_ingest/pipeline/{pipeline}")
    (note,) = restore(bed.restore_run(backup, drop_existing=True)).notes
    assert note.startswith(f"The ingest pipeline {pipeline} is not on this server")
    assert index in note


async def test_an_index_that_gives_small_pages_is_exported_and_compared(bed: Bed) -> None:
    index = bed.index("window", {"settings": {"number_of_replicas": 0, "max_result_window": 50}})
    bed.fill(index, 300)
    backup = bed.back_up()
    assert backup.taken.documents == 300
    restore(bed.restore_run(backup, drop_existing=True, compare_hashes=True))
    assert bed.count(index) == 300


async def test_what_was_confirmed_before_the_backup_is_in_it_also_without_a_refresh(bed: Bed) -> None:
    index = bed.index("late", {"settings": {"number_of_replicas": 0, "refresh_interval": "-1"}})
    bed.put(index, "1", '{"a":1}')
    assert bed.back_up().taken.documents == 1


async def test_what_is_written_while_an_export_runs_is_not_in_it(bed: Bed) -> None:
    index = bed.index("moving")
    bed.fill(index, 20_000)
    once: list[int] = []

    def write(size: int) -> None:
        if size > 100_000 and not once:
            once.append(size)
            bed.fill(index, 5_000, start=20_000)
            bed.put(index, "doc-19999", '{"changed":true}')

    bed.before_write = write
    backup = bed.back_up()
    assert once
    assert backup.taken.documents == 20_000
    assert b'{"changed":true}' not in backup.data


async def test_hidden_system_reserved_and_closed_indices_are_left_out_and_closed_ones_said(bed: Bed) -> None:
    bed.put(bed.index("open"), "1", "{}")
    bed.index("hidden", {"settings": {"index.hidden": True, "number_of_replicas": 0}})
    closed = bed.index("closed")
    bed.call("POST", f"/{closed}/_close")
    backup = bed.back_up()
    assert [one.name for one in backup.record.indices] == [bed.name("open")]
    assert backup.taken.notes == (f"{closed} is closed; open it; it is not in this backup.",)


async def test_a_read_only_index_is_exported_and_comes_back_read_only(bed: Bed) -> None:
    index = bed.index("fixed")
    bed.put(index, "1", "{}")
    bed.call("PUT", f"/{index}/_settings", {"index.blocks.read_only": True})
    backup = bed.back_up()
    bed.call("PUT", f"/{index}/_settings", {"index.blocks.read_only": False})
    restore(bed.restore_run(backup, drop_existing=True))
    (after,) = bed.call("GET", f"/{index}/_settings").values()
    assert after["settings"]["index"]["blocks"] == {"read_only": "true"}
    bed.call("PUT", f"/{index}/_settings", {"index.blocks.read_only": False})


async def test_a_plan_says_what_would_be_replaced(bed: Bed) -> None:
    index = bed.index("planned")
    bed.fill(index, 10)
    backup = bed.back_up(ElasticSelection(indices=[index]))
    found = plan(bed.restore_run(backup))
    assert [(p.source, p.target, p.documents, p.overwrites) for p in found.indices] == [
        (index, index, 10, 10)
    ]
    assert found.blocked is not None
    assert "dropExisting" in found.blocked.message
    beside = plan(bed.restore_run(backup, rename_to="{index}-copy"))
    assert [(p.target, p.overwrites) for p in beside.indices] == [(f"{index}-copy", 0)]
    assert beside.blocked is None
