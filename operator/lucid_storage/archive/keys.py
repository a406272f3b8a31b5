"""Encryption keys: 32 bytes each, one file a key id in a folder that the pod mounts from a Secret.

Nothing is encrypted with such a key itself: for every use one is derived from it (HKDF with SHA-256, RFC 5869) under a
name of its own, so that no two uses share a key.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Mapping
from dataclasses import dataclass
from hmac import digest as hmac_digest
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from lucid_storage.errors import KeyMissingError
from lucid_storage.models.orders import KEYS_FOLDER_VARIABLE

KEY_BYTES = 32
_FINGERPRINT = b"lucid-storage/v1/fingerprint"
_RECORD = b"lucid-storage/v1/record"
_KEY_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")


@dataclass(frozen=True, slots=True, repr=False)
class Key:
    """One encryption key."""

    id: str
    secret: bytes

    def __repr__(self) -> str:
        return f"Key({self.id!r})"

    @property
    def fingerprint(self) -> str:
        """16 hexadecimal digits that tell two keys of one id apart and say nothing about the key."""
        return self._derived(_FINGERPRINT, 8).hex()

    def record_mac(self, text: bytes) -> str:
        """HMAC-SHA-256 of a manifest or proof, in hexadecimal digits."""
        return hmac_digest(self._derived(_RECORD, KEY_BYTES), text, "sha256").hex()

    def _derived(self, name: bytes, length: int) -> bytes:
        return HKDF(SHA256(), length, salt=None, info=name).derive(self.secret)


class Keyring:
    """The keys of a folder, read when they are asked for. Without a folder it holds none."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._keys: dict[str, Key] = {}

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Keyring:
        """The keyring of a worker."""
        folder = environ.get(KEYS_FOLDER_VARIABLE)
        return cls(Path(folder) if folder else None)

    def key(self, key_id: str, fingerprint: str | None = None) -> Key:
        """Raises KeyMissingError: not there, no key, or not the one whose fingerprint was recorded."""
        key = self._keys.get(key_id)
        if key is None:
            key = self._keys[key_id] = Key(key_id, _secret(key_id, self._read(key_id)))
        if fingerprint is not None and key.fingerprint != fingerprint:
            raise KeyMissingError(
                f"The key {key_id} is another one than the data were encrypted with "
                f"(fingerprint {key.fingerprint}, recorded {fingerprint}); "
                f"put the old key back into the Secret and give the new one another id."
            )
        return key

    def _read(self, key_id: str) -> bytes:
        # An id comes from a manifest too, so it must not lead out of the folder.
        if self._folder is not None and _KEY_ID.fullmatch(key_id) and key_id.strip("."):
            try:
                return (self._folder / key_id).read_bytes()
            except FileNotFoundError:
                pass
            except OSError as error:
                raise KeyMissingError(f"The key {key_id!r} cannot be read: {error.strerror}.") from None
        raise KeyMissingError(
            f"The key {key_id!r} is missing; put it into the Secret as an entry of this name."
        )


def _secret(key_id: str, content: bytes) -> bytes:
    """32 bytes as they are, as 64 hexadecimal digits, or as base64. Raises KeyMissingError."""
    if len(content) == KEY_BYTES:
        return content
    text = content.strip()
    for decode in (binascii.unhexlify, _base64):
        try:
            secret = decode(text)
        except (binascii.Error, ValueError):
            continue
        if len(secret) == KEY_BYTES:
            return secret
    raise KeyMissingError(
        f"The entry {key_id} of the Secret is no key: it must hold {KEY_BYTES} bytes, "
        f"as they are, as 64 hexadecimal digits, or as base64."
    )


def _base64(text: bytes) -> bytes:
    return base64.b64decode(text, validate=True)
