"""Marks for what plain JSON schema does not say: CEL rules and the keys of lists."""

from __future__ import annotations

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
    return Rule(
        f"has(self.{field}) == has(oldSelf.{field}) && (!has(self.{field}) || self.{field} == oldSelf.{field})",
        f"{field} cannot be added, changed or removed; {advice}.",
    )


def at_most_one(*fields: str) -> Rule:
    """Fields that exclude one another."""
    present = ", ".join(f"has(self.{field})" for field in fields)
    names = f"{', '.join(fields[:-1])} and {fields[-1]}"
    return Rule(f"[{present}].filter(x, x).size() <= 1", f"{names} exclude one another; keep one of them.")
