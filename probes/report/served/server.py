"""A server that only this machine reaches, only who has its address asks, and nobody changes anything by.

* It listens on 127.0.0.1. Other users of the machine reach that too, so the address holds a token of 128 bits
  that is made anew each time.
* A page of elsewhere that had its own name lead here (DNS rebinding) asks with that name as ``Host``:
  refused. So are requests that a browser says come from another site.
* ``GET`` and ``HEAD`` alone. The path is the token and one name of a list; no file is ever looked for by it.
"""

from __future__ import annotations

import errno
import hmac
import secrets
import sys
from collections.abc import Callable
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any

from featurestore.errors import ConfigError
from probes.report.html import SERVED_POLICY
from probes.report.served.site import JSON, Answer, Site

HOST = "127.0.0.1"
LOWEST_PORT, HIGHEST_PORT = 1, 65_535
# Of a connection on which nothing comes.
_IDLE_S = 60.0
_HEADERS = {
    # What a page cannot say of itself, beside what it says.
    "Content-Security-Policy": (
        f"{SERVED_POLICY}; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_TEXT = "text/plain; charset=utf-8"


class ReportServer(ThreadingHTTPServer):
    """Serves a site on loopback.

    Args:
        site: What is served.
        port: To listen on; None: any that is free.
        on_bug: Told, in one line, of an error that nobody expected.

    Raises:
        ConfigError: the port cannot be, is in use, or is not for this user.
    """

    daemon_threads = True

    def __init__(self, site: Site, port: int | None, on_bug: Callable[[str], None]) -> None:
        check_port(port)
        self.site, self.token, self.on_bug = site, secrets.token_urlsafe(16), on_bug
        try:
            super().__init__((HOST, port or 0), _Handler)
        except OSError as error:
            reasons = {errno.EADDRINUSE: "is in use", errno.EACCES: "is not for ordinary users"}
            reason = reasons.get(error.errno or 0, f"cannot be used ({error.strerror})")
            raise ConfigError(
                f"--port {port}: expected a free port of {HOST}, this one {reason}; give another, or leave "
                "--port out for any that is free"
            ) from error
        self.hosts = {f"{name}:{self.server_port}" for name in (HOST, "localhost")}

    @property
    def url(self) -> str:
        """The address of the page."""
        return f"http://{HOST}:{self.server_port}/{self.token}/"

    def server_bind(self) -> None:
        """See `HTTPServer.server_bind`, which would ask a name server who 127.0.0.1 is."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = HOST, int(self.server_address[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A browser that went away is no error; anything else is one line."""
        error = sys.exc_info()[1]
        if not isinstance(error, OSError):
            self.on_bug(f"internal error: {type(error).__name__}: {error} (a bug)")


def check_port(port: int | None) -> None:
    """Refuse a number that is no port.

    Raises:
        ConfigError: it is out of range.
    """
    if port is not None and not LOWEST_PORT <= port <= HIGHEST_PORT:
        raise ConfigError(
            f"--port: expected {LOWEST_PORT} to {HIGHEST_PORT}, got {port}; leave it out for any that is free"
        )


class _Handler(BaseHTTPRequestHandler):
    """One connection."""

    server: ReportServer
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fs", ""
    timeout = _IDLE_S

    def do_GET(self) -> None:
        """Answer."""
        self._send(self._answer())

    do_HEAD = do_GET  # noqa: N815

    def _answer(self) -> Answer:
        path, _, query = self.path.partition("?")
        if not self._is_from_here():
            return Answer(403, _TEXT, "Only pages of this very address are answered.\n")
        token, slash, name = path.removeprefix("/").partition("/")
        # Who has no token is told no more than that there is nothing.
        if not slash or not hmac.compare_digest(token.encode(), self.server.token.encode()):
            return Answer(404, _TEXT, "There is nothing here: use the whole address that fs serve printed.\n")
        try:
            return self.server.site.answer(name, query)
        except Exception as error:
            self.server.on_bug(f"internal error: {type(error).__name__}: {error} (a bug)")
            return Answer(500, JSON, '{"error": "internal error, see the terminal of fs serve"}')

    def _is_from_here(self) -> bool:
        hosts = self.headers.get_all("Host") or []
        if len(hosts) != 1 or hosts[0].lower() not in self.server.hosts:
            return False
        origin = self.headers.get("Origin")
        if origin is not None and origin.removeprefix("http://").lower() not in self.server.hosts:
            return False
        # Typed or clicked outside of a page: none.
        return self.headers.get("Sec-Fetch-Site", "none") in ("none", "same-origin")

    def _send(self, answer: Answer, **more: str) -> None:
        body = answer.text.encode()
        self.send_response(answer.status)
        for name, value in {**_HEADERS, "Content-Type": answer.kind, **more}.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:
        """Refuse what http.server itself does not take, other methods among it, without its page."""
        if code == HTTPStatus.NOT_IMPLEMENTED:  # of a method that this class has no function of
            answer = Answer(405, _TEXT, "Only GET and HEAD are answered.\n")
            self._send(answer, Allow="GET, HEAD", Connection="close")
        else:
            self._send(Answer(code, _TEXT, "Not understood.\n"), Connection="close")
        self.close_connection = True

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002, as http.server has it
        """Nothing: the address holds the token, and a log is no place for it."""
