"""A proof by a restore loads nothing into a cluster whose disks it could fill (rule 1.11)."""

import io
import shutil
from collections.abc import Callable
from contextlib import closing

import pytest
from workshop import Workshop

from jobs.elastic.elastic_bed import Bed
from lucid_storage.jobs import proof_servers, restore_proof
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.verify import verify
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.backup import Verify
from lucid_storage.models.orders import VerifyOrder
from lucid_storage.stores.elasticsearch.backup import room
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp

pytestmark = pytest.mark.elasticsearch


def test_the_room_is_what_is_left_until_the_servers_block_their_indices(bed: Bed) -> None:
    with closing(ElasticHttp(bed.server.url, "test", lambda _: None)) as http:
        free = room.free_bytes(http)
    disk = shutil.disk_usage(bed.server.folder)
    assert free is not None
    assert abs(free - (disk.free - min(disk.total / 20, 100 * 1024**3))) < 2 * 1024**3


def test_a_proof_that_could_fill_the_disks_is_not_tried(
    bed: Bed, workshop: Callable[..., Workshop], monkeypatch: pytest.MonkeyPatch
) -> None:
    index = bed.index("kept")
    bed.fill(index, 10)
    shop = workshop(ELASTICSEARCH_URL=bed.server.url)
    asked = {"engines": ["elasticsearch"], "elasticsearch": {"indices": [index]}, "verify": "Restore"}
    told = shop.made("fits", "none", **asked)
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.RESTORE, None), told
    again = {**shop.order("again", []), "backupId": told.id, "verify": "Restore"}
    unusable = {**shop.here(), "ELASTICSEARCH_PORT": "none"}
    said = verify(VerifyOrder.model_validate(again), unusable, Reporter(out=io.StringIO()), Stop())
    assert (said.ok, said.verified, said.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer")
    assert "ELASTICSEARCH_PORT" in said.verify_message
    monkeypatch.setattr(proof_servers, "free_bytes", lambda _: 9)
    monkeypatch.delattr(restore_proof, "prove_elasticsearch")
    told = shop.made("large", "none", **asked)
    assert (told.ok, told.verified, told.verify_note) == (True, Verify.CHECKSUM, "NoVerifyServer"), told
    assert "which has 9 B until it blocks its indices" in told.verify_message
