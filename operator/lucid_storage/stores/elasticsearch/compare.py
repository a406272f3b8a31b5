"""How a declared mapping, settings or policy differs from the server's, pure; an empty list means equal.

What the server has beyond the declaration is no difference: fields and parameters that nobody declares are
unmanaged. What the server leaves out because it is its default is none either.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from lucid_storage.stores.elasticsearch.settings import DEFAULT_TIER, flat
from lucid_storage.stores.mongodb.types import JsonDoc, JsonValue

# Source: the mapping parameters reference of Elasticsearch 8. The server writes a parameter
# down exactly when it is not the default of the field's type.
_PARAMETER_DEFAULTS: dict[str, tuple[JsonValue, ...]] = {
    "analyzer": ("default",),
    "coerce": (True,),
    "copy_to": ([],),
    "doc_values": (True,),
    "dynamic": (True,),
    "eager_global_ordinals": (False,),
    "enabled": (True,),
    "fielddata": (False,),
    "fields": ({},),
    "format": ("strict_date_optional_time||epoch_millis",),
    "ignore_above": (2147483647,),
    "ignore_malformed": (False,),
    "include_in_parent": (False,),
    "include_in_root": (False,),
    "index": (True,),
    "index_phrases": (False,),
    "index_prefixes": (None,),
    "meta": ({},),
    "null_value": (None,),
    "orientation": ("right",),
    "position_increment_gap": (100,),
    "properties": ({},),
    "required": (False,),
    "similarity": ("BM25",),
    "split_queries_on_whitespace": (False,),
    "store": (False,),
    "subobjects": (True,),
    "term_vector": ("no",),
    "time_series_dimension": (False,),
}
_TYPE_DEFAULTS: dict[str, dict[str, tuple[JsonValue, ...]]] = {
    "date_nanos": {"format": ("strict_date_optional_time_nanos||epoch_millis",)},
    "keyword": {"index_options": ("docs",), "norms": (False,)},
    "text": {"index_options": ("positions",), "norms": (True,)},
}
_ROOT_DEFAULTS: dict[str, tuple[JsonValue, ...]] = {
    "_meta": ({},),
    "date_detection": (True,),
    "dynamic": (True,),
    "dynamic_date_formats": (["strict_date_optional_time", "yyyy/MM/dd HH:mm:ss Z||yyyy/MM/dd Z"],),
    "dynamic_templates": ([],),
    "enabled": (True,),
    "numeric_detection": (False,),
    "runtime": ({},),
    "subobjects": (True,),
}
_NUMBER = re.compile(r"-?\d+(\.\d+)?([eE][-+]?\d+)?")
_ZERO = re.compile(r"0+ ?(d|h|m|s|ms|micros|nanos)?")
_SETTING_DEFAULTS: dict[str, JsonValue] = dict((DEFAULT_TIER,))


def mapping_differences(wanted: JsonDoc, observed: JsonDoc) -> list[str]:
    """Dotted paths below the mapping where the server differs, such as "properties.title.type", sorted."""
    found: list[str] = []
    for name, value in wanted.items():
        if name == "properties":
            _compare_fields("properties", _object(value), _object(observed.get(name)), found)
        elif name == "runtime":
            _compare_runtime(_object(value), _object(observed.get(name)), found)
        elif name.startswith("_") and name != "_meta":
            _compare_parameters(name, _object(value), _object(observed.get(name)), found)
        elif not _same_or_default(value, observed.get(name), _ROOT_DEFAULTS.get(name, ())):
            found.append(name)
    return sorted(found)


def settings_differences(wanted: Mapping[str, JsonValue], observed: Mapping[str, JsonValue]) -> list[str]:
    """Flat names, with "index.", of the declared settings that the server has otherwise, sorted.

    None as a wanted value means that the setting is not set.
    """
    have = flat(observed)
    return sorted(
        name
        for name, value in flat(wanted).items()
        if not _same(value, have.get(name, _SETTING_DEFAULTS.get(name)), as_setting=True)
    )


def policy_differences(wanted: JsonDoc, observed: JsonDoc) -> list[str]:
    """Dotted paths where an ILM policy's body differs, both ways, since a policy is replaced as a whole."""
    have, want = _explicit_policy(observed), _explicit_policy(wanted)
    found: list[str] = []
    _compare_trees("", want, have, found)
    return sorted(found)


def _compare_fields(
    path: str, wanted: Mapping[str, JsonValue], observed: Mapping[str, JsonValue], found: list[str]
) -> None:
    have = expand_dots(observed)  # a template keeps dotted names as they were written
    for name, value in expand_dots(wanted).items():
        here = f"{path}.{name}"
        if name not in have:
            found.append(here)
        else:
            _compare_field(here, _object(value), _object(have[name]), found)


def _compare_field(path: str, wanted: JsonDoc, observed: JsonDoc, found: list[str]) -> None:
    if wanted.get("type", "object") != observed.get("type", "object"):
        found.append(f"{path}.type")
        return
    for name in ("properties", "fields"):
        if name in wanted:
            _compare_fields(f"{path}.{name}", _object(wanted[name]), _object(observed.get(name)), found)
    rest = {name: value for name, value in wanted.items() if name not in {"type", "properties", "fields"}}
    _compare_parameters(path, rest, observed, found)


def _compare_parameters(path: str, wanted: JsonDoc, observed: JsonDoc, found: list[str]) -> None:
    by_type = _TYPE_DEFAULTS.get(str(observed.get("type")), {})
    for name, value in wanted.items():
        want, have = value, observed.get(name)
        if name == "copy_to":
            want, have = _listed(value), _listed(have)
        elif name == "search_analyzer" and have is None:
            have = observed.get("analyzer")
        elif name == "search_quote_analyzer" and have is None:
            have = observed.get("search_analyzer", observed.get("analyzer"))
        if not _same_or_default(want, have, {**_PARAMETER_DEFAULTS, **by_type}.get(name, ())):
            found.append(f"{path}.{name}")


def _compare_runtime(wanted: JsonDoc, observed: JsonDoc, found: list[str]) -> None:
    for name, value in wanted.items():
        want, have = _explicit_script(_object(value)), _explicit_script(_object(observed.get(name)))
        if not _same(want, {key: have.get(key) for key in want}):
            found.append(f"runtime.{name}")


def expand_dots(fields: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """{"a.b": x} as the server keeps it: {"a": {"properties": {"b": x}}}."""
    found: dict[str, JsonValue] = {}
    for name, value in fields.items():
        first, dot, rest = name.partition(".")
        inner: JsonValue = {"properties": {rest: value}} if dot else value
        there = found.get(first)
        found[first] = _merged(_object(there), _object(inner)) if there is not None else inner
    return found


def _merged(one: JsonDoc, other: JsonDoc) -> dict[str, JsonValue]:
    properties = {**_object(one.get("properties")), **_object(other.get("properties"))}
    return {**one, **other, **({"properties": properties} if properties else {})}


def _explicit_script(field: JsonDoc) -> dict[str, JsonValue]:
    script = field.get("script")
    if isinstance(script, str):
        script = {"source": script}
    return {**field, "script": {"lang": "painless", **script}} if isinstance(script, dict) else dict(field)


def _explicit_policy(policy: JsonDoc) -> dict[str, JsonValue]:
    """The policy with what the server fills in: a phase's min_age of 0ms, actions, and delete's option."""
    phases: dict[str, JsonValue] = {}
    for name, value in _object(policy.get("phases")).items():
        phase: dict[str, JsonValue] = {"min_age": "0ms", "actions": {}, **_object(value)}
        actions = dict(_object(phase["actions"]))
        if "delete" in actions:
            actions["delete"] = {"delete_searchable_snapshot": True, **_object(actions["delete"])}
        phases[name] = {**phase, "min_age": _duration(phase["min_age"]), "actions": actions}
    rest: dict[str, JsonValue] = {
        key: value for key, value in policy.items() if key not in {"phases", "deprecated"} and value != {}
    }
    return {**rest, "phases": phases}


def _duration(value: JsonValue) -> JsonValue:
    """A zero in any unit is the server's 0ms."""
    return "0ms" if _ZERO.fullmatch(str(value)) else value


def _compare_trees(path: str, wanted: JsonValue, observed: JsonValue, found: list[str]) -> None:
    if isinstance(wanted, dict) and isinstance(observed, dict):
        for name in wanted.keys() | observed.keys():
            _compare_trees(f"{path}.{name}" if path else name, wanted.get(name), observed.get(name), found)
    elif not _same(wanted, observed):
        found.append(path)


def _same_or_default(wanted: JsonValue, observed: JsonValue, defaults: tuple[JsonValue, ...]) -> bool:
    if observed is None:
        return wanted is None or any(_same(wanted, default) for default in defaults)
    return _same(wanted, observed)


def _same(wanted: JsonValue, observed: JsonValue, *, as_setting: bool = False) -> bool:
    """Equality regardless of how the server writes scalars: true and "true", 1, 1.0 and "1"."""
    if isinstance(wanted, dict) and isinstance(observed, dict):
        return wanted.keys() == observed.keys() and all(_same(wanted[key], observed[key]) for key in wanted)
    if as_setting and isinstance(wanted, list) != isinstance(observed, list):
        wanted, observed = _split(wanted), _split(observed)
    if isinstance(wanted, list) and isinstance(observed, list):
        return len(wanted) == len(observed) and all(map(_same, wanted, observed))
    if isinstance(wanted, dict | list) or isinstance(observed, dict | list):
        return False
    if wanted is None or observed is None:
        return wanted is observed
    return _scalar(wanted) == _scalar(observed)


def _scalar(value: bool | int | float | str) -> float | str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return float(value) if _NUMBER.fullmatch(str(value)) else str(value)


def _split(value: JsonValue) -> JsonValue:
    """A list setting may be written as one text with commas."""
    return [part.strip() for part in value.split(",")] if isinstance(value, str) else value


def _listed(value: JsonValue) -> JsonValue:
    return value if isinstance(value, list) or value is None else [value]


def _object(value: JsonValue) -> dict[str, JsonValue]:
    return value if isinstance(value, dict) else {}
