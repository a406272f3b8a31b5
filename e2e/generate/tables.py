"""Markdown tables and the marked regions of a page that they are put into."""

import re
from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', '&#124;') for cell in line)} |" for line in lines)


def with_region(page: str, name: str, content: str) -> str:
    """The page with `content` between `<!-- name -->` and `<!-- end of name -->`.

    Raises ValueError when the page has not exactly one such region.
    """
    begin, end = f"<!-- {name} -->", f"<!-- end of {name} -->"
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    if len(pattern.findall(page)) != 1:
        raise ValueError(f"The page needs {begin} and {end}, once each and in this order.")
    return pattern.sub(lambda _: f"{begin}\n{content.strip()}\n{end}", page)
