"""What an S3 server or the way to it answers, as sentences that say what to do and hold no secret."""

from __future__ import annotations

import re
import ssl
from typing import Final

from lucid_storage.errors import (
    DestinationError,
    DestinationFullError,
    DestinationUnavailableError,
)

_CODE = re.compile(rb"<Code>\s*([A-Za-z0-9.]{1,80})\s*</Code>")
_FULL: Final = frozenset(
    {
        "QuotaExceeded",
        "XMinioStorageFull",
        "XMinioAdminBucketQuotaExceeded",
        "InsufficientStorage",
        "NoSpaceLeft",
    }
)
_LOGIN: Final = frozenset({"InvalidAccessKeyId", "SignatureDoesNotMatch", "InvalidToken", "ExpiredToken"})
_AGAIN: Final = frozenset(
    {
        "InternalError",
        "SlowDown",
        "ServiceUnavailable",
        "RequestTimeout",
        "OperationAborted",
        "Throttling",
        # Two requests about one object at the same time (S3 documentation, "Conditional writes"): the other may be
        # our own, whose answer was lost.
        "ConditionalRequestConflict",
    }
)


def code_in(body: bytes) -> str:
    """The error code of an answer in XML; "" when there is none."""
    found = _CODE.search(body)
    return found.group(1).decode() if found else ""


def worth_repeating(status: int, code: str) -> bool:
    """Whether the same request may succeed soon."""
    if status in {501, 505, 507} or code in _FULL:
        return False
    return status >= 500 or status in {408, 429} or code in _AGAIN


def refusal(where: str, bucket: str, status: int, code: str) -> DestinationError:
    """`where` is the endpoint. The error for an answer that is no success."""
    words = f"{status} {code}".strip()
    if code in _FULL or status == 507:
        return DestinationFullError(f"The destination {where} has no room left ({words}); make room.")
    if code == "NoSuchBucket":
        return DestinationError(f"There is no bucket {bucket} at {where}; create it or correct its name.")
    if code in _LOGIN or status == 401:
        return DestinationError(
            f"{where} refused the login ({words}); check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the Secret."
        )
    if code == "RequestTimeTooSkewed":
        return DestinationError(f"The clock of {where} differs from this node's; set both by NTP.")
    if code in {"PermanentRedirect", "AuthorizationHeaderMalformed"} or status in {301, 307}:
        return DestinationError(f"The bucket {bucket} lies in another region ({words}); correct the region.")
    if status == 403:
        return DestinationError(
            f"{where} denied access to the bucket {bucket} ({words}); the login needs to "
            f"list the bucket and its uploads, and to read, write and delete objects."
        )
    if status == 200 and not code:
        return DestinationUnavailableError(
            f"{where} answers, but not as an S3 server does; check the endpoint, and what lies before it."
        )
    if worth_repeating(status, code) or status == 200:
        return DestinationUnavailableError(f"The destination {where} fails ({words}); look at its log.")
    return DestinationError(f"{where} refused a request for the bucket {bucket} ({words}).")


def broken_way(where: str, error: Exception) -> DestinationUnavailableError:
    """For a connection that could not be made, broke or stalled."""
    if isinstance(error, ssl.SSLCertVerificationError):
        words = f"its certificate is not trusted ({error.verify_message}); set LUCID_S3_CA to its authority"
    elif isinstance(error, ssl.SSLError):
        words = f"TLS failed ({error.reason}); check whether the endpoint is to be http or https"
    elif isinstance(error, TimeoutError):
        words = "it did not answer in time; check the server and the network"
    elif isinstance(error, OSError) and error.strerror:
        words = f"{error.strerror}; check the endpoint and the network"
    else:
        words = f"the connection broke ({type(error).__name__}); check the server and the network"
    return DestinationUnavailableError(f"The destination {where} cannot be used: {words}.")
