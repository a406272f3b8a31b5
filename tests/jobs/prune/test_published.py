"""A manifest whose writing was answered by nobody: its data are never taken away under it (rule 1.8)."""

from pathlib import Path

import pytest
from chain_builder import full, piece

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.keys import Keyring
from lucid_storage.archive.layout import ChainFolder
from lucid_storage.archive.manifest import Selection
from lucid_storage.archive.records import manifest_digest, read_manifest, write_manifest
from lucid_storage.errors import DestinationUnavailableError
from lucid_storage.jobs.backup import _publish
from lucid_storage.jobs.destination import Place, Uploads
from lucid_storage.jobs.mongodb_scope import MongoScope
from lucid_storage.jobs.mongodb_slices import SliceThereError, SliceWriter
from lucid_storage.models.orders import Destination, Order, Owner
from lucid_storage.models.storage import Compression

FOLDER = ChainFolder("root", "cluster-a", "ns", "main")


class Lossy(FolderStore):
    """Does what it is told, and its next answers are lost."""

    lost = 0
    written = True

    def put_if_absent(self, path: str, data: bytes) -> bool:
        done = super().put_if_absent(path, data) if self.written else True
        self._answer()
        return done

    def _answer(self) -> None:
        if self.lost > 0:
            self.lost -= 1
            raise DestinationUnavailableError("The answer was lost.")


class Watched(Uploads):
    """Remembers whether it was told to take its objects back."""

    taken_back = False

    def take_back(self, kinds: object = None) -> None:
        self.taken_back = True


@pytest.fixture
def store(tmp_path: Path) -> Lossy:
    made = Lossy(tmp_path)
    made.lost = 1
    return made


def place(store: Lossy) -> Place:
    return Place(store, Keyring(None), None, FOLDER, Compression())


def writer(store: Lossy) -> SliceWriter:
    owner = Owner(cluster="cluster-a", namespace="ns", name="s", uid="u", spec_hash="h")
    order = Order(
        run="r", owner=owner, destination=Destination(root="root"), chain="main", deadline_seconds=60
    )
    return SliceWriter(order, place(store), MongoScope(Selection(engines=("mongodb",))))


def test_a_backup_keeps_its_data_when_the_manifest_is_there(store: Lossy) -> None:
    manifest, uploads = full("00000000-0000-4000-8000-000000000001", 10).manifest, Watched(place(store), "x")
    assert _publish(place(store), manifest, uploads) == manifest_digest(store, FOLDER, manifest)
    assert not uploads.taken_back
    assert read_manifest(store, FOLDER, manifest.id, Keyring(None)) is not None


def test_a_backup_takes_its_data_back_when_the_manifest_is_surely_not_there(store: Lossy) -> None:
    store.written = False
    manifest, uploads = full("00000000-0000-4000-8000-000000000001", 10).manifest, Watched(place(store), "x")
    with pytest.raises(DestinationUnavailableError):
        _publish(place(store), manifest, uploads)
    assert uploads.taken_back


def test_a_slice_that_is_there_after_all_was_written_by_us(store: Lossy) -> None:
    writer(store)._publish(piece(0, 10).manifest)


def test_a_slice_of_another_writer_is_told_apart(store: Lossy) -> None:
    store.lost = 0
    first = piece(0, 10).manifest
    write_manifest(store, FOLDER, first, None)
    with pytest.raises(SliceThereError):
        writer(store)._publish(first.model_copy(update={"id": "another"}))
