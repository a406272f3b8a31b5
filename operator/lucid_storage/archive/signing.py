"""Signatures of requests to S3: AWS Signature Version 4, in the headers, over the digest of the body.

    https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html

The server compares the body with the signed digest, so what it takes is what was sent.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from hmac import digest as hmac_digest
from urllib.parse import quote

_UNRESERVED = "-_.~"


@dataclass(frozen=True, slots=True, repr=False)
class Credentials:
    """Of a bucket."""

    access_key: str
    secret_key: str
    session_token: str | None = None


def encoded_path(path: str) -> str:
    """A path as S3 wants it in requests and signatures."""
    return quote(path, safe="/" + _UNRESERVED)


def encoded_query(query: Mapping[str, str]) -> str:
    """Parameters in the order of the signature."""
    return "&".join(
        f"{quote(name, safe=_UNRESERVED)}={quote(value, safe=_UNRESERVED)}"
        for name, value in sorted(query.items())
    )


def signed(
    credentials: Credentials,
    region: str,
    method: str,
    path: str,
    query: Mapping[str, str],
    headers: Mapping[str, str],
    body_sha256: str,
    now: datetime,
) -> dict[str, str]:
    """`headers`, which must hold `host`, with the ones that sign the request. All of them are signed."""
    moment = now.strftime("%Y%m%dT%H%M%SZ")
    everything = {name.lower(): value.strip() for name, value in headers.items()}
    everything |= {"x-amz-date": moment, "x-amz-content-sha256": body_sha256}
    if credentials.session_token is not None:
        everything["x-amz-security-token"] = credentials.session_token
    names = sorted(everything)
    request = "\n".join(
        [
            method,
            encoded_path(path),
            encoded_query(query),
            *(f"{name}:{everything[name]}" for name in names),
            "",
            ";".join(names),
            body_sha256,
        ]
    )
    scope = f"{moment[:8]}/{region}/s3/aws4_request"
    text = f"AWS4-HMAC-SHA256\n{moment}\n{scope}\n{hashlib.sha256(request.encode()).hexdigest()}"
    key = f"AWS4{credentials.secret_key}".encode()
    for part in (moment[:8], region, "s3", "aws4_request"):
        key = hmac_digest(key, part.encode(), "sha256")
    signature = hmac_digest(key, text.encode(), "sha256").hex()
    everything["authorization"] = (
        f"AWS4-HMAC-SHA256 Credential={credentials.access_key}/{scope}, "
        f"SignedHeaders={';'.join(names)}, Signature={signature}"
    )
    return everything
