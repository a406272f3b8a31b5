"""Status is written as the smallest merge patch, and not at all when nothing changed."""

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.kube.status import merge_patch

scalars = st.integers() | st.text(max_size=5) | st.booleans() | st.lists(st.integers(), max_size=3)
inner = st.dictionaries(st.sampled_from("xyz"), scalars, max_size=3)
documents = st.dictionaries(st.sampled_from("abcd"), scalars | inner | st.dictionaries(st.just("n"), inner))


def applied(document: Any, patch: Any) -> Any:
    """RFC 7386, as the API server does it."""
    if not isinstance(patch, dict):
        return patch
    result = dict(document) if isinstance(document, dict) else {}
    for key, value in patch.items():
        if value is None:
            result.pop(key, None)
        else:
            result[key] = applied(result.get(key), value)
    return result


@given(documents, documents)
def test_the_patch_turns_old_into_new(old: dict[str, Any], new: dict[str, Any]) -> None:
    assert applied(old, json.loads(json.dumps(merge_patch(old, new)))) == new


@given(documents)
def test_no_change_is_no_patch(document: dict[str, Any]) -> None:
    assert merge_patch(document, json.loads(json.dumps(document))) == {}
