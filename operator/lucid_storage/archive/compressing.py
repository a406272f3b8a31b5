"""Compression of a stream, piece by piece: zstd, gzip or none.

A zstd stream is a row of frames (RFC 8878), each of at most FRAME_BYTES plain bytes, so that a reader's memory is
bounded however well the data were compressed. The last frame is an empty one: it is how a reader knows that nothing was
cut. Any zstd reads such a row. A gzip stream is one member (RFC 1952) with its own end. Plain data have no end of their
own; it is the encryption or the checksum in the manifest that tells.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from typing import Final, Protocol

import zstandard

from lucid_storage.errors import ArchiveDamagedError
from lucid_storage.models.storage import CompressionAlgorithm

ZSTD_LEVEL: Final = 1
ZSTD_MIN_MATCH: Final = 6
"""Of level 1, whose own is 7: one in a hundred smaller at the same speed, of documents and of Redis's data."""
GZIP_LEVEL: Final = 1
FRAME_BYTES: Final = 2 * 1024 * 1024
"""Plain bytes of one zstd frame."""
OUTPUT_BYTES: Final = 1024 * 1024
_GZIP = 16 + zlib.MAX_WBITS  # with the header and checksum of gzip

Buffer = bytes | bytearray | memoryview


class Compressor(Protocol):
    """Compresses one stream."""

    def write(self, data: Buffer) -> bytes:
        """What is ready to be stored, which may be nothing."""

    def finish(self) -> bytes:
        """The rest, with the mark of the end."""


def compressor(algorithm: CompressionAlgorithm, level: int | None = None) -> Compressor:
    """For one stream. `level` None is the fast one that was measured to be worth it (docs/decisions/archives.md)."""
    match algorithm:
        case CompressionAlgorithm.ZSTD:
            return _Zstd(ZSTD_LEVEL if level is None else level)
        case CompressionAlgorithm.GZIP:
            return _Gzip(GZIP_LEVEL if level is None else level)
        case CompressionAlgorithm.NONE:
            return _Plain()


def decompressed(pieces: Iterable[bytes], algorithm: CompressionAlgorithm) -> Iterator[bytes]:
    """The plain pieces of a compressed stream. Raises ArchiveDamagedError, also when the end is missing."""
    match algorithm:
        case CompressionAlgorithm.ZSTD:
            return _from_zstd(pieces)
        case CompressionAlgorithm.GZIP:
            return _from_gzip(pieces)
        case CompressionAlgorithm.NONE:
            return iter(pieces)


class _Zstd:
    def __init__(self, level: int) -> None:
        parameters = zstandard.ZstdCompressionParameters.from_level(
            level,
            source_size=FRAME_BYTES,
            write_checksum=True,
            write_content_size=True,
            **({"min_match": ZSTD_MIN_MATCH} if level == ZSTD_LEVEL else {}),
        )
        self._stream = zstandard.ZstdCompressor(compression_params=parameters)
        self._plain = bytearray()

    def write(self, data: Buffer) -> bytes:
        self._plain += data
        frames: list[bytes] = []
        while len(self._plain) >= FRAME_BYTES:
            frames.append(self._frame(FRAME_BYTES))
        return frames[0] if len(frames) == 1 else b"".join(frames)

    def finish(self) -> bytes:
        rest = self._frame(len(self._plain)) if self._plain else b""
        return rest + self._stream.compress(b"")

    def _frame(self, size: int) -> bytes:
        with memoryview(self._plain) as plain, plain[:size] as part:
            frame = self._stream.compress(part)
        del self._plain[:size]
        return frame


class _Gzip:
    def __init__(self, level: int) -> None:
        self._stream = zlib.compressobj(level, zlib.DEFLATED, _GZIP)

    def write(self, data: Buffer) -> bytes:
        return self._stream.compress(data)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Plain:
    def write(self, data: Buffer) -> bytes:
        return bytes(data)

    def finish(self) -> bytes:
        return b""


def _from_zstd(pieces: Iterable[bytes]) -> Iterator[bytes]:
    opener = zstandard.ZstdDecompressor(max_window_size=FRAME_BYTES)
    frame, size, complete = opener.decompressobj(), 0, False
    for piece in pieces:
        rest = piece
        while rest:
            if complete:
                raise _more()
            try:
                plain = frame.decompress(rest)
            except zstandard.ZstdError as error:
                raise _damaged(error) from None
            rest, size = b"", size + len(plain)
            if plain:
                yield plain
            if frame.eof:
                rest, complete = frame.unused_data, size == 0
                frame, size = opener.decompressobj(), 0
    if not complete:
        raise _cut()


def _from_gzip(pieces: Iterable[bytes]) -> Iterator[bytes]:
    stream = zlib.decompressobj(_GZIP)
    for piece in pieces:
        if stream.eof:
            raise _more()
        rest = piece
        while rest:
            try:
                plain = stream.decompress(rest, OUTPUT_BYTES)
            except zlib.error as error:
                raise _damaged(error) from None
            rest = stream.unconsumed_tail
            if plain:
                yield plain
    if not stream.eof:
        raise _cut()
    if stream.unused_data:
        raise _more()


def _damaged(error: Exception) -> ArchiveDamagedError:
    return ArchiveDamagedError(f"The compressed data are damaged: {error}.")


def _cut() -> ArchiveDamagedError:
    return ArchiveDamagedError("The compressed data were cut; their end is missing.")


def _more() -> ArchiveDamagedError:
    return ArchiveDamagedError("Something follows the end of the compressed data.")
