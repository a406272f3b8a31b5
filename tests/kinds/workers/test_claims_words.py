"""Whoever waits says for whom, in a status that the API server takes."""

from dataclasses import replace

import pytest

from lucid_storage.kinds.workers.claims import DumpClaims
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.backup import BackupPhase, BackupStatus
from lucid_storage.models.restore import RestorePhase, RestoreStatus

WAITING = Resource(
    key=Key("backups", "n", "mine"),
    uid="u",
    generation=1,
    resource_version="1",
    created="2026-11-21T05:00:00Z",
    deleted=None,
    annotations={},
    finalizers=(),
    spec={},
    status={},
)


@pytest.mark.parametrize("plural", ["backups", "restores"])
def test_the_longest_name_that_is_waited_for_fits_the_status(plural: str) -> None:
    status = {"phase": "Running", "serverIdentity": "rs", "type": "full"}
    other = replace(WAITING, key=Key(plural, "n", "b" * 253), uid="v", status=status)
    behind = DumpClaims().behind(WAITING, "rs", [other])
    assert behind is not None
    assert "b" * 200 in behind
    BackupStatus(phase=BackupPhase.QUEUED, queued_behind=behind)
    RestoreStatus(phase=RestorePhase.QUEUED, queued_behind=behind)
