"""Answers held against the API contract, with the two places where the contract contradicts itself.

`IndexResponse.key` and `IndexCreateRequest.key` say `type: integer` beside `enum: [1, -1, "2d", "2dsphere",
"text", "hashed"]`, which no text order can satisfy. The enum is what is meant, so the type is dropped where
an enum holds other types. (`BalancerStatusResponse.mode` has `enum: [full, off]`, where YAML reads `off` as
false; its operation is not served yet.)
"""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml
from openapi_schema_validator import OAS30Validator, oas30_format_checker

CONTRACTS = ("storage-database", "cache-volume-search")
_TYPES: dict[str, type | tuple[type, ...]] = {"integer": int, "string": str, "number": (int, float)}


@cache
def contract(name: str) -> dict[str, Any]:
    text = files("lucid_storage.restapi").joinpath("contracts", f"{name}.openapi.yaml").read_text()
    document: dict[str, Any] = yaml.safe_load(text)
    return document


def operations() -> set[tuple[str, str]]:
    return {
        (method.upper(), path)
        for name in CONTRACTS
        for path, item in contract(name)["paths"].items()
        for method in item
    }


@cache
def schema(name: str, *, corrected: bool = True) -> dict[str, Any]:
    """A component schema of the database contract, with its references put in place."""
    document = contract("storage-database")
    resolved = _resolve(document["components"]["schemas"][name], document)
    found: dict[str, Any] = _without_contradictions(resolved) if corrected else resolved
    return found


def check(body: object, name: str, *, corrected: bool = True) -> None:
    """Raises ValidationError where the body is not what the contract says."""
    found = schema(name, corrected=corrected)
    OAS30Validator(found, format_checker=oas30_format_checker).validate(body)


def _resolve(part: Any, document: dict[str, Any]) -> Any:
    if isinstance(part, list):
        return [_resolve(item, document) for item in part]
    if not isinstance(part, dict):
        return part
    if "$ref" in part:
        target: Any = document
        for step in part["$ref"].removeprefix("#/").split("/"):
            target = target[step]
        return _resolve(target, document)
    return {key: _resolve(value, document) for key, value in part.items()}


def _without_contradictions(part: Any) -> Any:
    if isinstance(part, list):
        return [_without_contradictions(item) for item in part]
    if not isinstance(part, dict):
        return part
    found = {key: _without_contradictions(value) for key, value in part.items()}
    wanted = _TYPES.get(str(found.get("type")))
    if wanted is not None and any(not isinstance(value, wanted) for value in found.get("enum", ())):
        del found["type"]
    return found
