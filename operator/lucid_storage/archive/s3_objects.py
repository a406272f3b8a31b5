"""Single requests about whole objects of a bucket."""

from __future__ import annotations

from lucid_storage.archive.s3_client import Answer, Body, Connection
from lucid_storage.errors import DestinationError


def put_object(connection: Connection, path: str, body: Body, *, if_absent: bool) -> str | None:
    """Writes a small object; returns its ETag, or None when `if_absent` and one was there (also ours, sent before).

    A server that does not know the condition says so (501), and gets the request without it.
    """
    if if_absent:
        answer = connection.request(
            "PUT", path, {}, body, {"if-none-match": "*"}, lambda answer: answer.status in {200, 412, 501}
        )
        if answer.status == 412:
            return None
        if answer.status == 200:
            return answer.etag
    return connection.request("PUT", path, {}, body).etag


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


class ObjectExistsError(DestinationError):
    """There is an object of this path."""

    def __init__(self, path: str) -> None:
        super().__init__(f"There is an object {path} already; it was left as it is.")
