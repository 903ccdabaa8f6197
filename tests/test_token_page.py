"""The page of tokens: every token is there once, in the state that the training gives it, and no text becomes markup."""

import html
import os
import re
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import chats
import looking
import pytest
from silver import attempt, row, simple, write

from skillfactory.cli import main
from skillfactory.encoding import IGNORED, Encoder, Row, examples, open_traces, tokenizer_of
from skillfactory.errors import ConfigError, InputError
from skillfactory.masks import Mask
from skillfactory.report.words import safe
from skillfactory.view.tokens import CONTEXT, SILENT, TRAINED, TokensConfig, tokens

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = f"{looking.SCRIPT}</span></pre><b onclick='x'>&lt;b&gt; \u202etxet \" ' 😀"


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a tokenizer and traces, of which one is hostile."""
    folder = tmp_path_factory.mktemp("world")
    chats.with_template("chatml", "qwen2.5").save_pretrained(folder / "model")
    tries = [(attempt("original/0", HOSTILE, False), HOSTILE), (attempt("rephrase/0", HOSTILE, True), "Yes.")]
    write(folder / "traces", [chats.plain(), chats.multibyte(), row("q1/hostile", tries, prompt=HOSTILE), *simple(3)])
    return folder


class Page(HTMLParser):
    """What a page holds: the tags, the spans of tokens by trace with their class, number and text, and tables' cells."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.tokens: list[list[tuple[str, int, str]]] = []
        self.texts: list[str] = []
        self.cells: list[str] = []
        self.signs: set[str] = set()
        self._open: list[tuple[str, dict[str, str | None]]] = []
        self.feed(path.read_text("utf-8"))
        assert [tag for tag, _ in self._open] == [], "tags that are not closed"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        if tag != "meta":
            self._open.append((tag, dict(attrs)))
        if tag == "pre":
            self.tokens.append([])
            self.texts.append("")
        elif tag == "span":
            given = dict(attrs)
            self.tokens[-1].append((str(given["class"]), int(str(given["title"])), ""))

    def handle_endtag(self, tag: str) -> None:
        opened, _ = self._open.pop()
        assert opened == tag

    def handle_data(self, data: str) -> None:
        inside = [tag for tag, _ in self._open]
        if "pre" in inside and inside[-1] == "i":  # signs, and characters that belong to no token
            self.signs.add(data)
        elif "pre" in inside:
            self.texts[-1] += data
            if "span" in inside:
                state, number, text = self.tokens[-1][-1]
                self.tokens[-1][-1] = (state, number, text + data)
        elif inside[-1:] in (["td"], ["th"]):
            self.cells.append(data)


@pytest.mark.parametrize("mask", ["none", "wrong", "all-but-last"])
def test_the_page_shows_every_token_in_the_state_that_the_training_gives_it(mask: Mask, world: Path, tmp_path: Path) -> None:
    encoder = Encoder(tokenizer_of(str(world / "model")), 10_000)
    config = TokensConfig(world / "traces", tmp_path / "page.html", str(world / "model"), mask, n=6)
    summary = tokens(config)
    page = Page(config.output)
    files = open_traces(world / "traces", mask)
    found = [example for part in files.parts for some in examples(files, part, mask) for example in some]
    assert len(page.tokens) == len(found) == 6
    assert page.signs == {"↵", "·"}
    states = []
    for example, shown, text in zip(found, page.tokens, page.texts, strict=True):
        (made,), (rendered,) = encoder.rows([example]), encoder.rendered([example])
        assert isinstance(made, Row)
        assert [number for _, number, _ in shown] == made.ids.tolist()
        assert [state == TRAINED for state, _, _ in shown] == [bool(label != IGNORED) for label in made.labels]
        assert text == safe(rendered.text), "the page shows another text"
        learnt = "".join(text for state, _, text in shown if state != CONTEXT)
        assert learnt == safe(example.response + "<|im_end|>")
        assert any(state == SILENT for state, _, _ in shown) == (mask != "none")
        states += [state for state, _, _ in shown]
    counts = {state: states.count(state) for state in (TRAINED, SILENT, CONTEXT)}
    assert summary.to_dict()["tokens"] == counts
    share = f"{100 * counts[TRAINED] / len(states):.1f}"
    assert page.cells[-6:] == ["All of these", *(f"{n:,}" for n in (len(states), *counts.values())), share]


def test_what_a_model_wrote_stays_text(world: Path, tmp_path: Path) -> None:
    config = TokensConfig(world / "traces", tmp_path / "page.html", str(world / "model"), "wrong", ("q1/hostile",))
    tokens(config)
    page, source = Page(config.output), config.output.read_text("utf-8")
    assert not page.tags & {"script", "b", "img"}
    assert "script" in page.texts[0]
    assert "\u202e" not in source
    assert "http" not in re.sub(r"http-equiv", "", source), "nothing is fetched"
    assert "prefers-color-scheme: dark" in source


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on PATH (apt-get install chromium)")
def test_a_real_browser_shows_the_tokens_and_runs_nothing(world: Path, tmp_path: Path) -> None:
    config = TokensConfig(world / "traces", tmp_path / "page.html", str(world / "model"), "wrong", ("q1/hostile",))
    summary = tokens(config)
    flags = ["--headless=new", "--disable-gpu", "--no-first-run", f"--user-data-dir={tmp_path / 'profile'}"]
    flags += ["--no-sandbox"] if os.geteuid() == 0 else []
    command = [str(CHROMIUM), *flags, "--dump-dom", config.output.as_uri()]
    dom = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout
    assert "<title>What is learnt of a trace</title>" in dom
    for state, count in summary.to_dict()["tokens"].items():
        assert dom.count(f'<span class="{state}"') == count
    (shown,) = re.findall(r"<pre class=\"tokens\".*?</pre>", dom, re.DOTALL)
    assert looking.SCRIPT in html.unescape(re.sub(r"<[^>]*>", "", shown))


def test_the_command_writes_the_page_and_names_what_is_missing(
    world: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "new" / "page.html"
    options = ["--model", str(world / "model"), "--mask", "wrong", "--output", str(page)]
    assert main(["tokens", str(world / "traces"), *options, "--n", "1", "--quiet"]) == 0
    assert len(Page(page).tokens) == 1
    for extra, message in (
        (["--trace", "q9"], "no trace 'q9' among 6; the first is 'q1/plain'"),
        (["--n", "0"], "n: expected 1 to 50 traces on a page, came 0"),
        (["--model", str(tmp_path / "none")], "can't be loaded"),
        (["--output", str(tmp_path)], "a folder; expected the name of the page to write"),
    ):
        assert main(["tokens", str(world / "traces"), *options, *extra, "--quiet"]) != 0
        assert message in capsys.readouterr().err


def test_a_trace_that_cannot_be_learnt_says_why(tmp_path: Path) -> None:
    tokenizer = chats.with_template("chatml", "qwen2.5")
    tokenizer.add_special_tokens({"pad_token": "Try"})
    tokenizer.save_pretrained(tmp_path / "model")
    traces = write(tmp_path / "traces", simple(1))
    found = tokens(TokensConfig(traces, tmp_path / "page.html", str(tmp_path / "model")))
    assert (found.refused, found.counts.total()) == (1, 0)
    assert "Left out of a training: special_token" in (tmp_path / "page.html").read_text("utf-8")
    with pytest.raises(InputError, match="no traces here"):
        tokens(TokensConfig(tmp_path, tmp_path / "page.html"))
    with pytest.raises(ConfigError, match="expected 1 to 50"):
        TokensConfig(traces, tmp_path / "page.html", trace=("a",) * 51)
