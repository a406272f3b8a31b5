"""Between an operator and an Elasticsearch: passes requests on, and keeps back a chosen write and all that follow."""

import http.client
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PASSED_ON = ("content-type", "accept", "authorization")
_ANSWERED = ("content-type", "x-elastic-product")


class Gate:
    """`hold(2)`: two writes pass and the third never reaches the server. With `unheard` it does, and its answer never
    comes back.
    """

    def __init__(self, target: int) -> None:
        self.target = target
        self.held = threading.Event()
        """The chosen write has come."""
        self.writes: list[str] = []
        """Those that reached the server."""
        self._left: int | None = None
        self._unheard = False
        self._opened = threading.Event()
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_port}"

    def hold(self, after: int, *, unheard: bool = False) -> None:
        with self._lock:
            self._left, self._unheard = after, unheard
            self._opened.clear()
            self.held.clear()

    def open(self) -> None:
        """What was kept back is gone; what comes from now on passes."""
        with self._lock:
            self._left = None
            self._opened.set()

    def close(self) -> None:
        self.open()
        self._server.shutdown()
        self._server.server_close()

    def _passes(self) -> bool:
        with self._lock:
            if self._left == 0:
                return False
            if self._left is not None:
                self._left -= 1
            return True

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def pass_on(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                write = self.command in {"PUT", "DELETE"} or self.path.startswith("/_aliases")
                if write and not gate._passes():
                    if gate._unheard and not gate.held.is_set():
                        self._ask(body)
                        gate.writes.append(f"{self.command} {self.path}")
                    gate.held.set()
                    gate._opened.wait()
                    self.close_connection = True
                    return
                answer, content = self._ask(body)
                if write:
                    gate.writes.append(f"{self.command} {self.path}")
                self.send_response(answer.status)
                for name in _ANSWERED:
                    if value := answer.getheader(name):
                        self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = pass_on  # noqa: N815

            def _ask(self, body: bytes) -> tuple[http.client.HTTPResponse, bytes]:
                connection = http.client.HTTPConnection("127.0.0.1", gate.target, timeout=30)
                try:
                    headers = {name: self.headers[name] for name in _PASSED_ON if name in self.headers}
                    connection.request(self.command, self.path, body, headers)
                    answer = connection.getresponse()
                    return answer, answer.read()
                finally:
                    connection.close()

            def handle(self) -> None:
                # Who was killed has closed its end.
                try:
                    super().handle()
                except OSError:
                    self.connection.shutdown(socket.SHUT_RDWR)

            def log_message(self, *_: object) -> None: ...

        return Handler
