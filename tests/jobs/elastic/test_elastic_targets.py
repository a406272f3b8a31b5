"""Consent, names and aliases of a restore, on a real server."""

import json
import threading

import pytest

from jobs.elastic.elastic_bed import Bed
from lucid_storage.archive.manifest import ElasticRecord
from lucid_storage.errors import LucidError, Reason, ServerRefusedError
from lucid_storage.jobs import elastic_loading, elastic_restore
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.elastic_restore import prove, restore
from lucid_storage.models.backup import ElasticSelection
from lucid_storage.stores.elasticsearch.backup import switching

pytestmark = pytest.mark.elasticsearch


async def test_without_consent_an_index_with_documents_is_left_alone(bed: Bed) -> None:
    index = bed.index("kept")
    bed.put(index, "1", '{"a":1}')
    backup = bed.back_up()
    bed.put(index, "2", '{"a":2}')
    with pytest.raises(LucidError) as refused:
        restore(bed.restore_run(backup))
    assert refused.value.reason is Reason.TARGET_NOT_EMPTY
    assert bed.indices() == {index}
    assert bed.count(index) == 2


async def test_an_empty_index_counts_as_absent(bed: Bed) -> None:
    index = bed.index("fresh")
    bed.put(index, "1", '{"a":1}')
    backup = bed.back_up()
    bed.call("DELETE", f"/{index}")
    bed.index("fresh")
    restore(bed.restore_run(backup))
    assert bed.count(index) == 1
    bed.put(index, "2", '{"a":2}')
    assert bed.count(index) == 2


async def test_documents_that_come_into_an_empty_target_while_it_loads_stop_the_switch(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = bed.index("raced")
    bed.put(index, "1", '{"a":1}')
    backup = bed.back_up()
    bed.call("DELETE", f"/{index}")
    bed.index("raced")
    genuine = switching.close_to_writes

    def race(http: switching.ElasticHttp, name: str) -> None:
        bed.put(index, "mine", "{}")
        genuine(http, name)

    monkeypatch.setattr(switching, "close_to_writes", race)
    with pytest.raises(LucidError) as refused:
        restore(bed.restore_run(backup))
    assert refused.value.reason is Reason.TARGET_NOT_EMPTY
    assert bed.indices() == {index}
    bed.put(index, "more", "{}")
    assert bed.count(index) == 2


async def test_a_restored_index_is_backed_up_and_restored_again_under_its_name(bed: Bed) -> None:
    index = bed.index("twice")
    bed.put(index, "1", '{"a":1}')
    first = bed.back_up()
    restore(bed.restore_run(first, drop_existing=True))
    second = bed.back_up()
    assert [one.name for one in second.record.indices] == [index]
    done = restore(bed.restore_run(second, drop_existing=True, run="feed01"))
    assert done.indices == (index,)
    assert bed.indices() == {f"{index}-r-feed01"}
    assert bed.count(index) == 1


async def test_an_alias_that_others_made_is_never_replaced(bed: Bed) -> None:
    index = bed.index("real")
    bed.put(index, "1", '{"a":1}')
    backup = bed.back_up()
    bed.call("DELETE", f"/{index}")
    other = bed.index("other")
    bed.call("POST", "/_aliases", {"actions": [{"add": {"index": other, "alias": index}}]})
    with pytest.raises(LucidError) as refused:
        restore(bed.restore_run(backup, drop_existing=True))
    assert refused.value.reason is Reason.TARGET_NOT_EMPTY
    assert bed.indices() == {other}


@pytest.mark.parametrize("refused", ["of what is not there", "of two write indices"])
async def test_several_indices_are_switched_by_one_call_or_not_at_all(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, refused: str
) -> None:
    """The server calls two write indices its own failure, and has done nothing."""
    names = [bed.index(f"many-{n}") for n in range(3)]
    for name in names:
        bed.put(name, "1", '{"old":true}')
    backup = bed.back_up()
    for name in names:
        bed.put(name, "2", '{"new":true}')
    others = [bed.index(f"other-{n}") for n in range(2)]
    genuine = switching._actions
    monkeypatch.setattr(switching, "_CERTAIN_SECONDS", 1.0)

    def broken(*args: object) -> object:
        actions, notes = genuine(*args)  # type: ignore[arg-type]
        if refused == "of what is not there":
            return [*actions, '{"add":{"index":"no-such-index-at-all","alias":"x"}}'], notes
        two = [{"index": one, "alias": bed.name("w"), "is_write_index": True} for one in others]
        return [*actions, *(json.dumps({"add": each}) for each in two)], notes

    monkeypatch.setattr(switching, "_actions", broken)
    with pytest.raises(ServerRefusedError):
        restore(bed.restore_run(backup, drop_existing=True))
    assert bed.indices() == {*names, *others}
    assert [bed.count(name) for name in names] == [2, 2, 2]
    monkeypatch.undo()
    restore(bed.restore_run(backup, drop_existing=True))
    assert [bed.count(name) for name in names] == [1, 1, 1]


async def test_writes_of_an_alias_go_on_to_the_live_write_index(bed: Bed) -> None:
    alias = bed.name("series")
    old = bed.index("2026.10", {"aliases": {alias: {"is_write_index": True}}})
    bed.put(old, "1", '{"a":1}')
    backup = bed.back_up()
    live = bed.index("2026.11")
    moved = [
        {"add": {"index": old, "alias": alias, "is_write_index": False}},
        {"add": {"index": live, "alias": alias, "is_write_index": True}},
    ]
    bed.call("POST", "/_aliases", {"actions": moved})
    done = restore(bed.restore_run(backup, drop_existing=True, indices=[old]))
    assert done.notes == (f"The write index of {alias} stays {live}.",)
    bed.put(alias, "2", '{"a":2}')
    assert bed.count(live) == 1
    assert bed.count(alias) == 2


async def test_an_index_that_replaces_the_write_index_of_an_alias_takes_its_writes(bed: Bed) -> None:
    """The backup was made when the month was prepared and not yet written to."""
    alias = bed.name("series")
    old = bed.index("2026.10", {"aliases": {alias: {"is_write_index": True}}})
    new = bed.index("2026.11", {"aliases": {alias: {"is_write_index": False}}})
    backup = bed.back_up()
    turned = [
        {"add": {"index": index, "alias": alias, "is_write_index": index == new}} for index in (old, new)
    ]
    bed.call("POST", "/_aliases", {"actions": turned})
    bed.put(alias, "1", "{}")
    run = bed.restore_run(backup, drop_existing=True, indices=[new])
    real = f"{new}-r-{run.run}"
    assert restore(run).notes == (f"The write index of {alias} is {real}, for it replaces the one that was.",)
    bed.put(alias, "2", "{}")
    assert bed.count(new) == 1


async def test_an_alias_with_one_index_goes_on_to_take_writes_when_a_second_one_joins(bed: Bed) -> None:
    alias = bed.name("series")
    old = bed.index("2026.10", {"aliases": {alias: {}}})
    bed.put(old, "1", '{"a":1}')
    backup = bed.back_up()
    bed.call("DELETE", f"/{old}")
    live = bed.index("2026.11", {"aliases": {alias: {}}})
    restore(bed.restore_run(backup))
    bed.put(alias, "2", '{"a":2}')
    assert bed.count(live) == 1
    assert bed.count(alias) == 2


async def test_a_namespace_reads_and_writes_only_its_own_indices(bed: Bed) -> None:
    mine, theirs = bed.index("mine-2026.11"), bed.index("theirs-2026.11")
    alias = bed.name("theirs")
    bed.call("POST", "/_aliases", {"actions": [{"add": {"index": mine, "alias": alias}}]})
    for name in (mine, theirs):
        bed.put(name, "1", "{}")
    pattern = bed.name("mine")
    backup = bed.back_up(ElasticSelection(indices=[f"{bed.prefix}*"]), pattern)
    assert [one.name for one in backup.record.indices] == [mine]
    with pytest.raises(LucidError) as refused:
        bed.back_up(ElasticSelection(indices=[theirs]), pattern)
    assert refused.value.reason is Reason.INDEX_NOT_ALLOWED
    with pytest.raises(LucidError) as refused:
        restore(bed.restore_run(backup, rename_to=theirs, index_patterns=(pattern,)))
    assert refused.value.reason is Reason.INDEX_NOT_ALLOWED
    done = restore(bed.restore_run(backup, drop_existing=True, index_patterns=(pattern,)))
    assert done.notes == (f"The alias {alias} was left out: the namespace may not use it.",)
    assert bed.count(theirs) == 1


async def test_a_template_that_reaches_indices_of_others_is_not_restored(bed: Bed) -> None:
    index = bed.index("mine-1")
    bed.put(index, "1", "{}")
    wide = {"index_patterns": [f"{bed.prefix}*"], "priority": 700, "template": {}}
    bed.call("PUT", f"/_index_template/{bed.name('wide')}", wide)
    backup = bed.back_up()
    bed.call("DELETE", f"/_index_template/{bed.name('wide')}")
    mine = (bed.name("mine-*"),)
    done = restore(bed.restore_run(backup, drop_existing=True, index_patterns=mine))
    assert f"The template {bed.name('wide')} was left out: it reaches indices of others." in done.notes
    found = bed.call("GET", "/_index_template")["index_templates"]
    assert bed.name("wide") not in [one["name"] for one in found]


@pytest.mark.parametrize("expression", ["no-such-index-at-all"])
async def test_an_index_that_is_not_there_is_said(bed: Bed, expression: str) -> None:
    with pytest.raises(LucidError) as refused:
        bed.back_up(ElasticSelection(indices=[expression]))
    assert refused.value.reason is Reason.INVALID_SPEC
    backup = bed.back_up()
    with pytest.raises(LucidError) as refused:
        restore(bed.restore_run(backup, indices=[expression]))
    assert refused.value.reason is Reason.INVALID_SPEC


async def test_two_indices_do_not_become_one(bed: Bed) -> None:
    bed.index("one")
    bed.index("two")
    backup = bed.back_up()
    with pytest.raises(LucidError) as refused:
        restore(bed.restore_run(backup, rename_to=bed.name("same")))
    assert refused.value.reason is Reason.INVALID_SPEC


async def test_an_index_without_sources_is_refused_with_what_to_do(bed: Bed) -> None:
    bed.index("bare", {"mappings": {"_source": {"enabled": False}}})
    with pytest.raises(LucidError, match="Snapshot"):
        bed.back_up()
    assert bed.sink is None


async def test_a_cancelled_export_leaves_no_object_and_no_point_in_time(bed: Bed) -> None:
    index = bed.index("long")
    bed.fill(index, 20_000)
    bed.before_write = lambda size: bed.cancelled.set() if size > 1_000_000 else None
    with pytest.raises(CancelledError):
        bed.back_up()
    assert bed.sink is not None
    assert bed.sink.aborted
    assert not bed.sink.finished


async def test_a_cancelled_restore_leaves_the_target_and_nothing_else(bed: Bed) -> None:
    index = bed.index("long")
    bed.fill(index, 20_000)
    backup = bed.back_up()
    cancelled = threading.Event()
    run = bed.restore_run(backup, drop_existing=True, cancelled=cancelled)
    run.report = lambda _size, _documents: cancelled.set()
    with pytest.raises(CancelledError):
        restore(run)
    assert bed.indices() == {index}
    assert bed.count(index) == 20_000
    assert not [t for t in bed.call("GET", "/_index_template")["index_templates"] if run.run in t["name"]]


async def test_a_proof_compares_every_document_under_names_that_nothing_else_sees(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = bed.index("proved")
    bed.fill(index, 3_000)
    backup = bed.back_up()
    seen: list[set[str]] = []
    genuine = elastic_restore.load

    def load(*args: object) -> object:
        result = genuine(*args)  # type: ignore[arg-type]
        seen.append(set(bed.call("GET", "/*/_settings?expand_wildcards=open,closed")))
        seen.append(set(bed.call("GET", "/lucid_stg_*/_settings?expand_wildcards=all")))
        return result

    monkeypatch.setattr(elastic_restore, "load", load)
    run = bed.restore_run(backup)
    assert prove(run)[0] == 3_000
    visible, staged = seen
    assert not [name for name in visible if name.startswith("lucid_stg_")]
    assert f"lucid_stg_{run.run}_0" in staged
    assert not bed.exists(f"lucid_stg_{run.run}_0")
    assert bed.indices() == {index}


async def test_a_proof_finds_a_backup_that_is_not_what_its_documents_say(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    bed.put(bed.index("lost"), "1", '{"a":1}')
    backup = bed.back_up()
    genuine = elastic_restore.load

    def load(loading: object, http: object, targets: dict[str, tuple[str, str]]) -> object:
        def loaded(_http: object, name: str, _definition: object) -> None:
            bed.put(name, "1", '{"a":2}')

        monkeypatch.setattr(elastic_loading, "loaded", loaded)
        return genuine(loading, http, targets)  # type: ignore[arg-type]

    monkeypatch.setattr(elastic_restore, "load", load)
    run = bed.restore_run(backup)
    with pytest.raises(LucidError) as found:
        prove(run)
    assert found.value.reason is Reason.COUNT_MISMATCH
    assert not bed.exists(f"lucid_stg_{run.run}_0")


async def test_a_backup_without_any_index_is_one(bed: Bed) -> None:
    backup = bed.back_up()
    assert backup.taken.documents == 0
    assert isinstance(backup.record, ElasticRecord)
    assert restore(bed.restore_run(backup)).indices == ()
