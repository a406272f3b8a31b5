"""Whatever was done to the destination: the restore says why it fails, and the target stays as it was (rule 2.2)."""

import os
import shutil
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from restoring import restored
from workshop import Workshop, only

from lucid_storage.errors import LucidError, Reason
from lucid_storage.models.orders import RestoreResult
from lucid_storage.stores.mongodb.restore.journal import JOURNALS
from testbed.stores.mongodb import Client, MongoDB

pytestmark = pytest.mark.mongodb
MIB = 1024 * 1024
ZSTD_FRAME = bytes.fromhex("28b52ffd")


@dataclass
class Chain:
    """A full, an incremental on it, and another full behind both."""

    shop: Workshop
    full: str
    last: str
    other: str

    @classmethod
    def made(cls, shop: Workshop, client: Client, database: str) -> "Chain":
        live = client[database]
        live.a.insert_many([{"_id": n, "x": os.urandom(100_000)} for n in range(25)])
        live.b.create_index("x", unique=True)
        full = shop.back_up("full", ["mongodb"], **only(database))
        live.a.insert_many([{"_id": n, "x": os.urandom(100_000)} for n in range(25, 40)])
        last = shop.back_up("last", ["mongodb"], type="incremental", **only(database))
        live.b.insert_one({"_id": 1})
        other = shop.back_up("other", ["mongodb"], **only(database))
        assert (full.ok, last.ok, other.ok) == (True, True, True), (full, last, other)
        assert full.id and last.id and other.id
        return cls(shop, full.id, last.id, other.id)

    def copy(self, folder: Path) -> "Chain":
        shutil.copytree(self.shop.destination, folder / "destination")
        shutil.copytree(self.shop.keys, folder / "keys")
        shop = Workshop(folder, self.shop.environ, encrypted=self.shop.encrypted)
        return Chain(shop, self.full, self.last, self.other)

    def archive(self, backup: str) -> Path:
        (found,) = self.shop.destination.rglob(f"{backup}/mongodb.archive")
        return found

    def restore(self, target: str) -> RestoreResult:
        """The whole worker but for its process. Raises LucidError."""
        return restored(self.shop, self.last, targetDatabase=target, dropExisting=True)

    @property
    def slice(self) -> Path:
        return min(self.shop.destination.rglob("*.oplog"))


def cut_slice(chain: Chain) -> None:
    data = chain.slice.read_bytes()
    chain.slice.write_bytes(data[: len(data) * 2 // 3])


def flip_slice(chain: Chain) -> None:
    flip(chain.slice)


def flip_archive(chain: Chain) -> None:
    flip(chain.archive(chain.full))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) * 2 // 3] ^= 1
    path.write_bytes(data)


def put_another(chain: Chain) -> None:
    shutil.copyfile(chain.archive(chain.other), chain.archive(chain.full))


def drop_last_block(chain: Chain) -> None:
    """Cut where a reader of blocks alone would see a whole one: behind a segment, or behind a frame."""
    for path in (chain.archive(chain.full), chain.slice):
        data = path.read_bytes()
        end = (len(data) - 1) // MIB * MIB if chain.shop.encrypted else data.rindex(ZSTD_FRAME)
        assert 0 < end < len(data)
        path.write_bytes(data[:end])


def drop_slice(chain: Chain) -> None:
    chain.slice.unlink()


def change_key(chain: Chain) -> None:
    (chain.shop.keys / "k1").write_bytes(bytes(range(1, 33)))


def lose_key(chain: Chain) -> None:
    (chain.shop.keys / "k1").rename(chain.shop.keys / "k2")


DAMAGED = Reason.ARCHIVE_DAMAGED
Damage = tuple[Callable[[Chain], None], Reason]
ANY: tuple[Damage, ...] = (
    (cut_slice, DAMAGED),
    (flip_slice, DAMAGED),
    (flip_archive, DAMAGED),
    (put_another, DAMAGED),
    (drop_last_block, DAMAGED),
    (drop_slice, DAMAGED),
)
OF_KEYS: tuple[Damage, ...] = ((change_key, Reason.KEY_MISSING), (lose_key, Reason.KEY_MISSING))


def seen(client: Client, database: str) -> dict[str, Any]:
    """All of a database that applications can see: definitions, UUIDs, indexes, bytes."""
    found = {}
    for entry in client[database].list_collections():
        name = entry["name"]
        if name == JOURNALS:
            continue
        if entry["type"] == "view":
            found[name] = (str(entry), [], [])
        else:
            indexes = sorted(map(str, client[database][name].list_indexes()))
            found[name] = (str(entry), indexes, sorted(client[database][name].find_raw_batches()))
    return found


@pytest.mark.parametrize("encrypted", [True, False], ids=["encrypted", "plain"])
def test_a_damaged_destination_leaves_the_target_as_it_was(
    mongodb: MongoDB, workshop: Callable[..., Workshop], database: str, tmp_path: Path, encrypted: bool
) -> None:
    shop = workshop(MONGODB_URI=mongodb.uri)
    shop.encrypted = encrypted
    target = f"{database}_t"
    with mongodb.client() as client:
        chain = Chain.made(shop, client, database)
        live = client[target]
        live.a.insert_many([{"_id": n, "mine": uuid.uuid4().hex} for n in range(50)])
        live.a.create_index("mine", unique=True)
        live.create_collection("b", capped=True, size=4096).insert_one({"_id": "mine"})
        live.command({"create": "v", "viewOn": "a", "pipeline": []})
        before = seen(client, target)
        try:
            for number, (damage, reason) in enumerate((*ANY, *(OF_KEYS if encrypted else ()))):
                harmed = chain.copy(tmp_path / str(number))
                damage(harmed)
                with pytest.raises(LucidError) as refused:
                    harmed.restore(target)
                assert refused.value.reason is reason, (damage.__name__, refused.value.message)
                assert seen(client, target) == before, damage.__name__
            told = chain.restore(target)
            assert (told.ok, told.loaded_documents, told.collections) == (True, 25, 2), (
                "unharmed it is staged"
            )
        finally:
            client.drop_database(target)
