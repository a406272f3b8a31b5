"""What an Index of Elasticsearch declares, in the store's terms. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from lucid_storage.errors import Reason, RefusedError
from lucid_storage.kinds.index_elasticsearch.months import SUFFIX, stem_of
from lucid_storage.models.base import DeletionPolicy, DriftPolicy
from lucid_storage.models.elasticindex import ElasticIndex, Lifecycle
from lucid_storage.models.index import IndexSpec
from lucid_storage.stores.elasticsearch.ages import ORIGINATION_DATE, POLICY_NAME
from lucid_storage.stores.elasticsearch.settings import flat
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

SETTINGS_LIMIT = 40
"""Declared settings at most: their names are kept in status."""
SETTING_NAME_LIMIT = 200
LIFECYCLE_SETTINGS = (POLICY_NAME, ORIGINATION_DATE, "index.priority")
"""What a lifecycle sets on an index; declared beside it, the two would change each other back for ever."""


@dataclass(frozen=True, slots=True)
class ElasticDesired:
    """A monthly series with its defaults resolved. What is None is unmanaged."""

    pattern: str
    secret: str | None
    owner: str
    """The resource's uid, written into what is made: the proof that it may be dropped."""
    mappings: JsonDoc | None
    settings: Mapping[str, JsonValue] | None
    """Flat, with "index."."""
    aliases: tuple[str, ...] | None
    """Read aliases."""
    priority: int | None
    lifecycle: Lifecycle | None
    deletion_policy: DeletionPolicy
    drift_policy: DriftPolicy
    allow_data_loss: str | None
    backup_before: bool

    @property
    def stem(self) -> str:
        """The pattern without its month: name of the write alias, of the template and of the policy."""
        return stem_of(self.pattern)

    @property
    def target(self) -> str:
        return self.stem

    @property
    def database(self) -> str | None:
        return None

    @property
    def managed(self) -> list[str]:
        """Names of what is declared, as they are kept in status."""
        plain = {"lifecycle": self.lifecycle, "mappings": self.mappings, "priority": self.priority}
        return [
            *(name for name, value in plain.items() if value is not None),
            *(f"aliases.{name}" for name in sorted(self.aliases or ())),
            *(f"settings.{name}" for name in sorted(self.settings or ())),
        ]


def resolve(spec: IndexSpec, index: ElasticIndex, owner: str) -> ElasticDesired:
    """The declaration in the store's terms. Raises RefusedError with what to change."""
    if not index.pattern.endswith(SUFFIX) or index.pattern == SUFFIX:
        raise RefusedError(
            f"spec.elasticsearch.pattern must end in {SUFFIX}, such as lucid-sessions{SUFFIX}.",
            reason=Reason.INVALID_SPEC,
        )
    settings = flat(index.settings) if index.settings is not None else None
    _check_settings(settings or {}, index.lifecycle)
    return ElasticDesired(
        pattern=index.pattern,
        secret=spec.connection.secret_name if spec.connection else None,
        owner=owner,
        mappings=index.mappings,
        settings=settings,
        aliases=tuple(dict.fromkeys(index.aliases)) if index.aliases is not None else None,
        priority=index.priority,
        lifecycle=index.lifecycle,
        deletion_policy=spec.deletion_policy,
        drift_policy=spec.drift_policy,
        allow_data_loss=spec.allow_data_loss,
        backup_before=spec.backup_before,
    )


def _check_settings(settings: Mapping[str, JsonValue], lifecycle: Lifecycle | None) -> None:
    if len(settings) > SETTINGS_LIMIT:
        raise RefusedError(
            f"spec.elasticsearch.settings has {len(settings)} settings; at most {SETTINGS_LIMIT} can be managed."
            " Remove those that are the server's defaults.",
            reason=Reason.INVALID_SPEC,
        )
    if any(len(name) > SETTING_NAME_LIMIT for name in settings):
        raise RefusedError(
            f"spec.elasticsearch.settings has a name of more than {SETTING_NAME_LIMIT} characters; remove it.",
            reason=Reason.INVALID_SPEC,
        )
    for name in LIFECYCLE_SETTINGS if lifecycle is not None else ():
        if name in settings:
            raise RefusedError(
                f"spec.elasticsearch.lifecycle sets {name} itself; remove it from settings, or remove lifecycle.",
                reason=Reason.INVALID_SPEC,
            )
