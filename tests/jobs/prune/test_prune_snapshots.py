"""The prune worker and snapshots of volumes, which the operator removes: it is told which lost their backup."""

from dataclasses import replace
from pathlib import Path

from test_prune_worker import Bucket, ago, nightly

from lucid_storage.archive.manifest import EngineRecord, VolumeRecord, VolumeSnapshotRecord
from lucid_storage.archive.recorded import Recorded


def with_volume(days: int, snapshot: VolumeSnapshotRecord | None) -> Recorded:
    volume = VolumeRecord(name="data", claim="data", taken_at=ago(days), snapshot=snapshot)
    engine = EngineRecord(engine="volumes", taken_at=ago(days), volumes=(volume,))
    made = nightly(days)
    manifest = made.manifest.model_copy(update={"engines": (*made.manifest.engines, engine)})
    return replace(made, manifest=manifest)


def test_what_went_without_an_object_is_named_where_snapshots_are_left_of_it(tmp_path: Path) -> None:
    bucket = Bucket(tmp_path)
    taken = VolumeSnapshotRecord(name="s", uid="u", class_name="c", driver="d")
    bucket.add(with_volume(9, taken), with_volume(8, None), with_volume(1, taken))
    result = bucket.prune()
    assert bucket.there() == {"f1"}
    assert result.removed == ("f9",), "nobody asks for the others"
