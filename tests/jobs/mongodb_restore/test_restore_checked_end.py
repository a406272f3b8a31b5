"""Nothing of an object is believed before its end was reached, where size and checksum are compared."""

import asyncio
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import bson
import pytest
from workshop import Workshop

from lucid_storage.archive.content import damaged
from lucid_storage.errors import ArchiveDamagedError, Reason
from lucid_storage.jobs import mongodb_restore
from lucid_storage.jobs.mongodb_restore import MongoRestoreRun
from lucid_storage.models.orders import RestoreResult
from lucid_storage.stores.mongodb.restore.rewriting import Rewritten
from lucid_storage.stores.mongodb.restore.staging import Staging
from testbed.stores.mongodb import MongoDB

Make = Callable[..., Workshop]
NEW = "written before the moment"


@pytest.mark.mongodb
async def test_a_flip_in_the_last_slice_before_the_moment_is_found_and_the_target_stays(
    mongodb: MongoDB, workshop: Make, database: str
) -> None:
    """Unencrypted and not compressed, so that the object's checksum is all that can tell."""
    shop = workshop(MONGODB_URI=mongodb.uri)
    shop.encrypted = False
    packed: dict[str, Any] = {
        "mongodb": {"databases": [database]},
        "compression": {"algorithm": "none"},
    }
    target = f"{database}_t"
    with mongodb.client() as client:
        client[database].a.insert_one({"_id": 0})
        full = shop.back_up("full", ["mongodb"], **packed)
        made = client[database].command({"insert": "a", "documents": [{"_id": 1, "text": NEW}]})
        moment = made["operationTime"].time + 1
        end = time.monotonic() + 20
        while client[database].command("hello")["lastWrite"]["opTime"]["ts"].time <= moment:
            assert time.monotonic() < end
            client[database].a.update_one({"_id": 0}, {"$inc": {"later": 1}})
            await asyncio.sleep(0.1)
        # More than is fetched ahead, so that the end of the slice is far when the moment is passed.
        client[database].a.insert_many([{"_id": n, "x": "y" * 1_000_000} for n in range(2, 18)])
        last = shop.back_up("inc", ["mongodb"], type="incremental", **packed)
        assert last.ok, last.message
        (piece,) = shop.destination.rglob("*.oplog")
        data = piece.read_bytes()
        piece.write_bytes(data.replace(NEW.encode(), b"X" + NEW.encode()[1:]))
        client[target].a.insert_one({"_id": "mine"})
        order = {
            **shop.order("back", ["mongodb"]),
            "backupId": full.id,
            "targetDatabase": target,
            "dropExisting": True,
            "pointInTime": datetime.fromtimestamp(moment, UTC).isoformat(),
        }
        del order["id"], order["type"]
        _, err = shop.start("restore", order).communicate(timeout=60)
        told = RestoreResult.model_validate_json(shop.termination(order).read_text())
        try:
            assert (told.ok, told.reason) == (False, Reason.ARCHIVE_DAMAGED), err
            assert list(client[target].a.find()) == [{"_id": "mine"}]
            assert not [
                n for n in client[target].list_collection_names() if n.startswith(f"lucid_stg_{told.run}")
            ]
        finally:
            client.drop_database(target)


class _Deaf:
    """A staging that passed the moment with the first entry."""

    replayed = Rewritten()

    def replay(self, entries: Any, until: Any) -> bool:
        next(iter(entries))
        return False


def test_the_piece_that_passes_the_moment_is_replayed_to_its_checked_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    closed = []

    def entries() -> Iterator[bytes]:
        for counter in range(3):
            yield bson.encode({"ts": bson.Timestamp(10, counter)})
        raise damaged("its checksum is wrong")

    def pieces(*_: Any) -> Iterator[tuple[Any, Iterator[bytes]]]:
        try:
            yield SimpleNamespace(prev=None), entries()
        finally:
            closed.append(True)

    monkeypatch.setattr(mongodb_restore, "oplog_pieces", pieces)
    plan = SimpleNamespace(dump_end=(1, 1), path=None, until=(10, 0))
    run = SimpleNamespace(plan=plan, open_source=None, check=lambda: None)
    with pytest.raises(ArchiveDamagedError):
        mongodb_restore._replay_slices(cast(MongoRestoreRun, run), cast(Staging, _Deaf()))
    assert closed
