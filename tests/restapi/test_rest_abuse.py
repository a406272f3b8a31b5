"""The REST API under abuse: bounded for itself, and not felt by the loop that reconciles."""

import asyncio
import json
import socket
import sys
import time
from dataclasses import replace
from pathlib import Path

import rest_pauses
from rest_clients import Rest, serving
from rest_contract import check
from rest_doubles import FixedBackend

from lucid_storage.restapi.limits import Limits

ABUSER = Path(__file__).with_name("rest_abuser.py")
ABUSE_SECONDS = 6.0
ABUSE_REQUESTS = 1000
LONGEST_PAUSE_MS = 1000
"""Far below any deadline of the reconciling side (a lease is renewed every few seconds)."""
USUAL_PAUSE_MS = 50
TIMES_OF_OTHERS = 10
"""On a machine that is busy with other things, pauses are measured against those of another process at that time."""


async def test_abuse_does_not_hold_up_another_threads_loop_nor_honest_callers() -> None:
    with serving(FixedBackend()) as rest:
        assert (await rest.call("/database/stats")).status == 200
        other = await asyncio.create_subprocess_exec(
            sys.executable,
            rest_pauses.__file__,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert other.stdout is not None
        assert await other.stdout.readline() == b"begun\n"
        pauses: list[float] = []
        answered: list[float] = []
        watch = asyncio.create_task(rest_pauses.measure(pauses))
        honest = asyncio.create_task(_ask(rest, answered))
        begun = 0
        async with asyncio.timeout(90):
            while begun < ABUSE_REQUESTS:
                begun += await _abuse(rest)
        watch.cancel()
        honest.cancel()
        ended = await asyncio.gather(watch, honest, return_exceptions=True)
        assert all(isinstance(end, asyncio.CancelledError) for end in ended), ended
        output, _ = await other.communicate(b"")
        after = await rest.call("/database/stats")
        assert rest.server.healthy()
    _, others_late, others_longest = json.loads(output)
    middle, late, longest = rest_pauses.milliseconds(pauses)
    print(
        f"{begun} requests of abuse; {len(answered)} honest answers, "
        f"the slowest {max(answered) * 1000:.0f} ms; pauses of the main loop: "
        f"median {middle:.1f}, 99th percentile {late:.1f} (of another process {others_late:.1f}), "
        f"longest {longest:.1f} ms (of another process {others_longest:.1f})"
    )
    assert after.status == 200
    assert longest < max(LONGEST_PAUSE_MS, TIMES_OF_OTHERS * others_longest)
    assert late < max(USUAL_PAUSE_MS, TIMES_OF_OTHERS * others_late)
    assert len(answered) > 10


async def _abuse(rest: Rest) -> int:
    """For some seconds; returns with how many requests."""
    host, port = rest.server.address
    abuser = await asyncio.create_subprocess_exec(
        sys.executable, str(ABUSER), host, str(port), str(ABUSE_SECONDS), stdout=asyncio.subprocess.PIPE
    )
    output, _ = await abuser.communicate()
    assert abuser.returncode == 0
    return int(output)


async def _ask(rest: Rest, answered: list[float]) -> None:
    """A caller who was known before the address was shut out for its guesses is answered on."""
    while True:
        started = time.monotonic()
        reply = await rest.call("/database/stats")
        # 503 says that all places are taken for the moment.
        assert reply.status in {200, 503}
        answered.append(time.monotonic() - started)
        await asyncio.sleep(0.1)


def test_header_that_never_ends_is_cut() -> None:
    with serving(FixedBackend(), limits=replace(Limits(), header_seconds=0.5)) as rest:
        for begin in (b"", b"GET /api/v1/data", b"GET /api/v1/nothing HTTP/1.1\r\nHost: x\r\n\r\nGET /x"):
            with socket.create_connection(rest.server.address, timeout=10) as connection:
                started = time.monotonic()
                connection.sendall(begin)
                while time.monotonic() - started < 0.3:
                    time.sleep(0.1)
                    if begin:
                        connection.sendall(b"x")
                assert _ended(connection)
                assert time.monotonic() - started < 3


def test_header_that_is_too_large_is_refused_in_the_envelope() -> None:
    with (
        serving(FixedBackend()) as rest,
        socket.create_connection(rest.server.address, timeout=10) as connection,
    ):
        connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 20_000)
        answer = _read_all(connection)
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    check(json.loads(body), "ErrorResponse")


def test_connections_without_a_request_give_way_to_new_ones() -> None:
    with serving(FixedBackend(), limits=replace(Limits(), connections=5)) as rest:
        idle = [socket.create_connection(rest.server.address, timeout=10) for _ in range(12)]
        with socket.create_connection(rest.server.address, timeout=10) as connection:
            connection.sendall(
                b"GET /api/v1/database/stats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n"
                b"Connection: close\r\n\r\n"
            )
            assert _read_all(connection).startswith(b"HTTP/1.1 200")
        assert all(_ended(connection) for connection in idle[:8])
        for connection in idle:
            connection.close()


def test_stop_waits_for_a_running_request_and_not_for_idle_connections() -> None:
    with (
        serving(FixedBackend(seconds=1.0)) as rest,
        socket.create_connection(rest.server.address, timeout=10),
        socket.create_connection(rest.server.address, timeout=10) as busy,
    ):
        busy.sendall(b"GET /api/v1/database/stats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer alice\r\n\r\n")
        time.sleep(0.3)  # the request is under way now, which nothing outside can see
        started = time.monotonic()
        assert rest.server.stop(8)
        assert time.monotonic() - started < 5
        assert _read_all(busy).startswith(b"HTTP/1.1 200")


def _read_all(connection: socket.socket) -> bytes:
    found = b""
    while part := connection.recv(65536):
        found += part
    return found


def _ended(connection: socket.socket) -> bool:
    """Waits for the end of the connection, for as long as its timeout."""
    try:
        while connection.recv(65536):
            pass
    except ConnectionError:
        return True
    return True
