"""The section of a report on what changing a reflection changes: shares, and how much more than in the control."""

from collections.abc import Iterator
from itertools import groupby

from skillfactory.report.elements import Child, Markup, element, header, joined, small, table
from skillfactory.report.numbers import Effect, Estimate, Study
from skillfactory.report.words import count, interval, line, points, share


def effects(study: Study) -> Markup | None:
    """A table with a line for each way, under whose responses and which group they are."""
    if not study.effects:
        return None
    names = list(dict.fromkeys(name for each in study.effects for name in each.shares))
    head = header(["What was done", "Continuations", *(f"{line(name)}, %" for name in names)])
    caption = (
        "Responses were cut at a reflection, which was kept (the control), dropped or replaced; the model went on from there. "
        "Shares with their 95 % intervals, and below them the difference to the control in points, paired by question."
    )
    bodies = []
    for (label, group), found in groupby(study.effects, key=lambda each: (each.label, each.group)):
        title = element("th", f"{line(label)}: {line(group)}", scope="rowgroup", colspan=len(names) + 2)
        bodies.append(element("tbody", element("tr", title), *(_row(each, names) for each in found)))
    return table("effects-table", caption, head, joined(bodies))


def _row(each: Effect, names: list[str]) -> Markup:
    cells = (element("td", *_cell(*each.shares.get(name, (Estimate(), Estimate())))) for name in names)
    return element("tr", element("th", line(each.way), scope="row"), element("td", count(each.continuations)), *cells)


def _cell(found: Estimate, more: Estimate) -> Iterator[Child]:
    yield share(found.value)
    yield small(interval(found, share))
    if more.value is not None:
        yield small(f"{points(more.value)} ({interval(more, points, ' to ')})")
