"""A local stand-in for the data set hub: enough of its HTTP interface for one snapshot download."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"


class TinyHub:
    """Serves the files of a folder as the data set `name` on 127.0.0.1 while it is open."""

    def __init__(self, name: str, folder: Path) -> None:
        files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

        class Handler(BaseHTTPRequestHandler):
            def do_HEAD(self) -> None:
                self._answer(False)

            def do_GET(self) -> None:
                self._answer(True)

            def _answer(self, with_body: bool) -> None:
                path = self.path.split("?")[0]
                head, _, file = path.partition(f"/datasets/{name}/resolve/{COMMIT}/")
                if path.startswith(f"/api/datasets/{name}"):
                    info = {"id": name, "sha": COMMIT, "private": False, "siblings": [{"rfilename": f} for f in files]}
                    tree = [{"type": "file", "path": f, "size": len(body), "oid": f} for f, body in files.items()]
                    self._send(json.dumps(tree if "/tree/" in path else info).encode(), "application/json", with_body)
                elif not head and file in files:
                    self._send(files[file], "application/octet-stream", with_body)
                else:
                    self.send_error(404)

            def _send(self, body: bytes, kind: str, with_body: bool) -> None:
                self.send_response(200)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.send_header("ETag", f'"{hashlib.sha1(body).hexdigest()}"')
                self.send_header("X-Repo-Commit", COMMIT)
                self.end_headers()
                if with_body:
                    self.wfile.write(body)

            def log_message(self, format: str, *args: Any) -> None: ...

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "TinyHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
