"""Builds and compares trees for the tests of volumes."""

# Names are bytes here, which pathlib does not know.
# ruff: noqa: PTH115, PTH118, PTH123

import os
import socket
import stat
from pathlib import Path

OLD_NS = 1_500_000_000_123_456_789
ODD_NAME = b"odd \xff\n name"
LONG_NAME = "long-" * 40


def fill(root: Path) -> None:
    """Files, links, holes, attributes, odd names, modes, owners: whatever a copy may lose."""
    (root / "empty").mkdir(mode=0o700)
    deep = root / "data" / "deep"
    deep.mkdir(parents=True)
    (deep / "journal").write_bytes(os.urandom(300_001))
    (deep / "zeros").write_bytes(bytes(200_000))
    (root / "nothing").write_bytes(b"")
    sparse = root / "sparse"
    with sparse.open("wb") as file:
        file.seek(5_000_000)
        file.write(b"in the middle")
        file.seek(9_000_000)
        file.write(b"near the end")
        file.truncate(20_000_000)
    with (root / "hole").open("wb") as file:
        file.truncate(3_000_000)
    (root / "first").write_bytes(b"two names")
    os.link(root / "first", deep / "second")
    (root / "link").symlink_to("data/deep/journal")
    (root / "dangling").symlink_to("/nowhere/at/all")
    os.mkfifo(root / "fifo", 0o640)
    with open(os.path.join(os.fsencode(root), ODD_NAME), "wb") as file:
        file.write(b"odd")
    (root / "data" / "caf\u00e9").write_text("unicode")
    (root / LONG_NAME).mkdir()
    (root / LONG_NAME / LONG_NAME).write_text("long")
    secret = root / "data" / "secret"
    secret.write_text("s")
    secret.chmod(0o4711)
    os.setxattr(root / "first", "user.note", b"bytes \x00\xff=\n")
    os.setxattr(root / "first", "user.a=b", b"c=d")
    os.setxattr(root / "first", "user.100%25", b"1")
    os.setxattr(root / "data", "user.folder", b"1")
    if os.getuid() == 0:
        os.chown(deep / "journal", 999, 3_000_000)
        os.chown(root / "link", 999, 999, follow_symlinks=False)
    for path in sorted(root.rglob("*"), reverse=True):
        os.utime(path, ns=(OLD_NS, OLD_NS), follow_symlinks=False)
    (root / "data").chmod(0o555)


def add_socket(root: Path) -> None:
    """A socket that nobody listens on any more."""
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(root / "socket"))


def described(root: Path, *, owners: bool = True) -> dict[bytes, tuple[object, ...]]:
    """Everything that counts about each entry below a folder, read by other code than the one under test."""
    found: dict[bytes, tuple[object, ...]] = {}
    names: dict[int, bytes] = {}
    base = os.fsencode(root)
    for folder, folders, files in os.walk(base):
        for name in sorted(folders + files):
            path = os.path.join(folder, name)
            seen = os.lstat(path)
            below = os.path.relpath(path, base)
            kind = stat.S_IFMT(seen.st_mode)
            content: object = None
            if stat.S_ISREG(seen.st_mode):
                with open(path, "rb") as file:
                    content = file.read()
            elif stat.S_ISLNK(seen.st_mode):
                content = os.readlink(path)
            attributes = {
                n: os.getxattr(path, n, follow_symlinks=False)
                for n in os.listxattr(path, follow_symlinks=False)
            }
            same = (
                names.setdefault(seen.st_ino, below)
                if seen.st_nlink > 1 and not stat.S_ISDIR(kind)
                else below
            )
            found[below] = (
                kind,
                stat.S_IMODE(seen.st_mode),
                (seen.st_uid, seen.st_gid) if owners else None,
                seen.st_mtime_ns,
                content,
                attributes,
                min(same, below) if seen.st_nlink > 1 and not stat.S_ISDIR(kind) else b"",
            )
    return found


def blocks(path: Path) -> int:
    """Bytes of disk that a file takes."""
    return path.stat().st_blocks * 512
