"""A restore whose worker or server is lost around the switch: what is live is neither removed nor left out."""

import logging
from contextlib import suppress
from typing import Any

import pytest

from jobs.elastic.elastic_bed import Backup, Bed, Killed, comes_next
from lucid_storage.errors import StoreUnavailableError
from lucid_storage.jobs import elastic_restore
from lucid_storage.jobs.elastic_restore import prove, restore
from lucid_storage.models.backup import ElasticSelection
from lucid_storage.stores.elasticsearch.backup import switching
from lucid_storage.stores.elasticsearch.backup.http import Answer, ElasticHttp

pytestmark = pytest.mark.elasticsearch

SETTINGS = {
    "number_of_replicas": 0,
    "index.mapping.depth.limit": 9,
    "index.blocks.read_only_allow_delete": False,
}


def unfinished(bed: Bed, backup: Backup, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restore that is lost right after the switch."""

    def dies(*_: Any) -> list[str]:
        raise StoreUnavailableError("lost right after the switch")

    with monkeypatch.context() as patched, pytest.raises(StoreUnavailableError):
        patched.setattr(elastic_restore, "complete", dies)
        restore(bed.restore_run(backup, drop_existing=True))


def make_over(bed: Bed, index: str) -> None:
    """The restore that left this index has ended for certain. Sooner, the run of another test could end it."""
    meta = bed.call("GET", f"/{index}/_mapping")[index]["mappings"]["_meta"]
    meta["lucid-storage-restore"]["until"] = 5
    bed.call("PUT", f"/{index}/_mapping", {"_meta": meta})


async def test_a_restored_index_that_is_still_hidden_is_in_the_next_backup(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = bed.index("live", {"settings": SETTINGS, "mappings": {"dynamic": "strict"}})
    bed.put(index, "1", "{}")
    backup = bed.back_up()
    before = bed.call("GET", f"/{index}")[index]["settings"]["index"]
    unfinished(bed, backup, monkeypatch)
    bed.put(index, "2", "{}")  # live, and applications write to it
    for asked in (f"{bed.prefix}*", index):
        later = bed.back_up(ElasticSelection(indices=[asked]))
        assert [(one.name, one.documents) for one in later.record.indices] == [(index, 2)]
    restore(bed.restore_run(later, drop_existing=True))
    (after,) = bed.call("GET", f"/{index}").values()
    assert set(after["aliases"]) == {index}
    changing = {"creation_date", "uuid", "provided_name", "version"}
    settings = [
        {k: v for k, v in each.items() if k not in changing} for each in (before, after["settings"]["index"])
    ]
    assert settings[0] == settings[1]


@pytest.mark.parametrize("change", [1, 2, 3])
async def test_a_restore_killed_amid_its_last_settings_is_finished_by_the_next_run(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, change: int
) -> None:
    """After each change that follows the switch: neither limits nor blocks stay away."""
    index = bed.index("live", {"settings": {**SETTINGS, "index.mapping.total_fields.limit": 50}})
    bed.put(index, "1", "{}")
    bed.call("PUT", f"/{index}/_settings", {"index.blocks.write": True})
    before = declared_settings(bed, index)
    backup = bed.back_up()
    genuine = ElasticHttp._once
    after_switch = -1

    def once(self: ElasticHttp, method: str, target: str, *rest: Any) -> Answer:
        nonlocal after_switch
        answer = genuine(self, method, target, *rest)
        if after_switch >= 0 and method not in ("GET", "HEAD"):
            after_switch += 1
        elif (method, target.partition("?")[0]) == ("POST", "/_aliases"):
            after_switch = 0
        if after_switch == change:
            raise Killed
        return answer

    run = bed.restore_run(backup, drop_existing=True)
    with monkeypatch.context() as patched, suppress(Killed):
        patched.setattr(ElasticHttp, "_once", once)
        restore(run)
    assert after_switch >= change
    later = bed.back_up()
    comes_next(bed, backup)
    assert declared_settings(bed, index) == before
    bed.call("PUT", f"/{index}/_settings", {"index.blocks.write": None})
    comes_next(bed, later)
    assert "write" not in declared_settings(bed, index).get("blocks", {})
    restore(bed.restore_run(later, drop_existing=True))
    assert declared_settings(bed, index) == before


def declared_settings(bed: Bed, index: str) -> dict[str, Any]:
    (found,) = bed.call("GET", f"/{index}/_settings").values()
    changing = {"creation_date", "uuid", "provided_name", "version"}
    return {key: value for key, value in found["settings"]["index"].items() if key not in changing}


async def test_an_index_that_was_live_is_not_removed_when_its_name_went_on(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = bed.index("live")
    bed.put(index, "1", "{}")
    backup = bed.back_up()
    unfinished(bed, backup, monkeypatch)
    (real,) = bed.indices()
    bed.put(index, "2", "{}")
    green = bed.index("live-v2")
    move = [{"remove": {"index": real, "alias": index}}, {"add": {"index": green, "alias": index}}]
    bed.call("POST", "/_aliases", {"actions": move})
    make_over(bed, real)
    assert prove(bed.restore_run(backup))[0] == 1
    assert bed.count(real) == 2
    (after,) = bed.call("GET", f"/{real}").values()
    assert after["aliases"] == {}
    assert "hidden" not in after["settings"]["index"]


async def test_what_was_live_stays_with_a_note_before_the_next_restore(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    index = bed.index("live")
    bed.put(index, "1", "{}")
    backup = bed.back_up()
    unfinished(bed, backup, monkeypatch)
    (real,) = bed.indices()
    bed.call("POST", "/_aliases", {"actions": [{"remove": {"index": real, "alias": index}}]})
    done = restore(bed.restore_run(backup, run="next"))
    assert bed.indices() == {real, f"{index}-r-next"}
    (note,) = done.notes
    assert note.startswith(f"{real} was {index} after an earlier run")


async def test_a_switch_whose_answer_is_lost_is_not_taken_back(
    bed: Bed, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The target is empty, so it is closed to writes; and the server is away until the worker has cleaned up."""
    index = bed.index("target")
    bed.put(index, "1", "{}")
    backup = bed.back_up()
    bed.call("DELETE", f"/{index}")
    bed.index("target")
    genuine = ElasticHttp._once
    away = False

    def once(self: ElasticHttp, method: str, target: str, *rest: Any) -> Answer:
        nonlocal away
        if away:
            raise ConnectionResetError("away")
        answer = genuine(self, method, target, *rest)
        if (method, target.partition("?")[0]) == ("POST", "/_aliases"):
            away, self.patience = True, 0.5
            raise ConnectionResetError("the answer is lost")
        return answer

    def back(*_: Any) -> None:
        nonlocal away
        away = False

    unblock = switching._unblock_writes

    def unblocked(http: ElasticHttp, name: str) -> None:
        unblock(http, name)
        back()

    with monkeypatch.context() as patched, caplog.at_level(logging.WARNING):
        patched.setattr(ElasticHttp, "_once", once)
        patched.setattr(switching, "_unblock_writes", unblocked)
        with pytest.raises(switching.SwitchUncertainError):
            restore(bed.restore_run(backup))
    assert f"the index {index} may still refuse writes" in caplog.text
    assert bed.count(index) == 1
    done = restore(bed.restore_run(backup, drop_existing=True))
    assert f"{index} was restored by an earlier run, which was finished." in done.notes
