"""Where backups lie, whose keys open it, and one dump at a time."""

import json
from typing import Any

import pytest

from lucid_storage.errors import LucidError, Reason
from lucid_storage.kinds.workers.claims import DumpClaims
from lucid_storage.kinds.workers.place import resolve_place
from lucid_storage.kube.resources import Key, Resource
from lucid_storage.models.settings import Settings
from lucid_storage.models.storage import Storage

BUCKET = {
    "BACKUP_STORAGE_TYPE": "s3",
    "BACKUP_S3_BUCKET": "vault",
    "BACKUP_S3_ENDPOINT": "http://s3:9000",
    "BACKUP_STORAGE_PATH": "/backups/",
}


def settings(**variables: str) -> Settings:
    served = json.dumps({"app": {"bucketPrefix": "team-a"}})
    return Settings.read({"POD_NAMESPACE": "system", "SERVED_NAMESPACES": served, **BUCKET, **variables})


def storage(**spec: Any) -> Storage:
    return Storage.model_validate(spec)


class TestPlace:
    def test_the_default_is_the_operators_bucket_below_the_namespaces_prefix(self) -> None:
        place = resolve_place(None, settings(), "app", None)
        assert (place.destination.bucket, place.destination.root) == ("vault", "backups/team-a")
        assert place.secret is None
        assert place.location == "s3://vault/backups/team-a"

    def test_local_means_a_claim_of_the_operator(self) -> None:
        given = settings(BACKUP_STORAGE_TYPE="local", BACKUP_STORAGE_CLAIM="disk")
        assert resolve_place(None, given, "app", None).claim == "disk"

    def test_a_bucket_with_keys_of_its_own_is_taken_as_it_is(self) -> None:
        own = storage(s3={"bucket": "mine", "prefix": "a/b", "secretName": "keys", "endpoint": "http://x:1"})
        place = resolve_place(own, settings(), "app", "stores")
        assert (place.secret, place.destination.root, place.destination.endpoint) == (
            "keys",
            "a/b",
            "http://x:1",
        )

    @pytest.mark.parametrize(
        ("spec", "connection"),
        [
            ({"s3": {"bucket": "other"}}, None),
            ({"s3": {"bucket": "vault", "endpoint": "http://evil:1"}}, None),
            ({"s3": {"bucket": "vault"}}, "stores"),
        ],
        ids=["another bucket", "another server", "credentials of its own"],
    )
    def test_the_operators_keys_open_its_own_bucket_only(self, spec: Any, connection: str | None) -> None:
        with pytest.raises(LucidError, match="needs keys"):
            resolve_place(storage(**spec), settings(), "app", connection)

    def test_the_operators_bucket_may_be_named(self) -> None:
        place = resolve_place(storage(s3={"bucket": "vault", "prefix": "more"}), settings(), "app", None)
        assert place.destination.root == "backups/team-a/app/more"

    def test_a_prefix_of_its_choice_leads_into_no_other_namespaces_folder(self) -> None:
        given = settings(SERVED_NAMESPACES=json.dumps({"*": {}}))
        victim = resolve_place(None, given, "victim", None).destination.root
        theirs = storage(s3={"bucket": "vault", "prefix": "cluster-uid/victim/manual/backups"})
        place = resolve_place(theirs, given, "app", None)
        assert place.destination.root == "backups/app/cluster-uid/victim/manual/backups"
        assert not place.destination.root.startswith(f"{victim}/cluster-uid/")

    def test_a_claim_is_mounted_beside_it_only(self) -> None:
        volume = storage(volume={"claimName": "disk"})
        with pytest.raises(LucidError, match="mounted in this namespace only"):
            resolve_place(volume, settings(), "app", None)
        assert resolve_place(volume, settings(), "app", "stores").claim == "disk"

    def test_nothing_configured_is_said(self) -> None:
        with pytest.raises(LucidError) as error:
            resolve_place(None, settings(BACKUP_STORAGE_TYPE="none"), "app", None)
        assert error.value.reason is Reason.NOT_CONFIGURED

    def test_credentials_of_a_namespace_do_not_reach_the_operators_place(self) -> None:
        with pytest.raises(LucidError, match=r"set\s+spec.storage"):
            resolve_place(None, settings(), "app", "stores")


def resource(
    name: str, phase: str | None, identity: str = "set-1", kind: str = "full", plural: str = "backups"
) -> Resource:
    status = {"serverIdentity": identity, **({"phase": phase} if phase else {})}
    return Resource(
        Key(plural, "app", name), name, 1, "1", "2026-01-01", None, {}, (), {"type": kind}, status
    )


class TestClaims:
    def test_one_at_a_time_for_each_deployment(self) -> None:
        claims, one, two = DumpClaims(), Key("backups", "a", "1"), Key("backups", "b", "2")
        assert claims.take(one, "set-1", []) is None
        assert claims.take(one, "set-1", []) is None
        assert claims.take(two, "set-1", []) == one
        assert claims.take(two, "set-2", []) is None
        claims.give(one)
        assert claims.take(Key("backups", "c", "3"), "set-1", []) is None

    def test_after_a_restart_the_statuses_tell_who_is_at_it(self) -> None:
        key = Key("backups", "a", "1")
        assert DumpClaims().take(key, "set-1", [resource("busy", "Running")]) is not None
        for other in (
            resource("done", "Completed"),
            resource("elsewhere", "Running", "set-2"),
            resource("slice", "Running", kind="incremental"),
        ):
            assert DumpClaims().take(key, "set-1", [other]) is None


class TestLine:
    """Two schedules with one slot make their Backups in the same second: the name decides who is first in line."""

    @pytest.mark.parametrize("plural", ["backups", "restores"])
    def test_who_has_the_deployment_goes_on_whoever_stands_in_line(self, plural: str) -> None:
        """Its status could not be written, or it waits for a snapshot: neither would ever move otherwise."""
        claims = DumpClaims()
        first, second = resource("a", None, plural=plural), resource("b", None)
        assert claims.behind(second, "set-1", [first, second]) is None
        waits = claims.behind(first, "set-1", [first, second])
        assert waits == "backup b"
        first = resource("a", "Queued", plural=plural)
        assert claims.behind(second, "set-1", [first, second]) is None
        assert claims.behind(first, "set-1", [first, second]) == waits
        claims.give(second.key)
        assert claims.behind(first, "set-1", [first, second]) is None

    def test_the_first_in_line_is_waited_for(self) -> None:
        claims = DumpClaims()
        line = [resource("b", "Queued", plural="restores"), resource("a", "Queued"), resource("c", None)]
        assert claims.behind(line[2], "set-1", line) == "backup a"
        assert claims.behind(line[0], "set-1", line) == "backup a"
        assert claims.behind(line[1], "set-1", line) is None

    def test_who_stands_in_line_has_no_claim(self) -> None:
        """Its connection led to another deployment before."""
        claims, moved, other = DumpClaims(), resource("b", None), resource("a", "Queued", "set-2")
        assert claims.behind(moved, "set-1", [moved, other]) is None
        assert claims.behind(moved, "set-2", [moved, other]) == "backup a"
        assert claims.behind(resource("c", None), "set-1", [moved, other]) is None

    def test_who_is_at_work_there_all_the_same_is_waited_for(self) -> None:
        claims, mine, known = DumpClaims(), resource("b", None), [resource("a", None)]
        assert claims.behind(mine, "set-1", known) is None
        assert claims.behind(mine, "set-1", [resource("a", "Running")]) == "backup a"
        assert claims.behind(known[0], "set-1", [mine]) is None
