"""A proxy before the real S3 server: it counts requests, delays them, and answers some of them wrongly."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit


@dataclass(frozen=True)
class Request:
    """One request that came through: method, path with query, the Range header ("" for none)."""

    method: str
    path: str
    range: str


@dataclass
class Proxy:
    """What the proxy has seen, and how it is to behave.

    Attributes:
        endpoint: where it listens.
        requests: all that came.
        most_in_flight: how many were under way at once, at most.
        delay_s: how long each is held, as a distant server would.
        fault: given a request, the status to answer instead of asking the server, or None. Status 0
            drops the connection when the server's reply is half sent; -1 drops it after the server has
            done what was asked, without a word.
    """

    endpoint: str
    requests: list[Request] = field(default_factory=list)
    most_in_flight: int = 0
    delay_s: float = 0.0
    fault: Callable[[Request], int | None] = lambda _: None
    _in_flight: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def reset(self) -> None:
        """Forget what was seen."""
        with self._lock:
            self.requests.clear()
            self.most_in_flight = 0

    @contextlib.contextmanager
    def counted(self, request: Request) -> Iterator[None]:
        """While one request is under way."""
        with self._lock:
            self.requests.append(request)
            self._in_flight += 1
            self.most_in_flight = max(self.most_in_flight, self._in_flight)
        try:
            yield
        finally:
            with self._lock:
                self._in_flight -= 1


@contextlib.contextmanager
def proxy_before(endpoint: str) -> Iterator[Proxy]:
    """A running proxy before the server at `endpoint`."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    server.daemon_threads = True
    proxy = Proxy(f"http://127.0.0.1:{server.server_address[1]}")
    server.RequestHandlerClass = _handler(proxy, urlsplit(endpoint).netloc)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _handler(proxy: Proxy, upstream: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            request = Request(self.command, self.path, self.headers.get("Range", ""))
            with proxy.counted(request):
                time.sleep(proxy.delay_s)
                fault = proxy.fault(request)
                if fault is not None and fault > 0:
                    self._reply(fault, {}, b"")
                    return
                connection = http.client.HTTPConnection(upstream, timeout=30)
                try:
                    connection.request(self.command, self.path, body, dict(self.headers))
                    reply = connection.getresponse()
                    data = reply.read()
                    headers = dict(reply.getheaders())
                finally:
                    connection.close()
                if fault == -1:
                    self.close_connection = True
                    return
                self._reply(reply.status, headers, data, half=fault == 0)

        do_PUT = do_POST = do_HEAD = do_DELETE = do_GET

        def _reply(self, status: int, headers: dict[str, str], data: bytes, *, half: bool = False) -> None:
            self.send_response_only(status)
            length = headers.pop("Content-Length", str(len(data)))
            for name, value in headers.items():
                if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                    self.send_header(name, value)
            self.send_header("Content-Length", length)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(data[: len(data) // 2] if half else data)
            if half:
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002
            pass

    return Handler
