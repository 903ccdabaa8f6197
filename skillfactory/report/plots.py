"""Plots as inline SVG: dots with their intervals, and training curves. A plot is as wide as a phone: text keeps its size."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from skillfactory.report.axes import Axis, apart, axis, can_be_drawn, thinned
from skillfactory.report.elements import Markup, element, joined, number
from skillfactory.report.numbers import Estimate, Unit
from skillfactory.report.words import compact, line, with_interval

WIDTH = 360
_LEFT, _RIGHT, _TOP = 14, 14, 6
_ROW = 32  # height of a dot's row: its label, and below it the dot
_CURVE_HEIGHT, _CURVE_LEFT, _CURVE_RIGHT = 190, 44, 26
_HUES = 8  # colours in the style sheet; after them the dashes change
_DASHES = (None, "6 3", "2 2", "9 3 2 3")


@dataclass(frozen=True, slots=True)
class Dot:
    """One row of a dot plot."""

    label: str
    estimate: Estimate
    hue: int = 0  # the arm's number


@dataclass(frozen=True, slots=True)
class Form:
    """How a dot plot writes its numbers: `value` beside the label, `tick` under the axis, `to` between the ends."""

    value: Callable[[float | None], str]
    tick: Callable[[float], str]
    unit: str  # what the axis shows
    to: str = "–"


@dataclass(frozen=True, slots=True)
class Curve:
    """One training in a plot of curves; lines of one arm share letter and hue."""

    letter: str
    hue: int
    points: Sequence[tuple[float, float]]
    name: str  # what it is, e.g. "RL only, seed 3"


def span(dots: Sequence[Dot], least: float) -> Axis:
    """The scale that holds all dots and intervals."""
    return axis([end for dot in dots for end in (dot.estimate.value, dot.estimate.low, dot.estimate.high)], least)


def dot_plot(ident: str, title: str, dots: Sequence[Dot], form: Form, scale: Axis) -> Markup:
    """A plot of one row per dot: label and number, and below them the dot on its interval."""
    scale = scale.moved(_LEFT, WIDTH - _RIGHT)
    bottom = _TOP + _ROW * len(dots)
    marks = []
    for tick in scale.ticks:
        x = scale.at(tick)
        bands = " ".join(f"M{x:.1f} {_TOP + _ROW * index + 16}v12" for index in range(len(dots)))  # not through the labels
        marks.append(element("path", d=bands, class_="zero" if tick == 0 else "grid"))
        marks.append(words_at(form.tick(tick), x, bottom + 14, "middle", "tick"))
    marks.append(words_at(form.unit, WIDTH - _RIGHT, bottom + 29, "end", "unit"))
    rows = (_dot(dot, form, scale, _TOP + _ROW * index) for index, dot in enumerate(dots))
    described = "; ".join(f"{line(dot.label)}: {with_interval(dot.estimate, form.value, form.to)}" for dot in dots)
    return drawing(ident, bottom + 34, title, f"{form.unit}. {described}", joined([*marks, *rows]))


def _dot(dot: Dot, form: Form, scale: Axis, top: float) -> Markup:
    y = top + 22
    hue = f"h{dot.hue % _HUES}"
    found = dot.estimate
    parts = [
        words_at(line(dot.label, 36), _LEFT, top + 12, "start", "label"),
        words_at(with_interval(found, form.value, form.to), WIDTH - _RIGHT, top + 12, "end", "value"),
    ]
    if found.low is not None and found.high is not None and can_be_drawn(found.low) and can_be_drawn(found.high):
        x1, x2 = scale.at(found.low), scale.at(found.high)
        parts.append(element("line", x1=x1, x2=x2, y1=y, y2=y, class_=f"interval {hue}"))
        parts += [element("line", x1=x, x2=x, y1=y - 3, y2=y + 3, class_=f"cap {hue}") for x in (x1, x2)]
    if found.value is not None and can_be_drawn(found.value):
        parts.append(element("circle", cx=scale.at(found.value), cy=y, r=4, class_=f"dot {hue}"))
    return element("g", element("title", line(dot.label)), *parts)


def curve_plot(ident: str, title: str, lines: Sequence[Curve], unit: Unit, along: str, most: int) -> Markup:
    """A plot of one thin line per training, at most `most` points each, the arm's letter where its lines end."""
    factor = 100 if unit == "share" else 1
    drawn = [(item, thinned(_points(item, factor), most)) for item in lines]
    drawn = [(item, points) for item, points in drawn if points]
    across = axis([x for _, points in drawn for x, _ in points]).moved(_CURVE_LEFT, WIDTH - _CURVE_RIGHT)
    up = axis([y for _, points in drawn for _, y in points]).moved(_CURVE_HEIGHT, _TOP + 4)
    marks = []
    for tick in up.ticks:
        y = up.at(tick)
        marks.append(
            element("line", x1=_CURVE_LEFT, x2=WIDTH - _CURVE_RIGHT, y1=y, y2=y, class_="zero" if tick == 0 else "grid")
        )
        marks.append(words_at(compact(tick), _CURVE_LEFT - 5, y + 4, "end", "tick"))
    for tick in across.ticks:
        x = across.at(tick)
        marks.append(element("line", x1=x, x2=x, y1=_CURVE_HEIGHT, y2=_CURVE_HEIGHT + 4, class_="zero"))
        marks.append(words_at(compact(tick), x, _CURVE_HEIGHT + 16, "middle", "tick"))
    marks.append(words_at(along, WIDTH - _CURVE_RIGHT, _CURVE_HEIGHT + 31, "end", "unit"))
    paths = [_curve(item, points, across, up) for item, points in drawn]
    ends = [_told(item, points) for item, points in drawn]
    described = f"{title}, along {along}. " + "; ".join(ends)
    return drawing(ident, _CURVE_HEIGHT + 36, title, described, joined([*marks, *paths, *_letters(drawn, across, up)]))


def _points(item: Curve, factor: float) -> list[tuple[float, float]]:
    return [(x, y * factor) for x, y in item.points if can_be_drawn(x) and can_be_drawn(y)]


def _told(item: Curve, points: Sequence[tuple[float, float]]) -> str:
    return f"{line(item.name)}: from {compact(points[0][1])} to {compact(points[-1][1])}"


def _curve(item: Curve, points: Sequence[tuple[float, float]], across: Axis, up: Axis) -> Markup:
    hue, dash = f"h{item.hue % _HUES}", _DASHES[item.hue // _HUES % len(_DASHES)]
    name = element("title", line(item.name))
    if len(points) == 1:
        (x, y) = points[0]
        return element("circle", name, cx=across.at(x), cy=up.at(y), r=2.5, class_=f"dot {hue}")
    places = " ".join(f"{across.at(x):.1f},{up.at(y):.1f}" for x, y in points)
    return element("polyline", name, points=places, class_=f"curve {hue}", stroke_dasharray=dash)


def _letters(drawn: Sequence[tuple[Curve, Sequence[tuple[float, float]]]], across: Axis, up: Axis) -> list[Markup]:
    """The letter of each arm beside the ends of its lines, none over another."""
    ends: dict[tuple[str, int], list[tuple[float, float]]] = {}
    for item, points in drawn:
        ends.setdefault((item.letter, item.hue), []).append(points[-1])
    middles = [up.at(sum(y for _, y in places) / len(places)) for places in ends.values()]
    rights = [across.at(max(x for x, _ in places)) for places in ends.values()]
    marks = []
    for (letter, hue), x, y in zip(ends, rights, apart(middles, 11, _TOP + 4, _CURVE_HEIGHT), strict=True):
        marks.append(words_at(letter, min(x + 5, WIDTH - _CURVE_RIGHT + 5), y + 4, "start", f"letter t{hue % _HUES}"))
    return marks


def swatch(letter: str, hue: int) -> Markup:
    """A short line as an arm's curves have it, with its letter: the key of a legend."""
    dash = _DASHES[hue // _HUES % len(_DASHES)]
    stroke = element("line", x1=1, x2=27, y1=7, y2=7, class_=f"curve h{hue % _HUES}", stroke_dasharray=dash)
    mark = words_at(letter, 31, 11, "start", f"letter t{hue % _HUES}")
    return element("svg", stroke, mark, class_="swatch", viewBox="0 0 46 14", width=46, height=14, aria_hidden="true")


def words_at(words: str, x: float, y: float, anchor: str, class_: str) -> Markup:
    """Words in a drawing, with their start, middle or end at a place."""
    return element("text", words, x=x, y=y, text_anchor=anchor, class_=class_)


def drawing(ident: str, height: float, title: str, described: str, inner: Markup) -> Markup:
    """A drawing as wide as all others, with a text alternative."""
    names = (element("title", title, id=f"{ident}-title"), element("desc", described, id=f"{ident}-desc"))
    labels = f"{ident}-title {ident}-desc"
    return element("svg", *names, inner, role="img", aria_labelledby=labels, viewBox=f"0 0 {WIDTH} {number(height)}")
