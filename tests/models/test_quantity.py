"""Sizes as Kubernetes writes them."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lucid_storage.models.quantity import to_bytes, to_text


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("10Gi", 10 * 1024**3),
        ("10G", 10**10),
        ("1.5Gi", 1536 * 1024**2),
        ("100", 100),
        ("1e9", 10**9),
        ("12E", 12 * 10**18),
        ("1500m", 2),
        ("0.5Ki", 512),
    ],
)
def test_a_size_is_read_as_the_api_server_reads_it(text: str, count: int) -> None:
    assert to_bytes(text) == count


@pytest.mark.parametrize("text", ["", "Gi", "ten", "10 Gi", "10gb", "1ee9"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is no size"):
        to_bytes(text)


@given(st.integers(min_value=0, max_value=2**62))
def test_a_written_size_is_read_back_exactly(count: int) -> None:
    assert to_bytes(to_text(count)) == count
