import re
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.stores.redis.patterns import PatternMatcher, by_specificity, scan_filter

segments = st.lists(st.sampled_from(["a", "b", "-", "*", "{x}", "{y}"]), min_size=1, max_size=4).map("".join)
patterns = st.lists(segments, min_size=1, max_size=4).map(":".join)
keys = st.lists(st.text(alphabet="ab-*:", min_size=0, max_size=6), min_size=1, max_size=4).map(":".join)


def naive(pattern: str) -> re.Pattern[str]:
    """What a pattern means, without care for speed."""
    return re.compile("".join("[^:]+" if part[0] == "{" else re.escape(part) for part in split(pattern)))


def split(pattern: str) -> list[str]:
    return [part for part in re.split(r"(\{[^{}:]+\})", pattern) if part]


@pytest.mark.parametrize(
    ("pattern", "key", "matches"),
    [
        ("lucid:session:token:{id}", "lucid:session:token:abc123", True),
        ("lucid:session:token:{id}", "lucid:session:token:abc:123", False),
        ("lucid:session:token:{id}", "lucid:session:token:", False),
        ("lucid:session:token:{id}", "xlucid:session:token:1", False),
        ("lucid:session:token:{id}", "lucid:session:token:1\n", True),
        ("lucid:{service}:token:{id}", "lucid:session:token:1", True),
        ("lucid:*:{id}", "lucid:any:1", False),
        ("lucid:*:{id}", "lucid:*:1", True),
        ("user-{id}-{part}", "user-a-b-c", True),
        ("user-{id}-{part}-end", "user--x-end", False),
        ("a{}b", "a{}b", True),
        ("größe:{x}", "größe:ü", True),
    ],
)
def test_a_placeholder_is_one_segment_and_all_else_is_literal(pattern: str, key: str, matches: bool) -> None:
    assert (PatternMatcher([pattern]).match(key.encode()) == pattern) is matches


@given(pattern=patterns, key=keys)
def test_matching_means_what_the_plain_reading_of_the_pattern_means(pattern: str, key: str) -> None:
    assert (PatternMatcher([pattern]).match(key.encode()) is not None) == bool(naive(pattern).fullmatch(key))


@given(candidates=st.lists(patterns, min_size=1, max_size=5), key=keys)
def test_a_key_belongs_to_the_first_matching_pattern_in_order_of_specificity(
    candidates: list[str], key: str
) -> None:
    expected = next((p for p in by_specificity(candidates) if naive(p).fullmatch(key)), None)
    assert PatternMatcher(candidates).match(key.encode()) == expected


@given(
    general=patterns, filling=st.lists(st.sampled_from(["a", "b:", "zz", "{q}"]), min_size=16, max_size=16)
)
def test_a_pattern_made_from_another_by_filling_in_a_placeholder_is_more_specific(
    general: str, filling: list[str]
) -> None:
    words = iter(filling)
    special = "".join(next(words).strip(":") if part[0] == "{" else part for part in split(general))
    if special != general and len(split(special)) != len(split(general)):
        assert by_specificity([general, special])[0] == special


def test_the_more_specific_pattern_owns_a_key_that_both_match() -> None:
    matcher = PatternMatcher(["lucid:{service}:{entity}:{id}", "lucid:session:token:{id}"])
    assert matcher.match(b"lucid:session:token:1") == "lucid:session:token:{id}"
    assert matcher.match(b"lucid:cache:token:1") == "lucid:{service}:{entity}:{id}"


def test_keys_that_are_not_text_are_matched_too() -> None:
    assert PatternMatcher(["bin:{x}"]).match(b"bin:\xff\xfe") == "bin:{x}"


def test_a_hostile_key_does_not_make_matching_slow() -> None:
    matcher = PatternMatcher(["{a}-{b}-{c}-{d}-{e}-{f}-{g}-end"])
    begun = time.perf_counter()
    assert matcher.match(b"-" * 20_000) is None
    assert time.perf_counter() - begun < 10, "backtracking would take years"


def test_the_scan_filter_is_the_common_literal_prefix_with_glob_signs_escaped() -> None:
    assert scan_filter(["lucid:session:{id}", "lucid:cache:{id}"]) == b"lucid:*"
    assert scan_filter(["a*b?[c]^-\\:{id}"]) == rb"a\*b\?\[c\]\^\-\\:*"
    assert scan_filter(["{a}:x", "lucid:{b}"]) is None
    assert scan_filter(["ä:{x}", "å:{x}"]) == b"\xc3*"
    assert scan_filter([]) is None
