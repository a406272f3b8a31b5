"""Names as parts of the API's paths."""

from __future__ import annotations

import re
from typing import Final
from urllib.parse import quote

from lucid_storage.errors import Reason, RefusedError

CHARACTERS: Final = 253
_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}([.]{_LABEL})*")
"""A DNS subdomain (RFC 1123): https://kubernetes.io/docs/concepts/overview/working-with-objects/names/"""


def is_name(name: str) -> bool:
    """Whether an object can have this name."""
    return len(name) <= CHARACTERS and _NAME.fullmatch(name) is not None


def segment(name: str) -> str:
    """A name as one part of a path. Raises RefusedError for one that no object can have.

    Names also come from statuses and from manifests in a bucket: one with a slash or dots would name another object.
    """
    if not is_name(name):
        raise RefusedError(
            f"{name[:CHARACTERS]!r} is no name of a Kubernetes object; use lower-case letters, digits, - and . only.",
            reason=Reason.INVALID_SPEC,
        )
    return quote(name, safe="")
