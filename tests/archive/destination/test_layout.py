"""Names in a destination fit every file system, whatever the names of resources are."""

from lucid_storage.archive.layout import ChainFolder, restore_marker
from lucid_storage.archive.manifest import ObjectKind

FOLDER = ChainFolder("r", "c", "n", "manual")


def last(path: str) -> str:
    return path.rsplit("/", 1)[-1]


def test_a_file_of_the_longest_names_has_at_most_255_bytes() -> None:
    for name in ("n" * 253, f"{'n' * 252}m"):
        assert len(last(restore_marker("r", "n", name))) <= 255
        assert len(last(FOLDER.object("b", ObjectKind.VOLUME_ARCHIVE, name))) <= 255


def test_long_names_that_begin_alike_stay_apart() -> None:
    names = [f"{'n' * 252}{end}" for end in "abc"]
    assert len({restore_marker("r", "n", name) for name in names}) == 3
    assert len({FOLDER.object("b", ObjectKind.VOLUME_ARCHIVE, name) for name in names}) == 3


def test_shorter_names_stand_as_they_are() -> None:
    name = "n" * 200
    assert restore_marker("r", "n", name) == f"r/restores/n/{name}.json"
    assert FOLDER.object("b", ObjectKind.VOLUME_ARCHIVE, name).endswith(f"/volume.archive.{name}")
    assert FOLDER.object("b", ObjectKind.REDIS_RDB).endswith("/redis.rdb")
