"""docs/archive-format.md says the truth: its script opens what we write, with nothing of ours."""

import re
import subprocess
import sys
from base64 import b64encode
from pathlib import Path

import pytest
import zstandard
from archive_bed import IDENTITY, KEY, OTHER_KEY, PATH, packing, words

from lucid_storage.archive.folder import FolderStore
from lucid_storage.archive.s3_upload import GROWTH, PARTS, part_bytes
from lucid_storage.archive.streams import Identity, open_sink
from lucid_storage.errors import LucidError

DOCS = Path(__file__).parents[3] / "docs" / "archive-format.md"


def script() -> str:
    found = re.search(
        r"<!-- begin open_archive\.py.*?-->\n```python\n(.*?)```\n<!-- end", DOCS.read_text(), re.DOTALL
    )
    assert found is not None
    return found.group(1)


def opened(folder: Path, key: bytes, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Runs the script where our package cannot be imported."""
    (folder / "key").write_bytes(key)
    (folder / "open_archive.py").write_text(script())
    blocked = "import sys; sys.modules['lucid_storage'] = None; exec(open(sys.argv.pop(1)).read())"
    with (folder / PATH).open("rb") as archive:
        return subprocess.run(
            [sys.executable, "-c", blocked, folder / "open_archive.py", folder / "key", *arguments],
            stdin=archive,
            capture_output=True,
            check=False,
        )


@pytest.mark.parametrize("size", [0, 1000, 5_000_000])
@pytest.mark.parametrize("form", ["bytes", "hex", "base64"])
def test_the_script_of_the_docs_opens_an_encrypted_archive(tmp_path: Path, size: int, form: str) -> None:
    data = words(size)
    sink = open_sink(FolderStore(tmp_path), PATH, IDENTITY, packing(), KEY)
    sink.write(data)
    sink.finish()
    key = {
        "bytes": KEY.secret,
        "hex": KEY.secret.hex().encode() + b"\n",
        "base64": b64encode(KEY.secret),
    }[form]

    done = opened(tmp_path, key, IDENTITY.backup, str(IDENTITY.kind))

    assert done.returncode == 0, done.stderr
    with zstandard.ZstdDecompressor().stream_reader(done.stdout, read_across_frames=True) as reader:
        assert reader.read() == data


def test_the_script_knows_parts(tmp_path: Path) -> None:
    identity = Identity(IDENTITY.backup, IDENTITY.kind, "claim-0")
    sink = open_sink(FolderStore(tmp_path), PATH, identity, packing("none"), KEY)
    sink.write(b"data")
    sink.finish()

    assert opened(tmp_path, KEY.secret, identity.backup, str(identity.kind), "claim-0").stdout == b"data"
    assert opened(tmp_path, KEY.secret, identity.backup, str(identity.kind)).returncode != 0


@pytest.mark.parametrize("damage", ["key", "cut", "flipped", "other backup"])
def test_the_script_refuses_what_is_not_as_it_was_written(tmp_path: Path, damage: str) -> None:
    sink = open_sink(FolderStore(tmp_path), PATH, IDENTITY, packing("none"), KEY)
    sink.write(words(3_000_000))
    sink.finish()
    file, key, backup = tmp_path / PATH, KEY.secret, IDENTITY.backup
    content = bytearray(file.read_bytes())
    match damage:
        case "key":
            key = OTHER_KEY.secret
        case "cut":
            file.write_bytes(content[: 2 * 1024 * 1024])
        case "flipped":
            content[2_500_000] ^= 1
            file.write_bytes(content)
        case _:
            backup = "another"

    done = opened(tmp_path, key, backup, str(IDENTITY.kind))

    assert done.returncode != 0 and b"InvalidTag" in done.stderr


def test_the_table_of_parts_is_that_of_the_code() -> None:
    rows = re.findall(r"\| ([\d,]+) (GiB|TiB) \| ([\d,]+) MiB \|", DOCS.read_text())
    assert [int(part.replace(",", "")) for _, _, part in rows] == [size for _, size in GROWTH]
    before, total = 0, 0
    for (last, size), (told, unit, _) in zip(GROWTH, rows, strict=True):
        total += (last - before) * size
        before = last
        claimed = int(told.replace(",", "")) * (1024 if unit == "GiB" else 1024 * 1024)
        assert claimed <= total < claimed * 1.1


def test_parts_hold_5_tib_and_no_part_is_larger_than_s3_takes() -> None:
    assert sum(part_bytes(number) for number in range(1, PARTS + 1)) >= 5 * 1024**4
    assert part_bytes(1) >= 5 * 1024**2 and part_bytes(PARTS) <= 5 * 1024**3
    with pytest.raises(LucidError, match="too large for one object"):
        part_bytes(PARTS + 1)
