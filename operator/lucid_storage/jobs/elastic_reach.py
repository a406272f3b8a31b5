"""What of a backup of Elasticsearch a namespace may have brought back, beyond the names that it restores to.

A manifest and an archive lie where the owner of a bucket may write, while a snapshot is read, and a template made, with
the operator's login. So neither is believed where it names what the namespace may not use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

from lucid_storage.archive.manifest import ElasticRecord, Manifest
from lucid_storage.errors import LucidError, NotAllowedError, Reason
from lucid_storage.jobs.elastic_backup import snapshot_origin
from lucid_storage.stores.elasticsearch.backup.definitions import Definition, Template
from lucid_storage.stores.elasticsearch.backup.http import ElasticHttp, encoded
from lucid_storage.stores.elasticsearch.backup.names import Allowed, is_reserved
from lucid_storage.stores.elasticsearch.backup.rawjson import member, members

_NAME = re.compile(r"[^-_+*?,<>|\"\\/# ][^*?,<>|\"\\/# ]*")
"""One index, and no pattern, list or exclusion."""
_RESTORED = re.compile(r"-r-[a-z0-9]{1,32}")
_EVERYTHING = "*"


def made_by(manifest: Manifest) -> dict[str, str]:
    """What the snapshot of a backup says of itself."""
    origin = manifest.origin
    return snapshot_origin(manifest.id, origin.cluster, origin.namespace, origin.chain)


def check_source(
    record: ElasticRecord, names: Iterable[str], origin: Mapping[str, str], namespace: str, allowed: Allowed
) -> None:
    """Of a snapshot, also under the names that it was made of: who may have one index could else rename any to it.

    Raises NotAllowedError.
    """
    if record.method != "Snapshot" or _EVERYTHING in allowed.patterns:
        return
    for name in names:
        allowed.check(name)
    if origin.get("namespace") != namespace:
        raise NotAllowedError(
            f"The snapshot is of the namespace {origin.get('namespace')}, and {namespace} may not use all indices;"
            " have it restored in the operator's namespace.",
            reason=Reason.INDEX_NOT_ALLOWED,
        )


def check_in_snapshot(one: Definition) -> None:
    """What the archive calls by a name is the index of that name in the snapshot too. Raises LucidError."""
    rest = one.name.removeprefix(one.target) if one.name.startswith(one.target) else None
    held = rest is not None and (not rest or _RESTORED.fullmatch(rest) is not None)
    if not held or is_reserved(one.target) or _NAME.fullmatch(one.target) is None:
        raise LucidError(
            f"The archive is damaged: it looks for {one.target[:100]} in the snapshot under the name {one.name[:100]},"
            " which no backup writes. Use another backup.",
            reason=Reason.ARCHIVE_DAMAGED,
        )


def fitting(
    http: ElasticHttp, templates: Sequence[Template], allowed: Allowed
) -> tuple[list[Template], list[str]]:
    """The templates that reach nothing of others, and notes on those that are left out. Raises LucidError."""
    fit = [one for one in templates if not one.component and _within(one, allowed)]
    notes = [
        f"The template {one.name} was left out: it reaches indices of others."
        for one in templates
        if not one.component and one not in fit
    ]
    used = {name for one in fit for name in one.components}
    parts = [one for one in templates if one.component and one.name in used]
    own = [one for one in parts if _own_part(one, allowed)]
    notes += [
        f"The component template {one.name} was left out: templates of others may be made of it."
        for one in parts
        if one not in own and not http.ask("GET", f"/_component_template/{encoded(one.name)}").ok
    ]
    return [*own, *fit], notes


def _within(template: Template, allowed: Allowed) -> bool:
    """Whether it acts on nothing but indices that are allowed, and gives them no alias that is not."""
    patterns = template.patterns
    # The server puts the name of the index for {index}.
    named = (alias.replace("{index}", pattern) for alias in _aliases(template) for pattern in patterns)
    return all(allowed.expression(pattern) for pattern in patterns) and all(
        allowed.expression(alias) or allowed.name(alias) for alias in named
    )


def _own_part(template: Template, allowed: Allowed) -> bool:
    return allowed.name(template.name) and all(allowed.name(alias) for alias in _aliases(template))


def _aliases(template: Template) -> tuple[str, ...]:
    return tuple(members(member(template.body, "template", "aliases")))
