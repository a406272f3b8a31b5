"""Which indices a backup takes: none that was asked for by name, or that is live, is passed over without a word."""

import uuid
from typing import Any

import pytest

from jobs.elastic.elastic_bed import Backup, Bed
from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.elastic_restore import restore
from lucid_storage.models.backup import ElasticSelection

pytestmark = pytest.mark.elasticsearch

SINGLE = {"number_of_replicas": 0}


def names(backup: Backup) -> list[str]:
    return [one.name for one in backup.record.indices]


def refused(bed: Bed, name: str, *patterns: str) -> LucidError:
    bed.sink = None
    with pytest.raises(LucidError) as failed:
        bed.back_up(ElasticSelection(indices=[name]), *patterns)
    assert bed.sink is None
    return failed.value


def move(bed: Bed, alias: str, old: str, new: str) -> None:
    actions = [{"remove": {"index": old, "alias": alias}}, {"add": {"index": new, "alias": alias}}]
    bed.call("POST", "/_aliases", {"actions": actions})


async def test_an_alias_whose_index_is_hidden_is_refused_when_it_is_asked_for_by_name(bed: Bed) -> None:
    alias = bed.name("alias")
    hidden = bed.index("hidden", {"settings": {"index.hidden": True, **SINGLE}, "aliases": {alias: {}}})
    for name in (alias, hidden):
        why = refused(bed, name)
        assert why.reason is Reason.INVALID_SPEC
        assert "hidden" in why.message


async def test_an_alias_whose_index_the_namespace_may_not_use_is_refused(bed: Bed) -> None:
    alias = bed.name("alias")
    bed.index("other", {"settings": SINGLE, "aliases": {alias: {}}})
    why = refused(bed, alias, alias)
    assert why.reason is Reason.INDEX_NOT_ALLOWED
    assert bed.name("other") not in why.message
    assert refused(bed, bed.name("other"), alias).reason is Reason.INDEX_NOT_ALLOWED


async def test_what_an_alias_stands_for_besides_is_said(bed: Bed) -> None:
    alias = bed.name("alias")
    bed.index("one", {"settings": SINGLE, "aliases": {alias: {}}})
    bed.index("hidden", {"settings": {"index.hidden": True, **SINGLE}, "aliases": {alias: {}}})
    backup = bed.back_up(ElasticSelection(indices=[alias]))
    assert names(backup) == [bed.name("one")]
    assert backup.taken.notes == (
        f"1 of the indices that the alias {alias} stands for are hidden, or the namespace may not use them;"
        " they are not in this backup.",
    )
    bed.call("DELETE", f"/{bed.name('hidden')}")
    bed.index("theirs", {"settings": SINGLE, "aliases": {alias: {}}})
    for asked in ([alias], None):
        backup = bed.back_up(ElasticSelection(indices=asked), alias, bed.name("one"))
        assert names(backup) == [bed.name("one")]
        (note,) = backup.taken.notes
        assert note.startswith(f"1 of the indices that the alias {alias} stands for")


async def test_a_closed_restored_index_is_an_error_by_name_and_a_note_by_pattern(bed: Bed) -> None:
    index = bed.index("closed")
    bed.put(index, "1", "{}")
    restore(bed.restore_run(bed.back_up(), drop_existing=True))
    bed.call("POST", f"/{index}/_close")
    assert "closed" in refused(bed, index).message
    backup = bed.back_up()
    assert names(backup) == []
    assert backup.taken.notes == (f"{index} is closed; open it; it is not in this backup.",)


async def test_a_name_that_went_on_to_another_index_is_not_the_old_ones(bed: Bed) -> None:
    """Blue and green: after a restore the name is an alias, and is moved to a new index as aliases are."""
    name = bed.index("x")
    bed.put(name, "1", '{"state":"old"}')
    restore(bed.restore_run(bed.back_up(), drop_existing=True))
    (old,) = bed.indices()
    new = bed.index("x-v2")
    bed.put(new, "1", '{"state":"new"}')
    move(bed, name, old, new)
    backup = bed.back_up()
    assert names(backup) == [old, new]
    for one in bed.indices():
        bed.call("DELETE", f"/{one}")
    restore(bed.restore_run(backup))
    assert bed.source(name, "1") == b'{"state":"new"}'
    assert bed.source(old, "1") == b'{"state":"old"}'


@pytest.mark.parametrize("meta", [{"schema": 7}, {}])
async def test_a_restored_index_whose_meta_an_application_writes_keeps_its_name(
    bed: Bed, meta: dict[str, Any]
) -> None:
    index = bed.index("meta-2026.11")
    bed.put(index, "1", "{}")
    restore(bed.restore_run(bed.back_up(), drop_existing=True))
    bed.call("PUT", f"/{index}/_mapping", {"_meta": meta})
    backup = bed.back_up(ElasticSelection(), bed.name("meta"))
    assert names(backup) == [index]
    restore(bed.restore_run(backup, drop_existing=True, index_patterns=(bed.name("meta"),)))
    assert bed.count(index) == 1


async def test_an_index_of_others_that_is_named_like_a_restored_one_keeps_its_own_name(bed: Bed) -> None:
    series, run = bed.name("x"), uuid.uuid4().hex[:12]
    own = bed.index(f"x-r-{run}", {"settings": SINGLE, "aliases": {series: {"routing": "r"}}})
    for number in (1, 2):
        bed.index(f"y-r-00000000000{number}", {"settings": SINGLE, "aliases": {bed.name("y"): {}}})
    assert names(bed.back_up()) == [own, *(bed.name(f"y-r-00000000000{n}") for n in (1, 2))]


async def test_more_indices_than_fit_into_one_request_are_read(bed: Bed) -> None:
    made = sorted(bed.index(f"{'long-' * 30}{number:02}") for number in range(20))
    assert names(bed.back_up()) == made
