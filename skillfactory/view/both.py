"""Two runs side by side: the questions that both hold, and what each has for one of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skillfactory.report.elements import Markup, element, joined
from skillfactory.report.words import count, line
from skillfactory.view.fragments import address, box, excerpt, frame, grid, link, row_link, sign, spoken
from skillfactory.view.items import passages
from skillfactory.view.library import Library, Run
from skillfactory.view.search import SECONDS
from skillfactory.view.tables import ANSWERS, Item, Table

ROWS = 25  # questions a page
_EACH = 8  # rows of each run for a question
_TEXT = 6_000  # characters of each
_SHOWS = {
    "": "all questions",
    "first": "better in the first",
    "second": "better in the second",
    "differ": "not the same in both",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs and the table that answers the questions of both."""

    first: Run
    second: Run
    table: Table

    @property
    def path(self) -> str:
        """Where their page is."""
        return f"/both/{self.first.number}/{self.second.number}"


def pair(library: Library, first: Run, second: Run) -> Pair | None:
    """The two runs, if they have answers of one kind to compare."""
    table = next((table for table in ANSWERS if table in first.index.counts and table in second.index.counts), None)
    return None if table is None else Pair(first, second, table)


@dataclass(frozen=True, slots=True)
class _Row:
    """A question that both runs answer, and how many answers of each are right."""

    q: int
    id: str
    rights: tuple[int, int]
    totals: tuple[int, int]

    def fits(self, show: str) -> bool:
        """Whether it is among those that a reader wants to see."""
        first, second = (right / total for right, total in zip(self.rights, self.totals, strict=True))
        return {"first": first > second, "second": first < second, "differ": first != second}.get(show, True)


def both_page(library: Library, these: Pair, query: Mapping[str, str]) -> str:
    """The questions that both runs answer."""
    show = query.get("show", "") if query.get("show", "") in _SHOWS else ""
    after = int(query["after"]) if query.get("after", "").isdecimal() and len(query["after"]) < 13 else 0
    rows, seen = _rows(these, show, after, time.monotonic() + SECONDS)
    heads = ("Id", _called(these.first), _called(these.second), "Question")
    cells = [(_question_link(these, row), *_shares(row), _prompt(library, these, row.id)) for row in rows]
    choice = [element("option", words, value=name, selected=name == show) for name, words in _SHOWS.items()]
    label = element("label", element("span", "Show"), element("select", *choice, name="show"))
    form = element("form", label, element("button", "Show", type="submit"), method="get", class_="filters")
    onward = link("later ›", these.path, {"show": show, "after": seen}) if seen is not None else None
    start = link("« first", these.path, {"show": show}) if after else None
    pager = element("nav", start, onward, class_="pager", aria_label="Pages")
    title = f"{these.first.output.label} beside {these.second.output.label}"
    body = grid(title, heads, cells, (0, 3)) if cells else element("p", "No such question here.", class_="cut")
    about = element("p", f"Questions that both runs hold, and how many {these.table.value}s of each are right.", class_="quiet")
    return frame(title, [link("Runs", "/")], about, form, body, pager)


def _rows(these: Pair, show: str, after: int, until: float) -> tuple[list[_Row], int | None]:
    """Some rows after a question of the first run, and the question to go on from, None at the end."""
    found: list[_Row] = []
    while True:
        asked = these.first.index.rows("SELECT q, id FROM asked WHERE q > ? ORDER BY q LIMIT 100", (after,))
        if not asked:
            return found, None
        for after, id in asked:
            counts = [run.index.checks(id, these.table) for run in (these.first, these.second)]
            if all(counts):
                rights, totals = [each["right"] for each in counts], [sum(each.values()) for each in counts]
                row = _Row(after, id, (rights[0], rights[1]), (totals[0], totals[1]))
                found += [row] if row.fits(show) else []
            if len(found) == ROWS or time.monotonic() > until:
                return found, after


def _question_link(these: Pair, row: _Row) -> Markup:
    return element("a", line(row.id, 80), href=address(f"{these.path}/question", {"id": row.id}))


def _shares(row: _Row) -> list[Markup]:
    cells = []
    for right, total in zip(row.rights, row.totals, strict=True):
        kind = "right" if right == total else "wrong" if not right else None
        cells.append(element("span", f"{count(right)} of {count(total)}", class_=kind))
    return cells


def _prompt(library: Library, these: Pair, id: str) -> Markup | None:
    found = library.question(these.first, id) or library.question(these.second, id)
    return None if found is None else excerpt(found[0].index.text(found[1].table.base + found[1].number))


def question_page(library: Library, these: Pair, id: str) -> str | None:
    """A question with the answers of both runs, side by side; None if one of them doesn't hold it."""
    columns = [run.index.of_question(id, these.table, _EACH) for run in (these.first, these.second)]
    found = library.question(these.first, id) or library.question(these.second, id)
    if not all(columns) or found is None:
        return None
    where, question = found
    words = where.index.text(question.table.base + question.number)
    prompt = box("open", joined(["The ", row_link(where, question, "question")]), words, _TEXT)
    gold = element("p", f"One right answer: {line(question.answer, 300)}") if question.answer else None
    parts = zip((these.first, these.second), columns, strict=True)
    sides = (_side(library, run, id, items) for run, items in parts)
    crumbs = [link("Runs", "/"), link("Side by side", these.path)]
    onward = these.first.index.rows(
        "SELECT id FROM asked WHERE q > (SELECT q FROM asked WHERE id = ?) ORDER BY q LIMIT 1", (id,)
    )
    steps = [link("next question ›", f"{these.path}/question", {"id": next_id}) for (next_id,) in onward]
    way = element("nav", *steps, class_="pager", aria_label="Other questions")
    return frame(f"Side by side: {line(id, 120)}", crumbs, way, prompt, gold, element("div", *sides, class_="sides"))


def _side(library: Library, run: Run, id: str, items: Sequence[Item]) -> Markup:
    checks = run.index.checks(id, items[0].table)
    total = sum(checks.values())
    said = f"{count(checks['right'])} of {count(total)} right"
    said += f"; the first {len(items)} are shown" if total > len(items) else ""
    parts: list[Markup] = [element("h2", _called(run)), element("p", said, class_="quiet")]
    for item in items:
        facets = item.facets
        about = [sign(facets["check"]), *(element("small", spoken(facets[name])) for name in ("reason", "form"))]
        tokens = element("small", f"{count(item.tokens)} tokens") if item.tokens is not None else None
        heading = element("h3", row_link(run, item), " ", *(joined([part, " "]) for part in about), tokens)
        text = run.index.text(item.table.base + item.number)
        parts.append(element("section", heading, passages(library, run, item, text, _TEXT)))
    return element("div", *parts, class_="side")


def _called(run: Run) -> str:
    return line(run.output.label, 60)
