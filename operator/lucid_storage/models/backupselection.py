"""What a backup holds, of which stores and how: the choices that Backup, BackupSchedule and Restore share."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field, StringConstraints

from lucid_storage.models.base import DatabaseName, DnsName, SpecModel
from lucid_storage.models.cel import ListSet, Rule, Rules


class BackupType(StrEnum):
    """How much one backup holds."""

    FULL = "full"
    INCREMENTAL = "incremental"
    DIFFERENTIAL = "differential"


class BackupEngine(StrEnum):
    """What can be backed up."""

    MONGODB = "mongodb"
    REDIS = "redis"
    ELASTICSEARCH = "elasticsearch"
    VOLUMES = "volumes"


class ReadPreference(StrEnum):
    """Which member is read. The whole dump reads one pinned member."""

    PRIMARY = "primary"
    PRIMARY_PREFERRED = "primaryPreferred"
    SECONDARY = "secondary"
    SECONDARY_PREFERRED = "secondaryPreferred"
    NEAREST = "nearest"


class Verify(StrEnum):
    """How a backup is proved."""

    UPLOAD = "Upload"
    CHECKSUM = "Checksum"
    RESTORE = "Restore"


NamespaceName = Annotated[
    str,
    StringConstraints(min_length=3, max_length=255),
    Rules(
        Rule(
            r"self.matches('^[^/\\\\. \"$*<>:|?]+[.][^$]+$')",
            "Write a collection as <database>.<collection>.",
        )
    ),
]

IndexExpression = Annotated[
    str,
    StringConstraints(min_length=1, max_length=255),
    Rules(
        Rule(
            "self.matches('^[a-z0-9.*][a-z0-9._*-]*$')",
            "Name an Elasticsearch index or pattern in lower case, such as lucid-sessions-*.",
        )
    ),
]

ChainName = Annotated[
    str,
    StringConstraints(min_length=1, max_length=63),
    Rules(
        Rule(
            "self.matches('^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$')",
            "A chain's name has lower-case letters, digits, - and . only.",
        )
    ),
]


class MongoSelection(SpecModel):
    """What of MongoDB is backed up."""

    databases: Annotated[list[DatabaseName], Field(min_length=1, max_length=64), ListSet()] | None = None
    """Databases; without it, all that the namespace may use."""
    collections: Annotated[list[NamespaceName], Field(min_length=1, max_length=256), ListSet()] | None = None
    """Collections as `<database>.<collection>`; without it, all of the databases."""
    read_preference: ReadPreference = ReadPreference.SECONDARY_PREFERRED
    """Which member is read."""


class RedisSelection(SpecModel):
    """Redis is backed up whole; there is nothing to choose."""


class ElasticMethod(StrEnum):
    """How Elasticsearch is backed up."""

    EXPORT = "Export"
    SNAPSHOT = "Snapshot"


class ElasticSelection(SpecModel):
    """What of Elasticsearch is backed up, and how."""

    rules: ClassVar[tuple[Rule, ...]] = (
        Rule(
            "has(self.repository) == (self.method == 'Snapshot')",
            "repository belongs to the method Snapshot, which needs it.",
        ),
    )

    indices: Annotated[list[IndexExpression], Field(min_length=1, max_length=64), ListSet()] | None = None
    """Indices or patterns; without it, all that are not the server's own."""
    method: ElasticMethod = ElasticMethod.EXPORT
    """Export reads documents into our own archive; Snapshot lets the servers write into their repository."""
    repository: Annotated[str, StringConstraints(min_length=1, max_length=128)] | None = None
    """Snapshot repository that the servers have."""
    allow_unencrypted: bool = False
    """Allow Snapshot beside encryption, although the repository is not encrypted."""


class VolumeMethod(StrEnum):
    """How a volume is backed up."""

    ARCHIVE = "Archive"
    SNAPSHOT = "Snapshot"


class VolumeSelection(SpecModel):
    """One volume of a backup."""

    name: DnsName
    """A Volume in the same namespace, or a claim that no Volume declares."""
    method: VolumeMethod = VolumeMethod.ARCHIVE
    """Archive streams the files; Snapshot asks the storage driver and stays inside the cluster."""


Engines = Annotated[list[BackupEngine], Field(min_length=1, max_length=4), ListSet()]
