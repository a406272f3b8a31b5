"""What a restore has completed of several volumes, written on each of them.

A restore whose second volume fails is asked for again, and its first one is full then: this record tells it from a
volume with files of somebody else. It is a file at the volume's top, left out of archives, and goes when the whole
restore is done. It is believed of the very same restore and backup only, and never of a volume that was emptied since.
"""

from __future__ import annotations

import logging
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

from pydantic import AwareDatetime, Field, ValidationError

from lucid_storage.archive.manifest import Record
from lucid_storage.archive.own_file import open_draft, open_own, put_in_place
from lucid_storage.errors import LucidError
from lucid_storage.jobs.volume_locked import Top
from lucid_storage.kube.paths import is_name
from lucid_storage.models.orders import Owner
from lucid_storage.stores.filesystem.attributes import ACCESS_LIST

logger = logging.getLogger(__name__)

NAME: Final = ".lucid-restored"
LARGEST: Final = 256 * 1024
"""Bytes: it holds a few names, and in hexadecimal an access list, of 64 KiB at most (xattr(7))."""


class Done(Record):
    """One volume that is complete: it was compared with the manifest, and its entries are in their places."""

    cluster: str
    namespace: str
    restore: str
    """Name of the resource."""
    spec_hash: str
    backup: str
    """Its id."""
    volume: str
    """As the backup names it."""
    run: str
    """Id of the run that did it."""
    at: AwareDatetime
    top: Top = (0o755, 0, 0)
    """Mode, user and group that the volume's top had in the backup; it gets them when the whole restore is done. With
    them now, the kubelet would change every file for the pod of the next run (fsGroupChangePolicy: OnRootMismatch).
    """

    access_list: Annotated[str, Field(pattern="^([0-9a-f]{2})*$")] = ""
    """The top's ACL, in hexadecimal as the kernel gives it; empty where it had none. It comes with the mode."""

    @classmethod
    def of(
        cls,
        owner: Owner,
        backup: str,
        volume: str,
        run: str,
        top: Top,
        access_list: bytes,
    ) -> Done:
        """Of this moment."""
        return cls(
            access_list=access_list.hex(),
            top=top,
            cluster=owner.cluster,
            namespace=owner.namespace,
            restore=owner.name,
            spec_hash=owner.spec_hash,
            backup=backup,
            volume=volume,
            run=run,
            at=datetime.now(UTC).replace(microsecond=0),
        )

    def same_restore(self, other: Done) -> bool:
        """Whichever run of it; a resource that Git made again is the same one, as for markers (rule 2.10)."""
        return self._what == other._what

    @property
    def _what(self) -> tuple[str, ...]:
        return (self.cluster, self.namespace, self.restore, self.spec_hash, self.backup, self.volume)


def read(root: Path) -> Done | None:
    """What is written there; None where it is nothing that this program wrote."""
    try:
        file = open_own(root / NAME)
    except LucidError:
        return None
    if file is None:
        return None
    with file:
        data = file.read(LARGEST)
    try:
        done = Done.model_validate_json(data)
    except ValidationError:
        return None
    # People are told these: whoever writes to the volume could put anything in their place.
    return done if is_name(done.namespace) and is_name(done.restore) else None


def write(root: Path, done: Done) -> None:
    """It is on the disk when this returns. Raises OSError."""
    draft = root / f"{NAME}.new"
    with open_draft(draft) as file:
        file.write(done.model_dump_json(by_alias=True).encode())
        put_in_place(draft, file, root / NAME)


def dress_top(root: Path, done: Done) -> None:
    """The top belongs to the mount, and often to root: what this process may not set stays as it is."""
    mode, uid, gid = done.top
    try:
        now = root.stat()
        if (now.st_uid, now.st_gid) != (uid, gid):
            os.chown(root, uid, gid)
    except OSError as error:
        logger.info("the top of a restored volume keeps its owner: %s", error.strerror)
    try:
        if done.access_list:  # first, since it sets bits of the mode
            os.setxattr(root, ACCESS_LIST, bytes.fromhex(done.access_list))
        if stat.S_IMODE(root.stat().st_mode) != mode & 0o7777:
            root.chmod(mode & 0o7777)
    except OSError as error:
        logger.info("the top of a restored volume keeps its mode and access list: %s", error.strerror)


def may_dress(root: Path, staged: Path, done: Done) -> bool:
    """Whether this process may give the volume's top its owner and mode: whoever may give that owner at all gave it to
    what is `staged` on the same disk.
    """
    now, (mode, *owner), ours = root.stat(), done.top, _is_ours(root)
    seen = staged.stat()
    if [now.st_uid, now.st_gid] != owner and not (ours and [seen.st_uid, seen.st_gid] == owner):
        return False
    if stat.S_IMODE(now.st_mode) == mode or os.geteuid() == 0:
        return True
    # Without being in the group its setgid bit is taken off, without an error: chmod(2).
    return ours and (not mode & stat.S_ISGID or owner[1] in (os.getegid(), *os.getgroups()))


def may_list(root: Path, done: Done) -> bool:
    """Whether this process may give the volume's top its access list, or there is none."""
    return not done.access_list or _is_ours(root)


def _is_ours(root: Path) -> bool:
    return os.geteuid() in (0, root.stat().st_uid)


def remove(root: Path) -> None:
    """One that cannot be removed harms nothing."""
    try:
        with _writable(root):
            for name in (NAME, f"{NAME}.new"):
                (root / name).unlink(missing_ok=True)
    except OSError as error:
        logger.warning("the record of a restore could not be removed from its volume: %s", error.strerror)


@contextmanager
def _writable(root: Path) -> Iterator[None]:
    """The top has its mode already, which may say that its owner writes nothing into it."""
    mode = stat.S_IMODE(root.stat().st_mode)
    opened = not os.access(root, os.W_OK | os.X_OK) and _is_ours(root)
    if opened:
        root.chmod(mode | stat.S_IRWXU)
    try:
        yield
    finally:
        if opened:
            root.chmod(mode)
