"""Authenticated encryption of a stream: AES-GCM-HKDF streaming as the Tink library publishes it.

    https://developers.google.com/tink/streaming-aead/aes_gcm_hkdf_streaming

The parameters are those of its key template AES256_GCM_HKDF_1MB. A sealed stream is

    header    1 byte (40), 32 bytes salt, 7 bytes nonce prefix
    segments  of 1 MiB, the header counted to the first, the last one shorter; each ends with a tag of 16 bytes

Its key is HKDF-SHA-256(key, salt, info = associated data); the nonce of segment n is prefix, n in 4 bytes, and 1 for
the last segment or 0. So segments cannot be swapped, dropped or taken from another stream, and a stream that was cut
has no last segment. The associated data name the object, so that one is not taken for another.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lucid_storage.archive.keys import KEY_BYTES, Key
from lucid_storage.errors import ArchiveDamagedError

SEGMENT_BYTES: Final = 1024 * 1024
"""Of a sealed segment, tag included."""
TAG_BYTES: Final = 16
PREFIX_BYTES: Final = 7
HEADER_BYTES: Final = 1 + KEY_BYTES + PREFIX_BYTES
FIRST_PLAIN_BYTES: Final = SEGMENT_BYTES - HEADER_BYTES - TAG_BYTES
PLAIN_BYTES: Final = SEGMENT_BYTES - TAG_BYTES


class Sealer:
    """Seals a stream piece by piece, with a segment of memory."""

    def __init__(self, key: Key, identity: bytes) -> None:
        """`identity` are the associated data: what the stream is, which its reader must know."""
        salt, self._prefix = os.urandom(KEY_BYTES), os.urandom(PREFIX_BYTES)
        self._header = bytes([HEADER_BYTES]) + salt + self._prefix
        self._cipher = _cipher(key, salt, identity)
        self._segment = 0
        self._plain = bytearray()

    def write(self, data: bytes | bytearray | memoryview) -> list[bytes]:
        """Pieces that are ready to be stored, in order."""
        self._plain += data
        sealed: list[bytes] = []
        # The last segment is told apart, so a full one waits until another byte follows it.
        while len(self._plain) > self._room():
            sealed += self._seal(self._room(), last=False)
        return sealed

    def finish(self) -> list[bytes]:
        """The last pieces; every stream has at least one segment."""
        return self._seal(len(self._plain), last=True)

    def _room(self) -> int:
        return PLAIN_BYTES if self._segment else FIRST_PLAIN_BYTES

    def _seal(self, size: int, *, last: bool) -> list[bytes]:
        nonce = _nonce(self._prefix, self._segment, last=last)
        with memoryview(self._plain) as plain, plain[:size] as segment:
            sealed = self._cipher.encrypt(nonce, segment, None)
        del self._plain[:size]
        self._segment += 1
        return [sealed] if self._segment > 1 else [self._header, sealed]


def opened(read: Callable[[int], bytes], key: Key, identity: bytes) -> Iterator[bytes]:
    """The plain pieces of a sealed stream, each authenticated before it is given out.

    `read(n)` returns n bytes, fewer only at the end. Raises ArchiveDamagedError at the first segment that is not as it
    was written, and at an end that is not the written one; what was given out before is true but not all.
    """
    header = read(HEADER_BYTES)
    if len(header) < HEADER_BYTES or header[0] != HEADER_BYTES:
        raise ArchiveDamagedError(
            "The encrypted data do not begin as they must; they were cut or overwritten."
        )
    cipher = _cipher(key, header[1 : 1 + KEY_BYTES], identity)
    prefix = header[1 + KEY_BYTES :]
    number, room = 0, SEGMENT_BYTES - HEADER_BYTES
    segment = read(room)
    while True:
        following = read(SEGMENT_BYTES) if len(segment) == room else b""
        last = not following
        try:
            plain = cipher.decrypt(_nonce(prefix, number, last=last), segment, None)
        except (InvalidTag, ValueError):
            raise ArchiveDamagedError(_broken(number)) from None
        if plain:
            yield plain
        if last:
            return
        number, room, segment = number + 1, SEGMENT_BYTES, following


def _broken(number: int) -> str:
    if number == 0:
        return (
            "The encrypted data cannot be opened: they were changed, belong to another backup, "
            "or were encrypted with another key."
        )
    return f"The encrypted data were changed or cut in or after their MiB {number + 1}."


def _cipher(key: Key, salt: bytes, identity: bytes) -> AESGCM:
    return AESGCM(HKDF(SHA256(), KEY_BYTES, salt=salt, info=identity).derive(key.secret))


def _nonce(prefix: bytes, number: int, *, last: bool) -> bytes:
    return prefix + number.to_bytes(4, "big") + (b"\x01" if last else b"\x00")
