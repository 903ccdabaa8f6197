"""Laws of a report's drawings, read back from the page: what is drawn is what the numbers say."""

import re
from itertools import pairwise
from xml.etree import ElementTree
from xml.etree.ElementTree import Element

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import MEASURES, study

from skillfactory.report import Estimate, Study, page
from skillfactory.report.axes import apart, axis, thinned
from skillfactory.report.plots import Dot, Form, dot_plot, span
from skillfactory.report.words import compact, duration, letter, number, points, reading, safe, share, with_interval


def drawings(html: str) -> dict[str, Element]:
    """The drawings of a page, by their title."""
    found = (ElementTree.fromstring(text) for text in re.findall(r'<svg role="img".*?</svg>', html, re.DOTALL))
    return {f"{drawing.get('aria-labelledby', '')} {drawing.findtext('title')}": drawing for drawing in found}


def texts(drawing: Element, class_: str) -> list[Element]:
    return [found for found in drawing.iter("text") if class_ in found.get("class", "").split()]


def at(found: Element, name: str) -> float:
    return float(found.get(name, "nan"))


def plain(text: str) -> float:
    """The value of a tick mark."""
    size = {"k": 1e3, "M": 1e6, "B": 1e9}.get(text[-1], 1.0)
    return float(text.rstrip("kMB").replace("−", "-")) * size


def values_of(drawing: Element, xs: list[float]) -> list[float]:
    """What the coordinates mean by the drawing's own tick marks."""
    ticks = sorted(
        (at(found, "x"), plain(found.text or "")) for found in texts(drawing, "tick") if found.get("text-anchor") == "middle"
    )
    (x1, v1), (x2, v2) = ticks[0], ticks[-1]
    return [v1 + (x - x1) * (v2 - v1) / (x2 - x1) for x in xs]


def test_dots_and_intervals_stand_where_the_numbers_say() -> None:
    made = study()
    drawn = drawings(page(made))
    for index, group in enumerate(made.groups):
        drawing = drawn[f"accuracy-{index}-title accuracy-{index}-desc Accuracy on {group.label}"]
        for arm, row in zip(made.arms, drawing.findall("g"), strict=True):
            found = made.cell(arm.name, group.name).accuracy
            bar = next(part for part in row.iter("line") if "interval" in part.get("class", ""))
            dot = next(row.iter("circle"))
            wanted = [100 * (value or 0) for value in (found.low, found.value, found.high)]
            assert values_of(drawing, [at(bar, "x1"), at(dot, "cx"), at(bar, "x2")]) == pytest.approx(wanted, abs=0.1)
            assert texts(row, "label")[0].text == arm.label
            assert texts(row, "value")[0].text == with_interval(found, share)
    assert len([name for name in drawn if "accuracy-" in name]) == len(made.groups)


def test_differences_have_a_line_at_zero_between_what_is_below_and_above() -> None:
    made = study()
    drawn = [drawing for name, drawing in drawings(page(made)).items() if name.startswith("difference-")]
    assert len(drawn) == 2
    for drawing in drawn:
        zero = next(part for part in drawing.iter("path") if part.get("class") == "zero")
        x = float(re.findall(r"M([\d.]+)", zero.get("d", ""))[0])
        for row in drawing.findall("g"):
            words = texts(row, "value")[0].text or ""
            assert (at(next(row.iter("circle")), "cx") > x) == words.startswith("+")


def test_an_estimate_without_interval_is_a_dot_and_one_without_value_has_no_mark() -> None:
    dots = [Dot("alone", Estimate(0.5)), Dot("unknown", Estimate()), Dot("absurd", Estimate(0.5, float("nan"), 1e200))]
    drawing = ElementTree.fromstring(dot_plot("p", "t", dots, Form(share, compact, "u"), span(dots, 0.1)))
    counts = [(len(list(row.iter("line"))), len(list(row.iter("circle")))) for row in drawing.findall("g")]
    assert counts == [(0, 1), (0, 0), (0, 1)]


def test_curves_are_thin_lines_for_each_seed_over_tokens_and_over_steps() -> None:
    made = study()
    drawn = drawings(page(made))
    for along, last in (("tokens", 21_000 * 60), ("steps", 60)):
        for index, measure in enumerate(MEASURES):
            drawing = next(found for name, found in drawn.items() if name.startswith(f"curve-{along}-{index}-title"))
            lines = drawing.findall("polyline")
            assert len(lines) == len(made.trainings)
            ends = [float(line.get("points", "").split()[-1].split(",")[0]) for line in lines]
            assert max(values_of(drawing, ends)) == pytest.approx(last, rel=0.05)
            assert [text.text for text in texts(drawing, "unit")] == ["generated tokens" if along == "tokens" else "steps"]
            assert (drawing.findtext("title") or "").startswith(measure.label)
            assert len({text.get("y") for text in texts(drawing, "tick")}) >= 3
            assert {text.text for text in texts(drawing, "letter")} == {"C", "D"}


def test_nothing_is_drawn_outside_of_its_drawing() -> None:
    made: Study = study(12, 10, 10, 200)
    for drawing in drawings(page(made)).values():
        width, height = (float(part) for part in drawing.get("viewBox", "").split()[2:])
        for part in drawing.iter():
            assert all(0 <= at(part, name) <= width for name in ("x", "x1", "x2", "cx") if name in part.attrib)
            assert all(0 <= at(part, name) <= height for name in ("y", "y1", "y2", "cy") if name in part.attrib)
            for place in part.get("points", "").split():
                x, y = map(float, place.split(","))
                assert 0 <= x <= width
                assert 0 <= y <= height


def test_arms_have_letters_of_their_own() -> None:
    assert [letter(index) for index in (0, 1, 25, 26, 27, 52, 701, 702)] == ["A", "B", "Z", "AA", "AB", "BA", "ZZ", "AAA"]
    assert len({letter(index) for index in range(1000)}) == 1000


NUMBERS = st.floats(-1e12, 1e12)


@settings(deadline=None)
@given(st.lists(NUMBERS, max_size=8))
def test_an_axis_holds_all_values_and_zero_between_few_round_ticks(values: list[float]) -> None:
    found = axis(values)
    low, high = found.ticks[0], found.ticks[-1]
    room = 1e-6 * (high - low)
    assert all(low - room <= value <= high + room for value in [0.0, *values])
    assert 2 <= len(found.ticks) <= 8
    assert 0.0 in found.ticks
    steps = [after - before for before, after in pairwise(found.ticks)]
    assert steps == pytest.approx([steps[0]] * len(steps), rel=1e-6)
    assert found.moved(10, 20).at(low) == 10
    assert found.moved(10, 20).at(high) == 20


@settings(deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), max_size=50), st.integers(1, 20))
def test_thinning_keeps_the_order_and_the_mean(places: list[tuple[float, float]], most: int) -> None:
    points = sorted(places)
    few = thinned(points, most)
    assert len(few) == min(len(points), most)
    assert all(before[0] <= after[0] + 1e-3 for before, after in pairwise(few))


@settings(deadline=None)
@given(st.lists(st.floats(10, 190), min_size=1, max_size=12))
def test_letters_stand_apart_in_the_order_of_what_they_name(places: list[float]) -> None:
    moved = apart(places, 11, 10, 190)
    order = sorted(range(len(places)), key=lambda index: (places[index], index))
    gaps = [moved[after] - moved[before] for before, after in pairwise(order)]
    assert all(gap >= 11 - 1e-6 for gap in gaps)
    assert all(10 - 1e-6 <= place <= 190 + 1e-6 for place in moved)


FORMS = [
    (share(0.42123), "42.1"),
    (share(None), "–"),
    (share(float("nan")), "–"),
    (share(-0.0001), "0.0"),
    (points(0.093), "+9.3"),
    (points(-0.093), "−9.3"),
    (points(-0.0001), "0.0"),
    (points(None), "–"),
    (number(0.957), "0.96"),
    (number(284.4), "284"),
    (number(12.34), "12.3"),
    (number(1e300), "1.00e+300"),
    (compact(950), "950"),
    (compact(1_000), "1k"),
    (compact(999_999), "1M"),
    (compact(3_050_000), "3.05M"),
    (compact(-0.25), "−0.25"),
    (duration(0.4), "0.4 s"),
    (duration(59.7), "1 min 00 s"),
    (duration(7_500), "2 h 05 min"),
    (duration(None), "–"),
    (with_interval(Estimate(0.5, 0.4, 0.61), share), "50.0 (40.0–61.0)"),
    (with_interval(Estimate(0.5, None, 0.61), share), "50.0"),
    (reading(Estimate(0.1, 0.01, 0.2)), "above zero"),
    (reading(Estimate(-0.1, -0.2, -0.01)), "below zero"),
    (reading(Estimate(0.1, -0.01, 0.2)), "interval holds zero"),
    (reading(Estimate(0.1)), "–"),
    (safe("a\u202eb\x1b"), "a⟨U+202E⟩b⟨U+001B⟩"),
    (safe("abcdef", 4), "abcd… (2 more characters)"),
    (safe("a\r\nb\tc"), "a\nb\tc"),
]


@pytest.mark.parametrize(("found", "wanted"), FORMS)
def test_numbers_and_texts_are_written_for_readers(found: str, wanted: str) -> None:
    assert found == wanted
