"""`python -m bench [ROW ...]`: start servers, measure, print the table. Exit status 1 when a bar is missed."""

import argparse
import asyncio
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import (
    archive,
    backup,
    drift,
    elastic_backup,
    memory,
    migration,
    redis_backup,
    restart,
    restore,
    steady,
    storm,
)
from bench.bed import Bed, BenchError, bed
from bench.figures import Figure, document, machine, table
from testbed.errors import TestbedError
from testbed.progress import Progress

OPERATOR = ("memory", "storm", "steady", "restart", "drift")
"""Rows that share one operator and its population."""
WORKERS: dict[str, Callable[[], list[Figure]]] = {
    "archive": archive.rows,
    "backup": backup.rows,
    "redis": redis_backup.rows,
    "elasticsearch": elastic_backup.rows,
    "restore": restore.rows,
    "migration": migration.rows,
}
"""Rows of the workers, each with servers of its own."""
ROWS = (*OPERATOR, *WORKERS)
STEADY_SECONDS, STEADY_QUICK = 600.0, 120.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns the exit status."""
    options = _parser().parse_args(arguments)
    progress = Progress()
    try:
        figures = asyncio.run(_measure(options, progress)) if _chosen(options, OPERATOR) else []
        for name in _chosen(options, tuple(WORKERS)):
            with progress.step(f"Row {name}"):
                figures += WORKERS[name]()
    except (BenchError, TestbedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    if options.json is not None:
        options.json.write_text(document(figures) + "\n")
    print(table(figures))
    print(f"\nMachine: {', '.join(f'{key} {value}' for key, value in machine().items())}")
    return 0 if all(figure.ok for figure in figures) else 1


def _chosen(options: argparse.Namespace, rows: tuple[str, ...]) -> list[str]:
    return [name for name in rows if name in (options.rows or ROWS)]


async def _measure(options: argparse.Namespace, progress: Progress) -> list[Figure]:
    """One population grows through all rows, so that it is made only once."""
    chosen = options.rows or ROWS
    seconds = options.steady_seconds or (STEADY_QUICK if options.quick else STEADY_SECONDS)
    figures: list[Figure] = []
    async with bed(progress) as made:
        idle_bytes = 0
        if "memory" in chosen:
            with progress.step("Memory of an idle operator"):
                figure, idle_bytes = await memory.idle(made)
                figures.append(figure)
        if "storm" in chosen:
            with progress.step("Create storms"):
                figures += await storm.rows(made, times=3)
        if "steady" in chosen:
            with progress.step(f"Steady state for {seconds:.0f} s"):
                figures += await steady.rows(made, seconds)
        if "restart" in chosen:
            with progress.step("Restarts"):
                figures += await restart.rows(made)
        if "drift" in chosen:
            with progress.step("Drift"):
                figures += await drift.rows(made)
        if "memory" in chosen:
            with progress.step("Memory of many resources"):
                figures += await memory.each(made, idle_bytes)
        _complain(made, figures)
    return figures


def _complain(made: Bed, figures: list[Figure]) -> None:
    """Show the operator's log where a bar was missed."""
    if not all(figure.ok for figure in figures):
        print(made.operator.log[-4000:], file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("rows", nargs="*", choices=[*ROWS, []], metavar="ROW", help=f"of {', '.join(ROWS)}")
    parser.add_argument("--quick", action="store_true", help="steady state for 2 minutes instead of 10")
    parser.add_argument("--steady-seconds", type=float, help="steady state for this long")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there too")
    return parser


if __name__ == "__main__":
    sys.exit(main())
