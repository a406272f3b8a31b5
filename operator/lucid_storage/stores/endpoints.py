"""Which addresses the operator dials for a tenant. The operator's own settings are not checked: its owner made them.

A Secret of a tenant must not turn the operator into a way to places that the tenant cannot reach: cloud metadata
services (link-local), the operator's own pod (loopback), files of its container (TLS file options, unix sockets).
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from urllib.parse import urlsplit

from pymongo.errors import PyMongoError
from pymongo.uri_parser import parse_uri

from lucid_storage.errors import NotAllowedError, Reason, StoreUnavailableError

# Options that make the driver read files, start helpers or ask metadata services.
_MONGODB_REFUSED = {
    "tlscafile": "tlsCAFile",
    "tlscertificatekeyfile": "tlsCertificateKeyFile",
    "tlscertificatekeyfilepassword": "tlsCertificateKeyFilePassword",
    "tlscrlfile": "tlsCRLFile",
    "authmechanismproperties": "authMechanismProperties",
    "auto_encryption_opts": "autoEncryptionOpts",
}
_MONGODB_MECHANISMS = {None, "DEFAULT", "SCRAM-SHA-1", "SCRAM-SHA-256", "PLAIN"}
# fd00:ec2::254 is a metadata service outside the link-local range.
_METADATA = {ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")}


async def check_mongodb(uri: str, *, allow_loopback: bool) -> None:
    """Raise NotAllowedError for a connection string that a tenant may not use."""
    if uri.startswith("mongodb+srv://"):
        raise _invalid("mongodb+srv:// is not supported in a Secret; list the hosts in a mongodb:// string")
    try:
        parsed = parse_uri(uri, validate=True, warn=False)
    except (PyMongoError, ValueError) as error:
        raise _invalid(f"MONGODB_URI is no valid connection string ({type(error).__name__})") from None
    options = {key.lower(): value for key, value in parsed["options"].items()}
    for key, shown in _MONGODB_REFUSED.items():
        if key in options:
            raise _invalid(f"the option {shown} is not allowed in a Secret's MONGODB_URI")
    if options.get("authmechanism") not in _MONGODB_MECHANISMS:
        raise _invalid("only password logins (SCRAM, PLAIN) are allowed in a Secret's MONGODB_URI")
    for host, port in parsed["nodelist"]:
        if port is None or host.startswith("/"):
            raise _invalid("unix sockets are not allowed in a Secret's MONGODB_URI")
        await check_host(host, allow_loopback=allow_loopback)


async def check_url(url: str, schemes: frozenset[str], name: str, *, allow_loopback: bool) -> None:
    """Raise NotAllowedError for a Redis or Elasticsearch URL that a tenant may not use. `name` is its key."""
    try:
        parts = urlsplit(url)
        host = parts.hostname
    except ValueError:
        raise _invalid(f"{name} is no valid URL") from None
    if parts.scheme not in schemes or not host:
        raise _invalid(
            f"{name} must be a URL that begins with {' or '.join(f'{s}://' for s in sorted(schemes))}"
        )
    if parts.query:
        raise _invalid(f"{name} must not have a query part")
    await check_host(host, allow_loopback=allow_loopback)


async def check_host(host: str, *, allow_loopback: bool) -> None:
    """Raise NotAllowedError when any address of the host is link-local, a metadata service or (mostly) loopback."""
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(loop.getaddrinfo(host, None, type=socket.SOCK_STREAM), 5)
    except (OSError, TimeoutError):
        raise StoreUnavailableError(f"the host {host} of the connection Secret cannot be resolved") from None
    for *_, address in found:
        ip = ipaddress.ip_address(str(address[0]).split("%")[0])
        if isinstance(ip, ipaddress.IPv6Address) and ip.ipv4_mapped is not None:
            ip = ip.ipv4_mapped
        refused = ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA
        if refused or (ip.is_loopback and not allow_loopback):
            raise NotAllowedError(
                f"the connection Secret names {host}, which is a loopback, link-local or metadata address; "
                "name the store's Service or its host instead",
                reason=Reason.ENDPOINT_REFUSED,
            )


def _invalid(sentence: str) -> NotAllowedError:
    return NotAllowedError(f"The connection Secret cannot be used: {sentence}.", reason=Reason.SECRET_INVALID)
