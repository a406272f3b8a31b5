"""An HTTP proxy before an S3 server that breaks the requests that a rule chooses. Signatures stay valid."""

import http.client
import ssl
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit


@dataclass(frozen=True)
class Request:
    """What the rule sees. `number` counts the requests of this method, path and query, from 1."""

    method: str
    path: str
    query: dict[str, list[str]]
    number: int
    md5: str = ""
    """Content-MD5."""

    @property
    def part(self) -> int | None:
        return int(self.query["partNumber"][0]) if "partNumber" in self.query else None

    @property
    def completes(self) -> bool:
        return self.method == "POST" and "uploadId" in self.query


@dataclass(frozen=True)
class Fault:
    """What happens instead of passing the request on."""

    status: int = 0
    """Answer this, without passing the request on; 0 passes it on."""
    body: bytes = b""
    lost_after: int | None = None
    """Close the connection after so many bytes of the request's body."""
    stalls: bool = False
    """Take the request, and never answer."""
    answer_lost: bool = False
    """Pass the request on, and close the connection instead of answering."""
    held_until: threading.Event | None = None
    """Take the whole request and pass its beginning on; the rest when this happens, whoever still waits for it."""
    begun: threading.Event | None = None
    """Happens when the server has that beginning."""
    then: threading.Event | None = None
    """Happens when the server is done with the request."""
    changed: Callable[[bytes], bytes] | None = None
    """Answer as the server did, with another body."""
    headers: dict[str, str] = field(default_factory=dict)
    """Answer as the server did, with these headers changed."""


Rule = Callable[[Request], Fault | None]


class FaultProxy:
    """Listens on a port of its own."""

    def __init__(self, target_port: int, rule: Rule) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._lock = threading.Lock()
        self.seen: list[Request] = []
        self.released = threading.Event()
        proxy = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                pass

            def handle_one_request(self) -> None:
                try:
                    super().handle_one_request()
                except (ConnectionError, TimeoutError):
                    self.close_connection = True

            def answer(self) -> None:
                request = proxy.counted(self.command, self.path, self.headers.get("Content-MD5", ""))
                fault = rule(request)
                length = int(self.headers.get("Content-Length", "0"))
                if fault is not None and fault.lost_after is not None:
                    self.rfile.read(min(length, fault.lost_after))
                    self.close_connection = True
                    return
                body = self.rfile.read(length)
                if fault is not None and fault.stalls:
                    proxy.released.wait(60)
                    self.close_connection = True
                    return
                if fault is not None and fault.status:
                    self.reply(fault.status, fault.headers, fault.body)
                    return
                connection = http.client.HTTPConnection("127.0.0.1", target_port, timeout=60)
                try:
                    connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                    for name, value in self.headers.items():
                        connection.putheader(name, value)
                    connection.endheaders()
                    rest = body
                    if fault is not None and fault.held_until is not None:
                        connection.send(body[: len(body) // 2])
                        rest = body[len(body) // 2 :]
                        if fault.begun is not None:
                            fault.begun.set()
                        fault.held_until.wait(60)
                    connection.send(rest)
                    response = connection.getresponse()
                    content = response.read()
                    headers = dict(response.getheaders())
                finally:
                    connection.close()
                    if fault is not None and fault.then is not None:
                        fault.then.set()
                if fault is not None and fault.answer_lost:
                    self.close_connection = True
                    return
                if fault is not None and fault.changed is not None:
                    content = fault.changed(content)
                    headers.pop("Content-Length", None)
                if fault is not None:
                    headers |= fault.headers
                self.reply(response.status, headers, content)

            def reply(self, status: int, headers: dict[str, str], body: bytes) -> None:
                self.send_response_only(status)
                for name, value in headers.items():
                    if name.lower() not in {"transfer-encoding", "connection"}:
                        self.send_header(name, value)
                if "content-length" not in {name.lower() for name in headers}:
                    self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that went away is what these tests are about."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def behind_tls(self, context: ssl.SSLContext) -> str:
        """Speak TLS from now on; returns the URL."""
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        return self.url.replace("http://", "https://")

    def counted(self, method: str, target: str, md5: str = "") -> Request:
        with self._lock:
            number = self._counts[method, target] = self._counts.get((method, target), 0) + 1
            url = urlsplit(target)
            request = Request(method, url.path, parse_qs(url.query, keep_blank_values=True), number, md5)
            self.seen.append(request)
            return request

    def stop(self) -> None:
        self.released.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()
