"""Keys: what a file may hold, which id leads where, and that another key under an old id is noticed."""

import base64
import os
from pathlib import Path

import pytest

from lucid_storage.archive.keys import Key, Keyring
from lucid_storage.errors import KeyMissingError, Reason
from lucid_storage.models.orders import KEYS_FOLDER_VARIABLE

SECRET = bytes(range(200, 232))


@pytest.mark.parametrize(
    "content",
    [
        SECRET,
        SECRET.hex().encode(),
        SECRET.hex().upper().encode() + b"\n",
        base64.b64encode(SECRET),
        base64.b64encode(SECRET) + b"\n",
    ],
)
def test_a_key_is_32_bytes_or_their_digits_or_base64(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k1").write_bytes(content)

    assert Keyring(tmp_path).key("k1").secret == SECRET


@pytest.mark.parametrize("content", [b"", b"password", SECRET[:31], SECRET + b"\n", b"z" * 64, b"=" * 44])
def test_anything_else_is_refused_without_being_shown(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "k1").write_bytes(content)

    with pytest.raises(KeyMissingError, match="is no key: it must hold 32 bytes") as raised:
        Keyring(tmp_path).key("k1")
    assert b"password" not in str(raised.value).encode()


def test_a_missing_key_is_named(tmp_path: Path) -> None:
    for keyring in (Keyring(tmp_path), Keyring(None), Keyring.from_environ({})):
        with pytest.raises(KeyMissingError, match="'k1' is missing") as raised:
            keyring.key("k1")
        assert raised.value.reason is Reason.KEY_MISSING


@pytest.mark.parametrize("key_id", ["../k1", "..", ".", "a/b", "", "/etc/passwd", "..data/k1"])
def test_an_id_from_a_manifest_leads_nowhere_else(tmp_path: Path, key_id: str) -> None:
    (tmp_path / "k1").write_bytes(SECRET)
    (tmp_path / "keys").mkdir()

    with pytest.raises(KeyMissingError):
        Keyring(tmp_path / "keys").key(key_id)


def test_another_key_under_an_id_that_was_used_is_refused(tmp_path: Path) -> None:
    (tmp_path / "k1").write_bytes(SECRET)
    fingerprint = Keyring(tmp_path).key("k1").fingerprint
    assert Keyring(tmp_path).key("k1", fingerprint).secret == SECRET

    (tmp_path / "k1").write_bytes(os.urandom(32))

    with pytest.raises(KeyMissingError, match="another one than the data were encrypted with"):
        Keyring(tmp_path).key("k1", fingerprint)


def test_a_fingerprint_is_16_digits_and_never_changes() -> None:
    assert Key("k1", SECRET).fingerprint == Key("k2", SECRET).fingerprint == "13f68ad5b7f4b8f0"
    assert Key("k1", os.urandom(32)).fingerprint != Key("k1", SECRET).fingerprint


def test_a_key_is_not_shown_by_accident() -> None:
    assert repr(Key("k1", SECRET)) == "Key('k1')"


def test_keys_are_found_in_the_folder_of_the_environment(tmp_path: Path) -> None:
    (tmp_path / "2026.11-a_b").write_bytes(SECRET)

    assert Keyring.from_environ({KEYS_FOLDER_VARIABLE: str(tmp_path)}).key("2026.11-a_b").secret == SECRET
