"""Compression: read by stock tools, in bounded memory, and never taken for whole when it was cut."""

import gzip
import shutil
import subprocess
import tracemalloc
from contextlib import suppress
from pathlib import Path

import pytest
import zstandard
from archive_bed import words
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.archive.compressing import FRAME_BYTES, compressor, decompressed
from lucid_storage.errors import ArchiveDamagedError
from lucid_storage.models.storage import CompressionAlgorithm

ZSTD, GZIP, NONE = CompressionAlgorithm.ZSTD, CompressionAlgorithm.GZIP, CompressionAlgorithm.NONE


def pack(
    data: bytes, algorithm: CompressionAlgorithm, level: int | None = None, step: int = 100_000
) -> bytes:
    stream = compressor(algorithm, level)
    parts = [stream.write(data[start : start + step]) for start in range(0, len(data), step)]
    return b"".join([*parts, stream.finish()])


def unpack(packed: bytes, algorithm: CompressionAlgorithm, step: int = 65_536) -> bytes:
    pieces = (packed[start : start + step] for start in range(0, len(packed), step))
    return b"".join(decompressed(pieces, algorithm))


@pytest.mark.parametrize("algorithm", [ZSTD, GZIP, NONE])
@pytest.mark.parametrize("size", [0, 1, 100_000, FRAME_BYTES - 1, FRAME_BYTES, FRAME_BYTES + 1, 5_000_000])
def test_what_is_compressed_comes_back(algorithm: CompressionAlgorithm, size: int) -> None:
    data = words(size)

    for step in (1_000, 65_536, 10_000_000):
        assert unpack(pack(data, algorithm), algorithm, step) == data


@pytest.mark.parametrize(("algorithm", "levels"), [(ZSTD, [1, 19]), (GZIP, [1, 9])])
def test_levels_are_used(algorithm: CompressionAlgorithm, levels: list[int]) -> None:
    data = words(1_000_000)

    sizes = [len(pack(data, algorithm, level)) for level in levels]

    assert sizes == sorted(sizes, reverse=True) and sizes[0] > sizes[-1]


def test_stock_tools_read_it(tmp_path: Path) -> None:
    data = words(5_000_000)

    assert gzip.decompress(pack(data, GZIP)) == data
    with zstandard.ZstdDecompressor().stream_reader(pack(data, ZSTD), read_across_frames=True) as reader:
        assert reader.read() == data
    if shutil.which("zstd"):
        (tmp_path / "a.zst").write_bytes(pack(data, ZSTD))
        subprocess.run(["zstd", "-dq", tmp_path / "a.zst"], check=True)
        assert (tmp_path / "a").read_bytes() == data


@pytest.mark.parametrize("algorithm", [ZSTD, GZIP])
def test_a_stream_cut_at_any_byte_is_refused(algorithm: CompressionAlgorithm) -> None:
    packed = pack(words(3000), algorithm)

    for length in range(len(packed)):
        with pytest.raises(ArchiveDamagedError):
            unpack(packed[:length], algorithm)


def test_a_stream_cut_between_two_frames_is_refused() -> None:
    packed = pack(words(2 * FRAME_BYTES), ZSTD)
    first = zstandard.ZstdDecompressor().decompressobj()
    first.decompress(packed)
    ends = [len(packed) - len(first.unused_data)]
    second = zstandard.ZstdDecompressor().decompressobj()
    second.decompress(first.unused_data)
    ends.append(len(packed) - len(second.unused_data))

    for end in ends:
        with pytest.raises(ArchiveDamagedError, match="cut"):
            unpack(packed[:end], ZSTD)


@pytest.mark.parametrize("algorithm", [ZSTD, GZIP])
@given(position=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7))
def test_a_flipped_bit_never_gives_other_data(
    algorithm: CompressionAlgorithm, position: float, bit: int
) -> None:
    data = words(2000)
    packed = bytearray(pack(data, algorithm))
    packed[int(position * len(packed))] ^= 1 << bit

    with suppress(ArchiveDamagedError):
        assert unpack(bytes(packed), algorithm) == data, "a bit of the header that says nothing of the data"


@pytest.mark.parametrize("algorithm", [ZSTD, GZIP])
@pytest.mark.parametrize("more", [b"\0", b"more"])
def test_bytes_after_the_end_are_refused(algorithm: CompressionAlgorithm, more: bytes) -> None:
    packed = pack(words(3000), algorithm)

    for step in (len(packed), 65_536):
        with pytest.raises(ArchiveDamagedError):
            unpack(packed + more, algorithm, step)


@pytest.mark.parametrize("algorithm", [ZSTD, GZIP])
def test_data_that_compress_very_well_need_no_more_memory(algorithm: CompressionAlgorithm) -> None:
    stream, block = compressor(algorithm), bytes(4 * 1024 * 1024)
    packed = b"".join([*(stream.write(block) for _ in range(64)), stream.finish()])
    assert len(packed) < 2 * 1024 * 1024

    tracemalloc.start()
    total = sum(len(piece) for piece in decompressed([packed], algorithm))
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert total == 256 * 1024 * 1024
    assert peak < 16 * 1024 * 1024
