"""Laws of the server behind `view`: who is answered, and that hostile texts are shown and never run."""

import html
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from looking import SCRIPT, asked, shown
from silver import attempt, row, write
from test_report import Page

from skillfactory.errors import ConfigError
from skillfactory.report.words import safe
from skillfactory.view.server import HEADERS, Server
from skillfactory.view.tables import Table

HOSTILE = {
    "script": f"{SCRIPT}<img src=x onerror=\"document.title='run by a model'\">",
    "quotes": '" onmouseover="alert(1)" x=\'y\' &lt;script&gt; &#60;b&#62;',
    "closing": "</p></div></main></body></html><!-- <![CDATA[ <title>other</title>",
    "unclosed": "<think><sample><sample><reflect><answer>1<answer></sample",
    "marks": "\u202etxet\u2066 \u200b\u2028 \x00\x07\x1b[31m \ufeff",
    "million": "<b>0123456789</b> " * 60_000,
    "deep": "<sample>" * 100_000,
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server that shows traces whose attempts, prompts, layouts and ids hold hostile texts."""
    folder = tmp_path_factory.mktemp("hostile")
    rows = []
    for n, text in enumerate(HOSTILE.values()):
        brief = text[:300]
        made = attempt(f"original/{n}", text, n % 2 == 0, question=f"q{n} {brief}")
        rows.append(row(f"{brief}/{n}", [(made, brief)], layout=brief, prompt=text))
    with shown(folder / "cache", str(write(folder / "traces", rows, layouts=["*C"]))) as made_server:
        yield made_server


def pages(server: Server) -> Iterator[tuple[str, str]]:
    """The address and text of every page that shows the hostile rows."""
    yield from ((path, asked(server, path).text) for path in ("/", "/0", "/0/trace", "/0/question"))
    for name, text in HOSTILE.items():
        yield f"search for {name}", asked(server, "/0/trace", text=text[:200], form=text[:50]).text
    for n in range(1, len(HOSTILE) + 1):
        yield from ((path, asked(server, path).text) for path in (f"/0/trace/{n}", f"/0/question/{n}"))


def test_no_text_opens_or_closes_a_tag_on_any_page(server: Server) -> None:
    for path, page in pages(server):
        read = Page(page.removeprefix("<!doctype html>"))  # every tag is closed in its turn
        assert not read.all("script"), path
        assert not read.all("img"), path
        assert not read.all("b"), path
        assert not [name for _, found in read.found for name in found if name.startswith("on")], path
        assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ufeff]", page), path
        assert len(page) < 1_000_000, f"{path}: texts are bounded"


def test_hostile_texts_are_shown_as_they_are(server: Server) -> None:
    for n, (name, text) in enumerate(HOSTILE.items(), 1):
        shown_text = "".join(Page(asked(server, f"/0/question/{n}").text).text.split())
        assert "".join(safe(text[:200]).split())[:100] in shown_text, name


def test_the_whole_text_has_an_address_as_plain_text(server: Server) -> None:
    index = server.library.runs[0].index
    for n in range(1, len(HOSTILE) + 1):
        found = asked(server, f"/0/trace/{n}/text")
        assert found.data.decode("utf-8") == index.text(Table.TRACE.base + n)
        assert found.headers["Content-Type"] == "text/plain; charset=utf-8"
        assert found.headers["X-Content-Type-Options"] == "nosniff"
        assert f"{len(found.text):,} characters" in asked(server, f"/0/trace/{n}").text


def test_every_answer_forbids_scripts_and_frames_and_gives_nothing_to_other_sites(server: Server) -> None:
    for path in ("/", "/0/trace/1", "/0/trace/1/text", "/style.css", "/nothing"):
        found = asked(server, path)
        assert HEADERS.items() <= found.headers.items()
        assert not [name for name in found.headers if name.lower().startswith("access-control")]
    policy = HEADERS["Content-Security-Policy"]
    assert policy.startswith("default-src 'none'")
    assert "script" not in policy
    assert "unsafe" not in policy


def test_only_this_machine_is_answered_under_its_own_name(server: Server) -> None:
    assert server.server_address[0] == "127.0.0.1"
    for host in (f"127.0.0.1:{server.port}", f"localhost:{server.port}", f"LOCALHOST:{server.port}"):
        assert asked(server, "/", host=host).status == 200
    for host in (
        "evil.example",
        f"evil.example:{server.port}",
        "127.0.0.1",
        "127.0.0.1:1",
        f"127.0.0.1:{server.port}.evil.example",
    ):
        found = asked(server, "/0/trace/1", host=host)
        assert found.status == 403
        assert "answers to 127.0.0.1" in found.text
        assert "sample" not in found.text
    for lines in (b"", f"Host: 127.0.0.1:{server.port}\r\nHost: evil.example\r\n".encode()):
        assert b" 403 " in raw(server, b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    fetched = f"Host: 127.0.0.1:{server.port}\r\nSec-Fetch-Site: cross-site\r\nSec-Fetch-Mode: ".encode()
    assert b" 403 " in raw(server, b"GET / HTTP/1.1\r\n" + fetched + b"no-cors\r\n\r\n")
    assert b" 200 " in raw(server, b"GET / HTTP/1.1\r\n" + fetched + b"navigate\r\n\r\n")


def raw(server: Server, request: bytes) -> bytes:
    """The first line of what the server answers to some bytes."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as connection:
        connection.sendall(request)
        return connection.makefile("rb").readline()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "TRACE", "PATCH", "CONNECT", "ANYTHING"])
def test_only_get_is_answered(server: Server, method: str) -> None:
    found = asked(server, "/", method=method)
    assert found.status == 405
    assert found.headers["Allow"] == "GET"


@pytest.mark.parametrize(
    "path",
    [
        *("/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "//etc/passwd", "/0/trace/../../../build.json", "/build.json"),
        *("/0/trace/0", "/0/trace/99", "/0/trace/999999999999", "/0/attempt/1", "/9", "/0/traces", "/0/trace/1%00", "/-1"),
        *(
            "/0/trace/1/text/",
            "/0/trace/٣",
            "/0/trace/1e0",
            "/both",
            "/both/0/9",
            "/both/0/0/question?id=..%2f..",
            "/both?first=a",
        ),
    ],
)
def test_no_address_leads_out_of_the_tables(server: Server, path: str) -> None:
    status = raw(server, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
    assert b" 404 " in status


def test_a_query_that_is_too_much_is_as_none(server: Server) -> None:
    path = "/0/trace?" + "&".join(f"task=a{n}" for n in range(100))
    assert b" 200 " in raw(server, f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\n\r\n".encode())
    assert asked(server, "/0/trace", text="x" * 20_000, after="9" * 50, before="-1").status == 200


def test_a_port_in_use_is_refused_with_what_to_do(server: Server) -> None:
    with pytest.raises(ConfigError, match=rf"port {server.port} is in use: choose another --port, or 0 for any that is free"):
        Server(server.library, server.port)


def test_the_command_says_where_it_is_and_ends_cleanly_with_ctrl_c(server: Server, tmp_path: Path) -> None:
    run = str(server.library.runs[0].output.path)
    command = [sys.executable, "-m", "skillfactory", "view", f"mine={run}", "--port", "0", "--cache", str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr
        said = process.stderr.readline()
        port = re.fullmatch(r"http://127\.0\.0\.1:(\d+)/ \(Ctrl-C ends it\)\n", said)
        assert port
        with socket.create_connection(("127.0.0.1", int(port[1])), timeout=10):
            pass
        process.send_signal(signal.SIGINT)
        output, errors = process.communicate(timeout=30)
    assert process.returncode == 0, errors
    assert "Traceback" not in errors
    assert output == "looked at: mine\n"


CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
TITLE = re.compile(r"<title>(.*?)</title>", re.DOTALL)


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium)")
def test_a_real_browser_shows_the_script_of_a_model_and_does_not_run_it(server: Server, tmp_path: Path) -> None:
    """With the server's headers; from a bare file server, where escaping alone stands; and unescaped, where it must run."""
    page = asked(server, "/0/trace/1").text
    assert "&lt;script&gt;document.title" in page
    (tmp_path / "escaped.html").write_text(page, "utf-8")
    (tmp_path / "unescaped.html").write_text(html.unescape(page), "utf-8")
    with bare(tmp_path) as port:
        served = browsed(f"{server.url}0/trace/1", tmp_path)
        escaped = browsed(f"http://127.0.0.1:{port}/escaped.html", tmp_path)
        unescaped = browsed(f"http://127.0.0.1:{port}/unescaped.html", tmp_path)
    title = "Trace 1 of traces"
    assert (title_of(served), title_of(escaped), title_of(unescaped)) == (title, title, "run by a model")
    for dom in (served, escaped):
        assert "<script" not in dom
        assert html.escape(SCRIPT, quote=False) in dom
    assert "<script" in unescaped


def title_of(dom: str) -> str:
    found = TITLE.search(dom)
    assert found
    return found[1]


class Quiet(SimpleHTTPRequestHandler):
    """Files as they are, with no header of ours."""

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@contextmanager
def bare(folder: Path) -> Iterator[int]:
    """The port of a server of a folder's files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made.server_address[1]
        finally:
            made.shutdown()
            thread.join()


def browsed(url: str, folder: Path) -> str:
    """The document as the browser has it after running what it runs."""
    flags = ["--headless=new", "--disable-gpu", "--no-first-run", f"--user-data-dir={folder / 'profile'}"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    done = subprocess.run([str(CHROMIUM), *flags, "--dump-dom", url], capture_output=True, text=True, timeout=120, check=True)
    return done.stdout
