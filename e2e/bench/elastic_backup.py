"""A backup of Elasticsearch beside a bare scan of the official client: `python -m bench.elastic_backup [MIB]`.

The peer asks for the same documents and does nothing with them. Ours are counted, hashed, compressed, encrypted and
written as a backup is. There is no bar for it; the ratio tells.
"""

import json
import random
import shutil
import sys
import tempfile
import uuid
from pathlib import Path

from elasticsearch import Elasticsearch as Client
from elasticsearch.helpers import scan

from bench.figures import MIB, Figure, printed
from bench.redis_backup import turns
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Key
from lucid_storage.archive.manifest import ObjectKind
from lucid_storage.archive.streams import Identity, open_sink, packing_for
from lucid_storage.jobs.contract import BackupRun, Sink
from lucid_storage.jobs.elastic_backup import take
from lucid_storage.models.backup import BackupEngine, BackupType, ElasticSelection
from lucid_storage.models.orders import BackupOrder, Destination, Owner
from lucid_storage.models.storage import Compression
from testbed.paths import Instance
from testbed.stores.elasticsearch import Elasticsearch

SIZE_MIB = 192
PAGE = 1000
KEY = Key("bench", bytes(range(32)))
INDEX = "bench-transactions"
BATCH = 2000


def rows(mib: int = SIZE_MIB) -> list[Figure]:
    """The export of one index, as a worker makes it."""
    with tempfile.TemporaryDirectory(prefix="lucid-bench-") as folder:
        root = Path(folder)
        server = Elasticsearch(Instance("bench-elastic", root / "servers"), "elasticsearch")
        server.start()
        try:
            with Client(server.url, request_timeout=120) as client:
                documents = _fill(client, mib)
                times = turns(
                    {
                        "peer": lambda: _scan(client, documents),
                        "backup": lambda: _backup(server.url, root / "archive", documents),
                    }
                )
        finally:
            server.stop()
    ours, peer = times["backup"], times["peer"]
    ratio = peer / ours
    return [
        Figure(
            "Elasticsearch backup (zstd, encrypted)",
            f"{ours:.2f} s, {mib / ours:.0f} MiB/s",
            f"{peer:.2f} s, bare scan",
            ratio,
            "",
            True,
            f"{documents} documents, {mib} MiB of sources",
        )
    ]


def _scan(client: Client, documents: int) -> None:
    found = sum(1 for _ in scan(client, index=INDEX, size=PAGE, query={"query": {"match_all": {}}}))
    assert found == documents


def _backup(url: str, folder: Path, documents: int) -> None:
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    compression = Compression()

    def open_object(kind: ObjectKind, part: str) -> Sink:
        identity = Identity("bench", kind, part)
        store = FolderStore(folder)
        return open_sink(store, "export", identity, packing_for(compression, KEY), KEY, compression.level)

    order = BackupOrder(
        run=uuid.uuid4().hex[:12],
        owner=Owner(cluster="c", namespace="n", name="b", uid="u", spec_hash="h"),
        destination=Destination(),
        chain="manual",
        deadline_seconds=600,
        id=str(uuid.uuid4()),
        type=BackupType.FULL,
        engines=(BackupEngine.ELASTICSEARCH,),
        elasticsearch=ElasticSelection(indices=[INDEX]),
    )
    run = BackupRun(order, open_object, lambda _size, _documents: None, lambda _size: None)
    assert take(run, url).documents == documents


def _fill(client: Client, mib: int) -> int:
    """Transactions until their sources have so much; returns their number."""
    draw = random.Random(7)
    words = [draw.randbytes(draw.randint(2, 5)).hex() for _ in range(4000)]
    client.indices.create(index=INDEX, settings={"number_of_replicas": 0, "refresh_interval": -1})
    size = number = 0
    while size < mib * MIB:
        lines = []
        for _ in range(BATCH):
            number += 1
            text = json.dumps(
                {
                    "hash": draw.randbytes(32).hex(),
                    "at": 1_700_000_000 + number,
                    "amount": draw.random(),
                    "note": " ".join(draw.choices(words, k=30)),
                    "tags": draw.choices(words, k=3),
                }
            )
            size += len(text)
            lines += [f'{{"index":{{"_id":"{number}"}}}}', text]
        client.bulk(index=INDEX, operations=[line.encode() for line in lines])
    client.indices.refresh(index=INDEX)
    client.indices.forcemerge(index=INDEX, max_num_segments=1)
    return number


if __name__ == "__main__":
    sys.exit(printed(rows, SIZE_MIB))
