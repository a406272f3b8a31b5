"""The proof of ownership: the uid of the resource, written into what it makes and into nothing else. Pure.

It is kept by Elasticsearch itself, so that no crash between a creation and a status can lose it.
"""

from __future__ import annotations

from lucid_storage.stores.elasticsearch.types import ElasticIndexState, LifecyclePolicyState, TemplateState
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

MANAGED_BY = "lucid-storage"


def meta(owner: str) -> dict[str, JsonValue]:
    """For `_meta` of a template or a policy."""
    return {"managed-by": MANAGED_BY, "uid": owner}


def marked_mappings(mappings: JsonDoc, owner: str) -> dict[str, JsonValue]:
    """Mappings with the proof in their `_meta`, the one free place that an index has."""
    declared = mappings.get("_meta")
    return {**mappings, "_meta": {**(declared if isinstance(declared, dict) else {}), MANAGED_BY: owner}}


def made_template(template: TemplateState | None, owner: str) -> bool:
    return template is not None and _is_ours(template.meta, owner)


def made_policy(policy: LifecyclePolicyState | None, owner: str) -> bool:
    if policy is None:
        return False
    found = policy.policy.get("_meta")
    return isinstance(found, dict) and _is_ours(found, owner)


def made_index(index: ElasticIndexState, owner: str) -> bool:
    found = index.mappings.get("_meta")
    return isinstance(found, dict) and found.get(MANAGED_BY) == owner


def _is_ours(found: JsonDoc, owner: str) -> bool:
    return found.get("managed-by") == MANAGED_BY and found.get("uid") == owner
