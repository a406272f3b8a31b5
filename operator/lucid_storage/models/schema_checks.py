"""What CEL cannot see: the inside of free-form documents."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping

from pydantic import JsonValue

MAX_DEPTH = 50
MAX_BYTES = 64 * 1024

JAVASCRIPT_OPERATORS = ("$where", "$function", "$accumulator")
"""MongoDB operators that run JavaScript on the server."""


def free_form_problems(document: Mapping[str, JsonValue]) -> list[str]:
    """Why the document cannot be used, one sentence each; an empty list when it can.

    Bounds: 50 levels, 64 KiB as UTF-8 JSON without blanks. Operators that run JavaScript are refused wherever
    they stand.
    """
    if _depth(document) > MAX_DEPTH:
        return [f"The document is nested more than {MAX_DEPTH} levels deep; make it flatter."]
    problems = []
    size = len(json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace"))
    if size > MAX_BYTES:
        problems.append(f"The document has {size} bytes; at most {MAX_BYTES} are allowed. Make it smaller.")
    found = set(_keys(document))
    problems.extend(
        f"{operator} runs JavaScript on the server and is refused; write the condition without it."
        for operator in JAVASCRIPT_OPERATORS
        if operator in found
    )
    return problems


def _depth(document: JsonValue | Mapping[str, JsonValue]) -> int:
    """Levels of nesting, not counted past the bound. Without recursion: the stack may be shorter."""
    depth, level = 0, [document]
    while level and depth <= MAX_DEPTH:
        level = [child for value in level for child in _children(value)]
        level = [child for child in level if isinstance(child, Mapping | list)]
        depth += 1
    return depth


def _children(value: JsonValue | Mapping[str, JsonValue]) -> list[JsonValue]:
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, list) else []


def _keys(value: JsonValue | Mapping[str, JsonValue]) -> Iterator[str]:
    if isinstance(value, Mapping):
        yield from value
    for child in _children(value):
        yield from _keys(child)
