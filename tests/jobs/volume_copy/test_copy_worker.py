"""The copy of a volume's files is the same in everything that counts, or the worker says why it is not."""

import errno
import fcntl
import json
import os
import socket
import stat
import struct
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from lucid_storage.errors import LucidError, Reason
from lucid_storage.jobs.contract import CancelledError
from lucid_storage.jobs.reporting import Reporter
from lucid_storage.jobs.volume_copy import UNKNOWN_LOCKS, copy_volume, failed
from lucid_storage.jobs.volume_copy_compare import Comparison
from lucid_storage.jobs.volume_copy_mirror import Mirror
from lucid_storage.jobs.worker import Stop
from lucid_storage.models.orders import ORDER_VARIABLE, TERMINATION_VARIABLE, VOLUMES_FOLDER_VARIABLE, Owner
from lucid_storage.models.volume_work import VolumeCopyOrder, VolumeCopyResult
from lucid_storage.stores.filesystem import content

NOBODY = 65532
ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root to make files of others")


class Bed:
    """Two folders in place of two mounted claims."""

    def __init__(self, root: Path) -> None:
        self.root, self.source, self.target = root, root / "old", root / "new"
        for folder in (self.source, self.target):
            folder.mkdir(parents=True)
            folder.chmod(0o777)

    def order(self, known: str | None = None) -> VolumeCopyOrder:
        owner = Owner(cluster="c", namespace="n", name="v", uid="u", spec_hash="")
        return VolumeCopyOrder(
            run="r1", owner=owner, deadline_seconds=60, source="old", target="new", known_stamp=known
        )

    def environment(self) -> dict[str, str]:
        return {VOLUMES_FOLDER_VARIABLE: str(self.root)}

    def copy(self, known: str | None = None, stop: Stop | None = None) -> VolumeCopyResult:
        with open(os.devnull, "w") as out:
            return copy_volume(self.order(known), self.environment(), Reporter(out=out), stop or Stop())

    def as_nobody(self, known: str | None = None) -> VolumeCopyResult:
        """The worker in a process like that of a restricted pod: a user without rights and without groups."""
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.setgroups([])
            os.setresgid(NOBODY, NOBODY, NOBODY)
            os.setresuid(NOBODY, NOBODY, NOBODY)
            try:
                told = self.copy(known)
            except LucidError as error:
                told = failed(self.order(), error.reason, error.message)
            except Exception as error:  # noqa: BLE001 - the parent's assertion shows it
                told = failed(self.order(), Reason.INTERNAL_ERROR, repr(error))
            os.write(writer, told.model_dump_json(by_alias=True).encode())
            os._exit(0)
        os.close(writer)
        with open(reader, "rb") as pipe:
            answer = pipe.read()
        os.waitpid(child, 0)
        return VolumeCopyResult.model_validate_json(answer)

    def differences(self) -> int:
        found = Comparison(os.fsencode(self.source), os.fsencode(self.target), lambda size: None).run()
        return found.differences


@pytest.fixture
def bed(tmp_path_factory: pytest.TempPathFactory) -> Bed:
    """Where other users can come, too."""
    root = tmp_path_factory.mktemp("volumes")
    for parent in (root, *root.parents[: len(root.parts) - 3]):
        parent.chmod(parent.stat().st_mode | 0o711)
    return Bed(root)


def everything(folder: Path) -> None:
    """One of each."""
    (folder / "plain").write_bytes(os.urandom(3_000_001))
    (folder / "empty").touch()
    (folder / "deep/er/est").mkdir(parents=True)
    (folder / "deep/er/est/file").write_text("x")
    (folder / "hollow").mkdir()
    os.link(folder / "plain", folder / "deep/second-name")
    os.symlink("../nowhere", folder / "deep/dangling")
    os.mkfifo(folder / "pipe", 0o620)
    with (folder / "sparse").open("wb") as file:
        file.truncate(40 * 1024 * 1024)
        file.seek(20 * 1024 * 1024)
        file.write(b"island" * 1000)
    (folder / os.fsdecode(b"new\nline \xff\xfe")).write_text("odd name")
    os.setxattr(folder / "plain", "user.note", b"kept")
    os.setxattr(folder / "deep", "user.folder", b"kept too")
    (folder / "plain").chmod(0o604)
    (folder / "hollow").chmod(0o511)
    for number, path in enumerate(sorted(folder.rglob("*"), reverse=True)):
        if not path.is_symlink():
            os.utime(path, ns=(10**18, 10**18 + 123_456_789 + number))
    os.utime(folder / "deep/dangling", ns=(10**18, 10**18 + 7), follow_symlinks=False)


def inventory(folder: Path) -> dict[bytes, tuple[object, ...]]:
    """Everything that a copy must keep, told by other means than the worker's own."""
    root = os.fsencode(folder)
    paths = [os.path.join(b, n) for b, folders, files in os.walk(root) for n in (*folders, *files)]
    found: dict[bytes, tuple[object, ...]] = {}
    for path in paths:
        seen = os.lstat(path)
        data: object = None
        if stat.S_ISREG(seen.st_mode):
            with open(path, "rb") as file:
                data = hash(file.read())
        if stat.S_ISLNK(seen.st_mode):
            data = os.readlink(path)
        names = os.listxattr(path, follow_symlinks=False)
        attributes = {n: os.getxattr(path, n, follow_symlinks=False) for n in names}
        found[os.path.relpath(path, root)] = (
            seen.st_mode,
            seen.st_uid,
            seen.st_gid,
            seen.st_size if not stat.S_ISDIR(seen.st_mode) else None,
            seen.st_mtime_ns,
            seen.st_nlink if not stat.S_ISDIR(seen.st_mode) else None,
            data,
            attributes,
        )
    return found


def test_a_copy_keeps_contents_names_links_holes_times_modes_and_extended_attributes(bed: Bed) -> None:
    everything(bed.source)
    result = bed.copy()
    assert result.ok
    assert (result.owners_not_kept, result.skipped) == (0, 0)
    assert inventory(bed.target) == inventory(bed.source)
    assert (bed.target / "plain").samefile(bed.target / "deep/second-name")
    assert (bed.target / "sparse").stat().st_blocks * 512 < 1024 * 1024
    assert result.digest and result.stamp


@ROOT
def test_root_keeps_owners_setuid_bits_and_capabilities(bed: Bed) -> None:
    everything(bed.source)
    os.chown(bed.source / "plain", 999, 998)
    (bed.source / "plain").chmod(0o4755)
    os.chown(bed.source / "deep", 1000, 1000)
    os.lchown(bed.source / "deep/dangling", 1001, 1001)
    result = bed.copy()
    assert result.owners_not_kept == 0
    assert inventory(bed.target) == inventory(bed.source)


@ROOT
def test_a_user_without_rights_tells_the_owners_that_it_could_not_keep(bed: Bed) -> None:
    everything(bed.source)
    for path in bed.source.rglob("*"):
        if not path.is_symlink():
            os.chmod(path, path.stat().st_mode | 0o444 | (0o111 if path.is_dir() else 0))
    (bed.source / "plain").chmod(0o4755)
    result = bed.as_nobody()
    assert result.ok, result
    assert result.owners_not_kept == len(inventory(bed.source))
    copied = (bed.target / "plain").stat()
    assert copied.st_uid == NOBODY
    assert stat.S_IMODE(copied.st_mode) == 0o755, "a setuid bit would mean another user now"
    assert (bed.target / "plain").read_bytes() == (bed.source / "plain").read_bytes()


@ROOT
def test_files_of_its_own_user_keep_their_owner_in_a_restricted_pod(bed: Bed) -> None:
    everything(bed.source)
    for path in (bed.source, *bed.source.rglob("*")):
        os.lchown(path, NOBODY, NOBODY)
    os.chown(bed.target, NOBODY, NOBODY)
    (bed.source / "plain").chmod(0o600)
    result = bed.as_nobody()
    assert result.ok, result
    assert result.owners_not_kept == 0
    assert inventory(bed.target) == inventory(bed.source)


@ROOT
def test_the_root_folders_group_is_the_mounts_own_and_its_user_is_not(bed: Bed) -> None:
    os.chown(bed.target, -1, 1234)
    assert bed.as_nobody().owners_not_kept == 0
    os.chown(bed.source, 999, -1)
    assert bed.as_nobody().owners_not_kept == 1


@ROOT
def test_a_top_folder_that_lets_in_fewer_users_than_before_is_told(bed: Bed) -> None:
    for folder in (bed.source, bed.target):
        os.chown(folder, 0, NOBODY)
    bed.target.chmod(0o2775)  # as a kubelet gives a new volume to an fsGroup
    for mode, kept in ((0o777, False), (0o755, True), (0o2770, False), (0o2775, True)):
        bed.source.chmod(mode)
        result = bed.as_nobody()
        assert (result.ok, result.top_mode_kept) == (True, kept), oct(mode)
    bed.source.chmod(0o777)
    assert bed.copy().top_mode_kept
    assert stat.S_IMODE(bed.target.stat().st_mode) == 0o777, "root can keep it"


@ROOT
def test_attributes_that_need_rights_and_were_not_kept_are_counted(bed: Bed) -> None:
    everything(bed.source)
    for path in bed.source.rglob("*"):
        if not path.is_symlink():
            os.chmod(path, path.stat().st_mode | 0o444 | (0o111 if path.is_dir() else 0))
    bind_low_ports = struct.pack("<5I", 0x02000001, 1 << 10, 0, 0, 0)  # struct vfs_cap_data, revision 2
    os.setxattr(bed.source / "empty", "security.capability", bind_low_ports)
    assert bed.as_nobody().attributes_not_kept == 1
    assert bed.copy().attributes_not_kept == 0
    assert os.getxattr(bed.target / "empty", "security.capability") == bind_low_ports


@ROOT
def test_an_attribute_of_the_top_folder_that_only_its_owner_may_set_is_counted(bed: Bed) -> None:
    bed.target.chmod(
        0o1777
    )  # in a folder like /tmp only the owner may set user attributes of the folder itself
    os.setxattr(bed.source, "user.note", b"of the volume")
    result = bed.as_nobody()
    assert (result.ok, result.attributes_not_kept) == (True, 1)


@ROOT
def test_files_that_may_not_be_read_fail_the_copy_with_their_number(bed: Bed) -> None:
    for name in "abc":
        (bed.source / name).write_text(name)
        (bed.source / name).chmod(0o600)
    (bed.source / "d").write_text("readable")
    result = bed.as_nobody()
    assert (result.ok, result.reason) == (False, Reason.ACCESS_DENIED)
    assert result.message.startswith("3 or more files")
    assert "runAsUser" in result.message


@ROOT
def test_a_volume_that_may_not_be_written_is_said(bed: Bed) -> None:
    (bed.source / "a").write_text("a")
    bed.target.chmod(0o755)
    result = bed.as_nobody()
    assert (result.ok, result.reason) == (False, Reason.ACCESS_DENIED)
    assert "fsGroup" in result.message


def test_sockets_are_left_out_and_counted(bed: Bed) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(bed.source / "socket"))
        (bed.source / "file").write_text("x")
        result = bed.copy()
    assert (result.ok, result.skipped, result.files) == (True, 1, 1)
    assert not (bed.target / "socket").exists()


def test_lost_and_found_of_either_file_system_is_left_alone(bed: Bed) -> None:
    for folder in (bed.source, bed.target):
        (folder / "lost+found").mkdir(mode=0o700)
        (folder / "lost+found" / folder.name).touch()
    result = bed.copy()
    assert (result.ok, result.files) == (True, 0)
    assert [p.name for p in (bed.target / "lost+found").iterdir()] == ["new"]


def test_what_was_copied_is_not_copied_again(bed: Bed) -> None:
    everything(bed.source)
    first = bed.copy()
    assert first.copied_bytes == first.bytes
    assert first.files == 5, "the second name is no second file"
    inode = (bed.target / "sparse").stat().st_ino
    (bed.source / "deep/er/est/file").write_text("new")
    second = bed.copy()
    assert second.ok
    assert second.copied_bytes == 3
    assert (bed.target / "sparse").stat().st_ino == inode
    assert inventory(bed.target) == inventory(bed.source)


def test_a_copy_that_was_cut_short_is_completed(bed: Bed) -> None:
    everything(bed.source)

    class CutError(Exception):
        pass

    done = 0

    def told(size: int) -> None:
        nonlocal done
        done += size
        if done > 1_000_000:
            raise CutError

    with pytest.raises(CutError):
        Mirror(os.fsencode(bed.source), os.fsencode(bed.target), told).run()
    assert bed.differences() > 0
    assert bed.copy().ok
    assert inventory(bed.target) == inventory(bed.source)


def test_what_the_source_lost_or_turned_into_something_else_goes_from_the_copy(bed: Bed) -> None:
    everything(bed.source)
    bed.copy()
    (bed.source / "empty").unlink()
    (bed.source / "empty").mkdir()
    (bed.source / "deep/er/est/file").unlink()
    (bed.source / "deep/er/est").rmdir()
    (bed.source / "deep/er/est").write_text("a file now")
    (bed.source / "deep/second-name").unlink()
    (bed.source / "deep/second-name").write_bytes((bed.source / "plain").read_bytes())
    assert bed.copy().ok
    assert inventory(bed.target) == inventory(bed.source)


def test_a_copy_that_looks_alike_and_holds_other_bytes_is_found_and_made_good(bed: Bed) -> None:
    (bed.source / "a").write_bytes(b"x" * 5_000_000)
    bed.copy()
    seen = (bed.target / "a").stat()
    with (bed.target / "a").open("r+b") as file:
        file.seek(3_000_000)
        file.write(b"y")
    os.utime(bed.target / "a", ns=(seen.st_atime_ns, seen.st_mtime_ns))
    result = bed.copy()
    assert result.ok
    assert result.copied_bytes == 5_000_000
    assert (bed.target / "a").read_bytes() == (bed.source / "a").read_bytes()


def test_a_source_that_did_not_change_since_it_was_copied_costs_no_reading(bed: Bed) -> None:
    everything(bed.source)
    first = bed.copy()
    again = bed.copy(known=first.stamp)
    assert (again.ok, again.unchanged, again.copied_bytes) == (True, True, 0)
    os.setxattr(bed.source / "plain", "user.note", b"other")
    changed = bed.copy(known=first.stamp)
    assert (changed.ok, changed.unchanged) == (True, False)
    assert os.getxattr(bed.target / "plain", "user.note") == b"other"
    assert changed.stamp != first.stamp


def test_a_source_that_keeps_changing_is_told_apart_from_a_bad_copy(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bed.source / "log").write_text("1")
    compare = Comparison.run

    def while_written(self: Comparison) -> object:
        with (bed.source / "log").open("a") as log:
            log.write("more")
        return compare(self)

    monkeypatch.setattr(Comparison, "run", while_written)
    with pytest.raises(LucidError, match="changed while they were copied") as refused:
        bed.copy()
    assert refused.value.reason is Reason.CONTENT_CHANGED


def test_a_disk_that_gives_back_other_bytes_fails_the_verification(
    bed: Bed, monkeypatch: pytest.MonkeyPatch
) -> None:
    (bed.source / "a").write_bytes(b"good")
    digest = content.Comparer.digest

    def rotten(self: content.Comparer, source: int, target: int, *rest: object) -> int:
        writer = os.open(f"/proc/self/fd/{target}", os.O_WRONLY)
        os.pwrite(writer, b"BAD!", 0)
        os.close(writer)
        return digest(self, source, target, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(content.Comparer, "digest", rotten)
    with pytest.raises(LucidError, match="differ from the volume") as refused:
        bed.copy()
    assert refused.value.reason is Reason.VERIFY_FAILED


@ROOT
def test_a_new_volume_without_room_is_said_before_and_while_copying(bed: Bed) -> None:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", bed.target], check=True)
    try:
        (bed.source / "big").write_bytes(os.urandom(6 << 20))
        with pytest.raises(LucidError, match="holds 4194304 bytes") as refused:
            bed.copy()
        assert refused.value.reason is Reason.NOT_ENOUGH_SPACE
        (bed.source / "big").write_bytes(os.urandom(4_000_000))
        (bed.target / "lost+found").mkdir()
        (bed.target / "lost+found/found").write_bytes(bytes(1_000_000))
        with pytest.raises(LucidError, match="it is full") as refused:
            bed.copy()
        assert refused.value.reason is Reason.NOT_ENOUGH_SPACE
    finally:
        subprocess.run(["umount", bed.target], check=True)


@ROOT
def test_another_kind_of_file_system_gets_the_same_copy(bed: Bed) -> None:
    """No shortcut of the kernel leads from one file system into another one."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", bed.target], check=True)
    try:
        everything(bed.source)
        os.removexattr(bed.source / "plain", "user.note")
        os.removexattr(bed.source / "deep", "user.folder")
        assert bed.copy().ok
        assert inventory(bed.target) == inventory(bed.source)
    finally:
        subprocess.run(["umount", bed.target], check=True)


@ROOT
def test_an_attribute_larger_than_the_new_file_system_keeps_is_no_lack_of_room(bed: Bed) -> None:
    """ext4 gives all of an inode's attributes about 4 KiB, and says ENOSPC."""
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", bed.source], check=True)
    try:
        (bed.source / "file").touch()
        try:
            os.setxattr(bed.source / "file", "trusted.big", bytes(5000))
        except OSError as error:
            pytest.skip(f"this kernel's tmpfs keeps no such attribute: {error.strerror}")
        (bed.target / "probe").touch()
        with suppress(OSError):
            os.setxattr(bed.target / "probe", "trusted.big", bytes(5000))
            pytest.skip("this file system gives an inode more space")
        with pytest.raises(LucidError, match=r"none as large.*setfattr -x") as refused:
            bed.copy()
        assert refused.value.reason is Reason.NOT_SUPPORTED
    finally:
        subprocess.run(["umount", bed.source], check=True)


def test_a_kernel_without_a_shortcut_copies_by_hand(bed: Bed, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object) -> int:
        raise OSError(errno.ENOSYS, "not here")

    monkeypatch.setattr(os, "copy_file_range", refused)
    everything(bed.source)
    assert bed.copy().ok
    assert inventory(bed.target) == inventory(bed.source)
    assert (bed.target / "sparse").stat().st_blocks * 512 < 1024 * 1024


def test_a_worker_that_is_told_to_stop_stops(bed: Bed) -> None:
    everything(bed.source)
    stop = Stop()
    stop.event.set()
    with pytest.raises(LucidError, match="stopped"):
        bed.copy(stop=stop)


def test_two_workers_never_write_to_one_volume_at_once(bed: Bed) -> None:
    """The other one is a process of its own, as that of a pod which was removed by force and still runs."""
    everything(bed.source)
    hold = "import fcntl, os, sys; fcntl.flock(os.open(sys.argv[1], os.O_RDONLY), fcntl.LOCK_EX); print(1, flush=True)"
    command = [sys.executable, "-c", f"{hold}; sys.stdin.read()", str(bed.target)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        assert other.stdout.readline() == "1\n"
        stop = Stop()
        stop.event.set()
        with pytest.raises(CancelledError):
            bed.copy(stop=stop)
        results: list[VolumeCopyResult] = []
        copying = threading.Thread(target=lambda: results.append(bed.copy()))
        copying.start()
        copying.join(0.3)
        assert (results, list(bed.target.iterdir())) == ([], [])
        other.kill()
    copying.join(30)
    assert results[0].ok
    assert bed.differences() == 0


@pytest.mark.parametrize("code", sorted(UNKNOWN_LOCKS))
def test_a_file_system_without_locks_is_copied_to_all_the_same(
    bed: Bed, code: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unknown(descriptor: int, operation: int) -> None:
        raise OSError(code, "no locks here")

    monkeypatch.setattr(fcntl, "flock", unknown)
    (bed.source / "file").write_text("data")
    assert bed.copy().ok


def begun(bed: Bed, phase: str) -> subprocess.Popen[str]:
    """A worker in a process of its own that has told that it is in this phase."""
    order = bed.order().model_dump_json(by_alias=True)
    made = subprocess.Popen(
        [sys.executable, "-m", "lucid_storage", "volume-copy"],
        env={
            **os.environ,
            **bed.environment(),
            ORDER_VARIABLE: order,
            TERMINATION_VARIABLE: str(bed.root / "said"),
        },
        stdout=subprocess.PIPE,
        text=True,
    )
    assert made.stdout is not None
    assert any(f'"phase":"{phase}"' in line for line in made.stdout)
    return made


@pytest.mark.parametrize("phase", ["Copying", "Verifying"])
def test_what_a_killed_worker_left_is_completed_by_the_next_one(bed: Bed, phase: str) -> None:
    everything(bed.source)
    names = [f"{number:04}" for number in range(1000)]
    for name in names:
        (bed.source / name).write_text(name)
    worker = begun(bed, phase)
    try:
        if phase == "Copying":
            while not (bed.target / names[20]).exists():
                assert worker.poll() is None
    finally:
        worker.kill()
        worker.communicate()
    assert not (bed.root / "said").exists(), "it was killed before it could tell anything"
    half = len(os.listdir(bed.target))
    assert half < len(os.listdir(bed.source)) or phase == "Verifying"
    result = bed.copy()
    assert result.ok
    assert result.copied_bytes < result.bytes
    assert inventory(bed.target) == inventory(bed.source)


def test_no_name_and_no_content_of_a_user_is_in_what_the_worker_says(bed: Bed) -> None:
    (bed.source / "secret-name").write_text("secret-content")
    said = bed.root / "said"
    ran = subprocess.run(
        [sys.executable, "-m", "lucid_storage", "volume-copy"],
        env={
            **os.environ,
            **bed.environment(),
            ORDER_VARIABLE: bed.order().model_dump_json(by_alias=True),
            TERMINATION_VARIABLE: str(said),
        },
        check=True,
        capture_output=True,
        text=True,
    )
    assert json.loads(said.read_text())["ok"] is True
    assert "secret" not in ran.stdout + ran.stderr + said.read_text()
    phases = [json.loads(line)["progress"]["phase"] for line in ran.stdout.splitlines() if "progress" in line]
    assert phases[0] == "Copying"
    assert "Verifying" in phases


def test_a_folder_with_many_files_leaves_no_thread_and_no_descriptor_behind(bed: Bed) -> None:
    for number in range(400):
        (bed.source / f"{number:05}").write_text(str(number))
    before = len(os.listdir("/proc/self/fd")), threading.active_count()
    result = bed.copy()
    assert (result.ok, result.files) == (True, 400)
    assert (len(os.listdir("/proc/self/fd")), threading.active_count()) == before
