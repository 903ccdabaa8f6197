"""A local stand-in for the data set hub: enough of its HTTP interface for a snapshot download and for an upload."""

import base64
import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

COMMIT = "0123456789abcdef0123456789abcdef01234567"
TOKEN = "hf_of_the_tests"
LICENCES = {"apache-2.0", "mit"}


class TinyHub:
    """Serves the data set `name` on 127.0.0.1 while it is open: the files of a folder, or none until a client uploads some.

    `created` holds what was asked of new data sets, `commits` their operations, `asked` every method and path; `failing` says
    with which status a path that holds a text is answered.
    """

    def __init__(self, name: str, folder: Path | None = None, failing: dict[str, int] | None = None) -> None:
        self.name = name
        self.files = {path.relative_to(folder).as_posix(): path.read_bytes() for path in _files(folder)} if folder else {}
        self.exists, self.private = folder is not None, False
        self.failing = failing or {}
        self.created: list[dict[str, Any]] = []
        self.commits: list[list[dict[str, Any]]] = []
        self.asked: list[str] = []
        self._large: dict[str, bytes] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> "TinyHub":
        threading.Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, method: str, path: str, body: bytes, authorised: bool) -> tuple[int, Any]:
        """The status and the content, bytes or what becomes JSON, of a request."""
        self.asked.append(f"{method} {path}")
        status = next((status for text, status in self.failing.items() if text in path), None)
        if status:
            return status, {"error": "the stand-in refuses"}
        head, _, file = path.partition(f"/datasets/{self.name}/resolve/{COMMIT}/")
        if method in ("GET", "HEAD") and not head and file in self.files:
            return 200, self.files[file]
        if path.startswith("/large/"):  # an address made for this one upload
            self._large[path.removeprefix("/large/")] = body
            return 200, {}
        if path == "/api/validate-yaml":
            return _validated(json.loads(body)["content"])
        if method not in ("GET", "HEAD") and not authorised:
            return 401, {"error": "no token"}
        if path == "/api/whoami-v2":
            return (200, {"name": "someone", "type": "user", "orgs": []}) if authorised else (401, {"error": "no token"})
        if path == "/api/repos/create":
            return self._create(json.loads(body))
        if not self.exists or self.name not in path:
            return 404, {"error": "Repository not found"}
        return self._of_data_set(path, body)

    def _create(self, asked: dict[str, Any]) -> tuple[int, Any]:
        self.created.append(asked)
        if self.exists:
            return 409, {"error": "You already created this dataset repo"}
        self.exists, self.private = True, asked.get("visibility") == "private" or asked.get("private", False)
        return 200, {"url": f"{self.url}/datasets/{self.name}"}

    def _of_data_set(self, path: str, body: bytes) -> tuple[int, Any]:
        if path.startswith(f"/api/datasets/{self.name}/preupload/"):
            names = [file["path"] for file in json.loads(body)["files"]]
            modes = {name: "lfs" if name.endswith(".parquet") else "regular" for name in names}
            return 200, {"files": [{"path": name, "uploadMode": modes[name], "shouldIgnore": False} for name in names]}
        if path.endswith(".git/info/lfs/objects/batch"):
            return 200, {"objects": [_action(each, self.url) for each in json.loads(body)["objects"]]}
        if path.startswith(f"/api/datasets/{self.name}/commit/"):
            return self._commit([json.loads(line) for line in body.splitlines()])
        if "/tree/" in path:
            listed = [
                {"type": "file", "path": name, "size": len(content), "oid": _oid(content)}
                for name, content in self.files.items()
            ]
            return 200, listed
        if path.startswith(f"/api/datasets/{self.name}"):
            siblings = [{"rfilename": name} for name in self.files]
            return 200, {"id": self.name, "sha": COMMIT, "private": self.private, "siblings": siblings}
        return 404, {"error": "Entry not found"}

    def _commit(self, operations: list[dict[str, Any]]) -> tuple[int, Any]:
        self.commits.append(operations)
        for operation in operations:
            value = operation["value"]
            if operation["key"] == "file":
                self.files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                self.files[value["path"]] = self._large[value["oid"]]
            elif operation["key"] == "deletedFile":
                del self.files[value["path"]]
        return 200, {"commitUrl": f"{self.url}/datasets/{self.name}/commit/{COMMIT}", "commitOid": COMMIT}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        hub = self

        class Handler(BaseHTTPRequestHandler):
            def _answer(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                authorised = self.headers.get("Authorization") == f"Bearer {TOKEN}"
                status, content = hub.answer(self.command, self.path.split("?")[0], body, authorised)
                kind = "application/octet-stream" if isinstance(content, bytes) else "application/json"
                sent = content if isinstance(content, bytes) else json.dumps(content).encode()
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(sent)))
                self.send_header("ETag", f'"{_oid(sent)}"')
                self.send_header("X-Repo-Commit", COMMIT)
                if status == 404:
                    self.send_header("X-Error-Code", "EntryNotFound" if hub.exists else "RepoNotFound")
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(sent)

            do_HEAD = do_GET = do_POST = do_PUT = _answer  # noqa: N815 - the names that http.server calls

            def log_message(self, format: str, *args: Any) -> None: ...

        return Handler


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file()]


def _oid(content: bytes) -> str:
    return hashlib.sha1(content).hexdigest()


def _validated(content: str) -> tuple[int, Any]:
    """What the hub says of a card: it knows which licences there are."""
    lines = [line.removeprefix("license: ") for line in content.splitlines() if line.startswith("license: ")]
    bad = [line for line in lines if line not in LICENCES]
    return (400, {"errors": [{"message": f'"license" must be one of those known, not {bad[0]}'}]}) if bad else (200, {})


def _action(asked: dict[str, Any], url: str) -> dict[str, Any]:
    return {**asked, "actions": {"upload": {"href": f"{url}/large/{asked['oid']}"}}}
