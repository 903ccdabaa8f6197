"""Accuracy as more tokens are spent: a plot for each group, a line for each way to spend them, and the numbers in a table."""

from collections.abc import Iterator, Sequence

from skillfactory.report.elements import Child, Markup, element, header, joined, small, table
from skillfactory.report.numbers import Spending, Study
from skillfactory.report.plots import Curve, curve_plot, swatch
from skillfactory.report.words import interval, letter, line, number, share


def spendings(study: Study) -> Markup | None:
    """The plots and the table; each line has a letter, and every point of it a row of the table."""
    if not study.spendings:
        return None
    names = list(dict.fromkeys((each.label, each.way) for each in study.spendings))
    keys = (element("li", swatch(letter(hue), hue), f"{line(label)}, {line(way)}") for hue, (label, way) in enumerate(names))
    about = "Accuracy against the tokens that were spent, as a mean per response; both as measured."
    groups: dict[str, list[Spending]] = {}
    for each in study.spendings:
        groups.setdefault(each.group, []).append(each)
    figures = (_figure(group, found, names, index) for index, (group, found) in enumerate(groups.items()))
    parts: list[Markup] = [element("ul", *keys, class_="legend"), element("p", about, class_="quiet")]
    numbers = element("details", element("summary", "The points as numbers, with intervals"), _table(study.spendings))
    return joined([*parts, element("div", *figures, class_="plots"), numbers])


def _figure(group: str, found: Sequence[Spending], names: Sequence[tuple[str, str]], index: int) -> Markup:
    curves = []
    for each in found:
        hue = names.index((each.label, each.way))
        points = [(tokens, estimate.value) for tokens, estimate in each.points if estimate.value is not None]
        curves.append(Curve(letter(hue), hue, points, f"{each.label}, {each.way}"))
    title = f"Accuracy on {line(group)}, %"
    drawn = curve_plot(f"spending-{index}", title, curves, "share", "tokens of a response", 100)
    return element("figure", element("figcaption", title), drawn)


def _table(found: Sequence[Spending]) -> Markup:
    head = header(["Who and how", "On", "Tokens of a response", "Accuracy, %"], words=(1,))
    caption = "The points of the plots, with 95 % intervals."
    return table("spendings-table", caption, head, element("tbody", *(row for each in found for row in _rows(each))))


def _rows(each: Spending) -> Iterator[Markup]:
    for tokens, estimate in each.points:
        cells: list[Child] = [element("td", line(each.group), class_="words"), element("td", number(tokens))]
        cells.append(element("td", share(estimate.value), small(interval(estimate, share))))
        yield element("tr", element("th", f"{line(each.label)}, {line(each.way)}", scope="row"), *cells)
