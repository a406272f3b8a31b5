"""A bucket of any S3 server as a destination.

obstore reads, and does nothing else: an upload through it cannot be aborted, has parts of one size only, and cannot be
made visible under the condition that nothing is there; a listing ends at the first key that is no path; see
docs/decisions/archives.md.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import Final

import obstore
from obstore.exceptions import BaseError, PermissionDeniedError, UnauthenticatedError
from obstore.store import S3Store as Reader

from lucid_storage.archive.destination import SMALL_BYTES, Entry
from lucid_storage.archive.s3_client import CONNECT_SECONDS, Bucket, Connection
from lucid_storage.archive.s3_errors import code_in, refusal
from lucid_storage.archive.s3_listing import list_objects
from lucid_storage.archive.s3_objects import abort_upload, delete_object, open_uploads, put_object
from lucid_storage.archive.s3_upload import S3Writer
from lucid_storage.archive.signing import Credentials
from lucid_storage.errors import ArchiveDamagedError, DestinationError, DestinationUnavailableError, Reason
from lucid_storage.models.orders import Destination

AUTHORITY_VARIABLE: Final = "LUCID_S3_CA"
"""File with certificates in PEM that are trusted besides the system's."""
DEFAULT_REGION: Final = "us-east-1"
REQUEST_SECONDS: Final = 120.0
"""For a whole reading request, which asks for a few MiB at most."""
RETRY_SECONDS: Final = 60.0
_PLAIN = re.compile(r"[\x21-\x7e]*")
"""What headers carry: the access key and the session token."""
_SIGNING = re.compile(r"[^\r\n\0\ud800-\udfff]*")
"""A secret key signs requests and is in none; a lone surrogate stands for a byte that is no text."""
_STATUS = re.compile(r"status:? (\d{3})|status code: (\d{3})|: (\d{3}) [A-Z]")


class S3Store:
    """Requests are in path style."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        credentials = bucket.credentials
        stall = timedelta(seconds=bucket.stall_seconds)
        self._reader = Reader(
            bucket.name,
            config={
                "endpoint": bucket.endpoint,
                "aws_endpoint_url_s3": bucket.endpoint,
                "region": bucket.region,
                "access_key_id": credentials.access_key,
                "secret_access_key": credentials.secret_key,
                **({"session_token": credentials.session_token} if credentials.session_token else {}),
                "virtual_hosted_style_request": False,
            },
            client_options={
                "allow_http": bucket.endpoint.startswith("http://"),
                "connect_timeout": timedelta(seconds=CONNECT_SECONDS),
                "read_timeout": stall,
                "timeout": max(stall, timedelta(seconds=REQUEST_SECONDS)),
                **({"root_certificate": bucket.authority} if bucket.authority is not None else {}),
            },
            retry_config={
                "max_retries": bucket.attempts - 1,
                "retry_timeout": timedelta(seconds=RETRY_SECONDS),
                "backoff": {
                    "init_backoff": timedelta(seconds=0.3),
                    "max_backoff": timedelta(seconds=5),
                    "base": 2,
                },
            },
        )

    @classmethod
    def from_order(cls, destination: Destination, environ: Mapping[str, str]) -> S3Store:
        """With credentials and authority of the worker's environment. Raises DestinationError."""
        region = destination.region or DEFAULT_REGION
        access_key, secret_key = (
            _login(environ, "AWS_ACCESS_KEY_ID"),
            _signing_key(environ, "AWS_SECRET_ACCESS_KEY"),
        )
        if access_key is None or secret_key is None:
            raise DestinationError(
                "Put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY into the Secret of the bucket."
            )
        return cls(
            Bucket(
                endpoint=(destination.endpoint or f"https://s3.{region}.amazonaws.com").rstrip("/"),
                name=destination.bucket or "",
                region=region,
                credentials=Credentials(access_key, secret_key, _login(environ, "AWS_SESSION_TOKEN")),
                authority=_authority(environ.get(AUTHORITY_VARIABLE)),
            )
        )

    @property
    def location(self) -> str:
        return f"{self._bucket.where}/{self._bucket.name}"

    def writer(self, path: str) -> S3Writer:
        return S3Writer(self._bucket, path)

    def read(self, path: str, start: int, length: int) -> bytes:
        if length <= 0:
            return b""
        with self._told():
            try:
                return bytes(obstore.get_range(self._reader, path, start=start, length=length))
            except FileNotFoundError as error:
                self._raise_unless_object(error)
                raise ArchiveDamagedError(f"The object {path} is not in the destination any more.") from None

    def get(self, path: str) -> bytes | None:
        with self._told():
            try:
                answer = obstore.get(self._reader, path)
                if answer.meta["size"] > SMALL_BYTES:
                    raise ArchiveDamagedError(f"The object {path} is too large to be a manifest.")
                return bytes(answer.bytes())
            except FileNotFoundError as error:
                self._raise_unless_object(error)
                return None

    def head(self, path: str) -> Entry | None:
        with self._told():
            try:
                found = obstore.head(self._reader, path)
            except FileNotFoundError:
                return None
        return Entry(path, found["size"], found["last_modified"])

    def put(self, path: str, data: bytes) -> None:
        with self._connection() as connection:
            put_object(connection, path, [data], if_absent=False)

    def put_if_absent(self, path: str, data: bytes) -> bool:
        # The look beforehand is for servers that overlook the condition of the request.
        found = self.get(path)
        if found is None:
            with self._connection() as connection:
                if put_object(connection, path, [data], if_absent=True) is not None:
                    return True
            found = self.get(path)
        return found == data

    def list(self, prefix: str) -> Iterator[Entry]:
        with self._connection() as connection:
            yield from list_objects(connection, self._bucket.where, f"{prefix}/" if prefix else "")

    def delete(self, path: str) -> None:
        with self._connection() as connection:
            delete_object(connection, path)

    def delete_abandoned(self, prefix: str, before: datetime | None) -> int:
        count = 0
        with self._connection() as connection:
            for upload in open_uploads(connection, f"{prefix}/" if prefix else ""):
                if before is None or upload.began_before(before):
                    abort_upload(connection, upload.path, upload.id)
                    count += 1
        return count

    @contextmanager
    def _connection(self) -> Iterator[Connection]:
        connection = Connection(self._bucket)
        try:
            yield connection
        finally:
            connection.close()

    def _raise_unless_object(self, error: Exception) -> None:
        # A missing bucket is "not found" too, and must not look like an empty one.
        if code_in(str(error).encode()) == "NoSuchBucket":
            raise refusal(self._bucket.where, self._bucket.name, 404, "NoSuchBucket")

    @contextmanager
    def _told(self) -> Iterator[None]:
        """Errors of obstore as sentences."""
        where, name = self._bucket.where, self._bucket.name
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError) as error:
            status = 403 if isinstance(error, PermissionDeniedError) else 401
            raise refusal(where, name, status, code_in(str(error).encode())) from None
        except FileNotFoundError as error:
            raise refusal(where, name, 404, code_in(str(error).encode()) or "NotFound") from None
        except BaseError as error:
            text = str(error)
            found = _STATUS.search(text)
            status = int(next(group for group in found.groups() if group)) if found else 0
            if status:
                raise refusal(where, name, status, code_in(text.encode())) from None
            raise DestinationUnavailableError(
                f"The destination {where} cannot be read: {_cause(text)}; check the endpoint and the network."
            ) from None


def _cause(text: str) -> str:
    """The innermost cause in obstore's words, which end with a dump for developers."""
    lower = text.lower()
    for words, sentence in (
        ("certificate", "its certificate is not trusted, see LUCID_S3_CA"),
        ("timed out", "it did not answer in time"),
        ("timeout", "it did not answer in time"),
        ("refused", "the connection was refused"),
        ("dns", "its name cannot be resolved"),
    ):
        if words in lower:
            return sentence
    return "the connection broke"


def _login(environ: Mapping[str, str], name: str) -> str | None:
    """Without the line break that a file or an editor put around it. Raises DestinationError(SecretInvalid)."""
    value = environ.get(name, "").strip()
    if not _PLAIN.fullmatch(value):
        raise DestinationError(
            f"The {name} of the bucket holds a blank, a line break or a letter that no request can carry; put the key"
            " alone into the Secret.",
            reason=Reason.SECRET_INVALID,
        )
    return value or None


def _signing_key(environ: Mapping[str, str], name: str) -> str | None:
    """Blanks of it count, line breaks around it do not. Raises DestinationError(SecretInvalid)."""
    value = environ.get(name, "").strip("\r\n")
    if not _SIGNING.fullmatch(value):
        raise DestinationError(
            f"The {name} of the bucket holds a line break or what is no text; put the key alone into the Secret.",
            reason=Reason.SECRET_INVALID,
        )
    return value or None


def _authority(file: str | None) -> str | None:
    if not file:
        return None
    try:
        text = Path(file).read_text("ascii")
        ssl.create_default_context(cadata=text)
    except (OSError, ValueError):
        raise DestinationError(f"{AUTHORITY_VARIABLE} must name a readable file in PEM.") from None
    return text
