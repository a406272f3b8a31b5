"""The integrity check of a volume: changes are somebody's, rot is nobody's."""

import json
import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from volume_trees import ODD_NAME, OLD_NS

from lucid_storage.archive.keys import Key
from lucid_storage.archive.own_file import open_draft, open_own
from lucid_storage.archive.volume_list import LONGEST_LINE
from lucid_storage.errors import ArchiveDamagedError, LucidError
from lucid_storage.jobs.volume_verify import LIST_NAME, Findings, verify_volume
from lucid_storage.models.volume_work import VolumeVerifyResult

KEY = Key("k1", bytes(range(32)))


def checked(
    root: Path, listed: Path | None = None, key: Key | None = None, *, accept: bool = False
) -> Findings:
    told: list[tuple[str, bytes]] = []
    found = Findings(told=lambda what, entry: told.append((what, entry.path)))
    verify_volume(root, listed or root / LIST_NAME, key, found, lambda: None, accept=accept)
    found.told = lambda what, entry: None
    return found


def command(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "lucid_storage", "verify", "volume", *arguments],
        capture_output=True,
        text=True,
        check=False,
    )


def test_nothing_changed_says_so(volume: Path) -> None:
    first = checked(volume)
    assert (first.since, first.files, first.intact) == (None, 10, True)
    again = checked(volume)
    assert again.since is not None
    assert (again.added, again.removed, again.changed, again.intact) == (0, 0, 0, True)


def test_what_changed_and_when(volume: Path) -> None:
    checked(volume)
    (volume / "data").chmod(0o755)
    (volume / "data" / "deep" / "new").write_text("x")
    (volume / "nothing").unlink()
    os.utime(volume / "data" / "deep" / "journal", ns=(OLD_NS, OLD_NS))  # touched only
    with (volume / "sparse").open("r+b") as file:
        file.write(b"more")
    told: list[tuple[str, bytes]] = []
    found = Findings(told=lambda what, entry: told.append((what, entry.path)))
    verify_volume(volume, volume / LIST_NAME, None, found, lambda: None)
    assert found.intact
    assert {("added", b"data/deep/new"), ("removed", b"nothing"), ("changed", b"sparse")} <= set(told)
    assert (found.added, found.removed) == (1, 1)
    assert found.last_change is not None
    assert abs(found.last_change.timestamp() - (volume / "sparse").stat().st_mtime) < 2
    assert checked(volume).changed == 0


def test_contents_whose_time_was_set_back_are_told(volume: Path) -> None:
    checked(volume)
    (volume / "data" / "deep" / "journal").write_bytes(os.urandom(300_001))
    os.utime(volume / "data" / "deep" / "journal", ns=(OLD_NS, OLD_NS))
    found = checked(volume)
    assert (found.backdated, found.corrupted) == (1, 0)
    assert "got their old time back" in found.sentence()


@contextmanager
def mounted(image: Path, at: Path) -> Iterator[None]:
    done = subprocess.run(["mount", "-o", "loop", str(image), str(at)], capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip("this machine mounts no file systems")
    try:
        yield
    finally:
        subprocess.run(["umount", str(at)], check=True)


@pytest.mark.skipif(os.getuid() != 0, reason="needs root to mount")
def test_rot_on_a_real_disk_fails_until_it_is_mended_or_accepted(tmp_path: Path) -> None:
    content, image, at = tmp_path / "content", tmp_path / "disk", tmp_path / "at"
    content.mkdir()
    at.mkdir()
    marker = b"a page that nobody writes any more" * 300
    (content / "ledger").write_bytes(marker)
    (content / "other").write_text("fine")
    subprocess.run(
        ["mke2fs", "-q", "-t", "ext4", "-d", str(content), str(image), "8M"], check=True, capture_output=True
    )
    with mounted(image, at):
        assert command(str(at)).returncode == 0
    data = image.read_bytes()
    place = data.index(marker) + 5000
    with image.open("r+b") as disk:
        disk.seek(place)
        disk.write(bytes([data[place] ^ 1]))
    with mounted(image, at):
        for _ in range(2):  # it goes on failing: rot is never taken for the new truth
            done = command(str(at), "--json")
            assert done.returncode == 1
            assert json.loads(done.stdout)["corrupted"] == 1
            assert done.stderr == "corrupted: ledger\n"
        assert command(str(at), "--accept").returncode == 0
        assert command(str(at)).returncode == 0


def test_a_list_that_rotted_or_was_changed_is_not_believed(volume: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    checked(volume, listed)
    whole = listed.read_bytes()
    for damaged in (whole[:-30], whole.replace(b'"file"', b'"fire"', 1), b"", whole + b"[]\n"):
        listed.write_bytes(damaged)
        with pytest.raises(ArchiveDamagedError):
            checked(volume, listed)
        assert listed.read_bytes() == damaged
    listed.write_bytes(whole)
    assert checked(volume, listed).intact


def test_a_list_that_is_changed_while_it_is_compared_with_is_not_believed(
    volume: Path, tmp_path: Path
) -> None:
    """Who writes to the volume could change list and files between the two readings of the list."""
    listed = tmp_path / "list"
    for n in range(500):  # more than a reader keeps in its memory
        (volume / f"many-{n}").write_text("x")
    checked(volume, listed, KEY)
    place = listed.read_bytes().rindex(b'"file"')

    def forge() -> None:
        with listed.open("r+b") as file:
            file.seek(place)
            file.write(b'"fire"')

    with pytest.raises(ArchiveDamagedError):
        verify_volume(volume, listed, KEY, Findings(), forge)
    assert b'"fire"' in listed.read_bytes(), "no new list was made of it"


@pytest.mark.parametrize("what", ["fifo", "link"])
def test_what_is_put_into_the_lists_place_after_a_look_is_neither_followed_nor_waited_for(
    tmp_path: Path, what: str
) -> None:
    aim, place = tmp_path / "aim", tmp_path / "list"
    aim.write_text("of somebody else")
    os.mkfifo(place) if what == "fifo" else place.symlink_to(aim)
    with pytest.raises(LucidError, match="is no regular file; remove it"):
        open_own(place)
    draft = open_draft(place)
    draft.close()
    assert stat.S_ISREG(place.lstat().st_mode)
    assert aim.read_text() == "of somebody else"


def test_a_line_that_would_fill_the_memory_is_damage(volume: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    listed.write_bytes(b"{" * (LONGEST_LINE + 1))
    with pytest.raises(ArchiveDamagedError):
        checked(volume, listed)


def test_with_a_key_nobody_else_can_write_the_list(volume: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    checked(volume, listed, KEY)
    with pytest.raises(LucidError, match="give it"):
        checked(volume, listed)
    with pytest.raises(ArchiveDamagedError):
        checked(volume, listed, Key("k1", bytes(32)))
    assert checked(volume, listed, KEY).intact


def test_a_check_that_is_broken_off_leaves_the_last_list(volume: Path, tmp_path: Path) -> None:
    listed = tmp_path / "list"
    checked(volume, listed)
    before = listed.read_bytes()
    calls = iter(range(5))

    def stop() -> None:
        if next(calls, None) is None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_volume(volume, listed, None, Findings(), stop)
    assert listed.read_bytes() == before
    assert [p.name for p in tmp_path.iterdir() if p.name.startswith("list")] == ["list"]


def test_at_a_prompt_names_are_shown_and_not_obeyed(volume: Path, tmp_path: Path) -> None:
    state = str(tmp_path / "list")
    assert command(str(volume), "--state", state).returncode == 0
    Path(os.fsdecode(os.fsencode(volume) + b"/" + ODD_NAME)).unlink()
    done = command(str(volume), "--state", state, "--names")
    assert done.returncode == 0
    assert done.stderr == "removed: odd \\udcff\\n name\n"
    assert "1 removed" in done.stdout
    assert command(str(tmp_path / "nowhere")).returncode == 1
    assert command().returncode == 2


def test_a_worker_tells_counts_and_no_names(volume: Path, tmp_path: Path) -> None:
    owner = {"cluster": "c", "namespace": "n", "name": "v", "uid": "u", "specHash": ""}
    order = {"run": "r", "owner": owner, "deadlineSeconds": 60, "folder": "volume"}
    environ = {
        **os.environ,
        "LUCID_ORDER": json.dumps(order),
        "LUCID_VOLUMES": str(tmp_path),
        "LUCID_TERMINATION_PATH": str(tmp_path / "told"),
    }
    done = subprocess.run(
        [sys.executable, "-m", "lucid_storage", "volume-verify"],
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    told = VolumeVerifyResult.model_validate_json((tmp_path / "told").read_text())
    assert (told.ok, told.intact, told.files, told.since) == (True, True, 10, None)
    assert "journal" not in done.stdout + done.stderr
    assert (volume / LIST_NAME).exists()


@pytest.mark.parametrize("seconds", [1 << 34, -(1 << 31)])
def test_a_time_that_users_set_far_away_breaks_no_check(volume: Path, tmp_path: Path, seconds: int) -> None:
    listed = tmp_path / "list"
    checked(volume, listed)
    odd = volume / "odd-time"
    odd.write_text("x")
    os.utime(odd, (seconds, seconds))
    assert (checked(volume, listed).added, checked(volume, listed).added) == (1, 0)
