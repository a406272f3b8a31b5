"""What an upload that failed left in a bucket is taken back: parts, which cost room unseen, and an unproved object."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from time import sleep
from typing import Final

from lucid_storage.archive.s3_client import Bucket, Connection
from lucid_storage.archive.s3_objects import abort_upload, delete_object, head_object, open_uploads
from lucid_storage.errors import DestinationError, DestinationUnavailableError

CLEANING_SECONDS: Final = 5.0
"""For each send and receive when something is taken back: a worker that was told to stop has little time."""
SETTLING_SECONDS: Final = (0.1, 0.3, 0.6)
"""Between looks for what a server does behind an answer, or without one."""


@dataclass(frozen=True, slots=True)
class Remains:
    """What an upload may have left."""

    path: str
    upload: str | None
    """Id of the upload in parts, where one was named."""
    begun: bool
    """An upload in parts was asked for, whether the answer came or not."""
    etag: str
    """Of the object, when it may be visible."""


def leave_nothing(bucket: Bucket, remains: Remains, *, late: bool) -> None:
    """No part and no object stays. Raises DestinationError when the server cannot be asked.

    With `late` a request may still be carried out: a part that is on its way when its upload is aborted may arrive
    behind that and bring the upload back (S3 documentation of AbortMultipartUpload), and so may one whose answer was
    lost; an end may be carried out late.
    """
    hurried = replace(bucket, attempts=2, stall_seconds=min(CLEANING_SECONDS, bucket.stall_seconds))
    connection = Connection(hurried)
    try:
        if remains.upload is not None:
            with _unless_refused():
                abort_upload(connection, remains.path, remains.upload)
        _take_back(connection, remains)
        for seconds in SETTLING_SECONDS if late else ():
            sleep(seconds)
            _take_back(connection, remains)
    finally:
        connection.close()


def _take_back(connection: Connection, remains: Remains) -> None:
    """What of this path is there now."""
    with _unless_refused():
        for upload in open_uploads(connection, remains.path) if remains.begun else ():
            if upload.path == remains.path:
                abort_upload(connection, upload.path, upload.id)
    # It may have been made although the answer said otherwise or was lost. Another's is not touched.
    found = head_object(connection, remains.path) if remains.etag else None
    if found is not None and found.etag == remains.etag:
        delete_object(connection, remains.path)


@contextmanager
def _unless_refused() -> Iterator[None]:
    """A login that may not list uploads, or abort them, may delete an object all the same.

    Raises DestinationUnavailableError: there is no time to wait for a server in vain several times.
    """
    try:
        yield
    except DestinationUnavailableError:
        raise
    except DestinationError:
        return  # such an upload is shown by no listing of objects, and pruned by its age
