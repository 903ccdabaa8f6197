"""Tables of further numbers in a report, a line for each arm and group: whatever was measured, by its label."""

from collections.abc import Sequence
from itertools import groupby

from skillfactory.report.elements import Markup, element, header, joined, row, small, table
from skillfactory.report.numbers import Line, Sheet, Study
from skillfactory.report.words import count, line, number, share

_OPEN = 12  # lines of a sheet that stands open; longer ones are folded


def sheets(study: Study) -> Markup | None:
    """All sheets that have a number, those of many lines folded."""
    found = [(index, sheet) for index, sheet in enumerate(study.sheets) if _told(sheet)]
    return joined(_sheet(study, sheet, f"sheet-{index}") for index, sheet in found) if found else None


def _told(sheet: Sheet) -> bool:
    return any(value is not None for each in sheet.lines for value in each.values)


def _sheet(study: Study, sheet: Sheet, ident: str) -> Markup:
    shown = [place for place in range(len(sheet.columns)) if any(each.values[place] is not None for each in sheet.lines)]
    columns = [sheet.columns[place] for place in shown]
    head = header(["Arm", *(f"{line(each.label)}{', %' if each.unit == 'share' else ''}" for each in columns)])
    bodies = []
    groups = {group.name: group.label for group in study.groups}
    for name, lines in groupby(sheet.lines, key=lambda each: each.group):
        title = element("tr", element("th", line(groups[name]), scope="rowgroup", colspan=len(shown) + 1))
        bodies.append(element("tbody", title, *(_line(study, sheet, each, shown) for each in lines)))
    body = table(ident, line(sheet.about, 1_000), head, joined(bodies))
    if len(sheet.lines) <= _OPEN:
        return joined([element("h3", line(sheet.title)), body])
    return element("details", element("summary", line(sheet.title), " ", small(f"{len(sheet.lines)} lines")), body)


def _line(study: Study, sheet: Sheet, each: Line, shown: Sequence[int]) -> Markup:
    label = next(arm.label for arm in study.arms if arm.name == each.arm)
    return row(line(label), (_form(each.values[place], sheet.columns[place].unit) for place in shown))


def _form(value: float | None, unit: str) -> str:
    if unit == "count":
        return count(None if value is None else round(value))
    return share(value) if unit == "share" else number(value)
