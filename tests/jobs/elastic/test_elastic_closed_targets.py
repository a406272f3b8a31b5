"""Empty indices that a restore closes to writes before it replaces them, and what becomes of the block."""

from typing import Any

import pytest

from jobs.elastic.elastic_bed import Backup, Bed, Killed, comes_next, killed
from lucid_storage.errors import LucidError
from lucid_storage.jobs import elastic_restore
from lucid_storage.jobs.elastic_restore import restore
from lucid_storage.stores.elasticsearch.backup import staging, switching
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp

pytestmark = pytest.mark.elasticsearch


async def test_an_empty_index_takes_writes_again_when_another_one_cannot_be_closed_to_them(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = bed.index("first"), bed.index("second")
    backup = bed.back_up()
    genuine = switching.close_to_writes

    def close(http: ElasticHttp, name: str) -> None:
        if name == second:
            raise LucidError("refused")
        genuine(http, name)

    monkeypatch.setattr(switching, "close_to_writes", close)
    with pytest.raises(LucidError, match="refused"):
        restore(bed.restore_run(backup))
    bed.put(first, "1", "{}")
    assert bed.indices() == {first, second}


def write_block(bed: Bed, index: str) -> str | None:
    (found,) = bed.call("GET", f"/{index}/_settings?flat_settings=true").values()
    block: str | None = found["settings"].get("index.blocks.write")
    return block


@pytest.fixture
def emptied(bed: Bed) -> tuple[str, Backup]:
    """An empty index, and a backup of it with a document."""
    index = bed.index("target")
    bed.put(index, "1", "{}")
    backup = bed.back_up()
    bed.call("DELETE", f"/{index}")
    return bed.index("target"), backup


async def test_an_empty_index_that_a_killed_restore_had_closed_takes_writes_after_the_next_run(
    bed: Bed, emptied: tuple[str, Backup], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, backup = emptied

    run = bed.restore_run(backup)
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(switching, "_apply", killed)
        patched.setattr(switching, "_unblock_writes", lambda *_: None)
        patched.setattr(elastic_restore, "_lower_if_empty", lambda *_: None)
        restore(run)
    assert write_block(bed, index) == "true"
    comes_next(bed, backup)
    assert write_block(bed, index) is None
    bed.put(index, "2", "{}")


async def test_an_empty_index_keeps_a_write_block_of_its_owner_when_the_switch_fails(
    bed: Bed, emptied: tuple[str, Backup], monkeypatch: pytest.MonkeyPatch
) -> None:
    index, backup = emptied
    bed.call("PUT", f"/{index}/_settings", {"index.blocks.write": True})

    def fails(*_: Any) -> None:
        raise LucidError("refused")

    with monkeypatch.context() as patched, pytest.raises(LucidError, match="refused"):
        patched.setattr(switching, "_apply", fails)
        restore(bed.restore_run(backup))
    assert write_block(bed, index) == "true"
    comes_next(bed, backup)
    assert write_block(bed, index) == "true"


async def test_a_restored_index_keeps_the_write_block_that_its_backup_has_when_the_run_is_killed_late(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By then the name of the empty index that was closed is an alias of the restored one."""
    index = bed.index("target")
    bed.put(index, "1", "{}")
    bed.call("PUT", f"/{index}/_settings", {"index.blocks.write": True})
    backup = bed.back_up()
    bed.call("DELETE", f"/{index}")
    bed.index("target")
    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(elastic_restore, "_templates", killed)
        restore(bed.restore_run(backup))
    comes_next(bed, backup)
    assert write_block(bed, index) == "true"


@pytest.mark.parametrize("failures", [1, 2])
async def test_an_empty_index_that_could_not_be_opened_again_is_opened_later(
    bed: Bed, emptied: tuple[str, Backup], monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    """At the latest by whoever comes next."""
    index, backup = emptied
    genuine = staging._block_writes
    left = failures

    def block(http: ElasticHttp, name: str, *, blocked: bool) -> None:
        nonlocal left
        if not blocked and left:
            left -= 1
            raise LucidError("not now")
        genuine(http, name, blocked=blocked)

    def fails(*_: Any) -> None:
        raise LucidError("refused")

    with monkeypatch.context() as patched, pytest.raises(LucidError, match="refused"):
        patched.setattr(staging, "_block_writes", block)
        patched.setattr(switching, "_apply", fails)
        restore(bed.restore_run(backup))
    assert write_block(bed, index) == (None if failures == 1 else "true")
    comes_next(bed, backup)
    assert write_block(bed, index) is None
