"""What every destination that keeps objects promises."""

import hashlib
import os
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from lucid_storage.archive.destination import Digest, Entry, ObjectStore, ObjectWriter
from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.s3 import S3Store
from lucid_storage.errors import ArchiveDamagedError, DestinationError

SMALL, LARGE = 1000, 20 * 1024 * 1024
"""Of S3, one request and an upload in parts."""


@pytest.fixture(params=["folder", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ObjectStore:
    if request.param == "folder":
        return FolderStore(tmp_path)
    found: S3Store = request.getfixturevalue("s3")
    return found


def digest(data: bytes) -> Digest:
    return Digest(len(data), hashlib.sha256(data).hexdigest())


def write(store: ObjectStore, path: str, data: bytes, told: Digest | None = None) -> None:
    writer = store.writer(path)
    for start in range(0, len(data), 1_000_000):
        writer.write(data[start : start + 1_000_000])
    writer.finish(told or digest(data))


def paths(store: ObjectStore, prefix: str = "") -> list[str]:
    return sorted(entry.path for entry in store.list(prefix))


@pytest.mark.parametrize("size", [0, SMALL, LARGE])
def test_what_was_written_is_read_back(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)

    write(store, "a/b/object", data)

    found = store.head("a/b/object")
    assert found is not None and found.size == size
    assert abs(found.modified - datetime.now(UTC)) < timedelta(minutes=1)
    assert b"".join(store.read("a/b/object", at, 7_000_000) for at in range(0, size, 7_000_000)) == data
    assert store.get("a/b/object") == data


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_object_is_not_visible_before_its_end(store: ObjectStore, size: int) -> None:
    data = os.urandom(size)
    writer = store.writer("a/object")
    writer.write(data)

    assert paths(store) == [] and store.head("a/object") is None and store.get("a/object") is None

    writer.finish(digest(data))
    assert paths(store) == ["a/object"]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_aborted_object_leaves_nothing(store: ObjectStore, size: int) -> None:
    writer = store.writer("a/object")
    writer.write(os.urandom(size))

    writer.abort()
    writer.abort()

    assert paths(store) == []
    assert store.delete_abandoned("", None) == 0
    with pytest.raises(DestinationError):
        finish_with(writer, b"")


def finish_with(writer: ObjectWriter, data: bytes) -> None:
    writer.write(data)
    writer.finish(digest(data))


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_an_object_is_never_replaced_by_another_writer(store: ObjectStore, size: int) -> None:
    write(store, "a/object", b"first")

    with pytest.raises(DestinationError, match="already"):
        write(store, "a/object", os.urandom(size))

    assert store.get("a/object") == b"first"
    assert store.delete_abandoned("", datetime.now(UTC) + timedelta(days=1)) == 0


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_of_two_writers_at_the_same_time_one_wins(store: ObjectStore, size: int) -> None:
    contents = [os.urandom(size) for _ in range(2)]
    writers = [store.writer("a/object") for _ in contents]
    for writer, content in zip(writers, contents, strict=True):
        writer.write(content)

    def end(number: int) -> bool:
        try:
            writers[number].finish(digest(contents[number]))
        except DestinationError:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        won = list(pool.map(end, range(2)))

    assert sorted(won) == [False, True]
    assert store.get("a/object") == contents[won.index(True)]


@pytest.mark.parametrize("told", [Digest(5, "0" * 64), Digest(SMALL, "0" * 64)])
def test_a_folder_compares_what_it_holds_with_what_was_sent(tmp_path: Path, told: Digest) -> None:
    store = FolderStore(tmp_path)

    with pytest.raises(ArchiveDamagedError):
        write(store, "a/object", os.urandom(SMALL), told)

    assert paths(store) == [] and not [f for f in tmp_path.rglob("*") if f.is_file()]


@pytest.mark.parametrize("size", [SMALL, LARGE])
def test_a_bucket_compares_the_size_it_holds_with_what_was_sent(s3: S3Store, size: int) -> None:
    data = os.urandom(size)

    with pytest.raises(ArchiveDamagedError):
        write(s3, "a/object", data, Digest(size + 1, "0" * 64))

    assert paths(s3) == []


def test_put_if_absent_writes_once(store: ObjectStore) -> None:
    assert store.put_if_absent("a/m.json", b"mine")
    assert store.put_if_absent("a/m.json", b"mine"), "a repeated request finds its own work"
    assert not store.put_if_absent("a/m.json", b"other")
    assert store.get("a/m.json") == b"mine"

    store.put("a/m.json", b"newer")
    assert store.get("a/m.json") == b"newer"


def test_of_many_that_put_at_the_same_time_one_wins(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(lambda number: store.put_if_absent("a/m.json", b"%d" % number), range(8)))

    assert sum(won) == 1
    assert store.get("a/m.json") == b"%d" % won.index(True)


def test_a_listing_has_sizes_and_keeps_to_its_folder(store: ObjectStore) -> None:
    for number in range(5):
        store.put(f"chain/backups/{number}/manifest.json", b"x" * number)
    store.put("chain-2/backups/9/manifest.json", b"")

    found: list[Entry] = sorted(store.list("chain"), key=lambda entry: entry.path)

    assert [(entry.path, entry.size) for entry in found] == [
        (f"chain/backups/{number}/manifest.json", number) for number in range(5)
    ]
    assert list(store.list("nowhere")) == []


@pytest.mark.parametrize("name", ["a b+c", "50%2F", "ünï", "a&b<c>'\"", "x=1,y;z@~", "a#b?c*"])
def test_what_is_listed_under_any_name_is_read_and_deleted_by_it(store: ObjectStore, name: str) -> None:
    """A prefix on the command line is free."""
    store.put(f"{name}/{name}.json", b"x")

    (path,) = paths(store, name)
    assert path == f"{name}/{name}.json"
    found = store.head(path)
    assert found is not None and (store.get(path), store.read(path, 0, 1)) == (b"x", b"x")

    store.delete(path)
    assert paths(store) == []


def test_more_objects_than_a_page_are_all_listed(store: ObjectStore) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: store.put(f"slices/{number:04d}", b"x"), range(1100)))

    assert paths(store, "slices") == [f"slices/{number:04d}" for number in range(1100)]


def test_delete_is_harmless_twice(store: ObjectStore) -> None:
    store.put("a/b/object", b"x")

    store.delete("a/b/object")
    store.delete("a/b/object")

    assert store.get("a/b/object") is None and paths(store) == []


def test_reading_what_is_not_there_is_damage_and_not_emptiness(store: ObjectStore) -> None:
    with pytest.raises(ArchiveDamagedError, match="not in the destination"):
        store.read("a/object", 0, 10)


@pytest.mark.parametrize("size", [LARGE])
def test_abandoned_uploads_are_found_by_age_and_folder(store: ObjectStore, size: int) -> None:
    left = store.writer(f"chain/{uuid.uuid4()}")
    left.write(os.urandom(size))
    elsewhere = store.writer("elsewhere/object")
    elsewhere.write(os.urandom(size))
    try:
        now = datetime.now(UTC)
        assert store.delete_abandoned("chain", now - timedelta(days=1)) == 0
        assert store.delete_abandoned("chain", now + timedelta(minutes=1)) == 1
        assert store.delete_abandoned("chain", now + timedelta(minutes=1)) == 0
        assert store.delete_abandoned("", now + timedelta(minutes=1)) == 1
    finally:
        left.abort()
        elsewhere.abort()


Act = Callable[[ObjectStore], object]


@pytest.mark.parametrize("path", ["../outside", "a/../../outside", "/absolute", "a//b", ""])
def test_no_path_leads_out_of_the_folder(tmp_path: Path, path: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").write_bytes(b"secret")
    store = FolderStore(root)
    acts: list[Act] = [
        lambda s: s.get(path),
        lambda s: s.put(path, b"x"),
        lambda s: s.delete(path),
        lambda s: write(s, path, b"x"),
    ]

    for act in acts:
        with pytest.raises(DestinationError):
            act(store)

    assert (tmp_path / "outside").read_bytes() == b"secret"


def test_who_writes_into_a_folder_that_others_empty_is_not_in_their_way(tmp_path: Path) -> None:
    """An empty folder is removed: by a prune worker, while another worker is about to write into it."""
    store = FolderStore(tmp_path)

    def come_and_go(number: int) -> None:
        for turn in range(150):
            store.put(f"chain/holds/{number}", b"%d" % turn)
            assert store.get(f"chain/holds/{number}") == b"%d" % turn
            store.delete(f"chain/holds/{number}")

    with ThreadPoolExecutor(3) as pool:
        list(pool.map(come_and_go, range(3)))

    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_volume_went_is_not_made_anew(tmp_path: Path) -> None:
    root = tmp_path / "mounted"
    root.mkdir()
    writer = FolderStore(root).writer("a/object")
    root.rmdir()

    with pytest.raises(DestinationError):
        finish_with(writer, b"x")

    assert not root.exists()
