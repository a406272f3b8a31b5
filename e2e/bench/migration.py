"""The copy of a volume beside `cp -a`, in turns on the same files: `python -m bench.migration [MIB]`.

Both write out to the disk before they end. The second row does what a migration waits for, comparison included; its
peer is what a person would do by hand: cp, then checksums of both sides. A whole migration by the operator follows,
on a node of our own, which needs root (`bench.volume_moves`).
"""

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median
from time import perf_counter

from bench import volume_moves
from bench.figures import MIB, Figure, machine, table
from lucid_storage.jobs.volume_copy import write_out
from lucid_storage.jobs.volume_copy_compare import Comparison
from lucid_storage.jobs.volume_copy_mirror import Mirror

SIZE_MIB = 1024
TURNS = 3
BAR = 1.3
SMALL_BYTES, SMALL_SHARE = 64 * 1024, 8
"""An eighth of the data are files of this size, as chunks are; the rest are large ones, as a store's are."""
LARGE_BYTES = 64 * MIB


def rows(mib: int = SIZE_MIB) -> list[Figure]:
    """The copy alone, with the comparison, and a whole migration where a node can be had."""
    figures = _copies(mib)
    if os.geteuid() == 0:
        return [*figures, *volume_moves.rows(mib)]
    print("A whole migration is not measured: a node of our own needs root.", file=sys.stderr)
    return figures


def _copies(mib: int) -> list[Figure]:
    with tempfile.TemporaryDirectory(prefix="lucid-bench-", dir="/var/tmp") as folder:
        root = Path(folder)
        source, target = root / "source", root / "target"
        files = _fill(source, mib)
        subprocess.run(["cp", "-a", f"{source}/.", root / "warm"], check=True)
        shutil.rmtree(root / "warm")
        times: dict[str, list[float]] = {}
        for _ in range(TURNS):
            for name, run in (("cp", _cp), ("by hand", _by_hand), ("copy", _copy), ("whole", _whole)):
                times.setdefault(name, []).append(_timed(run, source, target))
        comparing = _timed_alone(source, target)
    took = {name: median(seconds) for name, seconds in times.items()}
    note = (
        f"median of {TURNS}, {files} files, {mib} MiB; written out; comparing takes {comparing:.2f} s of it"
    )
    return [
        _figure("volume, copy", mib, took["copy"], took["cp"], "cp -a", ""),
        _figure(
            "volume, copy and comparison", mib, took["whole"], took["by hand"], "cp -a, sha256sum twice", note
        ),
    ]


def _figure(row: str, mib: int, ours: float, peer: float, peer_name: str, note: str) -> Figure:
    told = f"{ours:.2f} s, {mib / ours:.0f} MiB/s"
    ratio = ours / peer
    return Figure(row, told, f"{peer:.2f} s, {peer_name}", ratio, f"at most {BAR} times", ratio <= BAR, note)


def _fill(folder: Path, mib: int) -> int:
    draw = random.Random(1)
    (folder / "small").mkdir(parents=True)
    small = mib * MIB // SMALL_SHARE // SMALL_BYTES
    for number in range(small):
        (folder / "small" / f"{number:06}").write_bytes(draw.randbytes(SMALL_BYTES))
    large = max(1, (mib * MIB - small * SMALL_BYTES) // LARGE_BYTES)
    for number in range(large):
        (folder / f"large-{number}").write_bytes(draw.randbytes(LARGE_BYTES))
    write_out(os.fsencode(folder))
    return small + large


def _timed(run: Callable[[Path, Path], None], source: Path, target: Path) -> float:
    target.mkdir()
    begun = perf_counter()
    run(source, target)
    took = perf_counter() - begun
    shutil.rmtree(target)
    return took


def _timed_alone(source: Path, target: Path) -> float:
    target.mkdir()
    _copy(source, target)
    begun = perf_counter()
    _compare(source, target)
    return perf_counter() - begun


def _cp(source: Path, target: Path) -> None:
    subprocess.run(["cp", "-a", f"{source}/.", target], check=True)
    write_out(os.fsencode(target))


def _by_hand(source: Path, target: Path) -> None:
    _cp(source, target)
    command = "find . -type f -print0 | xargs -0 sha256sum | sort > /dev/null"
    for folder in (source, target):
        subprocess.run(["sh", "-c", command], cwd=folder, check=True)


def _copy(source: Path, target: Path) -> None:
    Mirror(os.fsencode(source), os.fsencode(target), lambda size: None).run()
    write_out(os.fsencode(target))


def _compare(source: Path, target: Path) -> None:
    found = Comparison(os.fsencode(source), os.fsencode(target), lambda size: None).run()
    assert found.differences == 0


def _whole(source: Path, target: Path) -> None:
    _copy(source, target)
    _compare(source, target)


if __name__ == "__main__":
    print(table(rows(int(sys.argv[1]) if len(sys.argv) > 1 else SIZE_MIB)))
    print(f"\nMachine: {', '.join(f'{key} {value}' for key, value in machine().items())}")
