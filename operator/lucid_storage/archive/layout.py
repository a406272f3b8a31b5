"""Where things lie in a destination. Every path holds the cluster, the namespace and a UUID, and no secret.

{root}/{cluster}/{namespace}/{chain}/backups/{id}/manifest.json   written last
                                                 proof.json       written after the check
                                                 mongodb.archive, mongodb.oplog, redis.rdb, ...
{root}/{cluster}/{namespace}/{chain}/slices/{timeline}/{prev}.{id}.oplog, {prev}.json
                                                           {prev}.proof  once a check found it damaged
                                          cut.json                  asks for a slice now
                                 adopted/{former cluster}.json      its chain of that name is ours (archive/adoption.py)
{root}/restores/{namespace}/{name}.json                             the marker of a Restore, see jobs/restore_marker.py
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace
from typing import TypeAlias

from lucid_storage.archive.manifest import ObjectKind, Optime

MANIFEST = "manifest.json"
PROOF = "proof.json"
MARK = "deleted.json"
"""Beside a manifest: the object was deleted with its data while something needed them (rule 1.9)."""

SliceName: TypeAlias = tuple[str, Optime]
"""Timeline and where it begins, which make the name of a slice's manifest."""
_MOST_CHARACTERS = 255
_SLICE = re.compile(r"([^/]+)/([0-9]{10})-([0-9]{10})\.json")


@dataclass(frozen=True, slots=True)
class ChainFolder:
    """The folder of one chain. `root` is the prefix from the spec and the settings, without slashes at its ends."""

    root: str
    cluster: str
    namespace: str
    chain: str

    @property
    def path(self) -> str:
        return "/".join(p for p in (self.root, self.cluster, self.namespace, self.chain) if p)

    @property
    def backups(self) -> str:
        return f"{self.path}/backups"

    @property
    def slices(self) -> str:
        return f"{self.path}/slices"

    def manifest(self, backup_id: str) -> str:
        return f"{self.backups}/{backup_id}/{MANIFEST}"

    def proof(self, backup_id: str) -> str:
        return f"{self.backups}/{backup_id}/{PROOF}"

    def object(self, backup_id: str, kind: ObjectKind, part: str = "") -> str:
        """`part` tells several objects of one kind apart, such as the volume's name."""
        return f"{self.backups}/{backup_id}/{_fitting(str(kind), f'.{part}' if part else '')}"

    def of(self, cluster: str) -> ChainFolder:
        """The chain of the same name of another cluster."""
        return replace(self, cluster=cluster)

    @property
    def adopted(self) -> str:
        """Notes of former clusters whose chain is a part of this one."""
        return f"{self.path}/adopted"

    def adoption(self, cluster: str) -> str:
        return f"{self.adopted}/{cluster}.json"

    @property
    def cut(self) -> str:
        """While this object is there, somebody waits for the slicing worker to end its slice now (rule 1.5)."""
        return f"{self.path}/cut.json"

    def slice_data(self, timeline: str, prev: Optime, slice_id: str = "") -> str:
        """The id is in it, so that what a writer left behind that died is in nobody's way. A manifest has the path."""
        return f"{self.slices}/{timeline}/{_stem(prev)}{f'.{slice_id}' if slice_id else ''}.oplog"

    def slice_manifest(self, timeline: str, prev: Optime) -> str:
        """The name comes from where the slice begins, so that two writers cannot both create it (rule 1.5)."""
        return f"{self.slices}/{timeline}/{_stem(prev)}.json"

    def slice_proof(self, timeline: str, prev: Optime) -> str:
        """What a check found, where it found damage. No `.json`: a reader would take it for a manifest."""
        return f"{self.slices}/{timeline}/{_stem(prev)}.proof"

    def slice_of(self, path: str) -> SliceName | None:
        """Timeline and beginning of the slice whose manifest has this path; None for any other path."""
        found = _SLICE.fullmatch(path.removeprefix(f"{self.slices}/"))
        if found is None or not path.startswith(f"{self.slices}/"):
            return None
        return found[1], Optime(seconds=int(found[2]), counter=int(found[3]))


def restore_marker(root: str, namespace: str, name: str) -> str:
    """Without the cluster: in one that was rebuilt it is to be found again."""
    return "/".join(p for p in (root, "restores", namespace, _fitting(name, ".json")) if p)


def _fitting(stem: str, end: str) -> str:
    """A file's name, which most file systems allow 255 bytes: names of resources have up to 253."""
    whole = f"{stem}{end}"
    if len(whole) <= _MOST_CHARACTERS:
        return whole
    return f"{whole[:200]}-{hashlib.sha256(whole.encode()).hexdigest()[:32]}"


def _stem(prev: Optime) -> str:
    # Fixed width, so that a listing is in order of time.
    return f"{prev.seconds:010d}-{prev.counter:010d}"
