"""The modes of folders that their owner may not write into, while they are moved to the top of a volume.

Moving a folder writes its entry "..", so whoever may not write into it gives himself that right meanwhile. What its
mode was is written down first, for a worker that has to go on.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Final

from pydantic import TypeAdapter

from lucid_storage.errors import LucidError

NAME: Final = ".lucid-modes"
_NOTED: Final = TypeAdapter(dict[str, int])


def note(staging: Path) -> None:
    """Has to be on the disk before anything is moved. Raises OSError."""
    locked = {
        os.fsencode(path.name).hex(): stat.S_IMODE(mode)
        for path in staging.iterdir()
        if stat.S_ISDIR(mode := path.lstat().st_mode) and not mode & stat.S_IWUSR
    }
    (staging / NAME).write_text(json.dumps(locked))


def read(ready: Path) -> dict[str, int]:
    """Modes by name. Raises LucidError for a note that is not as it was written, and OSError."""
    noted = ready / NAME
    if not noted.exists():
        return {}
    try:
        return {_name(key): mode for key, mode in _NOTED.validate_json(noted.read_bytes()).items()}
    except ValueError as error:
        raise LucidError(
            f"The note {NAME} of a restore that was broken off cannot be read: the disk lost it, as in a power failure."
            " Check the disk, remove everything in the volume (.lucid-... too), and run the restore again."
        ) from error


def _name(key: str) -> str:
    name = bytes.fromhex(key)
    if b"/" in name or name in (b"", b".", b".."):
        raise ValueError(key)
    return os.fsdecode(name)
