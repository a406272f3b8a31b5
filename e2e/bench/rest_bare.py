"""The peer of the REST API: a process that answers every request with the same few bytes.

python -m bench.rest_bare PORT
"""

import sys

from aiohttp import web


async def _answer(_: web.Request) -> web.Response:
    return web.json_response({"status": "healthy"})


if __name__ == "__main__":
    app = web.Application()
    app.router.add_get("/{path:.*}", _answer)
    web.run_app(app, host="127.0.0.1", port=int(sys.argv[1]), print=None, access_log=None)
