"""A timeline that begins with a slice begins once, and holds all that was written since (rule 1.5, 1.7)."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from chain_bed import Chain, one_line, running, told
from dump_bed import ROLLS_OVER_SOON, inserted, until
from pymongo import MongoClient
from test_mongodb_slices import roll_over

from lucid_storage.models.backup import BackupType, MongoSelection
from testbed.stores.mongodb import MongoDB

pytestmark = pytest.mark.mongodb

FULL, INCREMENTAL = BackupType.FULL, BackupType.INCREMENTAL


@pytest.fixture
def chain(mongodb_rs3: MongoDB, db: str, tmp_path: Path) -> Iterator[Chain]:
    with closing(Chain(tmp_path, mongodb_rs3.uri, MongoSelection(databases=[db]))) as made:
        yield made


def goes_on(client: MongoClient[Any], chain: Chain, db: str) -> str:
    """The slices of a timeline that begins now hold every write since its first step. Returns its id."""
    before = len(chain.slices())
    slicer = chain.slicer()
    first = slicer.step()
    assert first.ok, first.message
    for number in range(3):
        client[db].a.insert_one({"_id": f"since {number}"})
        report = slicer.step()
        assert report.ok, report.message
        assert report.timeline == first.timeline
    pieces = chain.slices()[before:]
    one_line(pieces)
    assert {piece.timeline for piece in pieces} == {first.timeline}
    assert [n for p in pieces for n in inserted(chain.oplog(p), f"{db}.a")] == [
        "since 0",
        "since 1",
        "since 2",
    ]
    assert first.timeline is not None
    return first.timeline


def test_the_first_timeline_of_a_chain_begins_once(client: MongoClient[Any], chain: Chain, db: str) -> None:
    timeline = goes_on(client, chain, db)
    full = chain.back_up(FULL)
    assert full.timeline == timeline, "the full joins the slices"


def test_behind_a_closing_a_timeline_begins_once_and_is_told_before_anything_is_written(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    client[db].a.insert_one({"_id": 0})
    first = chain.back_up(FULL)
    client[db]["lucid_stg_run_1"].insert_one({"_id": "restored"})
    client[db].a.rename("lucid_old_run_1")
    client[db]["lucid_stg_run_1"].rename("a")
    assert chain.slicer().step().closed
    timeline = goes_on(client, chain, db)
    assert timeline != first.timeline
    full = chain.back_up(FULL)
    assert full.timeline == timeline, "the full joins the slices"
    client[db].a.insert_one({"_id": "later"})
    assert chain.back_up(INCREMENTAL).base == full.id


def test_behind_a_gap_a_timeline_begins_once(private_mongodb: Any, tmp_path: Path) -> None:
    server: MongoDB = private_mongodb(**ROLLS_OVER_SOON)
    with (
        closing(Chain(tmp_path, server.uri, MongoSelection(databases=["shop"]))) as chain,
        server.client() as client,
    ):
        client.shop.a.insert_one({"_id": 0})
        first = chain.back_up(FULL)
        client.shop.a.insert_one({"_id": 1})
        assert chain.slicer().step().ok
        roll_over(client, chain.slices()[-1])
        assert goes_on(client, chain, "shop") != first.timeline


def test_a_full_of_another_timeline_is_gone_on_from_instead(
    client: MongoClient[Any], chain: Chain, db: str
) -> None:
    """The timeline that was begun has no slice yet, so nothing is lost with it."""
    slicer = chain.slicer()
    begun = slicer.step()
    full = chain.back_up(FULL)
    client[db].a.insert_one({"_id": 1})
    report = slicer.step()
    assert (report.ok, report.timeline) == (True, full.timeline)
    assert begun.timeline != full.timeline
    assert [piece.timeline for piece in chain.slices()] == [full.timeline]


def test_the_first_slice_of_a_timeline_is_not_waited_for_through_a_whole_interval(
    client: MongoClient[Any], chain: Chain, db: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lucid_storage.jobs.slicer.BEGUN_SECONDS", 0.5)
    slicer = chain.slicer(interval_seconds=3600)
    with running(slicer):
        until(lambda: told(slicer), "the first report")
        client[db].a.insert_one({"_id": 1})
        until(chain.slices, "the first slice")
    assert told(slicer)[0]["timeline"] == chain.slices()[0].timeline
