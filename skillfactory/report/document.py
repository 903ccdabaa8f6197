"""A study as one page to read offline: no script, no font, nothing fetched; the same study gives the same bytes."""

from collections.abc import Iterator

from skillfactory.report.accounts import accounts, making
from skillfactory.report.courses import costs, training
from skillfactory.report.effects import effects
from skillfactory.report.elements import Markup, element, joined
from skillfactory.report.lengths import lengths
from skillfactory.report.numbers import Study
from skillfactory.report.responses import responses
from skillfactory.report.results import differences, results, skills
from skillfactory.report.sheets import sheets
from skillfactory.report.spendings import spendings
from skillfactory.report.style import sheet
from skillfactory.report.words import line, safe

_NOTES = 40
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
    parts = (_opening(study), element("nav", *links, aria_label="Sections"), element("main", *sections))
    return alone(study.title, joined(parts))


def alone(title: str, body: Markup, rules: str = "") -> str:
    """A page that needs no other file, of what stands in its body; `rules` of style may follow the report's."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=_POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", line(title)),
        element("style", Markup(sheet() + rules)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', body), lang='en')}\n"


def _sections(study: Study) -> Iterator[tuple[str, str, Markup | None]]:
    yield "results", "Results", results(study)
    yield "differences", "Differences", differences(study)
    yield "spendings", "More tokens", spendings(study)
    yield "effects", "Changed reflections", effects(study)
    yield "skills", "Skills and lengths", _parts(skills(study), sheets(study), lengths(study))
    yield "training", "Training", training(study)
    yield "accounts", "Kept and dropped", accounts(study)
    yield "costs", "Time and tokens", costs(study)
    yield "responses", "Responses", responses(study.selections)
    yield "making", "How it was made", making(study)


def _parts(*parts: Markup | None) -> Markup | None:
    """What there is of a section's parts; None if there is none."""
    return joined(parts) if any(part is not None for part in parts) else None


def _opening(study: Study) -> Markup:
    paragraphs = [text for text in safe(study.about, 6_000).split("\n\n") if text.strip()]
    notes = [element("li", line(note, 1_000)) for note in study.notes[:_NOTES]]
    heading = element("p", "Before you trust the numbers:") if notes else None
    parts = [element("h1", line(study.title, 200)), *(element("p", text) for text in paragraphs)]
    return element("header", *parts, heading, element("ul", *notes) if notes else None)
