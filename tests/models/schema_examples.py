"""Values made from a schema."""

from typing import Any

Json = dict[str, Any]


def example(schema: Json) -> Any:
    """A value with every field that the schema knows, each list and map with one entry."""
    if schema.get("x-kubernetes-preserve-unknown-fields"):
        return {"a": {"b": None}}
    if "enum" in schema:
        return schema["enum"][-1]
    kind = schema["type"]
    if kind == "object":
        fields = {name: example(child) for name, child in schema.get("properties", {}).items()}
        if "additionalProperties" in schema:
            fields["key"] = example(schema["additionalProperties"])
        return fields
    if kind == "array":
        return [example(schema["items"])]
    if kind == "string":
        return "2026-11-21T02:00:00Z" if schema.get("format") == "date-time" else "text"
    return {"integer": 7, "number": 0.5, "boolean": True}[kind]
