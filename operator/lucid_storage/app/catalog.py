"""`lucid-storage catalog`: what lies in a destination, the Restore that brings it back (cold start), and adoption."""

from __future__ import annotations

import argparse
import os
import sys
from datetime import UTC, datetime

from pydantic import JsonValue, ValidationError

from lucid_storage.app.archives import Archive
from lucid_storage.app.catalog_text import catalog_text
from lucid_storage.archive.adoption import adopt, homes
from lucid_storage.archive.catalog import data_here, read_catalog
from lucid_storage.archive.chains import Chain, find_backup, find_chains, read_chain
from lucid_storage.archive.manifest import Manifest
from lucid_storage.archive.restore_path import Blocked, to_backup, to_second
from lucid_storage.errors import LucidError, Reason, RefusedError
from lucid_storage.kinds.export.render import manifests_text
from lucid_storage.kube.paths import is_name
from lucid_storage.models.meta import API_VERSION
from lucid_storage.models.restore import RestoreSpec


def run_catalog(given: argparse.Namespace) -> int:
    """Exit status: 0 printed, 1 the destination or the backup cannot be read, 2 cannot be done as asked."""
    try:
        archive = Archive.of(given, os.environ)
        if given.adopt is not None:
            text = _adopt(given, archive)
        else:
            text = _restore(given, archive) if given.restore is not None else _listing(given, archive)
    except LucidError as error:
        print(f"lucid-storage: {error.message}", file=sys.stderr)
        return 2 if error.reason is Reason.INVALID_SPEC else 1
    sys.stdout.write(text)
    return 0


def _listing(given: argparse.Namespace, archive: Archive) -> str:
    catalog = read_catalog(archive.open(), archive.destination.root, archive.keyring)
    if given.json:
        return catalog.model_dump_json(by_alias=True, indent=2) + "\n"
    return catalog_text(catalog)


def _adopt(given: argparse.Namespace, archive: Archive) -> str:
    """Every chain of the former cluster, with those that it had adopted itself. Raises LucidError."""
    if given.cluster is None:
        raise _invalid(
            "Name the cluster that the backups belong to from now on with --cluster; its UID is what `kubectl get"
            " namespace kube-system -o jsonpath='{.metadata.uid}'` prints."
        )
    store = archive.open()
    chains = [
        folder
        for folder in find_chains(store, archive.destination.root)
        if folder.cluster == given.adopt and given.namespace in (None, folder.namespace)
    ]
    if not chains:
        where = f" of the namespace {given.namespace}" if given.namespace is not None else ""
        raise _invalid(f"No backups{where} of the cluster {given.adopt} lie in {store.location}.")
    lines = []
    for chain in chains:
        own, done = chain.of(given.cluster), False
        for former in homes(store, chain):
            if former.cluster == own.cluster:
                continue
            try:
                done = adopt(store, own, former.cluster, datetime.now(UTC)) or done
            except ValueError as error:
                raise _invalid(f"The backups cannot be adopted: {error}.") from error
        said = "adopted" if done else "was adopted before"
        lines.append(f"{said}: namespace {chain.namespace}, chain {chain.chain}\n")
    return "".join(lines)


def _restore(given: argparse.Namespace, archive: Archive) -> str:
    """Raises LucidError: where there is no way to what is asked for, no Restore is printed."""
    store = archive.open()
    folder = find_backup(store, archive.destination.root, given.restore)
    chain = read_chain(store, folder, archive.keyring) if folder is not None else None
    record = next((r for r in chain.backups if r.id == given.restore), None) if chain is not None else None
    if chain is None or record is None:
        raise RefusedError(
            f"No backup with the id {given.restore} lies in {store.location}; list them without --restore.",
            reason=Reason.RESTORE_BLOCKED,
        )
    moment = _moment(given.point_in_time)
    engines, _ = data_here(record.manifest)
    if not engines:
        raise RefusedError(
            f"The data of the backup {record.id} are a snapshot in Elasticsearch's own repository, not here; restore it"
            " with Elasticsearch.",
            reason=Reason.RESTORE_BLOCKED,
        )
    _reachable(chain, record.manifest, moment)
    spec: dict[str, JsonValue] = {
        "source": _source(given, archive, chain, record.manifest),
        "engines": list(engines),
    }
    if given.connection is not None:
        spec["connection"] = {"secretName": given.connection}
    if moment is not None:
        spec["pointInTime"] = f"{moment:%Y-%m-%dT%H:%M:%SZ}"
    _check_names(given)
    try:
        RestoreSpec.model_validate(spec)
    except ValidationError as error:
        raise _invalid(f"No Restore can be made of this: {error.errors()[0]['msg']}.") from error
    metadata: dict[str, JsonValue] = {
        "name": f"restore-{record.id[:8]}",
        "namespace": given.namespace or record.manifest.origin.namespace,
    }
    return manifests_text(
        [{"apiVersion": API_VERSION, "kind": "Restore", "metadata": metadata, "spec": spec}]
    )


def _check_names(given: argparse.Namespace) -> None:
    """What the API server would refuse of the names that go into the Restore."""
    options = ("secret", "claim", "key_secret", "connection", "namespace")
    for option in options:
        name = getattr(given, option)
        # A namespace is one label of a name.
        known = is_name(name or "") and (option != "namespace" or (len(name) <= 63 and "." not in name))
        if name is not None and not known:
            raise _invalid(
                f"--{option.replace('_', '-')}: no Kubernetes object can have the name {name[:100]!r}; give one of"
                " lower-case letters, digits and -."
            )


def _reachable(chain: Chain, manifest: Manifest, moment: datetime | None) -> None:
    if moment is not None and manifest.mongodb is None:
        raise _invalid("The backup holds no MongoDB, and only that has moments; leave --point-in-time out.")
    path = (
        to_backup(chain.whole, manifest.id)
        if moment is None
        else to_second(chain.whole, moment, manifest.timeline)
    )
    if isinstance(path, Blocked):
        raise RefusedError(path.message, reason=Reason.RESTORE_BLOCKED)


def _source(
    given: argparse.Namespace, archive: Archive, chain: Chain, manifest: Manifest
) -> dict[str, JsonValue]:
    root = chain.folder.root
    source: dict[str, JsonValue] = {"id": manifest.id}
    if archive.destination.bucket is not None:
        if given.secret is None:
            raise _invalid("Name the Secret with the bucket's login with --secret.")
        destination = archive.destination
        bucket = {
            "bucket": destination.bucket,
            "prefix": root or None,
            "endpoint": destination.endpoint,
            "region": destination.region,
            "secretName": given.secret,
        }
        source["storage"] = {"s3": {name: value for name, value in bucket.items() if value is not None}}
    else:
        if given.claim is None:
            raise _invalid("Name the PersistentVolumeClaim that this folder is the root of with --claim.")
        path = {"path": root} if root else {}
        source["storage"] = {"volume": {"claimName": given.claim, **path}}
    if manifest.packing.encrypted:
        if given.key_secret is None:
            raise _invalid(
                f"The backup is encrypted: name the Secret that holds the key {manifest.packing.key_id} with"
                " --key-secret."
            )
        source["encryption"] = {"secretName": given.key_secret, "keyId": manifest.packing.key_id}
    return source


def _moment(text: str | None) -> datetime | None:
    """Fractions of a second are cut off, as in a restore (rule 1.4)."""
    if text is None:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise _invalid(f"{text} is no moment; write it as 2026-01-31T12:00:00Z.") from None
    if moment.tzinfo is None:
        raise _invalid(f"{text} has no time zone; write it as 2026-01-31T12:00:00Z.")
    try:
        return moment.astimezone(UTC).replace(microsecond=0)
    except OverflowError:
        raise _invalid(f"{text} is beyond all calendars; choose another moment.") from None


def _invalid(message: str) -> RefusedError:
    return RefusedError(message, reason=Reason.INVALID_SPEC)
