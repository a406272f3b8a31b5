"""manifests/lucid-volumes: one Volume of each type, which the operator's own settings allow."""

from typing import Any

import pytest
import yaml
from volume_builders import volume

from lucid_storage.kinds.volume.desired import resolve
from lucid_storage.models.meta import API_VERSION
from lucid_storage.models.settings import Settings
from lucid_storage.models.volume import VolumeType
from testbed.paths import project_root

FOLDER = project_root() / "manifests" / "lucid-volumes"
BODIES: list[dict[str, Any]] = list(yaml.safe_load_all((FOLDER / "volumes.yaml").read_text()))


def test_every_type_has_one_volume() -> None:
    assert [b["spec"]["type"] for b in BODIES] == [str(t) for t in VolumeType]
    assert yaml.safe_load((FOLDER / "kustomization.yaml").read_text())["resources"] == ["volumes.yaml"]


@pytest.mark.parametrize("body", BODIES, ids=lambda b: str(b["spec"]["type"]))
def test_the_defaults_allow_each(body: dict[str, Any]) -> None:
    assert (body["apiVersion"], body["kind"]) == (API_VERSION, "Volume")
    desired = resolve(volume(body["spec"]), Settings())
    assert 0 < desired.new_size <= desired.limit
    assert desired.growth is None or desired.growth.limit > desired.new_size
