"""What each address gives: the first page, a run, a list, a row, its whole text, two runs side by side, the style sheet."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass

from skillfactory.report.elements import Markup, element, joined
from skillfactory.report.words import count, line, safe
from skillfactory.view.both import both_page, pair, question_page
from skillfactory.view.fragments import PLURAL, crumbs, facts, frame, grid, link, spoken, table_link, tabs
from skillfactory.view.items import item_page
from skillfactory.view.library import Library, Run
from skillfactory.view.lists import listing
from skillfactory.view.style import sheet
from skillfactory.view.tables import ANSWERS, Table

HTML, PLAIN, CSS = "text/html; charset=utf-8", "text/plain; charset=utf-8", "text/css; charset=utf-8"
_TABLES = "|".join(Table)
# Addresses hold numbers and names of tables, never a path: no file is opened by what a browser asks for.
_RUN = re.compile(r"/(\d{1,6})")
_LIST = re.compile(rf"/(\d{{1,6}})/({_TABLES})")
_ROW = re.compile(rf"/(\d{{1,6}})/({_TABLES})/(\d{{1,12}})(/text)?")
_BOTH = re.compile(r"/both/(\d{1,6})/(\d{1,6})(/question)?")
_SETTINGS = 8_000  # characters of a run's account


@dataclass(frozen=True, slots=True)
class Reply:
    """What a browser gets."""

    status: int
    kind: str  # its media type
    body: str


def reply(library: Library, path: str, query: Mapping[str, str]) -> Reply:
    """What an address gives; a page that says so where there is nothing."""
    if path == "/style.css":
        return Reply(200, CSS, sheet())
    if path == "/both":
        path = f"/both/{query.get('first', '')}/{query.get('second', '')}"
    page = _page(library, path, query)
    if isinstance(page, Reply):
        return page
    if page is None:
        gone = element("p", "There is nothing at this address. Rows have other numbers after a run has changed.")
        return Reply(404, HTML, frame("Nothing here", [link("Runs", "/")], gone))
    return Reply(200, HTML, page)


def _page(library: Library, path: str, query: Mapping[str, str]) -> str | Reply | None:
    if path == "/":
        return _home(library)
    if found := _RUN.fullmatch(path):
        run = _run(library, found[1])
        return None if run is None else _about(library, run)
    if found := _LIST.fullmatch(path):
        run = _run(library, found[1])
        return None if run is None else listing(library, run, Table(found[2]), query)
    if found := _ROW.fullmatch(path):
        run, n = _run(library, found[1]), Table(found[2]).base + int(found[3])
        item = None if run is None or int(found[3]) < 1 else run.index.item(n)
        if run is None or item is None:
            return None
        return Reply(200, PLAIN, run.index.text(n)) if found[4] else item_page(library, run, item, query)
    if found := _BOTH.fullmatch(path):
        first, second = _run(library, found[1]), _run(library, found[2])
        these = None if first is None or second is None else pair(library, first, second)
        if these is None:
            return None if first is None or second is None else Reply(404, HTML, _no_pair(first, second))
        return question_page(library, these, query) if found[3] else both_page(library, these, query)
    return None


def _run(library: Library, number: str) -> Run | None:
    return library.runs[int(number)] if int(number) < len(library.runs) else None


def _home(library: Library) -> str:
    """All runs, and the choice of two."""
    rows = []
    for run in library.runs:
        tables = joined(part for table in run.index.counts for part in (_counted(run, table), " "))
        label = link(line(run.output.label, 80), f"/{run.number}")
        rows.append((label, run.output.what.value, tables, _model(run), _served(run)))
    listed = grid("Runs", ("Run", "Made by", "Holds", "Model", "Arm, seeds"), rows, (0, 1, 2, 3, 4))
    silent = ", ".join(line(label, 60) for label in library.silent[:50])
    hidden = element("p", f"Not shown, as no texts are in them: {silent}.", class_="quiet") if silent else None
    return frame("Runs", [], listed, _choice(library), hidden)


def _model(run: Run) -> str:
    """The model by its name; one that a study made, by its stage."""
    parts = run.output.model.split("/")
    stage = parts[parts.index("stages") + 1 :] if "stages" in parts else parts
    return line("/".join(part for part in stage if part != "out"), 60)


def _counted(run: Run, table: Table) -> Markup:
    rows = run.index.counts[table]
    name = PLURAL[table].lower() if rows != 1 else table.value
    return element("span", table_link(run, table, f"{count(rows)} {name}"), class_="counted")


def _no_pair(first: Run, second: Run) -> str:
    """Says that two runs can't stand side by side."""
    names = f"{line(first.output.label, 80)} and {line(second.output.label, 80)}"
    return frame("No pair", [link("Runs", "/")], element("p", f"{names} don't both hold responses, traces or attempts."))


def _served(run: Run) -> str:
    seeds = ", ".join(map(str, run.output.seeds[:20]))
    return line(", ".join(filter(None, (run.output.arm, f"seed {seeds}" if seeds else ""))), 120)


def _choice(library: Library) -> Markup | None:
    """The form for two runs side by side."""
    fitting = [run for run in library.runs if any(table in run.index.counts for table in ANSWERS)]
    if len(fitting) < 2:
        return None
    # The first two that hold the same kind of answers; responses before traces before attempts.
    kinds = ([place for place, run in enumerate(fitting) if table in run.index.counts] for table in ANSWERS)
    chosen = next((places for places in kinds if len(places) > 1), [0, 1])
    labels = []
    for name, choice in zip(("first", "second"), chosen, strict=False):
        options = (
            element("option", line(run.output.label, 80), value=str(run.number), selected=place == choice)
            for place, run in enumerate(fitting)
        )
        labels.append(element("label", element("span", f"{name.capitalize()} run"), element("select", *options, name=name)))
    button = element("button", "Side by side", type="submit")
    form = element("form", *labels, button, method="get", action="/both", class_="filters")
    return joined([element("h2", "Two runs side by side"), form])


def _about(library: Library, run: Run) -> str:
    """A run: where it is, what it holds and dropped, and what it says of itself."""
    account = run.account
    state = "" if account.get("finished") is not False else "not finished: this is what it held when it was opened"
    sources = [link(line(library.runs[number].output.label, 80), f"/{number}") for number in run.sources]
    made = [link(line(other.output.label, 80), f"/{other.number}") for other in library.made_from(run)]
    told = facts(
        [
            ("Folder", safe(str(run.output.path), 400)),
            ("Made by", f"skillfactory {run.output.what.value}"),
            ("Model", line(run.output.model, 200)),
            ("Arm, seeds", _served(run)),
            ("State", state),
            ("Made from", joined(part for each in sources for part in (each, " ")) if sources else None),
            ("Used by", joined(part for each in made for part in (each, " ")) if made else None),
        ]
    )
    late = None
    if run.changed():
        late = element(
            "p", "The run has changed since it was opened: start the command again to see it as it is.", class_="cut"
        )
    settings = account.get("settings")
    shown = json.dumps(settings, indent=2, ensure_ascii=False) if settings else ""
    kept = element("details", element("summary", "Settings"), element("pre", safe(shown, _SETTINGS))) if shown else None
    return frame(run.output.label, crumbs(run)[:1], late, tabs(run, None), told, _drops(run), kept)


def _drops(run: Run) -> Markup | None:
    """What was dropped, by stage and reason."""
    totals: dict[tuple[str, str], int] = {}
    for table, values, rows in run.index.facets.values():
        if table is Table.DROP:
            key = (values["form"], values["reason"])
            totals[key] = totals.get(key, 0) + rows
    if not totals:
        return None
    cells = []
    for (stage, reason), rows in sorted(totals.items(), key=lambda pair: (-pair[1], pair[0]))[:100]:
        asked = {"form": stage or "(none)", "reason": reason or "(none)"}
        cells.append((line(stage, 60), table_link(run, Table.DROP, spoken(reason) or "none", asked), count(rows)))
    return joined([element("h2", "Dropped"), grid("Dropped", ("Stage", "Reason", "Rows"), cells, (0, 1))])
