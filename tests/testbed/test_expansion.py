"""Variables of a container as a kubelet expands them, with cases of Kubernetes' own tests of it."""

import pytest

from testbed.expansion import expanded

EARLIER = {"VAR_A": "A", "VAR_B": "B", "VAR_REF": "$(VAR_A)", "VAR_EMPTY": ""}


@pytest.mark.parametrize(
    ("text", "read"),
    [
        ("$(VAR_A)", "A"),
        ("___$(VAR_B)___", "___B___"),
        ("$(VAR_A)-$(VAR_B)$(VAR_EMPTY)", "A-B"),
        ("$(VAR_REF)", "$(VAR_A)"),
        ("$(VAR_DNE)", "$(VAR_DNE)"),
        ("f000-$$VAR_A", "f000-$VAR_A"),
        ("$$(VAR_A)", "$(VAR_A)"),
        ("$$$(VAR_A)", "$A"),
        ("$$$$$$$(BAZ_$(VAR_A)", "$$$$(BAZ_$(VAR_A)"),
        ("$(VAR_A", "$(VAR_A"),
        ("$(VAR_A$(VAR_B)", "$(VAR_A$(VAR_B)"),
        ("$VAR_A", "$VAR_A"),
        ("$(", "$("),
        ("$()", "$()"),
        ("$\\(VAR_A)", "$\\(VAR_A)"),
        ("a$", "a$"),
        ("$$$", "$$"),
    ],
)
def test_what_a_process_gets(text: str, read: str) -> None:
    assert expanded(text, EARLIER) == read
