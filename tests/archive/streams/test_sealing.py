"""Sealing: the published format exactly, and nothing opens that is not as it was written."""

import io
import json
import os
from base64 import b64encode
from collections.abc import Iterable

import pytest
from archive_bed import KEY, OTHER_KEY
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.archive.keys import Key
from lucid_storage.archive.sealing import (
    FIRST_PLAIN_BYTES,
    HEADER_BYTES,
    PLAIN_BYTES,
    SEGMENT_BYTES,
    Sealer,
    opened,
)
from lucid_storage.errors import ArchiveDamagedError

WHO = b"what it is"
SIZES = [
    0,
    1,
    1000,
    FIRST_PLAIN_BYTES - 1,
    FIRST_PLAIN_BYTES,
    FIRST_PLAIN_BYTES + 1,
    FIRST_PLAIN_BYTES + PLAIN_BYTES,
    FIRST_PLAIN_BYTES + PLAIN_BYTES + 1,
    3_500_000,
]


def seal(data: bytes, key: Key = KEY, identity: bytes = WHO, step: int = 300_000) -> bytes:
    sealer = Sealer(key, identity)
    pieces: list[bytes] = []
    for start in range(0, len(data), step):
        pieces += sealer.write(data[start : start + step])
    return b"".join([*pieces, *sealer.finish()])


def unseal(sealed: bytes, key: Key = KEY, identity: bytes = WHO) -> bytes:
    return b"".join(opened(io.BytesIO(sealed).read, key, identity))


@pytest.mark.parametrize("size", SIZES)
def test_what_is_sealed_opens(size: int) -> None:
    data = os.urandom(size)

    sealed = seal(data)

    assert unseal(sealed) == data
    segments = max(1, -(-(len(sealed)) // SEGMENT_BYTES))
    assert len(sealed) == HEADER_BYTES + size + 16 * segments


def tink_primitive(key: Key) -> object:
    """The primitive of the Tink library for the same key, its template's parameters written out."""
    tink = pytest.importorskip("tink", reason="there is no build of tink for this processor")
    from tink import secret_key_access, streaming_aead  # noqa: PLC0415
    from tink.proto import aes_gcm_hkdf_streaming_pb2, common_pb2, tink_pb2  # noqa: PLC0415

    streaming_aead.register()
    template = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKeyFormat.FromString(
        streaming_aead.streaming_aead_key_templates.AES256_GCM_HKDF_1MB.value
    )
    proto = aes_gcm_hkdf_streaming_pb2.AesGcmHkdfStreamingKey(params=template.params, key_value=key.secret)
    assert template.params.ciphertext_segment_size == SEGMENT_BYTES
    assert template.params.hkdf_hash_type == common_pb2.SHA256
    keyset = {
        "primaryKeyId": 1,
        "key": [
            {
                "keyData": {
                    "typeUrl": "type.googleapis.com/google.crypto.tink.AesGcmHkdfStreamingKey",
                    "keyMaterialType": "SYMMETRIC",
                    "value": b64encode(proto.SerializeToString()).decode(),
                },
                "outputPrefixType": "RAW",
                "keyId": 1,
                "status": tink_pb2.KeyStatusType.Name(tink_pb2.ENABLED),
            }
        ],
    }
    handle = tink.json_proto_keyset_format.parse(json.dumps(keyset), secret_key_access.TOKEN)
    return handle.primitive(streaming_aead.StreamingAead)


@pytest.mark.parametrize("size", SIZES)
def test_tink_opens_what_we_seal(size: int) -> None:
    data = os.urandom(size)

    stream = tink_primitive(KEY).new_decrypting_stream(io.BytesIO(seal(data)), WHO)  # type: ignore[attr-defined]

    assert stream.read() == data


@pytest.mark.parametrize("size", SIZES)
def test_we_open_what_tink_seals(size: int) -> None:
    class Kept(io.BytesIO):
        def close(self) -> None:
            pass

    data, sealed = os.urandom(size), Kept()
    with tink_primitive(KEY).new_encrypting_stream(sealed, WHO) as stream:  # type: ignore[attr-defined]
        stream.write(data)

    assert unseal(sealed.getvalue()) == data


def refused(sealed: bytes, key: Key = KEY, identity: bytes = WHO) -> None:
    with pytest.raises(ArchiveDamagedError):
        unseal(sealed, key, identity)


def test_a_stream_cut_at_any_byte_is_refused() -> None:
    sealed = seal(os.urandom(500))

    for length in range(len(sealed)):
        refused(sealed[:length])


@pytest.mark.parametrize("segments", [1, 2, 3])
def test_a_stream_cut_after_whole_segments_is_refused(segments: int) -> None:
    sealed = seal(os.urandom(3 * SEGMENT_BYTES + 5))

    for around in (-1, 0, 1):
        refused(sealed[: segments * SEGMENT_BYTES + around])


def test_any_flipped_bit_is_refused() -> None:
    sealed = seal(os.urandom(80))

    for position in range(len(sealed)):
        for bit in range(8):
            flipped = bytearray(sealed)
            flipped[position] ^= 1 << bit
            refused(bytes(flipped))


def test_bytes_after_the_end_are_refused() -> None:
    for size in (500, FIRST_PLAIN_BYTES, SEGMENT_BYTES + 7):
        refused(seal(os.urandom(size)) + b"\0")


def segments_of(sealed: bytes) -> list[bytes]:
    return [sealed[start : start + SEGMENT_BYTES] for start in range(0, len(sealed), SEGMENT_BYTES)]


@pytest.mark.parametrize(
    "order", [(0, 2, 1, 3), (0, 1, 3), (0, 1, 1, 2, 3), (0, 1, 2), (1, 2, 3), (3,), (0, 3)]
)
def test_segments_swapped_dropped_or_repeated_are_refused(order: Iterable[int]) -> None:
    parts = segments_of(seal(os.urandom(3 * SEGMENT_BYTES + 5)))
    assert len(parts) == 4

    refused(b"".join(parts[number] for number in order))


def test_a_segment_of_another_stream_is_refused() -> None:
    data = os.urandom(2 * SEGMENT_BYTES + 5)
    ours, others = segments_of(seal(data)), segments_of(seal(data))

    refused(b"".join([ours[0], others[1], ours[2]]))


def test_another_header_key_or_identity_is_refused() -> None:
    data = os.urandom(5000)
    ours, others = seal(data), seal(data)

    refused(others[:HEADER_BYTES] + ours[HEADER_BYTES:])
    refused(ours, key=OTHER_KEY)
    refused(ours, identity=b"what another is")
    assert ours[HEADER_BYTES:] != others[HEADER_BYTES:], "no two streams share a key stream"


@given(st.lists(st.integers(0, 700_000), max_size=8))
def test_it_does_not_matter_how_the_data_come(steps: list[int]) -> None:
    sealer, pieces, data = Sealer(KEY, WHO), [], bytearray()
    for number, step in enumerate(steps):
        part = bytes([number]) * step
        pieces += sealer.write(part)
        data += part
    pieces += sealer.finish()

    assert unseal(b"".join(pieces)) == data
