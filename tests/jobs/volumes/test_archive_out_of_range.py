"""What no kernel gives and no program of ours writes in an archive is damage, and said so."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from volume_restore_bed import made_of, note_of_killed, run_of, whole

from lucid_storage.archive.volume_tar import BLOCK, END, EntryType, TarEntry, header
from lucid_storage.archive.volume_untar import TarReader
from lucid_storage.errors import ArchiveDamagedError, LucidError
from lucid_storage.jobs import volume_done
from lucid_storage.jobs.volume_restore import restore, settle
from lucid_storage.stores.filesystem.attributes import without_list

TOP = TarEntry(b"", EntryType.DIRECTORY, 0o755, 0, 0, 0)
FILE = TarEntry(b"file", EntryType.FILE, 0o644, 0, 0, 0)
LINK = TarEntry(b"link", EntryType.SYMLINK, 0o777, 0, 0, 0)
NO_ID = 2**32 - 1
"""Leaves an owner as it is: chown(2)."""


@pytest.mark.parametrize(
    "odd",
    [
        replace(FILE, uid=2**40),
        replace(FILE, gid=2**40),
        replace(FILE, uid=NO_ID),
        replace(TOP, uid=2**40),
        replace(FILE, mtime_ns=10**30),
        replace(FILE, mtime_ns=-(10**30)),
        replace(FILE, size=2**63),
        replace(FILE, xattrs=((b"user.a\x00b", b"1"),)),
        replace(LINK, link=b"a\x00" + b"b" * 100),
    ],
    ids=str,
)
def test_what_the_system_has_no_numbers_and_names_for_is_damage(target: Path, odd: TarEntry) -> None:
    archive = made_of(*((odd,) if not odd.path else (TOP, odd)))
    with pytest.raises(ArchiveDamagedError):
        restore(run_of(archive, target))
    assert list(target.iterdir()) == []


@pytest.mark.parametrize(
    ("at", "field"),
    [
        (100, b"-000001\x00"),
        (100, b"7777777\x00"),
        (108, b"-000001\x00"),
        (124, b"-0000000001\x00"),
        (136, b"-0000000001\x00"),
        (329, b"-000001\x00"),
    ],
)
def test_a_field_of_a_header_that_is_no_number_of_its_kind_is_damage(at: int, field: bytes) -> None:
    block = bytearray(header(FILE))
    block[at : at + len(field)] = field
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\x00 " % sum(block)
    assert len(block) == BLOCK
    with pytest.raises(ArchiveDamagedError):
        list(TarReader(io.BytesIO(bytes(block) + END).read).entries())


@pytest.mark.parametrize("mtime_ns", [-(2**63) * 10**9, (2**63 - 1) * 10**9 + 999_999_999])
def test_the_ends_of_what_a_system_can_say_are_read(mtime_ns: int) -> None:
    entry = replace(FILE, uid=NO_ID - 1, gid=NO_ID - 1, mode=0o7777, mtime_ns=mtime_ns)
    assert list(TarReader(io.BytesIO(header(entry) + END).read).entries()) == [entry]


@pytest.mark.parametrize("rubbish", [b"", b"\x02", b"\x02\x00\x00\x00xyz", bytes(13)])
def test_an_access_list_that_is_none_gives_the_group_nothing(target: Path, rubbish: bytes) -> None:
    assert without_list(0o674, rubbish) == 0o604
    with_list = ((b"system.posix_acl_access", rubbish),)
    archive = made_of(TOP, replace(FILE, mode=0o670, xattrs=with_list))
    if not rubbish:
        return  # the kernel takes it for none
    assert whole(run_of(archive, target)).kept.attributes == 1
    assert oct((target / "file").stat().st_mode & 0o7777) == "0o600"


# What somebody with a hand in the volume put in the place of a note


@pytest.mark.parametrize("top", ["[-1, 0, 0]", "[493, -1, 0]", "[493, 0, 1099511627776]", "[4096000, 0, 0]"])
def test_numbers_out_of_range_in_a_note_are_said(
    target: Path, monkeypatch: pytest.MonkeyPatch, top: str
) -> None:
    note = note_of_killed(run_of(made_of(TOP, FILE), target), monkeypatch)
    note.write_text(f"[{top}, {{}}]")
    with pytest.raises(LucidError, match="cannot be read"):
        restore(run_of(made_of(TOP, FILE), target, "ba9876543210"))


@pytest.mark.parametrize("top", [(2**40, 0, 0), (0o755, 2**40, 0), (0o755, 0, -1)])
def test_numbers_out_of_range_in_a_record_are_not_believed(target: Path, top: tuple[int, int, int]) -> None:
    run = run_of(made_of(TOP, FILE), target)
    restore(run)
    done = volume_done.read(target)
    assert done is not None
    volume_done.write(target, done.model_copy(update={"top": top}))
    before = target.stat()
    settle([run], whole=True)
    now = target.stat()
    assert (now.st_mode, now.st_uid, now.st_gid) == (before.st_mode, before.st_uid, before.st_gid)
    assert (target / volume_done.NAME).exists(), "it is nothing that this program wrote"
