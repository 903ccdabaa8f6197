"""The sections of a report on what came out: accuracy, paired differences, skills and lengths."""

from collections.abc import Callable, Iterator, Sequence

from skillfactory.report.elements import Child, Markup, element, header, joined, row, small, table
from skillfactory.report.numbers import Arm, Cell, Comparison, Group, Study
from skillfactory.report.plots import Dot, Form, dot_plot, span
from skillfactory.report.words import (
    NOTHING,
    compact,
    count,
    interval,
    known,
    line,
    number,
    points,
    reading,
    share,
)


def _percent(value: float) -> str:
    return compact(100 * value)


_ACCURACY = Form(share, _percent, "accuracy, %")
_DIFFERENCE = Form(points, _percent, "difference, points", to=" to ")


def results(study: Study) -> Markup | None:
    """Accuracy: a table of arms and groups with intervals, and a plot for each group."""
    if not study.cells:
        return None
    head = header(["Arm", *(_named(group.label, group.about) for group in study.groups)])
    body = element("tbody", *_rows(study))
    caption = (
        "Accuracy in %: the share of responses whose final answer is right, with its 95 % interval. The highest number of a "
        f"group is a little bolder; where intervals overlap that settles nothing. {study.intervals}"
    )
    plots = (_plot(study, group, f"accuracy-{index}") for index, group in enumerate(study.groups))
    note = element("p", "The plots show the same numbers. Each has a scale of its own, which begins at 0.", class_="quiet")
    return joined(
        [table("results-table", line(caption, 1000), head, body, _sizes(study)), note, element("div", *plots, class_="plots")]
    )


def judged(study: Study) -> list[Arm]:
    """The arms of which anything was measured."""
    there = {cell.arm for cell in study.cells}
    return [arm for arm in study.arms if arm.name in there]


def _named(label: str, about: str) -> Markup:
    return joined([element("span", line(label), class_="name"), small(line(about, 300))])


def _rows(study: Study) -> Iterator[Markup]:
    best = {group.name: _highest([study.cell(arm.name, group.name) for arm in study.arms]) for group in study.groups}
    for arm in judged(study):
        cells = (_accuracy(study.cell(arm.name, group.name), best[group.name]) for group in study.groups)
        yield element("tr", element("th", _named(arm.label, arm.about), scope="row"), *cells)


def _highest(cells: Sequence[Cell]) -> float | None:
    values = [value for cell in cells if (value := known(cell.accuracy.value)) is not None]
    return max(values) if len(values) > 1 else None


def _accuracy(cell: Cell, best: float | None) -> Markup:
    most = best is not None and cell.accuracy.value == best
    ends = small(interval(cell.accuracy, share))
    return element("td", share(cell.accuracy.value), ends, class_="most" if most else None)


def _sizes(study: Study) -> Markup:
    """How many questions and responses stand behind each group's numbers."""
    rows = []
    for name, pick in (("Questions", "questions"), ("Responses of each arm", "responses")):
        cells = []
        for group in study.groups:
            sizes = [getattr(study.cell(arm.name, group.name), pick) for arm in study.arms]
            sizes = sorted({size for size in sizes if size is not None})
            cells.append("–".join(dict.fromkeys(count(size) for size in (sizes[:1] + sizes[-1:]))) or count(None))
        rows.append(row(name, cells))
    return joined(rows)


def _plot(study: Study, group: Group, ident: str) -> Markup:
    hues = {arm.name: hue for hue, arm in enumerate(study.arms)}
    dots = [Dot(arm.label, study.cell(arm.name, group.name).accuracy, hues[arm.name]) for arm in judged(study)]
    title = f"Accuracy on {line(group.label)}"
    drawn = dot_plot(ident, title, dots, _ACCURACY, span(dots, 0.1))
    return element("figure", element("figcaption", line(group.label), " ", small(line(group.about, 300))), drawn)


def differences(study: Study) -> Markup | None:
    """Paired differences and ratios: a table, and a plot for each pair of arms."""
    if not study.comparisons:
        return None
    names = {arm.name: arm.label for arm in study.arms}
    groups = {group.name: group.label for group in study.groups}
    pairs: dict[tuple[str, str], list[Comparison]] = {}
    for item in study.comparisons:
        pairs.setdefault((item.arm, item.baseline), []).append(item)
    scale = span([Dot("", item.difference) for item in study.comparisons], 0.05)
    plots = []
    for index, found in enumerate(pairs.values()):
        hue = [arm.name for arm in study.arms].index(found[0].arm)
        dots = [Dot(groups[item.group], item.difference, hue) for item in found]
        title = _pair(names, found[0])
        drawn = dot_plot(f"difference-{index}", title, dots, _DIFFERENCE, scale)
        plots.append(element("figure", element("figcaption", title), drawn))
    head = header(["On", "Difference, points", "Ratio", "Difference is", "Remark"], words=(3, 4))
    caption = "Paired: both arms answered the same questions, and the second is taken from the first. With 95 % intervals."
    bodies = joined(_compared(_pair(names, found[0]), found, groups) for found in pairs.values())
    numbers = table("differences-table", caption, head, bodies)
    parts = [element("p", f"{caption} {_chance(study.comparisons)}", class_="quiet"), element("div", *plots, class_="plots")]
    return joined([*parts, element("details", element("summary", "The differences as numbers, with ratios"), numbers)])


def _chance(found: Sequence[Comparison]) -> str:
    """What to keep in mind of many intervals at once: each leaves zero out by chance alone in one case of twenty."""
    made = sum(reading(item.difference) != NOTHING for item in found)
    return (
        f"The intervals of these {count(made)} comparisons are not corrected for their number: if there were no difference "
        f"anywhere, about {number(made / 20)} of them would leave zero out by chance alone. "
        "`skillfactory compare` corrects for it."
    )


def _pair(names: dict[str, str], item: Comparison) -> str:
    return f"{line(names[item.arm])} minus {line(names[item.baseline])}"


def _compared(title: str, found: Sequence[Comparison], groups: dict[str, str]) -> Markup:
    rows = [element("tr", element("th", title, scope="rowgroup", colspan=5))]
    for item in found:
        cells: list[Child] = [
            joined([points(item.difference.value), small(interval(item.difference, points, " to "))]),
            joined([number(item.ratio.value), small(interval(item.ratio, number))]),
        ]
        words = (element("td", text, class_="words") for text in (reading(item.difference), line(item.note, 300)))
        on = element("th", line(groups[item.group]), scope="row")
        rows.append(element("tr", on, *(element("td", cell) for cell in cells), *words))
    return element("tbody", *rows)


_OPEN = 3  # groups whose skills stand open: the kinds come first
_SKILLS: tuple[tuple[str, Callable[[Cell], str]], ...] = (
    ("First answer right, %", lambda cell: share(cell.first_try)),
    ("Final answer right, %", lambda cell: share(cell.accuracy.value)),
    ("Answers", lambda cell: number(cell.answers)),
    ("Reflections", lambda cell: number(cell.reflections)),
    ("F1 “correct”", lambda cell: number(cell.f1_correct)),
    ("F1 “incorrect”", lambda cell: number(cell.f1_incorrect)),
    ("Tags in order, %", lambda cell: share(cell.well_formed)),
    ("Tokens", lambda cell: number(cell.tokens)),
    ("Cut off, %", lambda cell: share(cell.cut)),
)


def skills(study: Study) -> Markup | None:
    """What responses look like: answers, reflections, how far verdicts can be trusted, lengths."""
    if not study.cells:
        return None
    head = header(["Arm", *(name for name, _ in _SKILLS)])
    caption = (
        "Answers, reflections and tokens are means per response. F1 says how well the verdicts of reflections find the right "
        "and the wrong answers they speak of (1 is perfect). Cut off: the token limit ended the response."
    )
    first, others = study.groups[:_OPEN], study.groups[_OPEN:]
    open_ = table("skills-table", caption, head, joined(_group(study, group) for group in first))
    if not others:
        return open_
    rest = table("more-skills-table", "The same on the other groups.", head, joined(_group(study, group) for group in others))
    return joined([open_, element("details", element("summary", f"The same on {len(others)} other groups"), rest)])


def _group(study: Study, group: Group) -> Markup:
    title = element("tr", element("th", line(group.label), scope="rowgroup", colspan=len(_SKILLS) + 1))
    return element("tbody", title, *(_skilled(arm, study.cell(arm.name, group.name)) for arm in judged(study)))


def _skilled(arm: Arm, cell: Cell) -> Markup:
    return row(line(arm.label), (form(cell) for _, form in _SKILLS))
