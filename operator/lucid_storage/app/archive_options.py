"""Options of the commands that look into a destination from a prompt. Imports nothing else: every worker reads them."""

from __future__ import annotations

import argparse


def add_archive_options(command: argparse.ArgumentParser, *, required: bool) -> None:
    """A bucket or a folder, and the keys."""
    where = command.add_mutually_exclusive_group(required=required)
    where.add_argument("--bucket", help="bucket; its login is in AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY")
    where.add_argument("--folder", help="folder that the volume with the backups is mounted at")
    command.add_argument("--endpoint", help="address of the S3 server (default: Amazon's)")
    command.add_argument("--region", help="region of the bucket")
    command.add_argument("--prefix", default="", help="look only below this path (default: everywhere)")
    command.add_argument("--keys", help="folder with the encryption keys, one file a key id")


def add_catalog_options(command: argparse.ArgumentParser) -> None:
    """Of `lucid-storage catalog`."""
    add_archive_options(command, required=True)
    command.add_argument("--json", action="store_true", help="print JSON for programs")
    command.add_argument("--restore", metavar="ID", help="print the Restore that brings this backup back")
    command.add_argument(
        "--point-in-time", metavar="T", help="with --restore: a moment such as 2026-01-31T12:00:00Z"
    )
    command.add_argument(
        "--namespace",
        help="with --restore: where it will be applied (default: the backup's); with --adopt: only this one",
    )
    command.add_argument(
        "--adopt",
        metavar="UID",
        help="take over the backups of a former cluster: retention and slices go on with them",
    )
    command.add_argument(
        "--cluster",
        metavar="UID",
        help="with --adopt: the cluster that they belong to now (UID of kube-system)",
    )
    command.add_argument("--secret", help="with --restore and --bucket: the Secret with the bucket's login")
    command.add_argument(
        "--claim", help="with --restore and --folder: the PersistentVolumeClaim of the volume"
    )
    command.add_argument("--key-secret", help="with --restore: the Secret with the encryption keys")
    command.add_argument("--connection", help="with --restore: the Secret with the stores' logins")


def add_verify_options(command: argparse.ArgumentParser) -> None:
    """Of `lucid-storage verify` at a prompt; a Job gives an order instead."""
    command.add_argument(
        "subject", nargs="?", choices=("volume",), help="volume: compare a folder with its last checksums"
    )
    command.add_argument("path", nargs="?", help="with volume: the folder that it is mounted at")
    command.add_argument(
        "--state", metavar="FILE", help="with volume: the list of checksums (default: PATH/.lucid-checksums)"
    )
    command.add_argument(
        "--key", metavar="FILE", help="with volume: a key of 32 bytes that the list is sealed with"
    )
    command.add_argument("--accept", action="store_true", help="with volume: take everything as it is now")
    command.add_argument(
        "--names", action="store_true", help="with volume: name all that changed, on standard error"
    )
    command.add_argument("--json", action="store_true", help="with volume: print JSON for programs")
    command.add_argument("--id", help="id of the backup, as `lucid-storage catalog` lists it")
    command.add_argument(
        "--level",
        choices=("Upload", "Checksum", "Restore"),
        default="Checksum",
        help="Upload: all objects are there in full; Checksum: all bytes are read; Restore: on BACKUP_VERIFY_URI",
    )
    add_archive_options(command, required=False)
