"""The list of a table: its filters, a page of its rows, and the way to the next."""

from collections.abc import Mapping

from skillfactory.report.elements import Markup, element, joined
from skillfactory.report.words import count, line
from skillfactory.view.fragments import (
    PLURAL,
    Place,
    Query,
    crumbs,
    excerpt,
    frame,
    grid,
    number,
    row_link,
    sign,
    spoken,
    table_link,
    tabs,
)
from skillfactory.view.library import Library, Run
from skillfactory.view.search import Found, Wanted, choices, page
from skillfactory.view.search import count as counted
from skillfactory.view.tables import FACETS, Item, Table, named

ROWS = 25  # a page
_OPTIONS = 200  # of one choice; the rest is reached by its link in an item's page
_NONE = "(none)"  # how an address says that a facet is empty, as an empty value means any
_LONGEST = 1_000  # characters of a search


def wanted(run: Run, table: Table, query: Query) -> Wanted:
    """What an address asks for; what isn't there to be asked for finds nothing."""
    facets = {name: "" if query[name] == _NONE else query[name] for name in FACETS if query.get(name)}
    return Wanted(table, facets, query.get("text", "")[:_LONGEST])


def kept(asked: Wanted) -> dict[str, str]:
    """The part of an address that says what is asked for."""
    text = {"text": asked.text} if asked.text else {}
    return {name: value or _NONE for name, value in asked.facets.items()} | text


def listing(library: Library, run: Run, table: Table, query: Query) -> str:
    """The page of a table's rows that an address asks for."""
    asked = wanted(run, table, query)
    before = number(query.get("before"))
    found = page(run.index, asked, ROWS, after=number(query.get("after")) or 0, before=before)
    if before is not None and not found.items and not found.stopped:  # all were seen on the way back
        found = page(run.index, asked, ROWS)
    place = Place(run, kept(asked))
    label = f"{PLURAL[table]} of {run.output.label}"
    head = (tabs(run, table), _form(place, asked), _summary(run, asked, found))
    rows = _rows(place, asked, found) if found.items else None
    return frame(label, crumbs(run), *head, rows, _pager(place, table, found))


def _form(place: Place, asked: Wanted) -> Markup:
    """The filters, as a form that needs no script."""
    fields = []
    for name, values in choices(place.run.index, asked).items():
        fields.append(_choice(named(name, asked.table), name, values, asked.facets.get(name)))
    text = element("input", type="search", name="text", value=asked.text, maxlength=str(_LONGEST), autocomplete="off")
    fields.append(element("label", element("span", "Text holds"), text))
    every = table_link(place.run, asked.table, "show all") if place.query else None
    return element("form", *fields, element("button", "Show", type="submit"), every, method="get", class_="filters")


def _choice(label: str, name: str, values: Mapping[str, int], chosen: str | None) -> Markup:
    shown = [element("option", "any", value="")]
    listed = dict(list(values.items())[:_OPTIONS])
    if chosen is not None:
        listed.setdefault(chosen, values.get(chosen, 0))
    for value, rows in listed.items():
        words = f"{spoken(value) if name != 'form' else line(value, 60)}" or "none"
        shown.append(element("option", f"{words} ({count(rows)})", value=value or _NONE, selected=value == chosen))
    return element("label", element("span", label), element("select", *shown, name=name))


def _summary(run: Run, asked: Wanted, found: Found) -> Markup:
    rows, all_rows = counted(run.index, asked), run.index.counts.get(asked.table, 0)
    name = PLURAL[asked.table].lower()
    said = f"{count(all_rows)} {name}." if rows == all_rows else f"{count(rows)} of {count(all_rows)} {name}."
    if asked.text:
        said += " Those of them whose text holds the words, upper or lower case:"
        said += "" if found.items or found.stopped else " none."
    late = None
    if found.stopped:
        late = element("p", "The time for one page was over before all rows were looked through: go on below.", class_="cut")
    return joined([element("p", said, class_="quiet"), late])


_HEADS = {
    Table.QUESTION: ("№", "Task", "Group", "One right answer", "Question"),
    Table.ATTEMPT: ("№", "Task", "Variant", "Check", "Answer", "Text"),
    Table.REFLECTION: ("№", "Task", "Verdict", "Attempt", "Text"),
    Table.TRACE: ("№", "Task", "Layout", "Attempts", "Tokens", "Text"),
    Table.RESPONSE: ("№", "Group", "Check", "Answer", "Attempts", "Tokens", "Text"),
    Table.DROP: ("№", "Task", "Stage", "Reason", "What"),
}
_NUMBERS = ("№", "Tokens")


def _rows(place: Place, asked: Wanted, found: Found) -> Markup:
    heads = _HEADS[asked.table]
    words = [index for index, head in enumerate(heads) if head not in _NUMBERS]
    return grid(PLURAL[asked.table], heads, (_cells(place, item, asked.text) for item in found.items), words)


def _cells(place: Place, item: Item, searched: str) -> list[str | Markup | None]:
    facets, whole = item.facets, place.run.index.text(item.table.base + item.number)
    if item.table is Table.ATTEMPT and item.answer and not searched:
        whole = whole.rpartition("<answer>")[0]  # the answer has a column
    text, answer = excerpt(whole, searched), line(item.answer or "", 60)
    link = row_link(place.run, item, count(item.number), place.query)
    task, form = line(f"{facets['task']} {facets['level']}".strip(), 60) or "–", line(facets["form"], 60)
    check = joined([sign(facets["check"]), element("small", spoken(facets["reason"]))]) if facets["check"] else None
    tokens = count(item.tokens)
    if item.table is Table.QUESTION:
        return [link, task, form, answer, text]
    if item.table is Table.ATTEMPT:
        return [link, task, form, check, answer, text]
    if item.table is Table.REFLECTION:
        return [link, task, spoken(facets["verdict"]), sign(facets["check"]), text]
    if item.table is Table.TRACE:
        return [link, task, form, _row_of_signs(item.more.get("rights", ())), tokens, text]
    if item.table is Table.RESPONSE:
        return [link, form or task, check, answer, str(item.more.get("attempts", "")), tokens, text]
    about = joined([line(item.id, 160), " ", element("small", text)])
    return [link, task, form, spoken(facets["reason"]), about]


def _row_of_signs(rights: tuple[bool | None, ...]) -> Markup:
    """A sign for each attempt of a trace, in order."""
    words = ", ".join({True: "right", False: "wrong", None: "not checked"}[right] for right in rights)
    shown = "".join({True: "✓", False: "✗", None: "·"}[right] for right in rights[:40])
    return element("span", shown, title=words, aria_label=words, role="img", class_="signs")


def _pager(place: Place, table: Table, found: Found) -> Markup:
    """Links to the first, earlier, later and last rows."""
    query, parts = place.query, []
    if found.before is not None:
        parts.append(table_link(place.run, table, "« first", query))
        parts.append(table_link(place.run, table, "‹ earlier", {**query, "before": found.before}))
    if found.after is not None:
        parts.append(table_link(place.run, table, "later ›", {**query, "after": found.after}))
        parts.append(table_link(place.run, table, "last »", {**query, "before": place.run.index.counts.get(table, 0) + 1}))
    return element("nav", *parts, class_="pager", aria_label="Pages")
