"""Treats an HTTP server badly for some seconds: `python rest_abuser.py HOST PORT SECONDS`.

A process of its own, so that its work does not count against the one that is tested. Prints one number:
requests and connections that it began.
"""

import asyncio
import contextlib
import sys
import time

REQUEST = b"GET /api/v1/database/stats HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer "
begun = 0


async def connect(host: str, port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    global begun  # noqa: PLW0603
    begun += 1
    return await asyncio.open_connection(host, port)


async def drip_header(host: str, port: int, until: float) -> None:
    """One byte at a time, so that the header never ends."""
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            _, writer = await connect(host, port)
            for byte in REQUEST * 20:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(0.2)
                if time.monotonic() > until:
                    break
            writer.close()


async def huge_header(host: str, port: int, until: float) -> None:
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            reader, writer = await connect(host, port)
            writer.write(REQUEST + b"x" * 200_000)
            await writer.drain()
            await reader.read(1000)
            writer.close()


async def guess_tokens(host: str, port: int, until: float) -> None:
    """Pipelined requests with tokens that nobody has."""
    global begun  # noqa: PLW0603
    while time.monotonic() < until:
        with contextlib.suppress(OSError):
            reader, writer = await connect(host, port)
            for number in range(50):
                writer.write(REQUEST + f"guess{begun}-{number}\r\n\r\n".encode())
            begun += 50
            await writer.drain()
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline and await asyncio.wait_for(reader.read(65536), 2):
                pass
            writer.close()


async def main(host: str, port: int, seconds: float) -> None:
    until = time.monotonic() + seconds
    tasks = [asyncio.create_task(drip_header(host, port, until)) for _ in range(400)]
    tasks += [asyncio.create_task(huge_header(host, port, until)) for _ in range(8)]
    tasks += [asyncio.create_task(guess_tokens(host, port, until)) for _ in range(8)]
    await asyncio.wait(tasks, timeout=seconds + 3)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


asyncio.run(main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3])))
print(begun)
