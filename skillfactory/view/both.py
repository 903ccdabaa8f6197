"""Two runs side by side: the questions that both hold, and what each has for one of them."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from skillfactory.report.elements import Markup, element, joined
from skillfactory.report.words import count, line
from skillfactory.view.fragments import box, excerpt, frame, grid, link, number, row_link, sign, spoken
from skillfactory.view.items import passages
from skillfactory.view.library import Library, Run
from skillfactory.view.search import SECONDS
from skillfactory.view.tables import ANSWERS, Item, Table

ROWS = 25  # questions a page
_EACH = 8  # rows of each run for a question
_TEXT = 6_000  # characters of each
_WINDOW = 5_000  # questions that are looked up between two looks at the clock
_SHOWS = {
    "": "all questions",
    "first": "better in the first",
    "second": "better in the second",
    "differ": "not the same in both",
}
_FITS = {  # shares are compared as products of whole numbers
    "": "1",
    "first": "mine.rights * theirs.total > theirs.rights * mine.total",
    "second": "mine.rights * theirs.total < theirs.rights * mine.total",
    "differ": "mine.rights * theirs.total <> theirs.rights * mine.total",
}
_JOINED = (
    "SELECT mine.q, mine.id, mine.rights, mine.total, theirs.rights, theirs.total FROM main.tally AS mine "
    "CROSS JOIN other.tally AS theirs ON theirs.sort = mine.sort AND theirs.id = mine.id "
    "WHERE mine.sort = ? AND mine.q BETWEEN ? AND ?"
)


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

    q: int  # its number in the first run
    id: str
    rights: tuple[int, int]
    totals: tuple[int, int]


@dataclass(frozen=True, slots=True)
class _Found:
    """Some rows in order; whether there are more of them; and where the time was over, None if it wasn't."""

    rows: tuple[_Row, ...]
    more: bool
    stopped: int | None = None


def both_page(library: Library, these: Pair, query: Mapping[str, str], seconds: float = SECONDS) -> str:
    """The questions that both runs answer; those that were found when the time is over."""
    show, before = _show(query), number(query.get("before"))
    after = number(query.get("after")) or 0
    start = after if before is None else before
    found = _rows(these, show, start, ROWS, back=before is not None, seconds=seconds)
    if before is not None and not found.rows and found.stopped is None:  # all were seen on the way back
        before, start, found = None, 0, _rows(these, show, 0, ROWS, seconds=seconds)
    heads = ("Id", _called(these.first), _called(these.second), "Question")
    cells = [(_question_link(these, row, show), *_shares(row), _prompt(library, these, row.id)) for row in found.rows]
    choice = [element("option", words, value=name, selected=name == show) for name, words in _SHOWS.items()]
    label = element("label", element("span", "Show"), element("select", *choice, name="show"))
    form = element("form", label, element("button", "Show", type="submit"), method="get", class_="filters")
    title = f"{these.first.output.label} beside {these.second.output.label}"
    body = grid(title, heads, cells, (0, 3)) if cells else None
    if body is None and found.stopped is None:
        body = element("p", "No such question here.", class_="cut")
    about = element("p", f"Questions that both runs hold, and how many {these.table.value}s of each are right.", class_="quiet")
    pager = _pager(these, show, found, start, before is not None)
    return frame(title, [link("Runs", "/")], about, form, _late(these, found, before is not None), body, pager)


def _show(query: Mapping[str, str]) -> str:
    """What a reader wants to see of the questions."""
    return query.get("show", "") if query.get("show", "") in _SHOWS else ""


def _late(these: Pair, found: _Found, back: bool) -> Markup | None:
    """Says that the time was over, and how far the questions were looked through."""
    if found.stopped is None:
        return None
    places = these.first.index.places()
    seen = places - found.stopped + 1 if back else found.stopped
    return element("p", f"Looked at {count(seen)} of {count(places)} questions so far; go on below.", class_="cut")


def _pager(these: Pair, show: str, found: _Found, start: int, back: bool) -> Markup:
    """Links to the first, earlier and later questions, from a page that began at `start`."""
    asked = {"show": show} if show else {}
    edge = found.stopped if found.stopped is not None else found.rows[0 if back else -1].q if found.more else None
    near = (found.rows[-1].q if found.rows else start - 1) if back else found.rows[0].q if found.rows else start + 1
    earlier, later = (edge, near) if back else (near if start else None, edge)
    parts = []
    if earlier is not None:
        parts = [link("« first", these.path, asked), link("‹ earlier", these.path, {**asked, "before": earlier})]
    if later is not None:
        parts.append(link("later ›", these.path, {**asked, "after": later}))
    return element("nav", *parts, class_="pager", aria_label="Pages")


def _rows(these: Pair, show: str, start: int, size: int, back: bool = False, seconds: float = SECONDS) -> _Found:
    """Up to `size` questions after question `start` of the first run, or the last ones before it."""
    index, until = these.first.index, time.monotonic() + seconds
    first, last = (1, min(start - 1, index.places())) if back else (start + 1, index.places())
    found: list[_Row] = []
    with index.beside(these.second.index):
        while first <= last and len(found) <= size:
            low, high = (max(first, last - _WINDOW + 1), last) if back else (first, min(last, first + _WINDOW - 1))
            query = f"{_JOINED} AND {_FITS[show]} ORDER BY mine.q {'DESC' if back else 'ASC'} LIMIT ?"
            for q, id, *(right, total, others, whole) in index.rows(
                query, (these.table.value, low, high, size + 1 - len(found))
            ):
                found.append(_Row(q, id, (right, others), (total, whole)))
            first, last = (first, low - 1) if back else (high + 1, last)
            if time.monotonic() > until:
                break
    ended = len(found) > size or first > last
    rows = tuple(sorted(found[:size], key=lambda row: row.q))
    return _Found(rows, len(found) > size, None if ended else last + 1 if back else first - 1)


def _question_link(these: Pair, row: _Row, show: str, text: str = "") -> Markup:
    """A link to a question, which keeps what is shown of them."""
    asked = {"id": row.id, "show": show} if show else {"id": row.id}
    return link(text or line(row.id, 80), f"{these.path}/question", asked)


def _shares(row: _Row) -> list[Markup]:
    cells = []
    for right, total in zip(row.rights, row.totals, strict=True):
        kind = "right" if right == total else "wrong" if not right else None
        cells.append(element("span", f"{count(right)} of {count(total)}", class_=kind))
    return cells


def _prompt(library: Library, these: Pair, id: str) -> Markup | None:
    found = library.question(these.first, id) or library.question(these.second, id)
    return None if found is None else excerpt(found[0].index.text(found[1].table.base + found[1].number))


def question_page(library: Library, these: Pair, query: Mapping[str, str]) -> str | None:
    """A question with the answers of both runs, side by side; None if one of them doesn't hold it."""
    id, show = query.get("id", ""), _show(query)
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
    place = these.first.index.place(id) or 0
    listed = link("Side by side", these.path, {**({"show": show} if show else {}), "after": place - 1})
    crumbs = [link("Runs", "/"), listed]
    way = _way(these, show, place)
    return frame(f"Side by side: {line(id, 120)}", crumbs, way, prompt, gold, element("div", *sides, class_="sides"))


def _way(these: Pair, show: str, place: int) -> Markup:
    """Links to the questions before and after one, among those that are shown."""
    steps = []
    for label, back in (("‹ previous question", True), ("next question ›", False)):
        found = _rows(these, show, place, 1, back)
        if found.rows:
            steps.append(_question_link(these, found.rows[0], show, label))
        elif found.stopped is not None:  # none of them near: the list looks further
            asked = {"before" if back else "after": found.stopped}
            steps.append(link("‹ look further back" if back else "look further ›", these.path, {"show": show, **asked}))
    return element("nav", *steps, class_="pager", aria_label="Other questions")


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
