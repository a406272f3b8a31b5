"""What a worker that goes on with a restore cannot read off its entries, while they are moved to the top of a volume.

Moving a folder writes its entry "..", so whoever may not write into it gives himself that right meanwhile, and the top
gets its owner and mode last. What these are to be is written down first.
"""

from __future__ import annotations

import json
import os
import stat
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, TypeAdapter

from lucid_storage.archive.own_file import open_draft
from lucid_storage.archive.volume_tar import LARGEST_ID, MODE_BITS
from lucid_storage.errors import LucidError

NAME: Final = ".lucid-modes"
Mode = Annotated[int, Field(ge=0, le=MODE_BITS)]
Id = Annotated[int, Field(ge=0, le=LARGEST_ID)]
Top = tuple[Mode, Id, Id]
"""Mode, user and group. Whoever writes to the volume could have put others in their place."""
_NOTED: Final = TypeAdapter(tuple[Top, dict[str, Mode]])


def note(staging: Path, top: Top) -> None:
    """Has to be on the disk before anything is moved. Raises OSError."""
    locked = {
        os.fsencode(path.name).hex(): stat.S_IMODE(mode)
        for path in staging.iterdir()
        if stat.S_ISDIR(mode := path.lstat().st_mode) and not mode & stat.S_IWUSR
    }
    with open_draft(staging / NAME) as file:
        file.write(json.dumps((top, locked)).encode())


def read(ready: Path) -> tuple[Top, dict[str, int]]:
    """The top's, and modes of folders by name. Raises LucidError for a note that is not as it was written, OSError."""
    try:
        top, locked = _NOTED.validate_json((ready / NAME).read_bytes())
        return top, {_name(key): mode for key, mode in locked.items()}
    except (ValueError, FileNotFoundError) as error:
        raise LucidError(
            f"The note {NAME} of a restore that was broken off cannot be read: the disk lost it, as in a power failure."
            " Check the disk, remove everything in the volume (.lucid-... too), and run the restore again."
        ) from error


def set_mode(folder: Path, mode: int) -> None:
    """What stands there instead by now, a link too, is nothing that was restored. Raises OSError."""
    try:
        handle = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except (FileNotFoundError, NotADirectoryError):
        return
    try:
        os.chmod(f"/proc/self/fd/{handle}", mode)  # noqa: PTH101 - of a descriptor
    finally:
        os.close(handle)


def _name(key: str) -> str:
    name = bytes.fromhex(key)
    if b"/" in name or name in (b"", b".", b".."):
        raise ValueError(key)
    return os.fsdecode(name)
