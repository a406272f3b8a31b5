"""The same server under changing addresses."""

import pytest

from lucid_storage.kinds.identity import same_server


@pytest.mark.parametrize(
    ("pinned", "now", "same"),
    [
        ("6b0100018ed0d8814e6cef3a", "6b0100018ed0d8814e6cef3a", True),
        ("6b0100018ed0d8814e6cef3a", "6b0100018ed0d8814e6cef3b", False),
        ("replicaSet/rs0/a:1,b:1", "replicaSet/rs0/b:1,c:1", True),
        ("replicaSet/rs0/a:1", "replicaSet/rs0/b:1", False),
        ("replicaSet/rs0/a:1", "replicaSet/rs1/a:1", False),
        ("replicaSet/rs0/a:1", "6b0100018ed0d8814e6cef3a", False),
        ("standalone/a:1", "sharded/a:1", False),
    ],
)
def test_one_host_in_common_is_enough_where_the_id_cannot_be_read(pinned: str, now: str, same: bool) -> None:
    assert same_server(pinned, now) is same
