"""The section of a report with responses to be read: by whose they are and what is notable in them, folded."""

from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby, zip_longest

from skillfactory.report.elements import Markup, element, joined, small
from skillfactory.report.numbers import Example, Selection
from skillfactory.report.passages import LEGEND, response
from skillfactory.report.words import count, line, safe, share

_MOST = 600  # responses on a page
_EACH, _TOGETHER = 6_000, 600_000  # characters of responses that are shown
_ASKED, _GOLD = 1_500, 300  # characters of a question, and of its answer
_FINDING = {True: "✓ right", False: "✗ wrong", None: "not checked"}


def responses(selections: Sequence[Selection]) -> Markup | None:
    """Responses in their classes; attempts, reflections and the rest told apart by colour, border and words."""
    if not any(each.examples for each in selections):
        return None
    shown = chosen(selections)
    keys = (element("li", words, class_=f"part {class_}") for class_, words in LEGEND)
    parts: list[Markup] = [element("ul", *keys, class_="key", aria_label="What the colours and borders mean")]
    there, wanted = sum(shown), sum(len(each.examples) for each in selections)
    if there < wanted:
        told = f"{count(there)} of {count(wanted)} are shown; more would make the page too large."
        parts.append(element("p", told, class_="cut"))
    for whose, found in groupby(zip(selections, shown, strict=True), key=lambda pair: pair[0].whose):
        parts.append(element("h3", line(whose)))
        parts += [_class(selection, number) for selection, number in found if number]
    return joined(parts)


def chosen(selections: Sequence[Selection]) -> list[int]:
    """How many examples of each class fit on the page: the first of all classes first, then the second of all ….

    Each class shows one at least as long as there are no more classes than examples that a page may hold.
    """
    room, left = _TOGETHER, _MOST
    shown = [0] * len(selections)
    for rank in zip_longest(*(each.examples for each in selections)):
        for place, example in enumerate(rank):
            if example is None:
                continue
            size = min(_EACH, len(example.response)) + min(_ASKED, len(example.question))
            if left and (not shown[place] or size <= room):
                shown[place] += 1
                room, left = room - size, left - 1
    return shown


def _class(selection: Selection, number: int) -> Markup:
    part = f"{count(selection.found)} of {count(selection.total)}"
    if selection.total:
        part += f", {share(selection.found / selection.total)} %"
    words = [part] if number == selection.found else [part, f"{count(number)} shown"]
    title = element("summary", element("b", line(selection.title)), " ", small(" · ".join(words)))
    about = element("p", line(selection.about, 400), class_="quiet") if selection.about else None
    return element("details", title, about, *map(_example, selection.examples[:number]), class_="class")


def _example(example: Example) -> Markup:
    about = [_FINDING[example.right], line(example.group)]
    about += [f"{count(example.tokens)} tokens" if example.tokens is not None else "", "cut off" if example.cut else ""]
    about.append(f"seed {example.seed}" if example.seed is not None else "")
    summary = element("summary", f"{line(example.question, 90)} ", small(" · ".join(filter(None, about))))
    asked = {"Question": safe(example.question, _ASKED), "One right answer": safe(example.gold, _GOLD)}
    told = facts(asked | ({"Id": line(example.name)} if example.name else {}))
    return element("details", summary, told, response(example, _EACH))


def facts(entries: Mapping[str, str], most: int = 80) -> Markup:
    """Names and what they stand for, `most` of them at most."""
    return element("dl", *_pairs(entries, most), class_="facts")


def _pairs(entries: Mapping[str, str], most: int) -> Iterator[Markup]:
    for name, value in list(entries.items())[:most]:
        yield element("dt", line(name))
        yield element("dd", safe(value, 1_500), class_="words", dir="auto")
