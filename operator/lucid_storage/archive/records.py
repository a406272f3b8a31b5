"""Manifests and proofs in a destination: written last, authenticated by the key, listed by folder.

Each lies in an envelope, which is JSON:

    {"record": "<the manifest or proof as JSON text>", "sha256": "<of that text>",
     "mac": {"keyId": ..., "fingerprint": ..., "hmacSha256": "<of its kind, a line break and that text>"}}

`mac` is there when the backup is encrypted. A record that cannot be believed is reported and never ends a listing.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hmac import compare_digest
from typing import Final, TypeVar

from pydantic import BaseModel, ConfigDict
from pydantic.alias_generators import to_camel

from lucid_storage.archive.destination import ObjectStore
from lucid_storage.archive.keys import Key, Keyring
from lucid_storage.archive.layout import MANIFEST, PROOF, ChainFolder, SliceName
from lucid_storage.archive.manifest import FORMAT, BackupKind, Manifest, ObjectKind, Proof, Record
from lucid_storage.archive.recorded import Recorded, Trust
from lucid_storage.errors import ArchiveDamagedError, DestinationError, KeyMissingError

PARALLEL_GETS: Final = 8
"""Manifests are small, so reading them is waiting for the destination."""

R = TypeVar("R", bound=Record)

_ONE_AT_A_TIME = threading.Lock()
"""Parsing is no faster in several threads, and a long manifest takes much memory for a moment."""


class Mac(BaseModel):
    """Authentication of a record by a key."""

    model_config = ConfigDict(frozen=True, extra="ignore", alias_generator=to_camel, populate_by_name=True)

    key_id: str
    fingerprint: str
    hmac_sha256: str


class Envelope(BaseModel):
    """A record with what proves it."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    record: str
    sha256: str
    mac: Mac | None = None


@dataclass(frozen=True, slots=True)
class Unreadable:
    """An object under the name of a manifest that is none."""

    path: str
    message: str


@dataclass(frozen=True, slots=True)
class Listing:
    """The manifests of a chain."""

    records: tuple[Recorded, ...]
    unreadable: tuple[Unreadable, ...] = ()

    def refuse_damaged(self, path: str) -> None:
        """Raises ArchiveDamagedError where something lies in the place of a manifest that is none."""
        for one in self.unreadable:
            if one.path == path:
                raise ArchiveDamagedError(f"{one.message} Use another backup.")

    def taken(self, folder: ChainFolder) -> frozenset[SliceName]:
        """Names of slices that lie there and cannot be used: nothing else can be written under them."""
        paths = (folder.slice_of(one.path) for one in self.unreadable)
        broken = (r.manifest for r in self.records if r.kind is BackupKind.SLICE and not r.good)
        named = ((m.timeline, m.prev.optime) for m in broken if m.prev is not None)
        return frozenset([*(one for one in paths if one is not None), *named])


def manifest_path(folder: ChainFolder, manifest: Manifest) -> str:
    """Where a manifest belongs. Raises ValueError for a slice that does not say where it begins."""
    if manifest.kind is not BackupKind.SLICE:
        return folder.manifest(manifest.id)
    if manifest.prev is None:
        raise ValueError("a slice without its beginning")
    return folder.slice_manifest(manifest.timeline, manifest.prev.optime)


def proof_path(folder: ChainFolder, manifest: Manifest) -> str:
    """Where its proof belongs. Raises ValueError for a slice that does not say where it begins."""
    if manifest.kind is not BackupKind.SLICE:
        return folder.proof(manifest.id)
    if manifest.prev is None:
        raise ValueError("a slice without its beginning")
    return folder.slice_proof(manifest.timeline, manifest.prev.optime)


def write_manifest(store: ObjectStore, folder: ChainFolder, manifest: Manifest, key: Key | None) -> str:
    """Makes the backup exist; returns the SHA-256 of the manifest's text.

    Raises DestinationError, also when another manifest is there under this name: of a slice somebody else wrote.
    """
    path = manifest_path(folder, manifest)
    if not _at_home(folder, path, manifest):
        raise ValueError(f"a manifest of {manifest.origin} does not belong to {path}")
    if manifest.packing.encrypted != (key is not None):
        raise ValueError("an encrypted backup is authenticated by its key, and no other is")
    builds_on = manifest.kind in (BackupKind.INCREMENTAL, BackupKind.DIFFERENTIAL)
    if builds_on and any(o.kind is ObjectKind.MONGODB_ARCHIVE for o in manifest.objects):
        raise ValueError("only a full holds a dump")
    data, digest = _enveloped("manifest", manifest, key)
    if not store.put_if_absent(path, data):
        raise DestinationError(f"Another manifest is at {path} already; it was left as it is.")
    if store.get(path) != data:
        raise ArchiveDamagedError(f"The destination did not keep the manifest {path} as it was written.")
    return digest


def digest_as_written(
    store: ObjectStore, folder: ChainFolder, manifest: Manifest, key: Key | None
) -> str | None:
    """SHA-256 of a manifest's text where it lies there as `write_manifest` writes it; None where it does not. Raises
    DestinationError.
    """
    data, digest = _enveloped("manifest", manifest, key)
    return digest if store.get(manifest_path(folder, manifest)) == data else None


def manifest_digest(store: ObjectStore, folder: ChainFolder, manifest: Manifest) -> str | None:
    """SHA-256 of a manifest's text as it lies there; None when it is gone. Raises DestinationError."""
    data = store.get(manifest_path(folder, manifest))
    return Envelope.model_validate_json(data).sha256 if data is not None else None


def write_proof(
    store: ObjectStore, folder: ChainFolder, proof: Proof, key: Key | None, path: str | None = None
) -> None:
    """Writes or renews what a check found; `path` is given for a slice. Raises DestinationError."""
    path = path or folder.proof(proof.id)
    data, _ = _enveloped("proof", proof, key)
    store.put(path, data)
    if store.get(path) != data:
        raise ArchiveDamagedError(f"The destination did not keep the proof {path} as it was written.")


def read_manifest(
    store: ObjectStore, folder: ChainFolder, backup_id: str, keyring: Keyring
) -> Recorded | None:
    """A backup with its proof; None when there is no such manifest. Raises ArchiveDamagedError for one that is none."""
    found = _read(store, folder, folder.manifest(backup_id), keyring, proof_there=True)
    if isinstance(found, Unreadable):
        raise ArchiveDamagedError(found.message)
    return found


def list_backups(store: ObjectStore, folder: ChainFolder, keyring: Keyring) -> Listing:
    """All backups of a chain with their proofs, in order of their ids."""
    paths = sorted(entry.path for entry in store.list(folder.backups))
    proofs = {path for path in paths if path.endswith(f"/{PROOF}")}
    manifests = [
        path for path in paths if path.endswith(f"/{MANIFEST}") and _depth(folder.backups, path) == 1
    ]
    return _read_all(
        manifests,
        lambda path: _read(
            store, folder, path, keyring, proof_there=path.removesuffix(MANIFEST) + PROOF in proofs
        ),
    )


def list_slices(
    store: ObjectStore, folder: ChainFolder, keyring: Keyring, timeline: str | None = None
) -> Listing:
    """All slices of a chain or of one timeline, in order of time within each timeline."""
    below = folder.slices if timeline is None else f"{folder.slices}/{timeline}"
    found = {entry.path for entry in store.list(below)}
    manifests = sorted(p for p in found if p.endswith(".json") and _depth(folder.slices, p) == 1)
    return _read_all(
        manifests,
        lambda path: _read(
            store, folder, path, keyring, proof_there=f"{path.removesuffix('.json')}.proof" in found
        ),
    )


def newest_slice(store: ObjectStore, folder: ChainFolder, keyring: Keyring) -> Recorded | None:
    """The slice that begins last, whatever its timeline. Only this one is read."""
    named = ((folder.slice_of(entry.path), entry.path) for entry in store.list(folder.slices))
    slices = [(name[1], path) for name, path in named if name is not None]
    if not slices:
        return None
    _, path = max(slices, key=lambda one: one[0])
    found = _read(store, folder, path, keyring, proof_there=False)
    return found if isinstance(found, Recorded) else None


def list_chain(store: ObjectStore, folders: Iterable[ChainFolder], keyring: Keyring) -> Listing:
    """Backups and slices of all folders that make one chain."""
    found = [
        part
        for folder in folders
        for part in (list_backups(store, folder, keyring), list_slices(store, folder, keyring))
    ]
    return Listing(
        tuple(record for part in found for record in part.records),
        tuple(one for part in found for one in part.unreadable),
    )


def _depth(folder: str, path: str) -> int:
    """Folders between. What lies deeper is of somebody else whose prefix leads in here, and no record of this chain."""
    return path.removeprefix(f"{folder}/").count("/") if path.startswith(f"{folder}/") else -1


def _read_all(paths: Iterable[str], read: Callable[[str], Recorded | Unreadable | None]) -> Listing:
    with ThreadPoolExecutor(PARALLEL_GETS, thread_name_prefix="manifests") as pool:
        found = [one for one in pool.map(read, paths) if one is not None]
    return Listing(
        tuple(one for one in found if isinstance(one, Recorded)),
        tuple(one for one in found if isinstance(one, Unreadable)),
    )


def _read(
    store: ObjectStore, folder: ChainFolder, path: str, keyring: Keyring, *, proof_there: bool
) -> Recorded | Unreadable | None:
    """One manifest with its proof; None when it was deleted meanwhile."""
    try:
        data = store.get(path)
        if data is None:
            return None
        envelope, manifest = _parsed(data, Manifest)
        if manifest.format > FORMAT:
            return Unreadable(path, f"{path} was written by a newer operator; this one cannot read it.")
        if not _at_home(folder, path, manifest):
            return Unreadable(path, f"{path} is the manifest of another backup, put there by somebody.")
    except (ValueError, ArchiveDamagedError) as error:
        words = error.message if isinstance(error, ArchiveDamagedError) else "it is not as it was written"
        return Unreadable(path, f"{path} is no manifest: {words}.")
    trust = _trust("manifest", envelope, manifest.packing.encrypted, keyring)
    proof = _proof(store, folder, manifest, keyring) if proof_there else None
    return Recorded(manifest, trust, proof)


def _at_home(folder: ChainFolder, path: str, manifest: Manifest) -> bool:
    """Whether a manifest lies where it was written, and names no objects of others: they are read and pruned by it."""
    origin = manifest.origin
    return (
        manifest_path(folder, manifest) == path
        and (origin.cluster, origin.namespace, origin.chain)
        == (folder.cluster, folder.namespace, folder.chain)
        and all(stored.path.startswith(f"{folder.path}/") for stored in manifest.objects)
    )


def _proof(store: ObjectStore, folder: ChainFolder, manifest: Manifest, keyring: Keyring) -> Proof | None:
    """None for one that cannot be believed: the backup is not proved then, and can be checked again."""
    data = store.get(proof_path(folder, manifest))
    if data is None:
        return None
    try:
        envelope, proof = _parsed(data, Proof)
    except ValueError:
        return None
    trust = _trust("proof", envelope, manifest.packing.encrypted, keyring)
    believed = trust in (Trust.AUTHENTICATED, Trust.UNENCRYPTED) and proof.id == manifest.id
    return proof if believed else None


def _trust(kind: str, envelope: Envelope, encrypted: bool, keyring: Keyring) -> Trust:
    text = envelope.record.encode()
    if not compare_digest(hashlib.sha256(text).hexdigest(), envelope.sha256):
        return Trust.BROKEN
    if envelope.mac is None:
        # Whoever strips the MAC of an encrypted backup must not get away with it.
        return Trust.BROKEN if encrypted else Trust.UNENCRYPTED
    try:
        key = keyring.key(envelope.mac.key_id, envelope.mac.fingerprint)
    except KeyMissingError:
        return Trust.KEY_MISSING
    mac = key.record_mac(_message(kind, text))
    return Trust.AUTHENTICATED if compare_digest(mac, envelope.mac.hmac_sha256) else Trust.BROKEN


def _enveloped(kind: str, record: Record, key: Key | None) -> tuple[bytes, str]:
    text = record.model_dump_json(by_alias=True, exclude_none=True)
    digest = hashlib.sha256(text.encode()).hexdigest()
    mac = None
    if key is not None:
        mac = Mac(
            key_id=key.id,
            fingerprint=key.fingerprint,
            hmac_sha256=key.record_mac(_message(kind, text.encode())),
        )
    envelope = Envelope(record=text, sha256=digest, mac=mac)
    return json.dumps(envelope.model_dump(by_alias=True, exclude_none=True), indent=1).encode(), digest


def _message(kind: str, text: bytes) -> bytes:
    return kind.encode() + b"\n" + text


def _parsed(data: bytes, record: type[R]) -> tuple[Envelope, R]:
    """Raises ValueError (a ValidationError is one)."""
    with _ONE_AT_A_TIME:
        envelope = Envelope.model_validate_json(data)
        return envelope, record.model_validate_json(envelope.record)
