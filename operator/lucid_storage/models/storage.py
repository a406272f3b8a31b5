"""Where backups lie and how they are packed: shared by Backup, BackupSchedule and Restore."""

from __future__ import annotations

import re
from enum import StrEnum
from typing import Annotated, ClassVar, Final
from urllib.parse import urlsplit

from pydantic import Field, StringConstraints

from lucid_storage.models.base import DnsName, SpecModel
from lucid_storage.models.cel import Rule, Rules, exactly_one

BucketName = Annotated[
    str,
    StringConstraints(min_length=3, max_length=63),
    Rules(
        Rule(
            "self.matches('^[a-z0-9][a-z0-9.-]*[a-z0-9]$')",
            "A bucket name has 3 to 63 lower-case letters, digits, dots and dashes.",
        )
    ),
]

ObjectPrefix = Annotated[
    str,
    StringConstraints(min_length=1, max_length=256),
    Rules(
        Rule(
            "self.matches('^[A-Za-z0-9._=-]+(/[A-Za-z0-9._=-]+)*$') && "
            "self.split('/').all(part, part != '.' && part != '..')",
            "Write a path such as backups/production: parts of letters, digits, . _ = and - "
            "with one / between them, none at the ends, and no part that is . or ..",
        )
    ),
]

_ENDPOINT: Final = r"https?://[A-Za-z0-9._:\[\]-]+/?"
_REGION: Final = "[A-Za-z0-9_-]+"
MOST_REGION: Final = 64
"""Characters."""


def _whole(pattern: str) -> str:
    """The CEL rule that a text is this pattern; a text in CEL needs its backslashes twice."""
    return "self.matches('^{}$')".format(pattern.replace("\\", "\\\\"))


EndpointUrl = Annotated[
    str,
    StringConstraints(min_length=8, max_length=512),
    Rules(
        Rule(
            _whole(_ENDPOINT),
            "Write the endpoint as http:// or https:// with host and port, without user, password or path.",
        )
    ),
]

Region = Annotated[
    str,
    StringConstraints(min_length=1, max_length=MOST_REGION),
    Rules(
        # It is part of the address of Amazon's servers.
        Rule(
            _whole(_REGION),
            "A region has letters, digits, - and _ only, as in eu-central-1.",
        )
    ),
]

EncryptionKeyId = Annotated[
    str,
    StringConstraints(min_length=1, max_length=128),
    Rules(
        Rule(
            "self.matches('^[A-Za-z0-9._-]+$')",
            "A key id is the name of an entry in the Secret: letters, digits, . _ and - only.",
        )
    ),
]


def checked_endpoint(url: str) -> str:
    """`url` itself, when it can be dialled. Raises ValueError with a sentence that does not quote it."""
    try:
        parts = urlsplit(url)
        dialled = re.fullmatch(_ENDPOINT, url) and parts.hostname
        _ = parts.port, (parts.hostname or "").encode("idna")
    except ValueError:
        dialled = None
    if not dialled:
        raise ValueError(
            "an endpoint is http:// or https:// with host and port, such as https://s3.example.com:9000, without user,"
            " password or path"
        )
    return url


def checked_region(name: str) -> str:
    """`name` itself. Raises ValueError with a sentence."""
    if len(name) > MOST_REGION or not re.fullmatch(_REGION, name):
        raise ValueError("a region has letters, digits, - and _ only, as in eu-central-1")
    return name


class S3Storage(SpecModel):
    """A bucket of any S3 server."""

    bucket: BucketName
    """Name of the bucket."""
    prefix: ObjectPrefix | None = None
    """Path in the bucket; namespace and a UUID are added below it."""
    endpoint: EndpointUrl | None = None
    """Address of the S3 server; without it, Amazon's."""
    region: Region | None = None
    """Region of the bucket."""
    secret_name: DnsName | None = None
    """A labelled Secret in the same namespace with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`."""


class VolumeStorage(SpecModel):
    """A folder on a volume."""

    claim_name: DnsName
    """A PersistentVolumeClaim in the same namespace."""
    path: ObjectPrefix | None = None
    """Folder on the volume; without it, its root."""


class Storage(SpecModel):
    """Where backups lie: a bucket or a volume."""

    rules: ClassVar[tuple[Rule, ...]] = (exactly_one("s3", "volume"),)

    s3: S3Storage | None = None
    """A bucket of any S3 server."""
    volume: VolumeStorage | None = None
    """A folder on a volume."""


class CompressionAlgorithm(StrEnum):
    """How data are compressed before they are encrypted."""

    ZSTD = "zstd"
    GZIP = "gzip"
    NONE = "none"


class Compression(SpecModel):
    """Compression of a backup's streams."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "self.algorithm != 'gzip' || !has(self.level) || self.level <= 9", "gzip has the levels 1 to 9."
        ),
        Rule("self.algorithm != 'none' || !has(self.level)", "level needs an algorithm; remove it."),
    )

    algorithm: CompressionAlgorithm = CompressionAlgorithm.ZSTD
    """zstd, gzip or none."""
    level: Annotated[int, Field(ge=1, le=19)] | None = None
    """1 (fast) to 19 (small) for zstd, 1 to 9 for gzip."""


class Encryption(SpecModel):
    """AES-256-GCM with a key of your own. Without the key nobody can restore; keep a copy elsewhere."""

    secret_name: DnsName
    """A labelled Secret in the same namespace; each entry is one key of 32 bytes, named by its id."""
    key_id: EncryptionKeyId
    """The key for new backups. Older ones stay readable as long as their keys are in the Secret."""
