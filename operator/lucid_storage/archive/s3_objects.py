"""Single requests about whole objects of a bucket."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass
from datetime import datetime
from html import unescape

from lucid_storage.archive.s3_client import Answer, Body, Connection
from lucid_storage.errors import DestinationError

_UPLOAD = re.compile(rb"<Upload>(.*?)</Upload>", re.DOTALL)
_TRUNCATED = re.compile(rb"<IsTruncated>\s*true\s*</IsTruncated>")


@dataclass(frozen=True, slots=True)
class OpenUpload:
    """An upload in parts that has not ended."""

    path: str
    id: str
    initiated: str
    """When it began, in the server's words."""

    def began_before(self, moment: datetime) -> bool:
        """By the server's clock. False where the server does not say when in a way that S3 does: what is not known to
        be old is left alone.
        """
        try:
            began = datetime.fromisoformat(self.initiated)
        except ValueError:
            return False
        return began.tzinfo is not None and began < moment


def put_object(connection: Connection, path: str, body: Body, *, if_absent: bool) -> str | None:
    """Writes a small object; returns its ETag, or None when `if_absent` and one was there (also ours, sent before).

    A server that does not know the condition says so (501), and gets the request without it.
    """
    headers = md5_header(md5_of(body))
    if if_absent:
        answer = connection.request(
            "PUT",
            path,
            {},
            body,
            {**headers, "if-none-match": "*"},
            lambda answer: answer.status in {200, 412, 501},
        )
        if answer.status == 412:
            return None
        if answer.status == 200:
            return answer.etag
    return connection.request("PUT", path, {}, body, headers).etag


def md5_of(body: Body) -> bytes:
    """Of pieces."""
    digest = hashlib.md5(usedforsecurity=False)
    for piece in body:
        digest.update(piece)
    return digest.digest()


def md5_header(md5: bytes) -> dict[str, str]:
    """Buckets whose objects are locked take nothing without it (S3 documentation of PutObject, Content-MD5)."""
    return {"content-md5": base64.b64encode(md5).decode()}


def head_object(connection: Connection, path: str) -> Answer | None:
    """Headers of an object; None when there is none."""
    answer = connection.request("HEAD", path, accept=lambda answer: answer.status in {200, 404})
    return answer if answer.status == 200 else None


def delete_object(connection: Connection, path: str) -> None:
    """Removes an object; harmless when there is none."""
    connection.request("DELETE", path, accept=lambda answer: answer.status in {200, 204, 404})


def abort_upload(connection: Connection, path: str, upload: str) -> None:
    """Gives an upload up; harmless when there is none."""
    connection.request(
        "DELETE", path, {"uploadId": upload}, accept=lambda answer: answer.status in {200, 204, 404}
    )


def open_uploads(connection: Connection, prefix: str) -> list[OpenUpload]:
    """Those whose path begins with `prefix`."""
    found: list[OpenUpload] = []
    query = {"uploads": "", "prefix": prefix}
    while True:
        body = connection.request("GET", "", query).body
        for upload in _UPLOAD.findall(body):
            found.append(OpenUpload(*(_text(upload, name) for name in ("Key", "UploadId", "Initiated"))))
        if not _TRUNCATED.search(body):
            return found
        query["key-marker"] = _text(body, "NextKeyMarker")
        query["upload-id-marker"] = _text(body, "NextUploadIdMarker")


def _text(xml: bytes, name: str) -> str:
    found = re.search(f"<{name}>(.*?)</{name}>".encode(), xml, re.DOTALL)
    return unescape(found.group(1).decode().strip()) if found else ""


class ObjectExistsError(DestinationError):
    """There is an object of this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"There is an object {path} already; it was left as it is.")
