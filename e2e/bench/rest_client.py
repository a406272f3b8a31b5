"""Asks the REST API the same things again and again over one connection, until standard input ends.

    BENCH_TOKEN=... python -m bench.rest_client PORT BARE_PORT PATH ...

Next to each request it asks a bare server on BARE_PORT. Prints `answers` after the first answers of both, and at the
end the milliseconds of all later ones as JSON: {"rest": [...], "bare": [...]}.
"""

import http.client
import itertools
import json
import os
import select
import sys
import time

INTERVAL_SECONDS = 0.06  # two minutes of it are within the rate limit
WARM_UP = 10
START_SECONDS = 20.0


def main(port: int, bare_port: int, paths: list[str]) -> None:
    turns = itertools.cycle(paths)
    rest = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
    bare = _connected(bare_port)
    for _ in range(WARM_UP):
        _ask(rest, next(turns))
        _ask(bare, "/")
    print("answers", flush=True)
    taken: dict[str, list[float]] = {"rest": [], "bare": []}
    while not select.select([sys.stdin], [], [], INTERVAL_SECONDS)[0]:
        taken["rest"].append(_ask(rest, next(turns)))
        taken["bare"].append(_ask(bare, "/"))
    print(json.dumps(taken))


def _connected(port: int) -> http.client.HTTPConnection:
    """A connection to a server that is about to start."""
    end = time.monotonic() + START_SECONDS
    while True:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=15)
        try:
            connection.connect()
        except ConnectionRefusedError:
            if time.monotonic() > end:
                raise
            time.sleep(0.05)
        else:
            return connection


def _ask(connection: http.client.HTTPConnection, path: str) -> float:
    began = time.perf_counter()
    connection.request("GET", path, headers={"Authorization": f"Bearer {os.environ['BENCH_TOKEN']}"})
    answer = connection.getresponse()
    body = answer.read()
    milliseconds = (time.perf_counter() - began) * 1000
    if answer.status != http.HTTPStatus.OK:
        raise SystemExit(f"GET {path}: {answer.status} {body[:300]!r}")
    return milliseconds


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3:])
