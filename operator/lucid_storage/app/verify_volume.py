"""`lucid-storage verify volume PATH`: a volume's content against its last checksums."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from lucid_storage.archive.keys import Key, Keyring
from lucid_storage.archive.volume_list import Listed
from lucid_storage.errors import LucidError, RefusedError
from lucid_storage.jobs.volume_verify import LIST_NAME, Findings, verify_volume

ALWAYS = frozenset({"corrupted", "unreadable"})
"""Told by name without being asked."""


def run_verify_volume(given: argparse.Namespace) -> int:
    """Exit status: 0 all changes are somebody's, 1 files rotted or nothing was found out, 2 it was asked wrongly."""
    if given.path is None:
        print("lucid-storage: name the folder that the volume is mounted at.", file=sys.stderr)
        return 2
    root = Path(given.path)
    findings = Findings(told=lambda what, entry: _told(what, entry, names=given.names))
    try:
        if not root.is_dir():
            raise RefusedError(f"{given.path} is no folder.")
        listed = Path(given.state) if given.state is not None else root / LIST_NAME
        found = verify_volume(root, listed, _key(given.key), findings, lambda: None, accept=given.accept)
    except LucidError as error:
        print(f"lucid-storage: {error.message}", file=sys.stderr)
        return 1
    print(json.dumps(_document(found)) if given.json else found.sentence())
    return 0 if found.intact or given.accept else 1


def _told(what: str, entry: Listed, *, names: bool) -> None:
    if names or what in ALWAYS:
        # Names may hold anything: control characters are shown and not obeyed.
        shown = os.fsdecode(entry.path).encode("unicode_escape", "backslashreplace").decode("ascii")
        print(f"{what}: {shown}", file=sys.stderr)


def _key(path: str | None) -> Key | None:
    """The key is named by its file. Raises KeyMissingError."""
    return Keyring(Path(path).parent).key(Path(path).name) if path is not None else None


def _document(found: Findings) -> dict[str, object]:
    return {
        "intact": found.intact,
        "since": found.since.isoformat() if found.since is not None else None,
        "lastChange": found.last_change.isoformat() if found.last_change is not None else None,
        **{
            name: getattr(found, name)
            for name in (
                "files",
                "bytes",
                "added",
                "removed",
                "changed",
                "backdated",
                "corrupted",
                "unreadable",
            )
        },
    }
