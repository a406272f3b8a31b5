"""Which collections are left alone while a restore swaps."""

from lucid_storage.kinds.restore.swapping import swapping
from lucid_storage.kube.resources import Resource


def restore(phase: str, databases: list[str], identity: str = "rs", **spec: str) -> Resource:
    status = {"phase": phase, "databases": databases, "serverIdentity": identity}
    meta = {"name": "back", "namespace": "n", "uid": "u"}
    return Resource.from_body("restores", {"metadata": meta, "spec": spec, "status": status})


def test_only_the_database_of_the_server_in_which_it_swaps() -> None:
    restores = [restore("Swapping", ["shop"]), restore("Loading", ["bank"])]
    assert swapping(restores, "rs", "shop") == "n/back"
    assert swapping(restores, "rs", "bank") is None
    assert swapping(restores, "another", "shop") is None
    assert swapping([restore("Completed", ["shop"])], "rs", "shop") is None


def test_one_in_place_takes_the_database_from_its_first_write_on() -> None:
    for phase, taken in (
        ("Planning", None),
        ("Loading", "n/back"),
        ("Replaying", "n/back"),
        ("Failed", None),
    ):
        assert swapping([restore(phase, ["shop"], strategy="InPlace")], "rs", "shop") == taken, phase
