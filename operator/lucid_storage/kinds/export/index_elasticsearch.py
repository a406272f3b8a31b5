"""A live monthly series of Elasticsearch as an Index. Pure.

A series is an index template whose name is the stem, and the monthly indices that it matches. What the template
says and this month's indices do not have is left out, since declaring it would change them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from pydantic import ValidationError

from lucid_storage.kinds.export.parts import Manifest, Skipped, manifest, misfit, resource_name
from lucid_storage.kinds.index_elasticsearch.lifecycle import policy_body
from lucid_storage.kinds.index_elasticsearch.months import SUFFIX, Month, index_name, month_of
from lucid_storage.models.elasticindex import Lifecycle, ManagedBy
from lucid_storage.models.index import IndexSpec
from lucid_storage.stores.elasticsearch.ages import ORIGINATION_DATE, POLICY_NAME, deletes_after
from lucid_storage.stores.elasticsearch.compare import (
    mapping_differences,
    policy_differences,
    settings_differences,
)
from lucid_storage.stores.elasticsearch.types import ElasticIndexState, LifecyclePolicyState, TemplateState
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

_STEM = re.compile(r"[a-z0-9][a-z0-9._-]*", re.ASCII)
_MONTHLY = re.compile(r"(.+)-20[0-9]{2}\.(0[1-9]|1[0-2])", re.ASCII)
_DAYS = re.compile(r"([0-9]+)d", re.ASCII)


@dataclass(frozen=True, slots=True)
class SeriesFound:
    """One series as it is on the server."""

    template: TemplateState
    indices: tuple[ElasticIndexState, ...]
    policy: LifecyclePolicyState | None = None


def series(
    templates: Sequence[TemplateState], indices: Sequence[ElasticIndexState]
) -> tuple[tuple[SeriesFound, ...], tuple[Skipped, ...]]:
    """The series among all templates and indices, by stem; and stems of monthly indices that have no template."""
    by_name = {t.name: t for t in templates}
    members: dict[str, list[ElasticIndexState]] = {}
    for index in sorted(indices, key=lambda ix: ix.name):
        stem = _MONTHLY.fullmatch(index.name)
        if stem and month_of(stem[1], index.name):
            members.setdefault(stem[1], []).append(index)
    found = [SeriesFound(by_name[s], tuple(members[s])) for s in sorted(members) if s in by_name]
    why = "It has no index template of that name, and a resource would make one; declare it by hand."
    lost = [Skipped(f"series {stem}{SUFFIX}", why) for stem in sorted(members) if stem not in by_name]
    return tuple(found), tuple(lost)


def policy_name(found: SeriesFound) -> str | None:
    """The lifecycle policy that the template names."""
    name = found.template.settings.get(POLICY_NAME)
    return name if isinstance(name, str) else None


def series_manifest(
    found: SeriesFound, namespace: str | None, now: datetime
) -> tuple[Manifest | None, tuple[Skipped, ...]]:
    """The resource, or None where there can be none; and what is left out."""
    stem = found.template.name
    what = f"series {stem}{SUFFIX}"
    if not _STEM.fullmatch(stem):
        return None, (Skipped(what, "A resource cannot have this pattern."),)
    live = _live(found, now)
    lifecycle = _lifecycle(found.policy) if policy_name(found) == stem else None
    settings, differing = _settings(found.template, live, by_lifecycle=lifecycle is not None)
    skipped = [Skipped(f"setting {name} of {what}", _DIFFERS) for name in differing]
    body: dict[str, JsonValue] = {"pattern": f"{stem}{SUFFIX}"}
    if settings:
        body["settings"] = settings
    if found.template.mappings:
        if any(mapping_differences(found.template.mappings, index.mappings) for index in live):
            skipped.append(Skipped(f"mappings of {what}", _DIFFERS))
        else:
            body["mappings"] = dict(found.template.mappings)
    aliases = [name for name in sorted(found.template.aliases) if name != stem]
    shared = [name for name in aliases if _everywhere(name, found)]
    skipped += [Skipped(f"alias {name} of {what}", _DIFFERS) for name in aliases if name not in shared]
    if shared:
        body["aliases"] = list(shared)
    if found.template.priority is not None:
        body["priority"] = found.template.priority
    if lifecycle is not None:
        body["lifecycle"] = lifecycle.model_dump(mode="json", by_alias=True)
    elif policy_name(found) is not None:
        why = (
            f"The policy {policy_name(found)} is not one that a resource makes; it stays as it is, unmanaged."
        )
        skipped.append(Skipped(f"lifecycle of {what}", why))
    spec: dict[str, JsonValue] = {"engine": "elasticsearch", "elasticsearch": body}
    unfit = misfit(IndexSpec, spec)
    if unfit is not None:
        return None, (Skipped(what, unfit),)
    return manifest("Index", resource_name("search", stem), namespace, spec), tuple(skipped)


_DIFFERS = "Template and indices differ in it; it stays as it is, unmanaged."


def _live(found: SeriesFound, now: datetime) -> tuple[ElasticIndexState, ...]:
    """The indices that the operator would bring in line: this and next month's."""
    month = Month.at(now)
    names = {index_name(found.template.name, m) for m in (month, month.next)}
    return tuple(index for index in found.indices if index.name in names)


def _settings(
    template: TemplateState, live: Sequence[ElasticIndexState], *, by_lifecycle: bool
) -> tuple[dict[str, JsonValue], list[str]]:
    """Those of the template that the live indices share, without `index.`; and the names of the others."""
    ours = {ORIGINATION_DATE, POLICY_NAME} if by_lifecycle else {ORIGINATION_DATE}
    wanted = {name: value for name, value in template.settings.items() if name not in ours}
    differing = {name for index in live for name in settings_differences(wanted, index.settings)}
    kept = {name.removeprefix("index."): v for name, v in sorted(wanted.items()) if name not in differing}
    return kept, sorted(differing)


def _everywhere(alias: str, found: SeriesFound) -> bool:
    """Whether the template has it bare and every index has it."""
    return found.template.aliases[alias] == {} and all(alias in index.aliases for index in found.indices)


def _lifecycle(policy: LifecyclePolicyState | None) -> Lifecycle | None:
    """The lifecycle that makes exactly this policy, or None where there is none."""
    if policy is None:
        return None
    end = deletes_after(policy.policy)
    if end is None or not end.days:
        return None
    warm, cold = (_min_age_days(policy.policy, phase) for phase in ("warm", "cold"))
    meta = policy.policy.get("_meta")
    kept: JsonDoc = meta if isinstance(meta, dict) else {}
    # A phase that lasts no day is not in the policy: then its days are those of its neighbour.
    try:
        made = Lifecycle(
            hot_days=warm or cold or end.days,
            warm_days=cold or end.days,
            cold_days=end.days,
            delete_days=end.days,
            managed_by=ManagedBy.SERVER,
        )
    except ValidationError:
        return None
    return None if policy_differences(policy_body(made, kept), policy.policy) else made


def _min_age_days(policy: Mapping[str, JsonValue], phase: str) -> int | None:
    phases = policy.get("phases")
    body = phases.get(phase) if isinstance(phases, dict) else None
    found = _DAYS.fullmatch(str(body.get("min_age"))) if isinstance(body, dict) else None
    return int(found[1]) if found else None
