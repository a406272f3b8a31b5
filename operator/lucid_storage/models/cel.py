"""Marks for what plain JSON schema does not say: CEL rules and the keys of lists."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema


@dataclass(frozen=True, slots=True)
class Rule:
    """A CEL expression that the API server checks, and the sentence it answers when that is false.

    An expression that names `oldSelf` is checked only on a change, and only where the old value was present.
    """

    expression: str
    message: str

    def to_dict(self) -> dict[str, str]:
        return {"rule": self.expression, "message": self.message}


class Rules:
    """Annotation: the rules of one field or type."""

    def __init__(self, *rules: Rule) -> None:
        self.rules = rules

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        target = handler.resolve_ref_schema(schema) if "$ref" in schema else schema
        mine = [rule.to_dict() for rule in self.rules]
        if target is not schema:
            # A rule of one field must not become a rule of every field of that type.
            return {"allOf": [schema], "x-kubernetes-validations": mine}
        return {**schema, "x-kubernetes-validations": [*schema.get("x-kubernetes-validations", []), *mine]}


class ListMap:
    """Annotation: the list is a map by these fields; the API server refuses a key that comes twice."""

    def __init__(self, *keys: str) -> None:
        self.keys = keys

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        schema = handler(core_schema)
        return {**schema, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": list(self.keys)}


class ListSet:
    """Annotation: no value comes twice in the list."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {**handler(core_schema), "x-kubernetes-list-type": "set"}


class IntOrString:
    """Annotation: a number or a word, such as the order of an index key."""

    def __get_pydantic_json_schema__(
        self, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        return {"x-kubernetes-int-or-string": True}


def immutable(what: str, advice: str = "create another resource instead") -> Rule:
    """For a required field."""
    return Rule("self == oldSelf", f"{what} cannot be changed; {advice}.")


def immutable_optional(field: str, advice: str = "create another resource instead") -> Rule:
    """For an optional field; belongs on the object that has the field, since adding it is a change too."""
    return Rule(_unchanged(field), f"{field} cannot be added, changed or removed; {advice}.")


def fixed_fields(rules: Iterable[Mapping[str, str]]) -> set[str]:
    """The fields that rules of an object, as they stand in a CRD, make immutable; "" is the object itself."""
    fixed = set()
    for rule in rules:
        if rule["rule"] == "self == oldSelf":
            fixed.add("")
        if match := _FIXED.match(rule["rule"]):
            fixed.add(match["optional"] or match["required"])
    return fixed


_FIXED = re.compile(
    r"has\(self\.(?P<optional>\w+)\) == has\(oldSelf\.(?P=optional)\)"
    r"|self\.(?P<required>\w+) == oldSelf\.(?P=required)$"
)


def at_most_one(*fields: str) -> Rule:
    """Fields that exclude one another."""
    names = f"{', '.join(fields[:-1])} and {fields[-1]}"
    return Rule(f"{_present(fields)} <= 1", f"{names} exclude one another; keep one of them.")


def exactly_one(*fields: str) -> Rule:
    """A union: one field a variant."""
    names = f"{', '.join(fields[:-1])} and {fields[-1]}"
    return Rule(f"{_present(fields)} == 1", f"Fill exactly one of {names}.")


def immutable_all(message: str, *, required: Sequence[str], optional: Sequence[str]) -> tuple[Rule, ...]:
    """One rule a field, all with the same sentence; belongs on the object that has the fields."""
    return tuple(Rule(f"self.{field} == oldSelf.{field}", message) for field in required) + tuple(
        Rule(_unchanged(field), message) for field in optional
    )


def rising_flag(field: str) -> Rule:
    """A flag that goes from false to true only; it has a default, so it is always present."""
    return Rule(f"!oldSelf.{field} || self.{field}", f"{field} cannot be taken back once it is true.")


def _present(fields: Sequence[str]) -> str:
    return f"[{', '.join(f'has(self.{field})' for field in fields)}].filter(x, x).size()"


def _unchanged(field: str) -> str:
    return (
        f"has(self.{field}) == has(oldSelf.{field}) && "
        f"(!has(self.{field}) || self.{field} == oldSelf.{field})"
    )
