"""How late the timers of a loop are. Run as a process of its own, it says so of a loop that nobody holds up: median,
99th percentile and maximum in milliseconds, as JSON, when its standard input ends.
"""

import asyncio
import json
import sys
import time


async def measure(pauses: list[float]) -> None:
    """How late (seconds) a timer of 5 ms is, again and again."""
    while True:
        started = time.monotonic()
        await asyncio.sleep(0.005)
        pauses.append(time.monotonic() - started - 0.005)


def milliseconds(pauses: list[float]) -> tuple[float, float, float]:
    """Median, 99th percentile and maximum."""
    ordered = sorted(pauses)
    middle, late, longest = (ordered[int((len(ordered) - 1) * share)] * 1000 for share in (0.5, 0.99, 1))
    return middle, late, longest


async def main() -> None:
    pauses: list[float] = []
    watch = asyncio.create_task(measure(pauses))
    print("begun", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    watch.cancel()
    print(json.dumps(milliseconds(pauses)))


if __name__ == "__main__":
    asyncio.run(main())
