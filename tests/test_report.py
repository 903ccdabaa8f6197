"""Laws of a report page: well-formed whatever models wrote, readable without network, and its drawings show its numbers."""

import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from studies import TRACE, example, one_class, study

from skillfactory.funnel import Funnel
from skillfactory.report import (
    UNKNOWN,
    Account,
    Arm,
    Cell,
    Comparison,
    Effect,
    Estimate,
    Example,
    Group,
    Lengths,
    Line,
    Measure,
    Origin,
    Selection,
    Sheet,
    Spending,
    Stage,
    Study,
    Training,
    page,
)
from skillfactory.report.passages import passages
from skillfactory.report.responses import chosen
from skillfactory.report.style import DARK, LIGHT

VOID = {"meta", "link", "input", "br"}
HOSTILE = (
    "</script><script>alert(1)</script>",
    "</style><img src=x onerror=alert(1)>",
    "\"' onmouseover='x' <b>&lt;&amp;&#60;",
    "</details></section></body></html>",
    "\x00\x07\x1b[31m\u202etxet\u2066\u200b\ud800",
    "<!-- <![CDATA[ <?php",
    "<think><sample></think></sample><answer>",
)


class Page(HTMLParser):
    """A page read back: its elements in order, with an AssertionError where a tag isn't closed in its turn."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.opened: list[str] = []
        self.found: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(html)
        self.close()
        assert not self.opened, f"left open: {self.opened}"

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        names = [name for name, _ in attrs]
        assert len(names) == len(set(names)), f"{tag} has an attribute twice: {names}"
        self.found.append((tag, {name: value or "" for name, value in attrs}))
        if tag not in VOID:
            self.opened.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.opened.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append((self.opened[-1] if self.opened else "", data))

    def handle_comment(self, data: str) -> None:
        raise AssertionError(f"a comment: {data[:50]}")

    def all(self, tag: str, class_: str = "") -> list[dict[str, str]]:
        """The attributes of all elements of a tag, and of a class if one is given."""
        return [found for name, found in self.found if name == tag and (not class_ or class_ in found.get("class", "").split())]

    @property
    def text(self) -> str:
        return " ".join(text for tag, text in self.texts if tag != "style")


@cache
def sample() -> str:
    return page(study())


def hostile(text: str) -> Study:
    """A study that says `text` wherever a study can hold foreign text."""
    good = study(2, 2, 1, 4)
    return replace(
        good,
        title=text,
        about=text,
        arms=tuple(replace(arm, label=text, about=text) for arm in good.arms),
        groups=tuple(replace(group, label=text, about=text) for group in good.groups),
        comparisons=(Comparison("arm-0", "arm-1", "group-0", Estimate(0.1, 0.0, 0.2), note=text),),
        measures=tuple(replace(measure, label=text) for measure in good.measures),
        stages=(Stage(text, ("arm-0",), 0, 1.0),),
        accounts=(Account(text, Funnel("build", text, 3, 1, {text: 2})), Account(text, Funnel("build", text, 3, 3))),
        sheets=(Sheet(text, text, (Measure(text, text),), (Line("arm-0", "group-0", (1.0,)),)),),
        lengths=(Lengths("arm-0", (0, 1, 2), (1, 2), (3, 4)),),
        spendings=(Spending(text, text, text, ((1.0, Estimate(0.1)), (2.0, Estimate(0.2)))),),
        effects=(Effect(text, text, text, 9, {text: (Estimate(0.1, 0.0, 0.2), Estimate(-0.1, -0.2, 0.0))}),),
        selections=(Selection(text, text, 3, 9, (Example(text, text, TRACE, True, (False, True), text, name=text),), text),),
        origins=(Origin(text, text, text, (1,), {text: text}, {text: text}),),
        intervals=text,
        notes=(text,),
        settings={text: text},
        versions={text: text},
        command=text,
    )


def unknown() -> Study:
    """A study in which nothing could be measured."""
    arms, groups = (Arm("a", "A"), Arm("b", "B")), (Group("g", "G"),)
    nan = float("nan")
    return Study(
        "Nothing known",
        "",
        arms,
        groups,
        (Cell("a", "g"), Cell("b", "g", Estimate(nan, nan, nan), tokens=nan, cut=float("inf"))),
        (Comparison("b", "a", "g"),),
        (Measure("reward", "Reward"), Measure("loss", "Loss")),
        (Training("a", 0, (1.0, 2.0), (), {"reward": (None, nan), "loss": (1e308, 0.5)}),),
        (Stage("SFT"),),
        (Account("none", Funnel("build", "traces", 0, 0)),),
        (Sheet("s", "", (Measure("m", "M"),), (Line("a", "g", (None,)), Line("b", "g", (nan,)))),),
        (Lengths("a", (0, 1), (0,), (0,)),),
        (Spending("a", "forcing", "g", ((1.0, UNKNOWN),)),),
        (Effect("a", "g", "drop", 0, {"Right": (UNKNOWN, UNKNOWN)}),),
        (
            Selection("a", "Class", 1, 0, (Example("", "", ""),)),
            Selection("b", "Class", 5, 9, (Example("?", "1", "no tags at all"),)),
            Selection("b", "None", 0, 9, ()),
        ),
    )


STUDIES: dict[str, Callable[[], Study]] = {
    "usual": study,
    "one arm, one group, one seed": lambda: study(1, 1, 1),
    "twelve arms, ten seeds": lambda: study(12, 3, 10, 30),
    "nothing but a title": lambda: Study("A title", "", (), ()),
    "nothing known": unknown,
    "hostile": lambda: hostile("".join(HOSTILE)),
}


@pytest.mark.parametrize("name", STUDIES)
def test_every_tag_is_closed_ids_are_unique_and_references_lead_somewhere(name: str) -> None:
    read = Page(page(STUDIES[name]()))
    ids = [found["id"] for _, found in read.found if "id" in found]
    assert len(ids) == len(set(ids))
    for _, found in read.found:
        named = [*found.get("aria-labelledby", "").split(), *found.get("for", "").split()]
        named += [found["href"].removeprefix("#")] if "href" in found else []
        assert set(named) <= set(ids)
    for table in re.findall(r"<table>.*?</table>", page(STUDIES[name]()), re.DOTALL):
        cells = Page(table)
        assert cells.all("caption")
        assert all("scope" in found for found in cells.all("th"))
    for drawing in read.all("svg"):
        assert drawing.get("role") == "img" or drawing.get("aria-hidden") == "true"


@pytest.mark.parametrize("text", HOSTILE)
def test_no_text_opens_or_closes_a_tag_or_hides_anything(text: str) -> None:
    # The same structure as with a harmless text of as many letters, and no character without a shape of its own.
    tags = [(tag, sorted(found)) for tag, found in Page(page(hostile(text))).found]
    assert tags == [(tag, sorted(found)) for tag, found in Page(page(hostile("x" * len(text)))).found]
    html = page(hostile(text))
    assert not re.search(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]", html)
    html.encode("utf-8")
    assert "<script" not in html
    assert "onerror" not in re.sub(r">[^<]*<", "><", html)


@pytest.mark.parametrize("text", HOSTILE)
def test_a_response_stays_within_its_place(text: str) -> None:
    response = f"<think>{text}<sample>{text}</sample>{text}</think>{text}<answer>{text}</answer>{text}"
    read = Page(page(replace(study(1, 1, 1), selections=one_class(Example("q", "a", response)))))
    assert {tag for tag, _ in read.found} <= {tag for tag, _ in Page(sample()).found}
    assert len(read.all("details")) == len(Page(page(replace(study(1, 1, 1), selections=one_class(example())))).all("details"))


@pytest.mark.parametrize("piece", ["<sample>", "<sample></sample>", "</think>", "\u202e", "&", "𝔘", "a ", "\n", "<reflect>"])
def test_a_megabyte_in_every_text_makes_a_page_of_less_than_a_megabyte(piece: str) -> None:
    text = piece * (1_000_000 // len(piece))
    html = page(replace(hostile(text), selections=one_class(Example(text, text, text))))
    assert len(html.encode()) < 1_000_000
    Page(html)


def test_many_long_responses_share_the_room_of_a_few() -> None:
    text = "\u202e" * 10_000
    html = page(replace(study(1, 1, 1), selections=one_class(*(Example(text, text, text) for _ in range(200)))))
    assert len(html.encode()) < 8_000_000


def test_a_long_response_shows_its_beginning_its_end_and_how_much_is_left_out() -> None:
    response = (
        "<think>\n<sample>\nbegin " + "x " * 50_000 + "<answer>1</answer>\n</sample>\n</think>\n\n<answer>\nend\n</answer>"
    )
    text = Page(page(replace(study(1, 1, 1), selections=one_class(Example("q", "a", response, True, (True,)))))).text
    left_out = int(re.findall(r"([\d,]+) characters are left out here", text)[0].replace(",", ""))
    assert left_out == len(response) - 6_000
    assert "begin x x" in text
    assert "✓ Attempt 1: right (goes on)" in text
    assert "end" in text.split("Final answer")[-1]


def test_more_responses_than_can_be_shown_are_counted_and_every_class_shows_its_first() -> None:
    many = tuple(Selection(f"arm {n % 2}", f"class {n}", 99, 100, tuple(example(str(i)) for i in range(20))) for n in range(40))
    assert chosen(many) == [15] * 40
    text = Page(page(replace(study(1, 1, 1), selections=many))).text
    assert "600 of 800 are shown" in text
    assert text.count("99 of 100, 99.0 % · 15 shown") == 40
    long = tuple(Selection("arm", f"class {n}", 10, 10, tuple(example("x" * 9_000) for _ in range(10))) for n in range(30))
    assert set(chosen(long)) == {3, 4}


TAGS = ["<think>", "</think>", "<sample>", "</sample>", "<reflect>", "</reflect>", "<answer>", "</answer>"]
PIECES = st.lists(st.sampled_from([*TAGS, "word", " ", "\n", "<verdict>Correct</verdict>"]), max_size=30)


@settings(max_examples=100, deadline=None)
@given(PIECES)
def test_passages_cover_every_word_of_any_response_once_and_in_order(pieces: list[str]) -> None:
    text = "".join(pieces)
    shown = [text[start:end] for _, _, start, end in passages(Example("q", "g", text))]
    assert "".join("".join(shown).split()) == "".join(text.split())


def test_passages_are_named_after_what_the_caller_found() -> None:
    example = Example("q", "g", TRACE, True, (False, True))
    named = [(class_, heading) for class_, heading, _, _ in passages(example) if heading]
    assert named == [
        ("wrong", "✗ Attempt 1: wrong"),
        ("reflection", "Reflection: says incorrect"),
        ("glue", "Joining phrase"),
        ("right", "✓ Attempt 2: right"),
        ("reflection", "Reflection: says correct"),
        ("closing", "Closing phrase"),
        ("answer", "Final answer"),
    ]
    assert [heading for _, heading, _, _ in passages(replace(example, attempts=(False,)))][7] == "Attempt 2: not checked"
    plain = Example("q", "g", "So it is <answer>4</answer>.")
    assert [heading for _, heading, _, _ in passages(plain)] == ["Text"]
    assert [heading for _, heading, _, _ in passages(replace(plain, right=False))] == ["✗ Text with its answer: wrong"]
    twice = replace(plain, right=False, response=plain.response * 2)
    assert [heading for _, heading, _, _ in passages(twice)] == ["Text"]  # nobody says which of the two


def test_what_is_not_known_is_a_dash_and_never_a_zero() -> None:
    read = Page(page(unknown()))
    assert not re.search(r"\b(None|nan|inf)\b", read.text)
    results = re.findall(r"<tbody>.*?</tbody>", page(unknown()), re.DOTALL)[0]
    assert re.findall(r"<td>(.*?)</td>", results) == ["–", "–"]
    assert not [dot for dot in read.all("circle", "dot") if dot["r"] == "4"]  # a curve of one point is a smaller one
    assert not read.all("line", "interval")
    assert "The response is empty." in read.text


def test_nothing_is_fetched_and_nothing_runs() -> None:
    html, read = sample(), Page(sample())
    assert not re.search(r"https?:|//|@import|url\(|javascript:", html)
    assert not any({"src", "srcset", "xlink:href", "action", "data"} & set(found) for _, found in read.found)
    assert not any(name.startswith("on") for _, found in read.found for name in found)
    assert not {"script", "link", "iframe", "object", "img", "form"} & {tag for tag, _ in read.found}
    policy = next(found["content"] for found in read.all("meta") if found.get("http-equiv"))
    assert policy.startswith("default-src 'none'")


def test_the_same_study_gives_the_same_bytes_in_any_process() -> None:
    code = "import sys; from studies import study; from skillfactory.report import page; "
    code += "sys.stdout.buffer.write(page(study()).encode())"
    environment = {"PYTHONHASHSEED": "7", "PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, env=environment)
    assert done.stdout == sample().encode()


def luminance(colour: str) -> float:
    """The relative luminance of #rrggbb (WCAG 2)."""
    parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    r, g, b = (part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts)
    return 0.2126 * r + 0.7152 * g + 0.0722 * b


def contrast(one: str, other: str) -> float:
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("colours", [LIGHT, DARK], ids=["light", "dark"])
def test_text_and_lines_stand_out_from_what_is_behind_them(colours: dict[str, str]) -> None:
    assert set(LIGHT) == set(DARK)
    for name in ("paper", "shade", "right", "wrong", "open", "reflection", "skill", "glue", "closing", "answer"):
        assert contrast(colours["ink"], colours[name]) >= 7, name
    assert contrast(colours["quiet"], colours["open"]) >= 4.5  # tags are quiet, and stand between passages
    for name in ("quiet", *(f"h{hue}" for hue in range(8))):
        assert contrast(colours[name], colours["paper"]) >= 4.5, name  # letters of curves are text


def test_a_study_refuses_names_that_it_does_not_have() -> None:
    arms, groups = (Arm("a", "A"),), (Group("g", "G"),)
    with pytest.raises(ValueError, match="no arm is called 'b' \\(there are a\\)"):
        Study("", "", arms, groups, (Cell("b", "g"),))
    with pytest.raises(ValueError, match="no group is called 'h'"):
        Study("", "", arms, groups, comparisons=(Comparison("a", "a", "h"),))
    with pytest.raises(ValueError, match="two arms are called 'a'"):
        Study("", "", (*arms, *arms), groups)
    with pytest.raises(ValueError, match="training of a, seed 0: 2 steps, but series of"):
        Study("", "", arms, groups, measures=(Measure("m", "M"),), trainings=(Training("a", 0, (1, 2), (), {"m": (1.0,)}),))
    assert Study("", "", arms, groups).cell("a", "g") == Cell("a", "g", UNKNOWN)


def test_many_intervals_say_how_many_would_leave_zero_out_by_chance() -> None:
    some = study()
    known = replace(some.comparisons[0], difference=Estimate(0.1, -0.1, 0.3))
    many = replace(known, difference=Estimate())  # without an interval: it can't mislead
    html = page(replace(some, comparisons=(*[known] * 60, many)))
    assert "these 60 comparisons are not corrected for their number" in html
    assert "about 3.00 of them would leave zero out by chance alone" in html
