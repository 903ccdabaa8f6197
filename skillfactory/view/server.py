"""The server behind `skillfactory view`: this machine only, GET only, no script, nothing for other sites."""

import errno
import sys
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qsl, unquote, urlsplit

from skillfactory.errors import ConfigError
from skillfactory.view.library import Library
from skillfactory.view.pages import PLAIN, Reply, reply

ADDRESS = "127.0.0.1"
_NAMES = (ADDRESS, "localhost")
_FIELDS = 40  # of a query
HEADERS = {
    # A second lock: even if some text became markup, the browser would run, fetch and send nothing.
    "Content-Security-Policy": (
        "default-src 'none'; style-src 'self'; img-src data:; form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Server(ThreadingHTTPServer):
    """Serves a library on a port of 127.0.0.1; port 0 takes any that is free."""

    daemon_threads = True
    allow_reuse_address = True  # the port of a server that just ended; a port in use is refused all the same

    def __init__(self, library: Library, port: int) -> None:
        self.library = library
        self.turn = threading.Lock()  # one page at a time: one person looks, and each index has one connection
        try:
            super().__init__((ADDRESS, port), Handler)
        except OSError as error:
            if error.errno not in (errno.EADDRINUSE, errno.EACCES):
                raise
            why = "in use" if error.errno == errno.EADDRINUSE else "not for this user"
            raise ConfigError(f"port {port} is {why}: choose another --port, or 0 for any that is free") from error

    def handle_error(self, request: object, client_address: object) -> None:
        """Says what went wrong, unless a browser just went away: they do so in the middle of a page."""
        if not isinstance(sys.exception(), ConnectionError):
            super().handle_error(request, client_address)  # type: ignore[arg-type]  # typeshed's names differ

    @property
    def port(self) -> int:
        """The port that it listens on."""
        return int(self.server_address[1])

    @property
    def url(self) -> str:
        """Where a browser finds it."""
        return f"http://{ADDRESS}:{self.port}/"


class Handler(BaseHTTPRequestHandler):
    """One connection of a browser."""

    server: Server
    protocol_version = "HTTP/1.1"
    server_version, sys_version = "skillfactory", ""
    timeout = 60  # seconds that an idle connection is kept

    def do_GET(self) -> None:
        """Sends the page of an address."""
        refused = self._refused()
        if refused is not None:
            self._send(Reply(HTTPStatus.FORBIDDEN, PLAIN, refused))
            return
        parts = urlsplit(self.path)
        try:
            query = dict(parse_qsl(parts.query, max_num_fields=_FIELDS))
        except ValueError:
            query = {}
        with self.server.turn:
            found = reply(self.server.library, unquote(parts.path), query)
        self._send(found)

    def _refused(self) -> str | None:
        """Why a request isn't answered. Another site's name that was made to lead here comes with its own Host."""
        host = self.headers.get_all("Host") or []
        if len(host) != 1 or host[0].lower() not in {f"{name}:{self.server.port}" for name in _NAMES}:
            return f"This server answers to {' and '.join(f'{name}:{self.server.port}' for name in _NAMES)} only.\n"
        foreign = self.headers.get("Sec-Fetch-Site", "none") not in ("none", "same-origin")
        if foreign and self.headers.get("Sec-Fetch-Mode") != "navigate":
            return "This server gives nothing to other sites.\n"
        return None

    def __getattr__(self, name: str) -> object:
        if name.startswith("do_"):  # any other method
            return self._only_get
        raise AttributeError(name)

    def _only_get(self) -> None:
        self.close_connection = True  # a body may follow, which nobody reads
        self._send(Reply(HTTPStatus.METHOD_NOT_ALLOWED, PLAIN, "Only GET is answered here.\n"), Allow="GET")

    def _send(self, found: Reply, **more: str) -> None:
        body = found.body.encode("utf-8", "replace")
        self.send_response(found.status)
        headers = {"Content-Type": found.kind, "Content-Length": str(len(body)), **HEADERS, **more}
        for name, value in headers.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: what somebody reads is nobody's business."""
