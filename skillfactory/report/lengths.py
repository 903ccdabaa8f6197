"""How long responses are: a drawing for each arm, right responses upwards and wrong ones downwards, over one scale."""

import math
from collections.abc import Iterator, Sequence

from skillfactory.report.elements import Markup, element, joined
from skillfactory.report.numbers import Lengths, Study
from skillfactory.report.plots import WIDTH, drawing, words_at
from skillfactory.report.words import compact, count, line

_LEFT, _RIGHT, _TOP, _HALF = 14, 14, 16, 56  # _HALF: height of the bars of either side
_MIDDLE, _BOTTOM = _TOP + _HALF, _TOP + 2 * _HALF
_STEPS = (1, 2, 5)


def lengths(study: Study) -> Markup | None:
    """A drawing of the lengths of each arm's responses, all groups together."""
    found = [each for each in study.lengths if sum(each.right) + sum(each.wrong)]
    if not found:
        return None
    labels = {arm.name: arm.label for arm in study.arms}
    low, high = _span(found)
    about = (
        "Tokens of the responses of each arm, all groups together, on one scale in which every doubling takes the same width. "
        "Right responses stand upwards, wrong ones and those without an answer downwards. The highest bar fills the height."
    )
    figures = (
        element("figure", element("figcaption", line(labels[each.arm])), _drawn(each, line(labels[each.arm]), index, low, high))
        for index, each in enumerate(found)
    )
    return joined([element("h3", "Lengths"), element("p", about, class_="quiet"), element("div", *figures, class_="plots")])


def _span(found: Sequence[Lengths]) -> tuple[float, float]:
    """The least and the greatest length that any arm has."""
    held = [
        (each.edges[place], each.edges[place + 1])
        for each in found
        for place in range(len(each.right))
        if each.right[place] + each.wrong[place]
    ]
    low, high = max(1.0, min(start for start, _ in held)), max(2.0, max(end for _, end in held))
    return (low, high) if high > 1.5 * low else (low / 1.5, high * 1.5)


def _drawn(each: Lengths, label: str, index: int, low: float, high: float) -> Markup:
    most = max(*each.right, *each.wrong)

    def across(value: float) -> float:
        part = math.log(min(high, max(low, value)) / low) / math.log(high / low)
        return _LEFT + part * (WIDTH - _LEFT - _RIGHT)

    marks: list[Markup] = []
    for value in _ticks(low, high):
        x = across(value)
        marks.append(element("line", x1=x, x2=x, y1=_BOTTOM, y2=_BOTTOM + 4, class_="zero"))
        marks.append(words_at(compact(value), x, _BOTTOM + 16, "middle", "tick"))
    marks.append(element("line", x1=_LEFT, x2=WIDTH - _RIGHT, y1=_MIDDLE, y2=_MIDDLE, class_="zero"))
    for numbers, class_, sign in ((each.right, "rightward", -1), (each.wrong, "wrongward", 1)):
        marks += _bars(each.edges, numbers, class_, [across(edge) for edge in each.edges], sign * _HALF / most)
    right, wrong = f"✓ right: {count(sum(each.right))}", f"✗ wrong: {count(sum(each.wrong))}"
    marks.append(words_at(right, _LEFT, _TOP - 4, "start", "tick"))
    marks.append(words_at(wrong, _LEFT, _BOTTOM + 31, "start", "tick"))
    marks.append(words_at("tokens", WIDTH - _RIGHT, _BOTTOM + 31, "end", "unit"))
    told = "; ".join(f"{name} {_told(each.edges, numbers)}" for name, numbers in (("right", each.right), ("wrong", each.wrong)))
    return drawing(f"lengths-{index}", _BOTTOM + 36, f"Lengths of {label}", f"Tokens of responses. {told}", joined(marks))


def _bars(
    edges: Sequence[float], numbers: Sequence[int], class_: str, places: Sequence[float], height: float
) -> Iterator[Markup]:
    """A bar for each number that isn't 0, of `height` pixels a response, upwards where that is below 0."""
    for place, number in enumerate(numbers):
        if number:
            size = max(1.0, abs(number * height))
            y = _MIDDLE - size if height < 0 else _MIDDLE
            width = max(1.0, places[place + 1] - places[place] - 1)
            title = f"{compact(edges[place])} to {compact(edges[place + 1])} tokens: {count(number)}"
            yield element("rect", element("title", title), x=places[place], y=y, width=width, height=size, class_=class_)


def _ticks(low: float, high: float) -> list[float]:
    """Round lengths between two: 1, 2, 5, 10 …; powers of ten alone where that would be too many."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    found = [float(step * 10.0**power) for power in powers for step in _STEPS]
    found = [value for value in found if low <= value <= high]
    return found if len(found) <= 8 else [value for value in found if math.log10(value).is_integer()]


def _told(edges: Sequence[float], numbers: Sequence[int]) -> str:
    """Where the middle half of the responses lies, in words."""
    total = sum(numbers)
    if not total:
        return "none"
    ends = [_edge(edges, numbers, total * part) for part in (0.25, 0.75)]
    return f"{count(total)}, the middle half of them from about {compact(ends[0])} to {compact(ends[1])}"


def _edge(edges: Sequence[float], numbers: Sequence[int], wanted: float) -> float:
    """The edge nearest to which a number of responses is reached."""
    reached = 0
    for place, number in enumerate(numbers):
        reached += number
        if reached >= wanted:
            return edges[place] if wanted < reached - number / 2 else edges[place + 1]
    return edges[-1]
