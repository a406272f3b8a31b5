"""Settings of the operator, read from environment variables. The same names are the keys of connection Secrets.

The table in docs/settings.md is generated from these models.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from typing import Annotated, Literal, Self
from urllib.parse import quote

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, SecretStr, ValidationError

from lucid_storage.models.quantity import to_bytes
from lucid_storage.models.storage import checked_endpoint, checked_region


class SettingsError(Exception):
    """A setting cannot be used. The message is a sentence that names it, and holds no value of a secret one."""


def _json_text(value: object) -> object:
    return json.loads(value) if isinstance(value, str) else value


class _Variables(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)

    @classmethod
    def read(cls, variables: Mapping[str, str]) -> Self:
        """From environment variables or a Secret's data. Raises SettingsError."""
        names = {(field.alias or name.upper()): name for name, field in cls.model_fields.items()}
        given = {names[key]: value for key, value in variables.items() if key in names and value != ""}
        try:
            return cls.model_validate(given)
        except (ValidationError, ValueError) as error:
            raise SettingsError(_sentence(error)) from None


def _sentence(error: ValidationError | ValueError) -> str:
    if isinstance(error, ValidationError):
        parts = [f"{'.'.join(str(p).upper() for p in e['loc'][:1])}: {e['msg']}" for e in error.errors()]
        return "; ".join(parts)
    return str(error)


class StoreSettings(_Variables):
    """How to reach the three stores. In a Secret only these names are read."""

    mongodb_uri: SecretStr | None = Field(None, description="Connection string; wins over the parts.")
    mongodb_host: str | None = Field(None, description="Host, or several as host:port separated by commas.")
    mongodb_port: int = Field(27017, ge=1, le=65535, description="Port for a MONGODB_HOST without one.")
    mongodb_username: str | None = Field(None, description="User name.")
    mongodb_password: SecretStr | None = Field(None, description="Password.")
    mongodb_replica_set: str | None = Field(None, description="Replica set name.")
    mongodb_database: str | None = Field(None, description="Database for resources that name none.")
    redis_url: SecretStr | None = Field(None, description="Redis URL; wins over the parts.")
    redis_uri: SecretStr | None = Field(None, description="Alias of REDIS_URL.")
    redis_host: str | None = Field(None, description="Redis host.")
    redis_port: int = Field(6379, ge=1, le=65535, description="Redis port.")
    redis_database: int = Field(0, ge=0, le=65535, description="Redis database number.")
    redis_password: SecretStr | None = Field(None, description="Redis password.")
    elasticsearch_url: SecretStr | None = Field(None, description="Elasticsearch URL; wins over the parts.")
    elasticsearch_uri: SecretStr | None = Field(None, description="Alias of ELASTICSEARCH_URL.")
    elasticsearch_host: str | None = Field(None, description="Elasticsearch host.")
    elasticsearch_port: int = Field(9200, ge=1, le=65535, description="Elasticsearch port.")
    elasticsearch_username: str | None = Field(None, description="User name, put into the URL.")
    elasticsearch_password: SecretStr | None = Field(None, description="Password, put into the URL.")
    elasticsearch_index_prefix: str = Field(
        "lucid", description="Prefix for index names that the REST API makes."
    )

    def mongodb(self) -> str | None:
        """Connection string, or None where MongoDB is not configured."""
        if self.mongodb_uri is not None:
            return self.mongodb_uri.get_secret_value()
        if self.mongodb_host is None:
            return None
        hosts = ",".join(h if ":" in h else f"{h}:{self.mongodb_port}" for h in self.mongodb_host.split(","))
        options = f"?replicaSet={quote(self.mongodb_replica_set)}" if self.mongodb_replica_set else ""
        return f"mongodb://{_login(self.mongodb_username, self.mongodb_password)}{hosts}/{options}"

    def redis(self) -> str | None:
        """URL, or None where Redis is not configured."""
        url = self.redis_url or self.redis_uri
        if url is not None:
            return url.get_secret_value()
        if self.redis_host is None:
            return None
        login = f":{quote(self.redis_password.get_secret_value(), safe='')}@" if self.redis_password else ""
        return f"redis://{login}{self.redis_host}:{self.redis_port}/{self.redis_database}"

    def elasticsearch(self) -> str | None:
        """URL, or None where Elasticsearch is not configured."""
        url = self.elasticsearch_url or self.elasticsearch_uri
        if url is not None:
            return url.get_secret_value()
        if self.elasticsearch_host is None:
            return None
        login = _login(self.elasticsearch_username, self.elasticsearch_password)
        return f"http://{login}{self.elasticsearch_host}:{self.elasticsearch_port}"


def _login(username: str | None, password: SecretStr | None) -> str:
    if username is None:
        return ""
    secret = f":{quote(password.get_secret_value(), safe='')}" if password is not None else ""
    return f"{quote(username, safe='')}{secret}@"


def _matches(name: str, patterns: tuple[str, ...]) -> bool:
    return any(fnmatchcase(name, pattern) for pattern in patterns)


def _path(value: str) -> str:
    parts = value.strip("/").split("/") if value.strip("/") else []
    if any(part in {"", ".", ".."} or not part.isprintable() for part in parts):
        raise ValueError("write a path such as backups/production, with no part that is empty, . or ..")
    return value


FolderPath = Annotated[str, AfterValidator(_path)]


class ServedNamespace(BaseModel):
    """What a namespace may do with the operator's own credentials."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    databases: tuple[str, ...] = Field(("*",), description="patterns of the databases that it may use")
    indices: tuple[str, ...] = Field(
        ("*",), description="patterns of Elasticsearch series, by their write alias"
    )
    keys: tuple[str, ...] = Field(("*",), description="patterns of Redis key patterns")
    bucket_prefix: FolderPath = Field(
        "", alias="bucketPrefix", description="where its backups go in a bucket"
    )

    def allows(self, database: str) -> bool:
        return _matches(database, self.databases)

    def allows_index(self, stem: str) -> bool:
        return _matches(stem, self.indices)

    def allows_keys(self, key_pattern: str) -> bool:
        return _matches(key_pattern, self.keys)


def _storage_type(value: object) -> object:
    return "volume" if value == "local" else value


def _algorithm(value: object) -> object:
    return {"true": "zstd", "false": "none"}.get(str(value).lower(), value)


_WINDOW = re.compile(r"(([01]\d|2[0-3]):[0-5]\d)-(([01]\d|2[0-3]):[0-5]\d)", re.ASCII)


def _window(value: str) -> str:
    match = _WINDOW.fullmatch(value)
    if match is None or match[1] == match[3]:
        raise ValueError("write two different times of day as HH:MM-HH:MM, such as 02:00-06:00")
    return value


def _resources(value: object) -> object:
    resources = _json_text(value)
    if not isinstance(resources, dict) or not set(resources) <= {"requests", "limits"}:
        raise ValueError("give a JSON object with requests and limits, as Kubernetes has them")
    return resources


WORKER_RESOURCES: dict[str, dict[str, str]] = {
    "requests": {"cpu": "100m", "memory": "96Mi"},
    "limits": {"memory": "192Mi"},
}
"""Sized for a Raspberry Pi. A worker's memory does not grow with the data."""


class BackupSettings(StoreSettings):
    """Backups: where they lie unless they say otherwise, and the Jobs that make them."""

    backup_schedule: str = Field("0 2 * * *", description="Schedule of a schedule that the REST API makes.")
    backup_retention_days: int = Field(
        30, ge=1, le=365, description="Days that a backup made by hand is kept, unless it says otherwise."
    )
    backup_compression: Annotated[Literal["zstd", "gzip", "none"], BeforeValidator(_algorithm)] = Field(
        "zstd", description="zstd, gzip or none; true means zstd, false none."
    )
    backup_storage_type: Annotated[Literal["none", "s3", "volume"], BeforeValidator(_storage_type)] = Field(
        "none",
        description="Where backups lie that name no storage: s3, volume (or local), or none.",
    )
    backup_storage_path: FolderPath = Field("", description="Prefix in the bucket, or folder on the volume.")
    backup_storage_claim: str | None = Field(
        None, description="PersistentVolumeClaim in the operator's namespace, for BACKUP_STORAGE_TYPE volume."
    )
    backup_s3_bucket: str | None = Field(None, description="Bucket, for BACKUP_STORAGE_TYPE s3.")
    backup_s3_endpoint: Annotated[str, AfterValidator(checked_endpoint)] | None = Field(
        None, description="Address of the S3 server; empty means Amazon's."
    )
    backup_s3_region: Annotated[str, AfterValidator(checked_region)] | None = Field(
        None, description="Region of the bucket."
    )
    backup_s3_ca: str | None = Field(None, description="Certificate authority of the S3 server, as PEM text.")
    aws_access_key_id: SecretStr | None = Field(None, description="Key id for the bucket.")
    aws_secret_access_key: SecretStr | None = Field(None, description="Key for the bucket.")
    backup_verify_uri: SecretStr | None = Field(
        None, description="MongoDB that restore proofs are made on (`verify: Restore`)."
    )
    backup_deadline_seconds: int = Field(
        21_600, ge=60, le=2_592_000, description="How long a backup or restore may take."
    )
    stores_ca: str | None = Field(
        None,
        description=(
            "Certificate authority of the operator's own stores, as PEM text or as a path; trusted besides the"
            " system's, and passed to the Jobs."
        ),
    )
    worker_image: str | None = Field(
        None, description="Image of the Jobs; the chart sets the operator's own."
    )
    worker_image_pull_policy: str = Field("IfNotPresent", description="Pull policy of that image.")
    worker_image_pull_secrets: str = Field(
        "", description="Pull secrets of that image, separated by commas; needed in each namespace with Jobs."
    )
    worker_resources: Annotated[dict[str, dict[str, str]], BeforeValidator(_resources)] = Field(
        WORKER_RESOURCES, description="JSON object: requests and limits of a Job's container."
    )


def _size(value: str) -> str:
    if to_bytes(value) <= 0:
        raise ValueError("a size must be more than 0")
    return value


Size = Annotated[str, AfterValidator(_size)]


class VolumeSettings(BackupSettings):
    """Volumes: their sizes and thresholds, and how their use is read."""

    volume_default_size: Size = Field("10Gi", description="Size of a new volume whose type has no other one.")
    volume_max_size: Size = Field(
        "100Gi", description="No volume is declared or grown beyond this; `autoExpand` stops here."
    )
    volume_warning_threshold: int = Field(
        80, ge=1, le=100, description="Percent in use that `UsageWarning` begins at."
    )
    volume_critical_threshold: int = Field(
        95, ge=1, le=100, description="Percent in use that `UsageCritical` begins at."
    )
    volume_stats_seconds: float = Field(
        60, ge=1, description="Pause between two rounds to the kubelets, which give the use of volumes."
    )
    volume_reader_seconds: float = Field(
        0,
        ge=0,
        description="How often a short-lived pod reads the use of a volume that no kubelet tells; 0 means never.",
    )
    kubelet_ca: str | None = Field(
        None,
        description=(
            "Certificate authority of the kubelets, as PEM text or as a path. Without it no kubelet is asked."
            " The chart gives /var/run/secrets/kubernetes.io/serviceaccount/ca.crt."
        ),
    )
    kubelet_service_account: str | None = Field(
        None,
        description=(
            "ServiceAccount in the operator's namespace whose short-lived token the kubelets get; it may do"
            " `nodes/stats` and nothing else. The chart makes it."
        ),
    )


class Settings(VolumeSettings):
    """All settings of the operator process."""

    operator_namespace: str = Field(
        "default", alias="POD_NAMESPACE", description="Namespace the operator runs in."
    )
    served_namespaces: Annotated[dict[str, ServedNamespace] | None, BeforeValidator(_json_text)] = Field(
        None,
        alias="SERVED_NAMESPACES",
        description=(
            "JSON object: namespaces that the operator's own credentials serve, each with `databases`, `indices`"
            ' and `keys` (patterns) and `bucketPrefix`; `"*"` stands for every namespace.'
            " Default: the operator's own namespace."
        ),
    )
    watch_namespaces: str = Field(
        "", alias="WATCH_NAMESPACES", description="Namespaces to watch, separated by commas; empty means all."
    )
    forbid_drops: bool = Field(
        False,
        alias="FORBID_DROPS",
        description=(
            "Drop no collection, index or volume: not because a resource is deleted, not for replacePolicy: DropFirst,"
            " and no Elasticsearch index whose days are over by a lifecycle that the operator carries out."
        ),
    )
    balancer_window: Annotated[str, AfterValidator(_window)] | None = Field(
        None,
        alias="BALANCER_WINDOW",
        description=(
            "Times of day between which the balancer of the operator's own sharded MongoDB works, as HH:MM-HH:MM by"
            " the config server's clock; it is set where a ShardedCollection uses these credentials. Empty means"
            " unmanaged."
        ),
    )
    allow_loopback: bool = Field(
        False, alias="ALLOW_LOOPBACK_ENDPOINTS", description="Let connection Secrets name loopback addresses."
    )
    sweep_seconds: float = Field(
        600, ge=5, alias="SWEEP_SECONDS", description="How often an unchanged resource is looked at anyway."
    )
    fallback_sweep_seconds: float = Field(
        60, ge=5, alias="FALLBACK_SWEEP_SECONDS", description="The same where no change stream can be had."
    )
    cache_scan_seconds: float = Field(
        900, ge=5, alias="CACHE_SCAN_SECONDS", description="Pause between two scans of a Redis."
    )
    workers: int = Field(
        24, ge=1, le=64, alias="WORKERS", description="Resources worked on at the same time."
    )
    lease_seconds: float = Field(15, ge=3, alias="LEASE_SECONDS", description="Leader lease duration.")
    leader_election: bool = Field(True, alias="LEADER_ELECTION", description="Off only for development.")
    rest_host: str = Field("0.0.0.0", alias="REST_HOST", description="Address of the REST API.")  # noqa: S104
    rest_port: int = Field(8089, ge=0, le=65535, alias="REST_PORT", description="Port of the REST API.")
    rest_enabled: bool = Field(True, alias="REST_ENABLED", description="Serve the REST API.")
    health_host: str = Field("0.0.0.0", alias="HEALTH_HOST", description="Address of probes and metrics.")  # noqa: S104
    health_port: int = Field(
        8081, ge=0, le=65535, alias="HEALTH_PORT", description="Port of /healthz, /readyz and /metrics."
    )
    log_level: str = Field("INFO", alias="LOG_LEVEL", description="Level of the JSON log.")

    def served(self, namespace: str) -> ServedNamespace | None:
        """What the namespace may do with the operator's credentials; None when it may do nothing."""
        table = self.served_namespaces
        if table is None:
            return ServedNamespace() if namespace == self.operator_namespace else None
        return table.get(namespace) or table.get("*")
