"""Which addresses the operator dials for a tenant. The operator's own settings are not checked: its owner made them.

A Secret of a tenant must not turn the operator into a way to places that the tenant cannot reach: cloud metadata
services (link-local), the operator's own pod (loopback), files of its container (TLS file options, unix sockets).
"""

from __future__ import annotations

import asyncio
import ipaddress
import re
import socket
from dataclasses import dataclass
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
MOST_HOSTS = 50
"""A replica set has at most 50 members, and the driver keeps a connection to each host of the string."""
# A host that two parsers could read differently is refused: what is checked must be what is dialled.
_PLAIN_HOST = re.compile(r"[A-Za-z0-9._-]+|[0-9A-Fa-f:.]+")
_NOT_IN_URLS = re.compile(r"[\\\x00-\x20\x7f]")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
# fd00:ec2::254 is a metadata service outside the link-local range.
_METADATA = {ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")}


@dataclass(frozen=True, slots=True)
class Named:
    """Where an address stands, for the sentences about it."""

    place: str
    reason: Reason
    """Of one that is no address."""


CONNECTION = Named("connection Secret", Reason.SECRET_INVALID)
S3_ENDPOINT = Named("endpoint in storage.s3", Reason.INVALID_SPEC)


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
    hosts = parsed["nodelist"]
    if len(hosts) > MOST_HOSTS:
        raise _invalid(f"MONGODB_URI names {len(hosts)} hosts; at most {MOST_HOSTS} are allowed")
    if any(port is None or host.startswith("/") for host, port in hosts):
        raise _invalid("unix sockets are not allowed in a Secret's MONGODB_URI")
    checks = (check_host(host, allow_loopback=allow_loopback) for host in sorted({host for host, _ in hosts}))
    # All of them, before the first failure is told: a task must not outlive the look that began it.
    for outcome in await asyncio.gather(*checks, return_exceptions=True):
        if isinstance(outcome, BaseException):
            raise outcome


async def check_url(
    url: str, schemes: frozenset[str], name: str, *, allow_loopback: bool, named: Named = CONNECTION
) -> None:
    """Raise NotAllowedError for a Redis, Elasticsearch or S3 URL that a tenant may not use. `name` is its key."""
    if _NOT_IN_URLS.search(url):
        raise _invalid(f"{name} holds a blank, a control character or a backslash", named)
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _invalid(f"{name} is no valid URL", named) from None
    if parts.scheme not in schemes or not host:
        begins = " or ".join(f"{s}://" for s in sorted(schemes))
        raise _invalid(f"{name} must be a URL that begins with {begins}", named)
    if parts.query:
        raise _invalid(f"{name} must not have a query part", named)
    await check_host(host, allow_loopback=allow_loopback, named=named)


async def check_host(host: str, *, allow_loopback: bool, named: Named = CONNECTION) -> None:
    """Raise NotAllowedError when any address of the host is link-local, a metadata service or (mostly) loopback."""
    if not _PLAIN_HOST.fullmatch(host):
        raise _invalid("a host name is made of letters, digits, dots and dashes, or is an IP address", named)
    loop = asyncio.get_running_loop()
    try:
        found = await asyncio.wait_for(loop.getaddrinfo(host, None, type=socket.SOCK_STREAM), 5)
    except UnicodeError:
        raise _invalid("a host name has 1 to 63 characters between two dots", named) from None
    except (OSError, TimeoutError):
        raise StoreUnavailableError(f"the host {host} of the {named.place} cannot be resolved") from None
    for *_, address in found:
        ip = _embedded(ipaddress.ip_address(str(address[0]).split("%")[0]))
        refused = ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in _METADATA
        if refused or (ip.is_loopback and not allow_loopback):
            raise NotAllowedError(
                f"the {named.place} names {host}, which is a loopback, link-local or metadata address; "
                "name the store's Service or its host instead",
                reason=Reason.ENDPOINT_REFUSED,
            )


def _embedded(
    ip: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """The IPv4 address that an IPv6 one leads to (mapped, 6to4, NAT64), or the address itself."""
    if isinstance(ip, ipaddress.IPv4Address):
        return ip
    if ip in _NAT64:
        return ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
    return ip.ipv4_mapped or ip.sixtofour or ip


def _invalid(sentence: str, named: Named = CONNECTION) -> NotAllowedError:
    return NotAllowedError(f"The {named.place} cannot be used: {sentence}.", reason=named.reason)
