"""A study as one page to read offline: no script, no font, nothing fetched; the same study gives the same bytes."""

from collections.abc import Iterator, Mapping, Sequence

from skillfactory.report.courses import costs, training
from skillfactory.report.elements import Markup, element, joined, small
from skillfactory.report.numbers import Example, Study
from skillfactory.report.passages import LEGEND, response
from skillfactory.report.results import differences, results, skills
from skillfactory.report.style import sheet
from skillfactory.report.words import count, line, safe

_EXAMPLES = 60  # shown at most
_EACH, _TOGETHER = 6_000, 120_000  # characters of responses that are shown
_FACTS, _NOTES = 80, 40
# A second lock: even if some text became markup, the browser would run and fetch nothing.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def page(study: Study) -> str:
    """The whole page, as HTML. Its size is bounded whatever the texts hold: long ones are cut, with a note of it."""
    found = [(ident, title, body) for ident, title, body in _sections(study) if body is not None]
    links = (element("a", title, href=f"#{ident}") for ident, title, _ in found)
    sections = (
        element("section", element("h2", title, id=f"{ident}-heading"), body, id=ident, aria_labelledby=f"{ident}-heading")
        for ident, title, body in found
    )
    body = element("body", _opening(study), element("nav", *links, aria_label="Sections"), element("main", *sections))
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", line(study.title)),
        element("style", Markup(sheet())),
    )
    return f"<!doctype html>\n{element('html', head, body, lang='en')}\n"


def _sections(study: Study) -> Iterator[tuple[str, str, Markup | None]]:
    yield "results", "Results", results(study)
    yield "differences", "Differences", differences(study)
    yield "skills", "Skills and lengths", skills(study)
    yield "training", "Training", training(study)
    yield "costs", "Time and tokens", costs(study)
    yield "responses", "Responses", _responses(study)
    yield "making", "How it was made", _making(study)


def _opening(study: Study) -> Markup:
    paragraphs = [text for text in safe(study.about, 6_000).split("\n\n") if text.strip()]
    notes = [element("li", line(note, 1_000)) for note in study.notes[:_NOTES]]
    heading = element("p", "Before you trust the numbers:") if notes else None
    parts = [element("h1", line(study.title, 200)), *(element("p", text) for text in paragraphs)]
    return element("header", *parts, heading, element("ul", *notes) if notes else None)


def _responses(study: Study) -> Markup | None:
    """A few responses of each arm, folded; attempts, reflections and the rest told apart by colour, border and words."""
    if not study.examples:
        return None
    shown = study.examples[:_EXAMPLES]
    limit = min(_EACH, _TOGETHER // len(shown))
    keys = (element("li", words, class_=f"part {class_}") for class_, words in LEGEND)
    parts: list[Markup] = [element("ul", *keys, class_="key", aria_label="What the colours and borders mean")]
    if len(shown) < len(study.examples):
        parts.append(element("p", f"{len(shown)} of {count(len(study.examples))} are shown.", class_="cut"))
    for arm in study.arms:
        own = [example for example in shown if example.arm == arm.name]
        if own:
            parts += [element("h3", line(arm.label)), *(_example(study, example, limit) for example in own)]
    return joined(parts)


_FINDING = {True: "✓ right", False: "✗ wrong", None: "not checked"}


def _example(study: Study, example: Example, limit: int) -> Markup:
    groups = {group.name: group.label for group in study.groups}
    about = [_FINDING[example.right], line(groups.get(example.group, ""))]
    about += [f"{count(example.tokens)} tokens" if example.tokens is not None else "", "cut off" if example.cut else ""]
    about.append(f"seed {example.seed}" if example.seed is not None else "")
    summary = element("summary", f"{line(example.question, 90)} ", small(" · ".join(filter(None, about))))
    facts = _facts({"Question": safe(example.question, 1_500), "One right answer": safe(example.gold, 300)})
    return element("details", summary, facts, response(example, limit))


def _making(study: Study) -> Markup | None:
    """Settings, versions and the command."""
    seeds = {f"Seeds of {line(arm.label)}": _listed(arm.seeds) for arm in study.arms if arm.seeds}
    facts = {"Settings": {**dict(study.settings), **seeds}, "Versions": dict(study.versions)}
    parts: list[Markup] = []
    for title, entries in facts.items():
        if entries:
            parts += [element("h3", title), _facts(entries)]
    if study.command:
        parts += [element("h3", "The command that makes this again"), element("pre", safe(study.command, 4_000))]
    return joined(parts) if parts else None


def _listed(seeds: Sequence[int]) -> str:
    return line(", ".join(map(str, seeds)), 300)


def _facts(entries: Mapping[str, str]) -> Markup:
    pairs = []
    for name, value in list(entries.items())[:_FACTS]:
        pairs += [element("dt", line(name)), element("dd", safe(value, 1_500), class_="words", dir="auto")]
    return element("dl", *pairs, class_="facts")
