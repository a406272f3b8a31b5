"""`python -m testbed.stores.router --port N --config HOST:PORT [--host ADDRESS]...`"""

import argparse
import asyncio
import contextlib

from testbed.stores.router.server import Router


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m testbed.stores.router", description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--config", required=True, help="the config server's primary, host:port")
    parser.add_argument("--host", action="append", required=True, help="an address to listen on")
    options = parser.parse_args()
    host, _, port = options.config.rpartition(":")
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(Router(host, int(port)).serve(options.host, options.port))


if __name__ == "__main__":
    main()
