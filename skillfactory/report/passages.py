"""Responses to be read: their attempts, reflections and what joins them set apart, long ones with their middle left out."""

from collections.abc import Iterator, Sequence

from skillfactory.markup import neutral, parse, verdict
from skillfactory.records import Kind, Verdict
from skillfactory.report.elements import Markup, element, joined
from skillfactory.report.numbers import Example
from skillfactory.report.words import count
from skillfactory.skillset import SKILLS

_SKILLS = tuple(SKILLS)
_PASSED = {True: "right", False: "wrong", None: "not checked"}
_SIGN = {True: "✓ ", False: "✗ ", None: ""}
_SAYS = {
    Verdict.CORRECT: "says correct",
    Verdict.INCORRECT: "says incorrect",
    Verdict.ABSENT: "no verdict",
}
_NAMES = {Kind.GLUE: "Joining phrase", Kind.CLOSING: "Closing phrase", Kind.ANSWER: "Final answer"}
LEGEND = (
    ("right", "✓ Attempt, right"),
    ("wrong", "✗ Attempt, wrong"),
    ("open", "Attempt or text, not checked"),
    ("reflection", "Reflection, and what it says"),
    ("skill", "Block of another skill"),
    ("glue", "Joining phrase"),
    ("closing", "Closing phrase"),
    ("answer", "Final answer"),
)

Passage = tuple[str, str, int, int]  # class, heading, start, end; without a heading it is what stands between passages


def passages(example: Example) -> Iterator[Passage]:
    """The response cut into passages that cover all of it, in order; time is linear whatever the text."""
    text, at, attempts = example.response, 0, 0
    parts = parse(text, example.skills).parts
    tags = (*_SKILLS, *example.skills)
    structured = any(part.kind in (Kind.ATTEMPT, Kind.REFLECTION) for part in parts)
    for part in parts:
        yield from _between(text, at, part.start, tags)
        at = part.end
        if part.kind is Kind.ATTEMPT:
            right = example.attempts[attempts] if attempts < len(example.attempts) else None
            attempts += 1
            yield *_graded(f"Attempt {attempts}", right), part.start, part.end
        elif part.kind is Kind.REFLECTION:
            said = _SAYS[verdict(text[part.start : part.end])]
            yield "reflection", f"Reflection: {said}", part.start, part.end
        elif part.kind is Kind.SKILL:
            yield "skill", f"Skill: {part.skill}", part.start, part.end
        elif structured or part.kind is Kind.ANSWER:
            yield part.kind.value, _NAMES[part.kind], part.start, part.end
        elif example.right is not None and text.count("</answer>") == 1:  # a plain response is one attempt
            yield *_graded("Text with its answer", example.right), part.start, part.end
        else:
            yield "open", "Text", part.start, part.end
    yield from _between(text, at, len(text), tags)


def _graded(what: str, right: bool | None) -> tuple[str, str]:
    """The class and the heading of a passage that is right, wrong, or not checked."""
    return "open" if right is None else _PASSED[right], f"{_SIGN[right]}{what}: {_PASSED[right]}"


def _between(text: str, start: int, end: int, skills: tuple[str, ...]) -> Iterator[Passage]:
    """What no part holds: tags, and in a malformed response any words."""
    rest = text[start:end]
    if rest.strip():
        yield ("open", "Outside of the format", start, end) if neutral(rest, skills).strip() else ("tags", "", start, end)


def response(example: Example, limit: int) -> Markup:
    """The response in passages; of one longer than `limit` the beginning and the end, with a note of what is left out."""
    text = example.response
    if not text.strip():
        return element("p", "The response is empty.", class_="cut")
    if len(text) <= limit:
        return joined(_shown(text, passages(example), 0, len(text)))
    head, tail = limit * 2 // 3, len(text) - (limit - limit * 2 // 3)
    cut = list(passages(example))
    note = element("p", f"{count(tail - head)} characters are left out here.", class_="cut")
    return joined([*_shown(text, cut, 0, head), note, *_shown(text, cut, tail, len(text))])


def _shown(text: str, cut: Iterator[Passage] | Sequence[Passage], start: int, end: int) -> Iterator[Markup]:
    """The passages between two places of the text."""
    for class_, heading, begin, stop in cut:
        first, last = max(begin, start), min(stop, end)
        if first > last or (first == last and begin < stop):
            continue
        words = text[first:last].strip()
        if not heading:
            yield element("p", words, class_="tags")
            continue
        note = "" if begin == first else " (goes on)"
        kind = element("p", heading + note, class_="kind")
        yield element("div", kind, element("p", words or "(empty)", class_="words", dir="auto"), class_=f"part {class_}")
