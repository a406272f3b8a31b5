"""From a pydantic model to the structural schema of a CRD.

Kubernetes takes a subset of OpenAPI and ignores or refuses the rest, so nothing passes that is not understood
here: an unknown key is an error of the generator and not a surprise in a cluster. Every string, list, map and
number must have a bound, because the API server estimates the cost of CEL rules from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import core_schema

from lucid_storage.models.base import SpecModel
from lucid_storage.models.docstrings import field_docstrings

Schema = dict[str, Any]

_COPIED = (
    "type",
    "description",
    "enum",
    "default",
    "minimum",
    "maximum",
    "minLength",
    "maxLength",
    "minItems",
    "maxItems",
    "minProperties",
    "maxProperties",
    "pattern",
    "format",
    "required",
    "x-kubernetes-validations",
    "x-kubernetes-list-type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-int-or-string",
    "x-kubernetes-preserve-unknown-fields",
)
_WALKED = ("properties", "items", "additionalProperties")
_RESOLVED = ("$ref", "allOf", "$defs", "title")

_FORMATS = {"date-time"}


class SchemaError(Exception):
    """A model uses something that the structural schema of a CRD cannot say."""


class _Generator(GenerateJsonSchema):
    """pydantic's generator with absence instead of null, our docstrings and our rules."""

    def nullable_schema(self, schema: core_schema.NullableSchema) -> JsonSchemaValue:
        return self.generate_inner(schema["schema"])

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        inner = super().default_schema(schema)
        if "default" in inner and inner["default"] is None:
            del inner["default"]
        return inner

    def model_schema(self, schema: core_schema.ModelSchema) -> JsonSchemaValue:
        result = super().model_schema(schema)
        model = cast("type[BaseModel]", schema["cls"])
        docs = field_docstrings(model)
        for name, field in model.model_fields.items():
            if name not in docs:
                raise SchemaError(f"{model.__name__}.{name} has no docstring.")
            key = field.alias or name
            result["properties"][key] = {**result["properties"][key], "description": docs[name]}
        if issubclass(model, SpecModel) and model.rules:
            result["x-kubernetes-validations"] = [rule.to_dict() for rule in model.rules]
        return result


def structural_schema(model: type[BaseModel]) -> Schema:
    """The schema of one model with everything inlined. Raises SchemaError."""
    mode: JsonSchemaMode = "validation"
    raw = model.model_json_schema(by_alias=True, schema_generator=_Generator, mode=mode)
    return _Walker(raw.get("$defs", {})).walk(raw, model.__name__)


class _Walker:
    def __init__(self, definitions: Mapping[str, Schema]) -> None:
        self._definitions = definitions
        self._open: list[str] = []

    def walk(self, schema: Schema, path: str) -> Schema:
        if "$ref" in schema:
            return self._inline(schema, path)
        if "allOf" in schema:
            return self._merge(schema, path)
        unknown = set(schema) - set(_COPIED) - set(_WALKED) - set(_RESOLVED)
        if unknown:
            raise SchemaError(f"{path}: {', '.join(sorted(unknown))} cannot be said in a CRD.")
        result = {key: schema[key] for key in _COPIED if key in schema}
        self._children(schema, result, path)
        if "description" in result:
            result["description"] = _unwrapped(result["description"])
        if result.get("type") == "integer":
            result["format"] = "int64"
        if result.get("type") == "number":
            result["format"] = "double"
        _check(result, path)
        return result

    def _inline(self, schema: Schema, path: str) -> Schema:
        name = schema["$ref"].removeprefix("#/$defs/")
        if name in self._open:
            raise SchemaError(f"{path}: {name} contains itself.")
        self._open.append(name)
        inner = self.walk(self._definitions[name], path)
        self._open.pop()
        return _joined(inner, {key: value for key, value in schema.items() if key != "$ref"}, path)

    def _merge(self, schema: Schema, path: str) -> Schema:
        if len(schema["allOf"]) != 1:
            raise SchemaError(f"{path}: allOf of several schemas cannot be said in a CRD.")
        inner = self.walk(schema["allOf"][0], path)
        return _joined(inner, {key: value for key, value in schema.items() if key != "allOf"}, path)

    def _children(self, schema: Schema, result: Schema, path: str) -> None:
        if "properties" in schema:
            result["properties"] = {
                key: self.walk(value, f"{path}.{key}") for key, value in schema["properties"].items()
            }
        if "items" in schema:
            result["items"] = self.walk(schema["items"], f"{path}[]")
        # false is what extra="forbid" gives; the API server drops or refuses unknown fields by itself.
        extra = schema.get("additionalProperties", False)
        if extra is True:
            raise SchemaError(f"{path}: a map needs a type for its values.")
        if extra is not False:
            result["additionalProperties"] = self.walk(extra, f"{path}{{}}")


def _joined(inner: Schema, outer: Schema, path: str) -> Schema:
    """A referenced schema with what stands beside the reference; rules add up, the rest replaces."""
    unknown = set(outer) - {"description", "default", "title", "x-kubernetes-validations"}
    if unknown:
        raise SchemaError(f"{path}: {', '.join(sorted(unknown))} beside a reference is not understood.")
    rules = [*inner.get("x-kubernetes-validations", []), *outer.get("x-kubernetes-validations", [])]
    result = {**inner, **{key: value for key, value in outer.items() if key != "title"}}
    if "description" in result:
        result["description"] = _unwrapped(result["description"])
    if rules:
        result["x-kubernetes-validations"] = rules
    return result


def _unwrapped(text: str) -> str:
    return " ".join(text.split())


def _check_string(schema: Schema) -> str | None:
    if "enum" in schema or schema.get("format") in _FORMATS or "maxLength" in schema:
        return None
    return "a string needs max_length"


def _check_number(schema: Schema) -> str | None:
    return None if "minimum" in schema and "maximum" in schema else "a number needs ge and le"


def _check_array(schema: Schema) -> str | None:
    if "items" not in schema:
        return "a list needs a type for its items"
    return None if "maxItems" in schema else "a list needs max_length"


def _check_object(schema: Schema) -> str | None:
    if "additionalProperties" in schema and "maxProperties" not in schema:
        return "a map needs max_length"
    return None


_CHECKS: Mapping[str, Callable[[Schema], str | None]] = {
    "string": _check_string,
    "integer": _check_number,
    "number": _check_number,
    "array": _check_array,
    "object": _check_object,
    "boolean": lambda schema: None,
}


def _check(schema: Schema, path: str) -> None:
    if schema.get("x-kubernetes-int-or-string"):
        return
    if "type" not in schema:
        raise SchemaError(f"{path}: a value needs a type.")
    kind = schema["type"]
    if kind not in _CHECKS:
        raise SchemaError(f"{path}: type {kind} cannot be said in a CRD.")
    problem = _CHECKS[kind](schema)
    if problem is None and schema.get("format") not in {None, "int64", "double", *_FORMATS}:
        problem = f"format {schema['format']} is not understood"
    if problem:
        raise SchemaError(f"{path}: {problem}.")
