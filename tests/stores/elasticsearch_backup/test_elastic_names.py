"""Raw members of JSON, and which names a namespace may use."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.errors import LucidError
from lucid_storage.stores.elasticsearch.backup.definitions import Definition, Template
from lucid_storage.stores.elasticsearch.backup.http import encoded
from lucid_storage.stores.elasticsearch.backup.marks import mark_of, with_meta
from lucid_storage.stores.elasticsearch.backup.names import (
    Allowed,
    renamed,
    scratch_name,
    selected,
    staged_name,
)
from lucid_storage.stores.elasticsearch.backup.rawjson import NotJsonError, elements, joined, member, members


def test_members_keep_numbers_and_blanks_as_they_came() -> None:
    text = ' { "a" : 1.0 , "b":1e400,"c": {"d":[1, 2.50]} , "e\\u0061":12345678901234567890 } '
    assert members(text) == {"a": "1.0", "b": "1e400", "c": '{"d":[1, 2.50]}', "ea": "12345678901234567890"}
    assert member(text, "c", "d") == "[1, 2.50]"
    assert member(text, "x", "y") == "{}"
    assert elements('[ 1.0, {"a":2.0} ,"x"]') == ["1.0", '{"a":2.0}', '"x"']


@given(st.dictionaries(st.text(), st.recursive(st.integers() | st.text(), st.lists, max_leaves=5)))
def test_members_joined_again_are_the_same(value: dict[str, object]) -> None:
    assert json.loads(joined(members(json.dumps(value)))) == value


@pytest.mark.parametrize(
    "text", ["", "[]", "{", '{"a"}', '{"a":}', '{"a":1', '{"a":1,}', '{"a":1,"a":2}', "{1:2}"]
)
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(NotJsonError):
        members(text)


def test_definitions_and_templates_survive_the_archive() -> None:
    definition = Definition(
        "i-r-1", "i", "u", '{"_meta":{"x":1.0}}', {"index.a": "1"}, {"b": '{"filter":{"x":1.0}}'}
    )
    assert Definition.parse(definition.text()) == definition
    template = Template(False, "t", '{"index_patterns":["a-*"],"composed_of":["c"],"priority":1}')
    assert Template.parse(template.text()) == template
    assert (template.patterns, template.components) == (("a-*",), ("c",))


def test_the_mark_of_a_restore_leaves_other_meta_as_it_is() -> None:
    mappings = '{"dynamic":"strict","_meta":{"ratio":1.0,"owner":"x"}}'
    marked = with_meta(mappings, '{"target":"t","run":"r"}')
    assert mark_of(marked) == {"target": "t", "run": "r"}
    assert member(marked, "_meta", "ratio") == "1.0"
    assert with_meta(marked, None) == mappings
    assert with_meta(with_meta('{"properties":{}}', "{}"), None) == '{"properties":{}}'


@pytest.mark.parametrize(
    ("patterns", "name", "may"),
    [
        (["*"], "anything", True),
        (["lucid-*"], "lucid-a", True),
        (["lucid-*"], "other", False),
        (["lucid-sessions"], "lucid-sessions-2026.11", True),
        (["lucid-sessions"], "lucid-sessions-2026.11.02", True),
        (["lucid-sessions"], "lucid-sessions-archive", False),
        ([], "a", False),
    ],
)
def test_a_namespace_may_use_its_series_and_patterns(patterns: list[str], name: str, may: bool) -> None:
    assert Allowed(patterns).name(name) is may


@pytest.mark.parametrize(
    ("patterns", "expression", "may"),
    [
        (["*"], "*", True),
        (["lucid-*"], "lucid-a-*", True),
        (["lucid-*"], "*", False),
        (["lucid-*"], "lucid*", False),
        (["lucid-?"], "lucid-*", False),
        (["lucid-" + "?" * 20], "lucid-*", False),
    ],
)
def test_a_pattern_is_allowed_when_all_that_it_matches_is(
    patterns: list[str], expression: str, may: bool
) -> None:
    assert Allowed(patterns).expression(expression) is may


def test_names_of_a_restore_are_computed() -> None:
    assert staged_name("a-2026.11", "Run_1/x") == "a-2026.11-r-run1x"
    assert scratch_name("r1", 3) == "lucid_stg_r1_3"
    assert renamed("a", "{index}-copy") == "a-copy"
    assert renamed("a", None) == "a"
    assert selected("a", ["series"], ["series"])
    assert not selected("a", ["series"], ["seri*"])
    assert selected("a", [], [])


@pytest.mark.parametrize("name", ["", ".", "..", "_all", "a*", "a,b", "a?"])
def test_a_name_that_stands_for_several_never_reaches_a_path(name: str) -> None:
    with pytest.raises(LucidError):
        encoded(name)
    assert encoded("a/b c") == "a%2Fb%20c"
