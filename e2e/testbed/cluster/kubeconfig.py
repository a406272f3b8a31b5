"""Kubeconfig files with everything inside, so that they can be copied."""

import base64
import os
from pathlib import Path

import yaml

_NAME = "lucid-testbed"


def write(path: Path, *, server: str, authority: Path, token: str) -> Path:
    """Writes a kubeconfig readable by its owner only, in one step; the same content is left alone."""
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": _NAME,
        "contexts": [{"name": _NAME, "context": {"cluster": _NAME, "user": _NAME}}],
        "clusters": [
            {
                "name": _NAME,
                "cluster": {
                    "server": server,
                    "certificate-authority-data": base64.b64encode(authority.read_bytes()).decode(),
                },
            }
        ],
        "users": [{"name": _NAME, "user": {"token": token}}],
    }
    text = yaml.safe_dump(document, sort_keys=False)
    if path.exists() and path.read_text() == text:
        return path
    path.parent.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    draft.touch(0o600)
    draft.write_text(text)
    draft.replace(path)
    return path
