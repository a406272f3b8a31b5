"""Certificate authorities of the stores, trusted by this process besides those of its image.

All drivers begin with OpenSSL's default authorities, and OpenSSL takes the file of those from SSL_CERT_FILE. So one
file with both serves MongoDB, Redis and Elasticsearch alike. The kubelets and the buckets' own authority
(KUBELET_CA, BACKUP_S3_CA) are given to their clients alone.
"""

from __future__ import annotations

import os
import ssl
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from lucid_storage.errors import Reason, RefusedError

STORES_CA_VARIABLE = "STORES_CA"
CERT_FILE = "SSL_CERT_FILE"
_BEGIN = "-----BEGIN CERTIFICATE-----"


def authority(given: str) -> str:
    """PEM text of what STORES_CA gives, which is that text or the path of a file. Raises RefusedError."""
    try:
        text = given if _BEGIN in given else Path(given).read_text("ascii")
        ssl.create_default_context(cadata=text)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"{STORES_CA_VARIABLE} cannot be used ({type(error).__name__}): give certificates as PEM text, or the path"
            " of a file with them.",
            reason=Reason.NOT_CONFIGURED,
        ) from None
    return text


def trust(given: str, environ: MutableMapping[str, str] | None = None) -> None:
    """For all connections that are opened from now on. Call it before the first. Raises RefusedError."""
    environ = os.environ if environ is None else environ
    usual = environ.get(CERT_FILE) or ssl.get_default_verify_paths().openssl_cafile
    known = Path(usual).read_text("utf-8", "replace") if Path(usual).is_file() else ""
    with tempfile.NamedTemporaryFile("w", suffix=".pem", delete=False) as both:
        both.write(f"{known}\n{authority(given)}\n")
    environ[CERT_FILE] = both.name
