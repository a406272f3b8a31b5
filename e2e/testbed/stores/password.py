"""Passwords of the test bed's servers."""

import secrets
from pathlib import Path


def drawn(file: Path) -> str:
    """What the file holds; drawn when there is none, and readable by its owner only."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch(mode=0o600)
        file.write_text(secrets.token_hex(16))
    return file.read_text()
