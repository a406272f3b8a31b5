"""One object on its way into a bucket: a single request when it is small, else an upload in parts.

Parts grow, so that memory is small for small backups and 10,000 parts (the limit of S3) hold 5 TiB. An upload that
fails is aborted; what it left is not visible in any listing of objects. S3 documentation: "Uploading and copying
objects using multipart upload".
"""

from __future__ import annotations

import hashlib
import re
import threading
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from html import unescape
from time import sleep
from typing import Final
from xml.sax.saxutils import escape

from lucid_storage.archive.destination import Digest
from lucid_storage.archive.s3_cleaning import SETTLING_SECONDS, Remains, leave_nothing
from lucid_storage.archive.s3_client import Answer, Body, Bucket, Connection
from lucid_storage.archive.s3_objects import (
    ObjectExistsError,
    delete_object,
    head_object,
    md5_header,
    md5_of,
    put_object,
)
from lucid_storage.errors import (
    ArchiveDamagedError,
    DestinationError,
    DestinationUnavailableError,
)

MIB: Final = 1024 * 1024
PARTS: Final = 10_000
GROWTH: Final = ((2500, 6), (4500, 16), (6000, 64), (7000, 256), (PARTS, 1640))
"""Up to which part a part has how many MiB: 45 GiB fit into parts of up to 16 MiB, and 5 TiB into all."""
SENDERS: Final = 2
_UPLOAD_ID = re.compile(rb"<UploadId>\s*([^<]+?)\s*</UploadId>")
_ETAG = re.compile(rb"<ETag>\s*([^<]+?)\s*</ETag>")
_DIGEST = re.compile(r"[0-9a-f]{32}(-[0-9]+)?")


def part_bytes(number: int) -> int:
    """Size of a part, counted from 1. Raises DestinationError when there are too many."""
    for last, size in GROWTH:
        if number <= last:
            return size * MIB
    raise DestinationError(
        "The archive is too large for one object of S3 (5 TiB); back up fewer collections at once."
    )


@dataclass(slots=True)
class _Part:
    number: int
    body: Body
    size: int
    md5: bytes = b""
    etag: str = ""


class S3Writer:
    """An upload. One thread writes; SENDERS others send."""

    def __init__(self, bucket: Bucket, path: str) -> None:
        self._bucket = bucket
        self._path = path
        self._own = Connection(bucket)
        self._connections: list[Connection] = [self._own]
        self._threads: list[threading.Thread] = []
        self._begun = False
        """An upload was asked for, whether the answer came or not."""
        self._upload: str | None = None
        self._pieces: list[bytes | memoryview] = []
        self._filled = 0
        self._parts: list[_Part] = []
        self._waiting: deque[_Part] = deque()
        self._at_work = 0
        self._failure: DestinationError | None = None
        self._expected = ""
        """ETag that the object must have; set when it may become visible."""
        self._confirmed = False
        self._aborting = threading.Lock()
        self._changed = threading.Condition()

    def write(self, data: bytes, /) -> None:
        rest = memoryview(data)
        while rest:
            room = part_bytes(len(self._parts) + 1) - self._filled
            self._pieces.append(rest[:room])
            self._filled += min(room, len(rest))
            rest = rest[room:]
            if self._filled == part_bytes(len(self._parts) + 1):
                self._send_part()

    def finish(self, digest: Digest) -> None:
        try:
            self._raise_failure()
            if self._upload is None:
                answered = self._put_whole()
            else:
                if self._filled:
                    self._send_part()
                self._wait_until(lambda: not self._waiting and not self._at_work)
                answered = self._complete()
            self._confirm(digest, answered)
        finally:
            self.abort()

    def abort(self) -> None:
        with self._aborting:
            with self._changed:
                self._fail(DestinationError("The upload was given up."))
            for connection in self._connections:
                connection.interrupt()
            for thread in self._threads:
                thread.join()
            for connection in self._connections:
                connection.close()
            self._pieces.clear()
            if not self._confirmed:
                # Where the server cannot be reached, what is left is pruned later; it is no backup without a manifest.
                remains = Remains(self._path, self._upload, self._begun, self._expected)
                late = any(one.unanswered for one in self._connections)
                with suppress(DestinationError):
                    leave_nothing(self._bucket, remains, late=late)
                self._confirmed = True

    # Sending

    def _send_part(self) -> None:
        if self._upload is None:
            self._begin()
        part = _Part(len(self._parts) + 1, self._pieces, self._filled)
        self._pieces, self._filled = [], 0
        # Two small parts on their way beside the one being filled, one of 16 MiB, and none of larger ones.
        self._wait_until(lambda: len(self._waiting) + self._at_work < (2 if part.size < 16 * MIB else 1))
        with self._changed:
            self._parts.append(part)
            self._waiting.append(part)
            self._changed.notify_all()
        if part.size > 16 * MIB:
            self._wait_until(lambda: not self._waiting and not self._at_work)

    def _begin(self) -> None:
        if head_object(self._own, self._path) is not None:
            raise ObjectExistsError(self._path)
        self._begun = True
        answer = self._own.request("POST", self._path, {"uploads": ""})
        found = _UPLOAD_ID.search(answer.body)
        if found is None:
            raise DestinationError(
                f"{self._bucket.where} began an upload without naming it; it is no S3 server."
            )
        self._upload = found.group(1).decode()
        for number in range(SENDERS):
            connection = Connection(self._bucket)
            thread = threading.Thread(
                target=self._run, args=(connection,), name=f"upload {number}", daemon=True
            )
            self._connections.append(connection)
            self._threads.append(thread)
            thread.start()

    def _run(self, connection: Connection) -> None:
        while (part := self._next()) is not None:
            try:
                self._upload_part(connection, part)
            except DestinationError as error:
                with self._changed:
                    self._fail(error)
            finally:
                with self._changed:
                    part.body = ()
                    self._at_work -= 1
                    self._changed.notify_all()

    def _next(self) -> _Part | None:
        with self._changed:
            self._changed.wait_for(lambda: bool(self._waiting) or self._failure is not None)
            if self._failure is not None:
                return None
            self._at_work += 1
            return self._waiting.popleft()

    def _upload_part(self, connection: Connection, part: _Part) -> None:
        part.md5 = md5_of(part.body)
        answer = connection.request(
            "PUT",
            self._path,
            {"partNumber": str(part.number), "uploadId": self._upload or ""},
            part.body,
            md5_header(part.md5),
            accept=lambda answer: answer.status == 200 and bool(answer.etag),
        )
        part.etag = answer.etag

    def _raise_failure(self) -> None:
        if self._failure is not None:
            raise self._failure

    def _wait_until(self, ready: Callable[[], bool]) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._failure is not None or ready())
            self._raise_failure()

    def _fail(self, error: DestinationError) -> None:
        if self._failure is None:
            self._failure = error
        self._changed.notify_all()

    # The end

    def _put_whole(self) -> str:
        """The ETag that the server answered."""
        if head_object(self._own, self._path) is not None:
            raise ObjectExistsError(self._path)
        self._expected = md5_of(self._pieces).hex()
        return put_object(self._own, self._path, self._pieces, if_absent=True) or ""

    def _complete(self) -> str:
        """Makes the object of its parts; returns the ETag that the server answered, "" when that is not known."""
        names = "".join(
            f'<Part><PartNumber>{part.number}</PartNumber><ETag>"{escape(part.etag)}"</ETag></Part>'
            for part in self._parts
        )
        composed = hashlib.md5(b"".join(part.md5 for part in self._parts), usedforsecurity=False).hexdigest()
        self._expected = f"{composed}-{len(self._parts)}"
        try:
            answer = self._own.request(
                "POST",
                self._path,
                {"uploadId": self._upload or ""},
                [f"<CompleteMultipartUpload>{names}</CompleteMultipartUpload>".encode()],
                {"if-none-match": "*", "content-type": "application/xml"},
                accept=_completed,
            )
        except DestinationError:
            if self._own.unanswered and self._is_made():
                return ""
            raise
        found = _ETAG.search(answer.body) if answer.status == 200 else None
        return unescape(found.group(1).decode()).strip('"') if found else ""

    def _is_made(self) -> bool:
        """Whether the object is there: servers refuse a second end in many ways while, or after, they carry the first
        one out, whose answer was lost.
        """
        with suppress(DestinationError):
            for seconds in (0.0, *SETTLING_SECONDS):
                sleep(seconds)
                found = head_object(self._own, self._path)
                if found is not None:
                    return found.etag == self._expected
        return False

    def _confirm(self, digest: Digest, answered: str) -> None:
        """Compares size and checksum with what the destination has now.

        An ETag is a digest where the server says so by the ETags of the parts, which it is not under the server's own
        encryption. Without an answered ETag (a repeated request whose first answer was lost) only a digest proves that
        the object is ours.
        """
        found = head_object(self._own, self._path)
        if found is None:
            raise DestinationUnavailableError(
                f"{self._bucket.where} took {self._path} and does not show it; look at the server's log."
            )
        size = int(found.headers.get("content-length", "-1"))
        right = size == digest.size and found.etag == (answered or self._expected)
        if right and (found.etag == self._expected or not self._is_digest(found.etag)):
            self._confirmed = True
            return
        if not answered:
            raise ObjectExistsError(self._path)
        if found.etag == answered:
            delete_object(self._own, self._path)
        raise ArchiveDamagedError(
            f"{self._bucket.where} holds {size} bytes of {self._path} with ETag {found.etag}, and {digest.size} bytes "
            f"with ETag {self._expected} were sent; look at the server's log. The object was removed."
        )

    def _is_digest(self, etag: str) -> bool:
        if self._parts:
            return _DIGEST.fullmatch(etag) is not None and all(p.etag == p.md5.hex() for p in self._parts)
        # A single request shows no other ETag to compare with; the server checked the signed digest of the body.
        return False


def _completed(answer: Answer) -> bool:
    # A server may answer 200 at once and send an error in the body later. A repeated request finds no upload any more,
    # or the object itself, when the first one was done and its answer lost; the comparison afterwards tells.
    if answer.status == 200:
        return b"CompleteMultipartUploadResult" in answer.body and not answer.code
    return answer.status == 412 or (answer.status == 404 and answer.code == "NoSuchUpload")
