"""Which member of a Redis with replicas is read: a replica, so that the master need not fork, where one will do."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from lucid_storage.errors import LucidError, StoreUnavailableError
from lucid_storage.stores.redis.wire import Address, Wire

MOST_LAG_SECONDS = 10
"""A replica whose last word is older is not asked (repl-ping-replica-period is 10 s by default)."""
# Metadata services outside the link-local range.
_METADATA = {ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")}
_REPLICA = re.compile(r"ip=([^,]+),port=(\d+),state=online,offset=(\d+),lag=(\d+)")


@dataclass(frozen=True, slots=True)
class Member:
    """One server, connected to."""

    wire: Wire
    info: Mapping[str, str]
    notes: tuple[str, ...] = field(default=())


def server_info(wire: Wire) -> dict[str, str]:
    """INFO. Raises LucidError."""
    reply = wire.call("INFO")
    text = reply.decode("utf-8", "replace") if isinstance(reply, bytes) else ""
    return dict(line.split(":", 1) for line in text.splitlines() if ":" in line and not line.startswith("#"))


def choose(address: Address, label: str) -> Member:
    """The server of the URL when it is a replica or has none that will do, else the replica that lags least.

    A replica that cannot be used is a note, and no failure. Raises LucidError for the server of the URL itself.
    """
    wire = Wire(address)
    try:
        info = server_info(wire)
        if info.get("role") != "master":
            _refuse_lost(wire, info)
            return Member(wire, info)
        notes = []
        for host, port in _replicas(info):
            try:
                member = _replica(address, host, port, label, info, wire.peer)
            except LucidError as error:
                notes.append(f"A replica was not used: {error.message}")
                continue
            wire.close()
            return member
        return Member(wire, info, tuple(notes))
    except BaseException:
        wire.close()
        raise


def _refuse_lost(wire: Wire, info: Mapping[str, str]) -> None:
    if info.get("master_link_status") != "up":
        raise StoreUnavailableError(
            f"{wire.subject} is a replica without its master; repair the replication or connect to the master."
        )


def _replicas(info: Mapping[str, str]) -> list[tuple[str, int]]:
    """Those that follow closely, the closest first."""
    found = []
    for name, value in info.items():
        match = _REPLICA.match(value) if re.fullmatch(r"slave\d+", name) else None
        if match and int(match[4]) <= MOST_LAG_SECONDS:
            found.append((-int(match[3]), match[1], int(match[2])))
    return [(host, port) for _, host, port in sorted(found)]


def _replica(
    address: Address, host: str, port: int, label: str, master: Mapping[str, str], peer: str
) -> Member:
    """Connected to and found to follow this master. Raises LucidError."""
    there = address.elsewhere(host, port, label)
    if not _may_dial(host, peer):
        raise StoreUnavailableError(f"{there.subject} is at an address that is not dialled.")
    wire = Wire(there)
    try:
        info = server_info(wire)
        _refuse_strange(wire, info, master)
    except BaseException:
        wire.close()
        raise
    return Member(wire, info)


def _refuse_strange(wire: Wire, info: Mapping[str, str], master: Mapping[str, str]) -> None:
    if info.get("role") != "slave" or info.get("master_replid") != master.get("master_replid"):
        raise StoreUnavailableError(f"{wire.subject} does not follow this master.")
    _refuse_lost(wire, info)
    if info.get("loading") == "1" or info.get("master_sync_in_progress") == "1":
        raise StoreUnavailableError(f"{wire.subject} is loading.")


def _may_dial(host: str, peer: str) -> bool:
    """Replicas announce their addresses themselves, so one must not lead to a place that a connection may not name:
    link-local and metadata addresses, or our own pod (loopback), unless the master is there as well.
    """
    addresses = {host}
    with suppress(OSError):
        addresses = {str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)}
    local = ipaddress.ip_address(peer.split("%", 1)[0]).is_loopback
    for text in addresses:
        try:
            ip = ipaddress.ip_address(text.split("%", 1)[0])
        except ValueError:
            return False
        if isinstance(ip, ipaddress.IPv6Address):
            ip = ip.ipv4_mapped or ip.sixtofour or ip
        if (
            ip in _METADATA
            or ip.is_link_local
            or ip.is_multicast
            or ip.is_unspecified
            or (ip.is_loopback and not local)
        ):
            return False
    return True
