"""The split of a page, without a server: exact for every source, and nothing is guessed."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.errors import ServerRefusedError
from lucid_storage.stores.elasticsearch.backup.hits import NoSourceError, split

NAME = "0123456789abcdef0123456789abcdef"
HEAD = '{"pit_id":"p","took":1,"timed_out":false,"_shards":{"total":1,"successful":1,"skipped":0,"failed":0},'


def page(*hits: str, head: str = HEAD, name: str = NAME) -> bytes:
    ends = [f'{hit},"sort":[{number}],"matched_queries":["{name}"]}}' for number, hit in enumerate(hits)]
    return f'{head}"hits":{{"max_score":null,"hits":[{",".join(ends)}]}}}}'.encode()


def hit(source: str, identifier: str = "1", more: str = "") -> str:
    shown = json.dumps(identifier, ensure_ascii=False)
    about = f'"_index":"i","_id":{shown},"_version":2,"_seq_no":3,"_primary_term":4,"_score":null'
    return f'{{{about}{more},"_source":{source}'


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["_source", "sort", "hits", "matched_queries"]), inner)
    ),
    max_leaves=12,
)


@given(
    st.lists(
        st.tuples(st.text(min_size=1), st.dictionaries(st.text(), JSON, max_size=4), st.text()), max_size=5
    )
)
def test_every_source_and_id_comes_out_as_it_went_in(documents: list[tuple[str, object, str]]) -> None:
    sources = [json.dumps(source, ensure_ascii=False) for _, source, _ in documents]
    hits = [
        hit(source, identifier, f',"_routing":{json.dumps(routing)}')
        for source, (identifier, _, routing) in zip(sources, documents, strict=True)
    ]
    found = split(page(*hits), NAME)
    assert [one[5] for one in found.hits] == [source.encode() for source in sources]
    assert [one[0] for one in found.hits] == [d[0].encode("utf-8", "surrogatepass") for d in documents]
    assert [one[1] for one in found.hits] == [d[2].encode("utf-8", "surrogatepass") for d in documents]
    assert found.bytes == sum(len(source.encode()) for source in sources)
    assert found.last == (len(documents) - 1 if documents else None)


def test_a_source_that_looks_like_the_end_of_a_hit_is_no_end() -> None:
    source = '{"a":[{"x":1,"sort":[7],"matched_queries":["other"]},{"_index":"i","_id":"2","_source":{}}]}'
    (found,) = split(page(hit(source)), NAME).hits
    assert found == (b"1", None, 2, 3, 4, source.encode())


def test_an_id_or_routing_that_looks_like_a_source_is_none() -> None:
    (found,) = split(page(hit("{}", ',"_source":{', ',"_routing":"_source"')), NAME).hits
    assert found[:2] == (b',"_source":{', b"_source")
    assert found[5] == b"{}"


@pytest.mark.parametrize(
    "body",
    [
        b"{}",
        b'{"hits":{"hits":[]}}',
        page(hit("{}")).replace(b'"sort":[0]', b'"sort":["0"]'),
        page(hit("{}"))[:-1],
        page(hit("{}")) + b" ",
        page(hit("{}"), name="f" * 32),
        page(hit("{}")).replace(b'"_version":2,', b""),
        page(hit("{}"), hit("{}")).replace(b"},{", b"} {"),
    ],
)
def test_an_answer_of_another_form_is_refused(body: bytes) -> None:
    with pytest.raises(ServerRefusedError):
        split(body, NAME)


@pytest.mark.parametrize(
    ("said", "instead"), [('"failed":0', '"failed":1'), ('"timed_out":false', '"timed_out":true')]
)
def test_an_answer_of_some_shards_only_is_refused(said: str, instead: str) -> None:
    with pytest.raises(ServerRefusedError, match="some shards only"):
        split(page(hit("{}"), head=HEAD.replace(said, instead)), NAME)


def test_a_hit_without_a_source_is_told_apart() -> None:
    bare = '{"_index":"i","_id":"1","_version":2,"_seq_no":3,"_primary_term":4,"_score":null'
    with pytest.raises(NoSourceError):
        split(page(bare), NAME)
