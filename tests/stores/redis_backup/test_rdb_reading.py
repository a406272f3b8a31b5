"""The reader of data sets against what a real Redis wrote, and against damage."""

from __future__ import annotations

import io
import random
import subprocess
import tracemalloc
import uuid
from pathlib import Path
from typing import Any

import anycrc
import pytest

from lucid_storage.errors import ArchiveDamagedError, Reason
from lucid_storage.stores.redis.rdb.dataset import Contents, DataSet, Key
from lucid_storage.stores.redis.rdb.lzf import decompressed
from lucid_storage.stores.redis.rdb.reader import RdbError
from stores.redis_backup.redis_samples import LIBRARY, OPTIONS, dumped, populate
from testbed.stores.redis import Redis

CRC = anycrc.Model("CRC64-REDIS")


def keys_of(data: bytes, *, step: int = 1 << 20) -> dict[Key, bytes]:
    """All keys with what RESTORE takes, read in pieces of at most `step` bytes."""
    source = io.BytesIO(data)
    dataset = DataSet(lambda size: source.read(min(size, step)))
    found = {}
    while (key := dataset.next_key()) is not None:
        found[key] = b"".join(dataset.value()) if key.module is None else b""
    return found


def contents_of(data: bytes, *, step: int = 1 << 20) -> Contents:
    source = io.BytesIO(data)
    return DataSet(lambda size: source.read(min(size, step))).count()


def file_of(body: bytes, version: bytes = b"0010", crc: bytes | None = None) -> bytes:
    """A whole file around the parts of `body`."""
    data = b"REDIS" + version + body + b"\xff"
    return data + (CRC.calc(data).to_bytes(8, "little") if crc is None else crc)


@pytest.fixture(scope="module")
def saved(testbed_run: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[bytes, dict[Any, Any]]:
    """The file that a real server saved, and its keys as the server itself dumps them."""
    server = Redis(testbed_run.instance, f"redis-saved-{uuid.uuid4().hex[:8]}", options=OPTIONS)
    server.start()
    try:
        populate(server)
        path = tmp_path_factory.mktemp("rdb") / "cli.rdb"
        subprocess.run(
            ["redis-cli", "-p", str(server.port), "--rdb", path], check=True, capture_output=True, timeout=60
        )
        with server.client() as client:
            return path.read_bytes(), dumped(client)
    finally:
        server.kill()


@pytest.mark.redis
def test_every_type_is_read_as_the_server_itself_dumps_it(saved: Any) -> None:
    data, expected = saved
    found = {(key.database, key.name): (value, key.expires_at or -1) for key, value in keys_of(data).items()}
    assert found == expected
    assert {database for database, _ in found} == {0, 3, 15}


@pytest.mark.redis
@pytest.mark.parametrize("step", [1, 7, 100, 4096])
def test_it_does_not_matter_in_what_pieces_the_bytes_come(saved: Any, step: int) -> None:
    data, expected = saved
    counted = contents_of(data, step=step)
    assert counted.total == len(expected)
    assert counted == contents_of(data)
    if step > 1:
        assert keys_of(data, step=step) == keys_of(data)


@pytest.mark.redis
def test_versions_functions_and_keys_by_database_are_told(saved: Any) -> None:
    data, expected = saved
    libraries: list[bytes] = []
    dataset = DataSet(io.BytesIO(data).read, libraries.append)
    contents = dataset.count()
    assert (contents.version, contents.redis_version[:2], contents.checksummed) == (10, "7.", True)
    assert libraries == [LIBRARY.encode()]
    assert contents.keys == {n: sum(1 for database, _ in expected if database == n) for n in (0, 3, 15)}


@pytest.mark.redis
@pytest.mark.parametrize("step", [7, 4096])
def test_a_value_is_measured_as_long_as_it_is_read(saved: Any, step: int) -> None:
    data, _ = saved
    source = io.BytesIO(data)
    dataset = DataSet(lambda size: source.read(min(size, step)))
    sizes = {}
    while (key := dataset.next_key()) is not None:
        sizes[key] = dataset.measure()
    assert {key: size.payload for key, size in sizes.items()} == {
        key: len(value) for key, value in keys_of(data).items()
    }
    assert all(size.plain >= size.payload - 11 for size in sizes.values())


@pytest.mark.redis
def test_what_a_value_takes_unpacked_is_told(private_redis: Any) -> None:
    server = private_redis(options={"list-max-listpack-size": "-5"})
    with server.client() as client:
        client.set("string", "x" * 50_000)
        client.rpush("list", *["x" * 500] * 100)
        client.set("number", 12345)
        for key, least, most in (("string", 50_000, 50_010), ("list", 0, 5000), ("number", 3, 3)):
            dumped = client.execute_command("DUMP", key)
            body = b"\xfe\x00" + dumped[:1] + b"\x01k" + dumped[1:-10]
            dataset = DataSet(io.BytesIO(file_of(body)).read)
            assert dataset.next_key() == Key(0, b"k", None)
            assert least <= dataset.measure().plain <= most
            assert dataset.next_key() is None


@pytest.mark.redis
def test_names_can_be_read_and_values_passed_over(saved: Any) -> None:
    data, expected = saved
    dataset = DataSet(io.BytesIO(data).read)
    names = []
    while (key := dataset.next_key()) is not None:
        names.append((key.database, key.name))
    assert sorted(names) == sorted(expected)


@pytest.mark.redis
def test_a_file_that_is_cut_anywhere_is_refused(saved: Any) -> None:
    data, _ = saved
    some = random.Random(1)
    places = {*range(300), *range(len(data) - 300, len(data)), *some.choices(range(len(data)), k=60)}
    for size in sorted(places):
        with pytest.raises(ArchiveDamagedError):
            contents_of(data[:size])


@pytest.mark.redis
def test_a_file_with_any_bit_flipped_is_refused(saved: Any) -> None:
    data, _ = saved
    some = random.Random(2)
    for place in [*range(120), *range(len(data) - 20, len(data)), *some.choices(range(len(data)), k=60)]:
        spoilt = bytearray(data)
        spoilt[place] ^= 1 << some.randrange(8)
        with pytest.raises(RdbError):
            contents_of(bytes(spoilt))


@pytest.mark.redis
def test_what_follows_the_end_is_refused(saved: Any) -> None:
    with pytest.raises(ArchiveDamagedError, match="something follows its end"):
        contents_of(saved[0] + b"\n")


@pytest.mark.parametrize(
    ("version", "reason"),
    [
        (b"0013", Reason.NOT_SUPPORTED),
        (b"0080", Reason.NOT_SUPPORTED),
        (b"0006", Reason.NOT_SUPPORTED),
        (b"001x", Reason.ARCHIVE_DAMAGED),
    ],
)
def test_other_versions_are_refused_by_name(version: bytes, reason: Reason) -> None:
    with pytest.raises(RdbError) as refused:
        contents_of(file_of(b"", version))
    assert refused.value.reason is reason


@pytest.mark.parametrize("version", [b"0009", b"0010", b"0011", b"0012"])
def test_an_empty_data_set_is_one(version: bytes) -> None:
    contents = contents_of(file_of(b"", version))
    assert (contents.total, contents.version) == (0, int(version))


def test_a_server_without_checksums_is_believed_by_form_and_said_so() -> None:
    contents = contents_of(file_of(b"\xfe\x00\x00\x01k\x01v", crc=bytes(8)))
    assert (contents.total, contents.checksummed) == (1, False)


STREAM_HEAD = b"\x01" + b"\x10" + bytes(16) + b"\x03abc" + b"\x01\x05\x01"
STREAM_MORE = b"\x05\x01\x00\x00\x01"
PENDING = b"\x01" + bytes(16) + bytes(8) + b"\x02"
CONSUMERS = b"\x01\x03bob"
LONG = b"\x81\x00\x00\x00\x00\x00\x00\x00\x02"
MODULE_ID = b"\x81" + bytes(7) + b"\x01"
MODULE_PARTS = b"\x02\x05" + b"\x01\x07" + b"\x03" + bytes(4) + b"\x04" + bytes(8) + b"\x05\x02hi" + b"\x00"
VALUES: dict[str, tuple[int, bytes]] = {
    "list": (1, b"\x02\x01a\xc1\x00\x01"),
    "set": (2, LONG + b"\x01a\x01b"),
    "sorted set with scores as text": (3, b"\x04\x01a\x03001\x01b\xfd\x01c\xfe\x01d\xff"),
    "hash": (4, b"\x01\x01f\x80\x00\x00\x00\x02vv"),
    "sorted set": (5, b"\x01\x01a" + bytes(8)),
    "hash as zipmap": (9, b"\x02\x00\xff"),
    "list as ziplist": (10, b"\x01x"),
    "sorted set as ziplist": (12, b"\x01x"),
    "hash as ziplist": (13, b"\x01x"),
    "list of ziplists": (14, b"\x02\x01x\x01y"),
    "stream of Redis 5": (
        15,
        STREAM_HEAD + b"\x01\x01g\x01\x01" + PENDING + CONSUMERS + bytes(8) + b"\x01" + bytes(16),
    ),
    "stream of Redis 7.2": (
        21,
        STREAM_HEAD
        + STREAM_MORE
        + b"\x01\x01g\x01\x01\x02"
        + PENDING
        + CONSUMERS
        + bytes(16)
        + b"\x01"
        + bytes(16),
    ),
    "set as listpack": (20, b"\x01x"),
    "hash whose fields expire": (24, bytes(8) + b"\x02\x00\x01f\x01v\x05\x01g\x01w"),
    "the same as listpack": (25, bytes(8) + b"\x02xy"),
}


@pytest.mark.parametrize("name", VALUES)
def test_types_that_this_server_does_not_write_end_where_they_end(name: str) -> None:
    kind, value = VALUES[name]
    data = file_of(b"\xfe\x02" + bytes((kind,)) + b"\x01k" + value + b"\x00\x04last\x01v", b"0012")
    found = keys_of(data, step=3)
    assert [(key.database, key.name) for key in found] == [(2, b"k"), (2, b"last")]
    payload = next(iter(found.values()))
    assert payload == payload[:-8] + CRC.calc(payload[:-8]).to_bytes(8, "little")
    assert payload[:-10] == bytes((kind,)) + value
    assert contents_of(data).total == 2


def test_what_stands_between_keys_is_passed_over() -> None:
    between = (
        b"\xfa\x03aux\x01v"
        + b"\xfe\x01\xfb\x02\x00"
        + b"\xf4\x05\x01\x01"
        + b"\xf7"
        + MODULE_ID
        + b"\x02\x02"
        + MODULE_PARTS
        + b"\xf8\x05\x00\x01i\x01v"
        + b"\xfd\x01\x00\x00\x00\xf9\x07\x00\x01f\x01v"
        + b"\xfc"
        + (5000).to_bytes(8, "little")
        + b"\x00\x01m\x01v"
    )
    found = [(key.name, key.expires_at) for key in keys_of(file_of(between, b"0012"))]
    assert found == [(b"i", None), (b"f", 1000), (b"m", 5000)]
    assert contents_of(file_of(between, b"0012")).total == 3


def test_a_modules_value_is_counted_under_its_name_and_never_read() -> None:
    characters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    identity = 0
    for character in "ReJSON-RL":
        identity = identity << 6 | characters.index(character)
    value = b"\x81" + (identity << 10 | 3).to_bytes(8, "big") + MODULE_PARTS
    data = file_of(b"\x07\x01k" + value + b"\x00\x01l\x01v")
    found = keys_of(data)
    assert [(key.name, key.module) for key in found] == [(b"k", "ReJSON-RL"), (b"l", None)]
    assert contents_of(data).modules == {"ReJSON-RL": 1}


@pytest.mark.parametrize("kind", [6, 8, 22, 23, 26, 100, 246])
def test_an_unknown_kind_is_refused(kind: int) -> None:
    with pytest.raises(RdbError, match=f"unknown kind {kind}"):
        contents_of(file_of(bytes((kind,)) + b"\x01k\x01v"))


@pytest.mark.parametrize(
    "body",
    [
        b"\x00\xc5k\x01v",
        b"\x01\x01k\xc0\x01",
        b"\x00\x82k\x01v",
        b"\x00\x80\xff\xff\xff\xff",
        b"\x00\xc3\x02\x05\x1fa\x01v",
        b"\x07\x01k\x01\x09",
    ],
)
def test_lengths_that_cannot_be_are_refused(body: bytes) -> None:
    with pytest.raises(ArchiveDamagedError):
        keys_of(file_of(body))


@pytest.mark.parametrize(
    ("packed", "plain"),
    [
        (b"\x02abc", b"abc"),
        (b"\x00a\xe0\x05\x00", b"a" * 15),
        (b"\x02abc\x80\x02", b"abcabcabc"),
        (b"\x20\x00", None),
        (b"\x05ab", None),
        (b"\x02abc\xe0", None),
    ],
)
def test_compressed_names_are_decompressed_or_refused(packed: bytes, plain: bytes | None) -> None:
    assert decompressed(packed, len(plain) if plain else 10) == plain


def test_a_large_value_is_passed_over_in_constant_memory() -> None:
    size = 64 * 1024 * 1024
    pieces = iter([b"REDIS0010\x00\x01k\x80" + size.to_bytes(4, "big"), *[bytes(65536)] * (size // 65536)])
    dataset = DataSet(lambda _: next(pieces, b"\xff" + bytes(8)))
    tracemalloc.start()
    try:
        with pytest.raises(RdbError, match="something follows"):
            dataset.count()
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()
    assert dataset.contents.total == 1


@pytest.mark.redis
def test_redis_check_rdb_reads_the_same_file(saved: Any, tmp_path: Path) -> None:
    path = tmp_path / "x.rdb"
    path.write_bytes(saved[0])
    said = subprocess.run(["redis-check-rdb", path], check=False, capture_output=True, text=True, timeout=60)
    assert said.returncode == 0
    assert f"{len(saved[1])} keys read" in said.stdout
