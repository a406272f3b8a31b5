"""Long lists in manifests, kept packed in memory until somebody looks at them.

A worker lists all manifests of its chain, and its memory is that of a small machine: a month of full backups of 5,000
collections has 150,000 rows, and of slices every ten minutes still more. A row is a kilobyte as an object, and some
bytes here.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, TypeVar, overload

from pydantic import BaseModel, SerializationInfo

R = TypeVar("R", bound=BaseModel)

_LEVEL = 1


class Rows(Sequence[R], Generic[R]):
    """Records of one kind, equal to a tuple of them. Each iteration unpacks them anew, one at a time."""

    __slots__ = ("_count", "_kind", "_packed")

    def __init__(self, kind: type[R], rows: Iterable[R]) -> None:
        lines = [row.model_dump_json(by_alias=True, exclude_defaults=True) for row in rows]
        self._kind = kind
        self._count = len(lines)
        self._packed = zlib.compress("\n".join(lines).encode(), _LEVEL)

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[R]:
        if self._count:
            for line in zlib.decompress(self._packed).split(b"\n"):
                yield self._kind.model_validate_json(line)

    @overload
    def __getitem__(self, index: int) -> R: ...

    @overload
    def __getitem__(self, index: slice) -> tuple[R, ...]: ...

    def __getitem__(self, index: int | slice) -> R | tuple[R, ...]:
        return tuple(self)[index]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Sequence) and len(other) == len(self) and tuple(other) == tuple(self)

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return repr(tuple(self))


def packer(kind: type[R]) -> Callable[[Any], Sequence[R]]:
    """The validator of such a list. It raises ValueError for what is none, and a ValidationError is one."""

    def pack(given: Any) -> Sequence[R]:
        if isinstance(given, Rows):
            return given
        if not isinstance(given, list | tuple):
            raise ValueError("a list is expected")  # noqa: TRY004  pydantic makes a ValidationError of this one
        return Rows(kind, (kind.model_validate(row) for row in given)) if given else ()

    return pack


def unpacked(rows: Sequence[BaseModel], info: SerializationInfo) -> list[dict[str, Any]]:
    """The serializer of such a list: as a plain tuple of records would be written."""
    return [
        row.model_dump(
            mode=info.mode,
            by_alias=bool(info.by_alias),
            exclude_none=info.exclude_none,
            exclude_defaults=info.exclude_defaults,
        )
        for row in rows
    ]
