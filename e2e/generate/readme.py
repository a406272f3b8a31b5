"""The parts of README.md that come from elsewhere: the kinds, and what a demo printed."""

from collections.abc import Iterator

from generate.tables import table, with_region
from lucid_storage.models.kinds import KINDS

LONGEST = 8
KEPT = 4


def page(readme: str, demo: str) -> str:
    """`readme` with both regions current. `demo` is the transcript of a run."""
    readme = with_region(readme, "demo output", f"```text\n{cut(demo)}\n```")
    return with_region(readme, "kinds", _kinds())


def cut(demo: str) -> str:
    """The transcript on one screen: no signs of life of long steps, no parts of steps, and the head of long tables."""
    return "\n\n".join("\n".join(_head(_told(block))) for block in demo.strip().split("\n\n"))


def _told(block: str) -> list[str]:
    lines = block.splitlines()
    alive = {_step(line) for line in lines if line.startswith("[") and line.endswith(" ...")}
    return [line for line in lines if not (line.startswith("[") and (_untold(line) or _step(line) in alive))]


def _untold(line: str) -> bool:
    return line.endswith((" so far", " resources are Ready")) or _step(line).startswith(" Starting ")


def _step(line: str) -> str:
    return line.split("]", 1)[1]


def _head(lines: list[str]) -> Iterator[str]:
    if len(lines) <= LONGEST or lines[0].startswith(("$ make", "[")):
        yield from lines
        return
    yield from lines[:KEPT]
    yield f"... {len(lines) - KEPT} more"


def _kinds() -> str:
    rows = [
        (
            f"[{info.kind}](docs/kinds/{info.singular}.md)",
            f"`{info.short}`",
            info.summary,
        )
        for info in KINDS.values()
    ]
    return table(("kind", "short", "what it declares"), rows)
