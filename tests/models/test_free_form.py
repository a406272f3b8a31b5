"""What is refused inside free-form documents, which CEL cannot see."""

import json
from typing import Any

import pytest

from lucid_storage.models.schema_checks import MAX_BYTES, MAX_DEPTH, free_form_problems


@pytest.mark.parametrize(
    "document",
    [
        {"$where": "true"},
        {"a": 1, "$or": [{"b": 1}, {"$where": "sleep(1)"}]},
        {"$expr": {"$function": {"body": "f", "args": [], "lang": "js"}}},
        {"$expr": {"properties": {"$function": {}}}},
        {"$expr": [[{"$accumulator": {}}]]},
    ],
)
def test_javascript_is_refused_wherever_it_stands(document: dict[str, Any]) -> None:
    (problem,) = free_form_problems(document)
    assert "runs JavaScript on the server and is refused" in problem


def test_each_operator_is_named() -> None:
    problems = free_form_problems({"$where": 1, "a": {"$function": 1}, "b": [{"$accumulator": 1}]})
    assert [problem.split()[0] for problem in problems] == ["$where", "$function", "$accumulator"]


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"$jsonSchema": {"properties": {"where": {"bsonType": "string", "pattern": "$where"}}}},
        {"$expr": {"$gt": ["$a", "$where"]}, "b": None, "c": [1, 2.5, True, None]},
    ],
)
def test_ordinary_documents_pass(document: dict[str, Any]) -> None:
    assert free_form_problems(document) == []


def _nested(levels: int, wrap: Any) -> Any:
    document: Any = {}
    for _ in range(levels - 1):
        document = wrap(document)
    return document


@pytest.mark.parametrize("wrap", [lambda d: {"a": d}, lambda d: {"a": [d]}], ids=["objects", "lists"])
def test_depth_is_bounded_even_beyond_the_stack(wrap: Any) -> None:
    assert "levels deep" in free_form_problems(_nested(100_000, wrap))[0]


def test_the_bound_of_depth_itself_passes() -> None:
    assert free_form_problems(_nested(MAX_DEPTH, lambda d: {"a": d})) == []
    assert free_form_problems(_nested(MAX_DEPTH + 1, lambda d: {"a": d})) != []


def test_size_is_counted_in_bytes() -> None:
    frame = len(json.dumps({"a": ""}, separators=(",", ":")))
    assert free_form_problems({"a": "x" * (MAX_BYTES - frame)}) == []
    assert "Make it smaller" in free_form_problems({"a": "x" * (MAX_BYTES - frame + 1)})[0]
    assert "Make it smaller" in free_form_problems({"a": "ä" * (MAX_BYTES // 2)})[0]


def test_a_broken_character_is_no_crash() -> None:
    assert free_form_problems({"a": "\ud800"}) == []
