"""The index template of a series: what it should be, and whether one that is there may become it. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from fnmatch import fnmatchcase

from lucid_storage.kinds.index_elasticsearch import mappings, ownership
from lucid_storage.kinds.index_elasticsearch.actions import PutTemplate
from lucid_storage.kinds.index_elasticsearch.desired import ElasticDesired
from lucid_storage.kinds.index_elasticsearch.months import wildcard
from lucid_storage.kinds.index_elasticsearch.steps import Difference, Step
from lucid_storage.stores.elasticsearch.ages import POLICY_NAME
from lucid_storage.stores.elasticsearch.compare import mapping_differences, settings_differences
from lucid_storage.stores.elasticsearch.settings import flat
from lucid_storage.stores.elasticsearch.types import TemplateState
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

DEFAULT_PRIORITY = 200
"""Above the 100 of the templates that Elasticsearch brings along."""


def step(
    desired: ElasticDesired,
    observed: TemplateState | None,
    dropped: Sequence[str],
    months: Sequence[str],
    *,
    by_policy: bool,
    settled: bool,
) -> list[Step]:
    """The one step that makes the template right, or none.

    `dropped` are fields that were declared before and are not now; `months` the names that it must match.
    """
    wanted = _wanted(desired, observed, dropped, months, by_policy=by_policy, settled=settled)
    if observed is None:
        return [Step(PutTemplate(wanted), (Difference("template", "present", "absent"),))]
    found = _differences(wanted, observed)
    return [Step(PutTemplate(wanted), found)] if found else []


def obstacles(desired: ElasticDesired, observed: TemplateState, months: Sequence[str]) -> list[str]:
    """The declared fields in which a template that is not ours differs; none means that it can be adopted.

    A template that leaves the lifecycle open can be adopted too; one that names another policy cannot.
    """
    found = ["index_patterns"] if not _covers(observed, months) else []
    if desired.priority is not None and desired.priority != (observed.priority or 0):
        found.append("priority")
    found += [f"mappings.{path}" for path in mapping_differences(desired.mappings or {}, observed.mappings)]
    found += [f"settings.{name}" for name in settings_differences(desired.settings or {}, observed.settings)]
    found += [f"aliases.{name}" for name in desired.aliases or () if name not in observed.aliases]
    if desired.lifecycle is not None and observed.settings.get(POLICY_NAME) not in (None, desired.stem):
        found.append(f"settings.{POLICY_NAME}")
    return found


def _wanted(
    desired: ElasticDesired,
    observed: TemplateState | None,
    dropped: Sequence[str],
    months: Sequence[str],
    *,
    by_policy: bool,
    settled: bool,
) -> TemplateState:
    if observed is None:
        observed = TemplateState(
            desired.stem, (), DEFAULT_PRIORITY, {}, {}, {}, ownership.meta(desired.owner)
        )
    ours = ownership.made_template(observed, desired.owner)
    keeps_patterns = not ours and _covers(observed, months)
    priority = DEFAULT_PRIORITY if "priority" in dropped else observed.priority
    return TemplateState(
        name=desired.stem,
        patterns=observed.patterns if keeps_patterns else (wildcard(desired.stem),),
        priority=priority if desired.priority is None else desired.priority,
        mappings=_mappings(desired, observed, dropped, exact=ours and not settled),
        settings=_settings(desired, observed, dropped, by_policy=by_policy),
        aliases=_aliases(desired, observed, dropped),
        meta=observed.meta,
        other=observed.other,
    )


def _mappings(
    desired: ElasticDesired, observed: TemplateState, dropped: Sequence[str], *, exact: bool
) -> JsonDoc:
    """`exact`: a new generation of a template of our own, from which removed fields must go."""
    if desired.mappings is None:
        return {} if "mappings" in dropped else observed.mappings
    return desired.mappings if exact else mappings.merged(observed.mappings, desired.mappings)


def _settings(
    desired: ElasticDesired, observed: TemplateState, dropped: Sequence[str], *, by_policy: bool
) -> dict[str, JsonValue]:
    settings = {
        name: value for name, value in flat(observed.settings).items() if f"settings.{name}" not in dropped
    }
    if lets_go(desired, settings.get(POLICY_NAME), dropped, by_policy=by_policy):
        del settings[POLICY_NAME]
    settings |= desired.settings or {}
    if by_policy:
        settings[POLICY_NAME] = desired.stem
    return {name: value for name, value in settings.items() if value is not None}


def _aliases(
    desired: ElasticDesired, observed: TemplateState, dropped: Sequence[str]
) -> Mapping[str, JsonDoc]:
    """The write alias is not in a template: an index that somebody makes must not get it by itself."""
    kept = {name: body for name, body in observed.aliases.items() if f"aliases.{name}" not in dropped}
    return {**{name: {} for name in desired.aliases or ()}, **kept}


def lets_go(desired: ElasticDesired, named: object, dropped: Sequence[str], *, by_policy: bool) -> bool:
    """Whether a reference to our policy must go: the lifecycle is no longer declared, or no longer the server's."""
    if by_policy or named != desired.stem or POLICY_NAME in (desired.settings or {}):
        return False
    return desired.lifecycle is not None or "lifecycle" in dropped


def _differences(wanted: TemplateState, observed: TemplateState) -> tuple[Difference, ...]:
    found = []
    if set(wanted.patterns) != set(observed.patterns):
        found.append(Difference("template.index_patterns", list(wanted.patterns), list(observed.patterns)))
    if (wanted.priority or 0) != (observed.priority or 0):
        found.append(Difference("template.priority", wanted.priority, observed.priority))
    found += mappings.differences(wanted.mappings, observed.mappings, "template.mappings")
    found += [
        Difference(f"template.mappings.{path}", None, mappings.value_at(observed.mappings, path))
        for path in mapping_differences(observed.mappings, wanted.mappings)
        if path not in mapping_differences(wanted.mappings, observed.mappings)
    ]
    have = flat(observed.settings)
    expected = {**dict.fromkeys(have), **wanted.settings}
    found += [
        Difference(f"template.settings.{name}", expected.get(name), have.get(name))
        for name in settings_differences(expected, have)
    ]
    found += [
        Difference(f"template.aliases.{name}", name in wanted.aliases, name in observed.aliases)
        for name in sorted(wanted.aliases.keys() ^ observed.aliases.keys())
    ]
    return tuple(found)


def _covers(observed: TemplateState, months: Sequence[str]) -> bool:
    return all(any(fnmatchcase(name, pattern) for pattern in observed.patterns) for name in months)
