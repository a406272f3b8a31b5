"""Members of a JSON object as the bytes they came in, exactly: no number, key or blank is written anew."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping

_BLANK = re.compile(r"[ \t\n\r]*")


class NotJsonError(ValueError):
    """The text is no JSON object."""


def members(text: str, at: int = 0) -> dict[str, str]:
    """The members of the object that begins at `at`, each as its text. A second member of one name is refused.

    Raises NotJsonError.
    """
    return _members(text, at)


def member(text: str, *path: str) -> str:
    """The text at a path of names; "{}" where it is absent."""
    for name in path:
        text = members(text).get(name, "{}")
    return text


def joined(parts: Mapping[str, str]) -> str:
    """An object of members that are JSON texts already."""
    return "{" + ",".join(f"{json.dumps(name)}:{text}" for name, text in parts.items()) + "}"


def elements(text: str, at: int = 0) -> list[str]:
    """The elements of the array that begins at `at`, each as its text. Raises NotJsonError."""
    return [text[start:end] for start, end, _ in _walk(text, at, "[]", named=False)]


def _members(text: str, at: int) -> dict[str, str]:
    found: dict[str, str] = {}
    for start, end, name in _walk(text, at, "{}", named=True):
        if name in found:
            raise NotJsonError
        found[name] = text[start:end]
    return found


# Floats and integers are not converted: a long one would cost time, or be refused by Python.
_SKIPPING = json.JSONDecoder(parse_float=str, parse_int=str)


def _walk(text: str, at: int, signs: str, *, named: bool) -> Iterator[tuple[int, int, str]]:
    """Start, end and name of each member of an object, or of each element of an array (without names)."""
    at = _after(text, at, signs[0])
    if text[at : at + 1] == signs[1]:
        return
    while True:
        name = ""
        try:
            if named:
                if text[at : at + 1] != '"':
                    raise NotJsonError
                name, at = _SKIPPING.raw_decode(text, at)
                at = _after(text, at, ":")
            start = at
            _, at = _SKIPPING.raw_decode(text, at)
        except (ValueError, RecursionError) as error:
            raise NotJsonError from error
        yield start, at, name
        at = _skipped(text, at)
        if text[at : at + 1] == signs[1]:
            return
        at = _after(text, at, ",")


def _after(text: str, at: int, sign: str) -> int:
    at = _skipped(text, at)
    if text[at : at + 1] != sign:
        raise NotJsonError
    return _skipped(text, at + 1)


def _skipped(text: str, at: int) -> int:
    blank = _BLANK.match(text, at)
    return blank.end() if blank else at
