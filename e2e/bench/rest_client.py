"""Asks the REST API the same things again and again over one connection, until standard input ends.

    BENCH_TOKEN=... python -m bench.rest_client PORT PATH ...

Prints `answers` after the first answers, and at the end the milliseconds of each later one as JSON.
"""

import http.client
import itertools
import json
import os
import select
import sys
from time import perf_counter

INTERVAL_SECONDS = 0.06  # two minutes of it are within the rate limit
WARM_UP = 10


def main(port: int, paths: list[str]) -> None:
    turns = itertools.cycle(paths)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    headers = {"Authorization": f"Bearer {os.environ['BENCH_TOKEN']}"}
    for _ in range(WARM_UP):
        _ask(connection, next(turns), headers)
    print("answers", flush=True)
    latencies = []
    while not select.select([sys.stdin], [], [], INTERVAL_SECONDS)[0]:
        latencies.append(_ask(connection, next(turns), headers))
    print(json.dumps(latencies))


def _ask(connection: http.client.HTTPConnection, path: str, headers: dict[str, str]) -> float:
    began = perf_counter()
    connection.request("GET", path, headers=headers)
    answer = connection.getresponse()
    body = answer.read()
    milliseconds = (perf_counter() - began) * 1000
    if answer.status != http.HTTPStatus.OK:
        raise SystemExit(f"GET {path}: {answer.status} {body[:300]!r}")
    return milliseconds


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
