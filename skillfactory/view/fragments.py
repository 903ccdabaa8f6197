"""Pieces that pages share: frame, links, facts, signs, excerpts. Text goes through the report's elements, which escape it."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from urllib.parse import urlencode

from skillfactory.markup import neutral
from skillfactory.records import Check
from skillfactory.report.elements import Markup, element, joined
from skillfactory.report.words import count, line, safe
from skillfactory.view.library import Run
from skillfactory.view.tables import FACETS, Item, Table, named

PLURAL = {table: f"{table.value.capitalize()}s" for table in Table}
_SIGNS = {Check.RIGHT: "✓ right", Check.WRONG: "✗ wrong", Check.MISSING: "✗ no answer", Check.UNDECIDED: "? undecided"}
_EXCERPT = 220  # characters
_ELSEWHERE = ("rights", "uses", "skills", "facts", "gold")  # shown in a form of their own
_TEXTS = ("Text", "Question", "What")  # columns
_BEFORE = 60  # of them before what was searched for

Query = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Place:
    """A run and what a reader has narrowed it down to; links keep it."""

    run: Run
    query: Query  # facets and text, as the address has them


def address(path: str, query: Mapping[str, str | int] | None = None, anchor: str = "") -> str:
    """A path with its query, percent-encoded where that is needed."""
    asked = urlencode({name: str(value) for name, value in (query or {}).items()}, errors="replace")
    return path + (f"?{asked}" if asked else "") + (f"#{anchor}" if anchor else "")


def number(text: str | None) -> int | None:
    """A number in an address, None where it is none."""
    return int(text) if text and text.isascii() and text.isdecimal() and len(text) < 13 else None


def link(text: str | Markup, path: str, query: Mapping[str, str | int] | None = None) -> Markup:
    """A link within these pages."""
    return element("a", text, href=address(path, query))


def row_link(run: Run, item: Item, text: str = "", query: Query | None = None) -> Markup:
    """A link to the page of a row."""
    shown = text or f"{item.table.value} {count(item.number)}"
    return link(shown, f"/{run.number}/{item.table.value}/{item.number}", query)


def table_link(run: Run, table: Table, text: str = "", query: Mapping[str, str | int] | None = None) -> Markup:
    """A link to the list of a table."""
    return link(text or PLURAL[table], f"/{run.number}/{table.value}", query)


def frame(title: str, crumbs: Sequence[Markup], *body: Markup | None) -> str:
    """A whole page."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", line(title)),
        element("link", rel="stylesheet", href="/style.css"),
        element("link", rel="icon", href="data:,"),
    )
    top = element("nav", *crumbs, class_="crumbs", aria_label="Where you are")
    page = element("body", top, element("main", element("h1", line(title)), *body))
    return f"<!doctype html>\n{element('html', head, page, lang='en')}\n"


def crumbs(run: Run, table: Table | None = None, query: Query | None = None) -> list[Markup]:
    """The way from the first page to a table of a run."""
    found = [link("Runs", "/"), link(line(run.output.label, 60), f"/{run.number}")]
    return [*found, table_link(run, table, "", query)] if table else found


def tabs(run: Run, current: Table | None) -> Markup:
    """Links to all tables of a run, with their sizes."""
    parts = []
    for table, rows in run.index.counts.items():
        shown = joined([PLURAL[table], " ", element("small", count(rows))])
        own = f"/{run.number}/{table.value}"
        parts.append(element("a", shown, href=own, aria_current="page" if table is current else None))
    return element("nav", *parts, class_="tabs", aria_label="Tables of the run")


def facts(entries: Iterable[tuple[str, str | Markup | None]]) -> Markup:
    """Names and values; those without a value are left out."""
    pairs = []
    for name, value in entries:
        if value is None or value == "":
            continue
        pairs += [element("dt", line(name, 60)), element("dd", value, class_="words", dir="auto")]
    return element("dl", *pairs, class_="facts")


def about(item: Item) -> list[tuple[str, str | Markup | None]]:
    """What every row tells of itself."""
    found: list[tuple[str, str | Markup | None]] = [("Id", safe(item.id, 400))]
    for name in FACETS:
        value = item.facets[name]
        found.append((named(name, item.table), sign(value) if name == "check" and value else spoken(value)))
    answer = "One right answer" if item.table is Table.QUESTION else "Answer"
    found += [
        (answer, safe(item.answer, 1_000) if item.answer else None),
        ("Tokens", count(item.tokens) if item.tokens else None),
    ]
    return found


def more(item: Item) -> list[tuple[str, str | Markup | None]]:
    """What else the run's table holds of a row."""
    told = {name: value for name, value in item.more.items() if name not in _ELSEWHERE}
    return [(spoken(name).capitalize(), _told(value)) for name, value in told.items()]


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.3g}"
    return safe(str(value), 1_000)


def spoken(code: str) -> str:
    """A code as words: `no_answer` is "no answer"."""
    return line(code.replace("_", " "), 200)


def sign(check: str) -> Markup:
    """What the verifier found, as a sign and a word."""
    if check not in _SIGNS:
        return element("span", line(check) or "–")
    return element("span", _SIGNS[Check(check)], class_=check)


def sign_of(right: bool | None) -> Markup:
    """Whether an attempt is right, as a sign and a word."""
    if right is None:
        return element("span", "not checked")
    return sign((Check.RIGHT if right else Check.WRONG).value)


def excerpt(text: str, searched: str = "") -> Markup:
    """A stretch of a text on one line: its beginning, or where what was searched for stands, which is marked."""
    hit = re.search(re.escape(searched), text, re.IGNORECASE) if searched else None
    if hit is None:
        words = neutral(text[: 4 * _EXCERPT].replace("<answer>", " → ")).strip()  # tags alone would fill the line
        return joined([line(words, _EXCERPT), " …" if len(text) > 4 * _EXCERPT and len(words) < _EXCERPT else ""])
    start = max(0, hit.start() - _BEFORE)
    stop = min(len(text), max(hit.end() + 20, start + _EXCERPT))
    before, after = text[start : hit.start()], text[hit.end() : stop]
    parts = ["… " if start else "", _flat(before), element("mark", _flat(hit.group()[:_EXCERPT])), _flat(after)]
    return joined([*parts, " …" if stop < len(text) else ""])


def _flat(text: str) -> str:
    """A text on one line, its outer spaces kept."""
    return re.sub(r"\s+", " ", safe(text))


def box(class_: str, heading: str | Markup, text: str, limit: int) -> Markup:
    """A text in a frame of its kind, as reports show passages; of a long one the beginning."""
    words = element("p", safe(text, limit) if text.strip() else "(empty)", class_="words", dir="auto")
    return element("div", element("p", heading, class_="kind"), words, class_=f"part {class_}")


def grid(name: str, heads: Sequence[str], rows: Iterable[Sequence[str | Markup | None]], words: Sequence[int]) -> Markup:
    """A table whose columns of `words` stand left; where the last one is a text it takes the room that there is."""
    kinds = ["words" if index in words else None for index in range(len(heads))]
    head = (element("th", text, scope="col", class_=kind) for text, kind in zip(heads, kinds, strict=True))
    body = ((element("td", cell, class_=kind) for cell, kind in zip(cells, kinds, strict=True)) for cells in rows)
    lines = (element("tr", *cells) for cells in body)
    class_ = "rows texts" if heads[-1] in _TEXTS else "rows"
    parts = (element("thead", element("tr", *head)), element("tbody", *lines))
    table = element("table", *parts, class_=class_, aria_label=name)
    return element("div", table, class_="wide", tabindex="0", role="region", aria_label=name)
