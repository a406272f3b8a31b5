"""What a row says, and how rows are printed."""

import json
import os
import platform
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from testbed.errors import TestbedError

HEADINGS = ("row", "ours", "peer or limit", "ratio", "bar", "ok")
MIB = 1024 * 1024


@dataclass(frozen=True)
class Figure:
    """One line of the table. `ratio` is ours to the peer or limit, None where the limit is 0."""

    row: str
    ours: str
    peer: str
    ratio: float | None
    bar: str
    ok: bool
    note: str = ""
    """What else was seen, for a reader who asks why."""


def table(figures: Sequence[Figure]) -> str:
    """Columns for people; the notes below."""
    lines = [HEADINGS, *(_cells(figure) for figure in figures)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    printed = [
        " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
    ]
    printed.insert(1, "-|-".join("-" * width for width in widths))
    notes = [f"{figure.row}: {figure.note}" for figure in figures if figure.note]
    return "\n".join([*(line.rstrip() for line in printed), "", *notes])


def document(figures: Sequence[Figure]) -> str:
    """The same as JSON, with date and machine."""
    return json.dumps(
        {
            "date": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
            "rows": [asdict(figure) for figure in figures],
        },
        indent=1,
    )


def machine() -> dict[str, object]:
    """What the figures were measured on, and how busy it was."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": os.cpu_count(),
        "memoryGiB": round(memory / 1024**3),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "load": round(os.getloadavg()[0], 1),
    }


def _cells(figure: Figure) -> tuple[str, ...]:
    ratio = "" if figure.ratio is None else f"{figure.ratio:.2f}"
    return (figure.row, figure.ours, figure.peer, ratio, figure.bar, "yes" if figure.ok else "NO")


def peak_bytes(pid: int) -> int:
    """The kernel's own high-water mark since the process began; what wait4 tells counts the parent's too."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM")), 0)


def printed(rows: Callable[[int], Sequence[Figure]], size_mib: int) -> int:
    """Measures with the size that the command line gives, else this one; returns the exit status."""
    try:
        figures = rows(int(sys.argv[1]) if len(sys.argv) > 1 else size_mib)
    except TestbedError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(table(figures))
    print(f"\nMachine: {', '.join(f'{key} {value}' for key, value in machine().items())}")
    return 0 if all(figure.ok for figure in figures) else 1
