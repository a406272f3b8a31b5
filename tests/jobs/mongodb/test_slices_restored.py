"""What fulls and slices hold comes back at any moment: beside a second full, and over step-downs (rule 1.2, 1.3)."""

import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from bson import Timestamp
from chain_bed import Chain, asked, one_line, running, told
from dump_bed import counting, inserted, newest, once, until
from pymongo import MongoClient
from restore_bed import numbers, restored

from lucid_storage.archive.manifest import Manifest
from lucid_storage.archive.restore_path import RestorePath, to_second
from lucid_storage.models.backup import BackupType, MongoSelection, ReadPreference
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

FULL, INCREMENTAL = BackupType.FULL, BackupType.INCREMENTAL


@pytest.fixture
def db(client: MongoClient[Any]) -> Iterator[str]:
    name = f"moments_{uuid.uuid4().hex[:8]}"
    yield name
    client.drop_database(name)
    client.drop_database(f"{name}_t")


@pytest.fixture
def chain(mongodb_rs3: MongoDB, db: str, tmp_path: Path) -> Iterator[Chain]:
    with closing(Chain(tmp_path, mongodb_rs3.uri, MongoSelection(databases=[db]))) as made:
        yield made


@contextmanager
def pairs(client: MongoClient[Any], db: str) -> Iterator[None]:
    """A writer that counts up in two collections at once, each time in a transaction."""
    ended = threading.Event()
    for name in ("left", "right"):
        client[db].create_collection(name)

    def write() -> None:
        number = 0
        with client.start_session() as session:
            while not ended.wait(0.002):
                number += 1
                with session.start_transaction():
                    for name in ("left", "right"):
                        client[db][name].insert_one({"_id": number}, session=session)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


def by_oplog(client: MongoClient[Any], namespace: str, since: int, second: int) -> list[Any]:
    """What the server's own oplog says was inserted up to the end of a second."""
    span = {"$gte": Timestamp(since, 0), "$lte": Timestamp(second, 2**32 - 1)}
    entries = client.local["oplog.rs"].find({"ts": span, "op": {"$in": ["i", "c"]}})
    return inserted(entries, namespace)


def seconds(manifest: Manifest) -> tuple[int, int]:
    assert manifest.mongodb is not None
    return manifest.mongodb.from_optime.seconds, manifest.mongodb.to.optime.seconds


def passed(client: MongoClient[Any], second: int) -> int:
    """Waits until a majority is behind this second; returns it."""

    def later() -> bool:
        written = client.admin.command("hello")["lastWrite"]["majorityOpTime"]["ts"]
        return bool(written.time > second)

    until(later, "a later second")
    return second


def test_every_write_up_to_a_moment_is_there_and_none_after_it_before_in_and_behind_a_second_full(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    """rule 1.2: a moment inside of a full's run takes the full before it, and the slices never stop for a full."""
    began, inside = newest(client).time, list[int]()
    slicer = chain.slicer()

    def hold() -> None:
        """The second full runs over a whole second."""
        inside.append(passed(client, newest(client).time + 1))

    with (
        counting(client, db, ("a", "b"), pause=0.002) as written,
        pairs(client, db),
        running(slicer),
        asked(chain),
    ):
        until(lambda: written[0] > 20 and chain.slices(), "some writes and a slice")
        first = chain.back_up(FULL)
        earlier = passed(client, seconds(first)[1] + 1)
        second = chain.back_up(FULL, gate=once(hold))
        behind = passed(client, seconds(second)[1] + 1)

        def reached() -> bool:
            last = told(slicer)[-1]  # without `to` where there was nothing new
            return bool(
                last["ok"] and "to" in last and datetime.fromisoformat(last["to"]).timestamp() > behind + 1
            )

        until(reached, "slices up to there")
    moments = {earlier: first, inside[0]: first, behind: second}
    assert earlier < inside[0]
    assert seconds(second)[0] <= inside[0] < seconds(second)[1] < behind
    one_line(chain.slices())
    assert first.timeline == second.timeline == chain.slices()[-1].timeline
    for moment, full in moments.items():
        path = to_second(chain.records(), datetime.fromtimestamp(moment, UTC), first.timeline)
        assert isinstance(path, RestorePath)
        assert path.full.id == full.id
        assert restored(chain, second.id, second=moment, target_database=f"{db}_t").ok
        for name in ("a", "b", "left", "right"):
            found = numbers(client, f"{db}_t", name)
            assert found, name
            assert found == sorted(by_oplog(client, f"{db}.{name}", began, moment))
            assert found == list(range(1, len(found) + 1))
        assert numbers(client, f"{db}_t", "left") == numbers(client, f"{db}_t", "right")


def test_step_downs_in_a_full_and_between_slices_lose_nothing(
    private_mongodb: Callable[..., MongoDB], tmp_path: Path
) -> None:
    server = private_mongodb(members=3)
    with (
        server.client() as client,
        closing(Chain(tmp_path, server.uri, MongoSelection(databases=["shop"]))) as chain,
    ):
        client.shop.bulk.insert_many([{"_id": n, "x": "y" * 1000} for n in range(12_000)])
        slicer = chain.slicer()
        with counting(client, "shop", ("a", "b")) as written, running(slicer), asked(chain):
            until(lambda: written[0] > 20 and chain.slices(), "some writes and a slice")
            # The member that is read from is the one that steps down.
            chain.selection = chain.selection.model_copy(update={"read_preference": ReadPreference.PRIMARY})
            confirmed = written[0]
            full = chain.back_up(FULL, gate=once(server.step_down))
            slices = len(told(slicer))
            server.step_down()
            until(lambda: len(told(slicer)) > slices + 2 and told(slicer)[-1]["ok"], "slices after it")
            known = written[0]
            last = chain.back_up(INCREMENTAL)
        ids = [n for piece in chain.slices() for n in inserted(chain.oplog(piece), "shop.a")]
        assert len(ids) == len(set(ids)), "an entry is in two slices"
        one_line(chain.slices())
        for backup, least in ((full.id, confirmed), (last.id, known)):
            assert restored(chain, backup, target_database="shop_t").ok
            counts = [numbers(client, "shop_t", name) for name in ("a", "b")]
            assert counts == [list(range(1, len(found) + 1)) for found in counts]
            assert least <= len(counts[1]) <= len(counts[0]) <= len(counts[1]) + 1
            assert numbers(client, "shop_t", "bulk") == list(range(12_000))
