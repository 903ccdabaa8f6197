"""The page of one row: all that is known of it, its text, and what it was made from or went into."""

from collections.abc import Iterator, Mapping, Sequence

from skillfactory.markup import parse
from skillfactory.records import Kind
from skillfactory.report.elements import Markup, element, joined
from skillfactory.report.numbers import Example
from skillfactory.report.passages import LEGEND, response
from skillfactory.report.words import count, line, safe
from skillfactory.view.fragments import (
    PLURAL,
    Place,
    about,
    box,
    crumbs,
    excerpt,
    facts,
    frame,
    grid,
    link,
    more,
    row_link,
    sign,
    sign_of,
    spoken,
    table_link,
)
from skillfactory.view.library import Library, Run
from skillfactory.view.lists import kept, wanted
from skillfactory.view.marks import marks
from skillfactory.view.search import page
from skillfactory.view.tables import ANSWERS, Item, Table

LONG = 30_000  # characters of a text on its page; all of it has an address of its own
_MANY = 50  # rows of a list on the page of a row
_REVIEWS = 8  # reflections that an attempt's page shows in full
SECONDS = 0.05  # for the rows beside this one, where a text was searched for


def item_page(library: Library, run: Run, item: Item, query: Mapping[str, str]) -> str:
    """The page of a row; the query is that of the list it was reached from."""
    asked = wanted(run, item.table, query)
    place = Place(run, kept(asked))
    n = item.table.base + item.number
    text = run.index.text(n)
    beside = [
        ("‹ before", page(run.index, asked, 1, before=item.number, seconds=SECONDS).items),
        ("next ›", page(run.index, asked, 1, after=item.number, seconds=SECONDS).items),
    ]
    steps = [row_link(run, found[0], label, place.query) for label, found in beside if found]
    steps.append(table_link(run, item.table, "in the list", {**place.query, "after": item.number - 1}))
    whole = link(f"the whole text, {count(len(text))} characters", f"/{run.number}/{item.table.value}/{item.number}/text")
    body = _BODIES[item.table](library, run, item, text)
    title = f"{item.table.value.capitalize()} {count(item.number)} of {run.output.label}"
    way = element("nav", *steps, whole, class_="pager", aria_label="Rows beside this one")
    return frame(title, crumbs(run, item.table, place.query), way, *body, _further(item))


Body = Iterator[Markup | None]


def _further(item: Item) -> Markup | None:
    """What else the run's table holds of a row, folded."""
    told = more(item)
    return element("details", element("summary", "Further columns"), facts(told)) if told else None


def _question(library: Library, run: Run, item: Item, text: str) -> Body:
    stored = item.more.get("facts")
    yield facts([*about(item), ("Facts", safe(str(stored), 2_000) if stored else None)])
    yield box("open", "The question, as the model is asked", text, LONG)
    for other in library.runs:
        for table in ANSWERS:
            rows = other.index.of_question(item.id, table, _MANY)
            if rows and (other.number == run.number or run.number in other.sources or other.number in run.sources):
                yield _answers(other, table, rows, f"{PLURAL[table]} in {line(other.output.label, 80)}", item.id)
    yield _sides(library, run, item.id)


def _answers(run: Run, table: Table, rows: Sequence[Item], title: str, question: str) -> Markup:
    """The rows of a table that belong to a question."""
    checks = run.index.checks(question, table)
    total = sum(checks.values())
    found = f"{count(checks['right'])} of {count(total)} right"
    shown = found if total <= len(rows) else f"{found}; the first {len(rows)} are listed"
    cells = (
        (row_link(run, row), line(row.facets["form"], 60), _check(row), excerpt(run.index.text(row.table.base + row.number)))
        for row in rows
    )
    heads = ("Row", "Layout" if table is Table.TRACE else "Variant or group", "Check", "Text")
    return joined([element("h2", title), element("p", shown, class_="quiet"), grid(title, heads, cells, (0, 1, 2, 3))])


def _check(item: Item) -> Markup:
    reason = item.facets["reason"]
    return joined([sign(item.facets["check"]), element("small", spoken(reason)) if reason else None])


def _sides(library: Library, run: Run, question: str) -> Markup | None:
    """Links to this question side by side with other runs that hold it."""
    own = _main(run)
    others = [
        other
        for other in library.runs
        if other is not run and own and _main(other) is own and other.index.checks(question, own)
    ]
    links = (
        element("li", link(line(other.output.label, 80), f"/both/{run.number}/{other.number}/question", {"id": question}))
        for other in others[:_MANY]
    )
    return joined([element("h2", "Side by side with"), element("ul", *links)]) if others else None


def _main(run: Run) -> Table | None:
    """The table of a run that answers questions."""
    return next((table for table in ANSWERS if table in run.index.counts), None)


def _attempt(library: Library, run: Run, item: Item, text: str) -> Body:
    yield facts([*about(item), *_asked(library, run, item)])
    yield box(_class(item), joined(["Attempt: ", sign(item.facets["check"])]), text, LONG)
    reviews = run.index.reflections(item.id, _MANY)
    for review in reviews[:_REVIEWS]:
        words = run.index.text(review.table.base + review.number)
        heading = joined([row_link(run, review, f"Reflection {review.number:,}"), f": says {spoken(review.facets['verdict'])}"])
        yield box("reflection", heading, words, LONG // _REVIEWS)
    if len(reviews) > _REVIEWS:
        links = (element("li", row_link(run, review)) for review in reviews[_REVIEWS:])
        yield joined([element("p", "More reflections on it:"), element("ul", *links, class_="key")])
    for other in library.made_from(run):
        yield _traces(other, item)


def _traces(run: Run, attempt: Item) -> Markup:
    """The traces that an attempt went into."""
    total = run.index.users(attempt.id)
    title = f"In {count(total)} traces of {line(run.output.label, 80)}"
    if not total:
        return element("p", f"It is in no trace of {line(run.output.label, 80)}.", class_="quiet")
    cells = (
        (row_link(run, trace), line(trace.facets["form"], 60), _check(trace)) for trace in run.index.using(attempt.id, _MANY)
    )
    note = element("p", f"The first {_MANY} are listed.", class_="quiet") if total > _MANY else None
    return joined([element("h2", title), note, grid(title, ("Trace", "Layout", "Last attempt"), cells, (0, 1, 2))])


def _reflection(library: Library, run: Run, item: Item, text: str) -> Body:
    found = library.attempt(run, item.parent)
    attempt = None if found is None else row_link(*found)
    yield facts([*about(item), ("On", attempt), *_asked(library, run, item)])
    if found is not None:
        where, row = found
        words = where.index.text(row.table.base + row.number)
        yield box(_class(row), joined([row_link(where, row, "The attempt"), ": ", sign(row.facets["check"])]), words, LONG // 2)
    yield box("reflection", f"Reflection: says {spoken(item.facets['verdict'])}", text, LONG)


def _trace(library: Library, run: Run, item: Item, text: str) -> Body:
    yield facts([*about(item), *_asked(library, run, item)])
    yield _parts(library, run, item)
    yield from _read(library, run, item, text)


def _parts(library: Library, run: Run, item: Item) -> Markup:
    """The attempts that a trace is made of, in order, each with the way to it."""
    uses, rights = item.more.get("uses", ()), item.more.get("rights", ())
    cells = []
    for number, id in enumerate(uses[:_MANY], 1):
        found = library.attempt(run, id)
        right = rights[number - 1] if number <= len(rights) else None
        cells.append((count(number), sign_of(right), line(id, 200) if found is None else row_link(*found, line(id, 200))))
    note = None
    if run.missing:
        named = ", ".join(line(name, 120) for name in run.missing[:3])
        note = element("p", f"Built from {named}: not there, or no run of curate. No way to its attempts.", class_="cut")
    title = "Made of these attempts"
    return joined([element("h2", title), note, grid(title, ("№", "Check", "Attempt"), cells, (1, 2))])


def _response(library: Library, run: Run, item: Item, text: str) -> Body:
    yield facts([*about(item), *_asked(library, run, item)])
    yield from _read(library, run, item, text)
    others = [row for row in run.index.of_question(item.question, Table.RESPONSE, _MANY + 1) if row.number != item.number]
    if others:
        yield _answers(run, Table.RESPONSE, others[:_MANY], "Other samples of this question", item.question)
    yield _sides(library, run, item.question)


def _read(library: Library, run: Run, item: Item, text: str) -> Body:
    """The text in passages, with its question before it."""
    asked = library.question(run, item.question)
    if asked is not None:
        where, question = asked
        prompt = where.index.text(question.table.base + question.number)
        yield box("open", joined(["The ", row_link(where, question, "question")]), prompt, LONG // 4)
    keys = (element("li", words, class_=f"part {class_}") for class_, words in LEGEND)
    yield element("ul", *keys, class_="key", aria_label="What the colours and borders mean")
    yield passages(library, run, item, text, LONG)


def passages(library: Library, run: Run, item: Item, text: str, limit: int) -> Markup:
    """A text cut into its passages, as reports show it, its attempts marked right or wrong."""
    skills = tuple(item.more.get("skills", ()))
    kinds = {part.kind for part in parse(text, skills).parts} if text.strip() else {Kind.ATTEMPT}
    if not kinds & {Kind.ATTEMPT, Kind.REFLECTION}:  # without blocks it is one attempt itself
        return box(_class(item), joined([f"{item.table.value.capitalize()}: ", sign(item.facets["check"])]), text, limit)
    asked = library.question(run, item.question)
    example = Example("", "", text, attempts=marks(item, text, None if asked is None else asked[1]), skills=skills)
    return response(example, limit)


def _drop(library: Library, run: Run, item: Item, text: str) -> Body:
    subject = run.index.subject(item.id)
    where: tuple[Run, Item] | None = None if subject is None else (run, subject)
    if where is None and item.question:
        where = library.question(run, item.question)
    what = None if where is None else row_link(*where)
    yield facts([*about(item), ("About", what)])
    yield box("open", "What is told of it", text, LONG)


def _asked(library: Library, run: Run, item: Item) -> list[tuple[str, str | Markup | None]]:
    """The question that a row belongs to, as a fact."""
    found = library.question(run, item.question)
    if found is None:
        return [("Question", line(item.question, 200))]
    where, question = found
    words = excerpt(where.index.text(question.table.base + question.number))
    return [("Question", joined([row_link(where, question), " ", words])), ("Right answer", safe(question.answer or "", 500))]


def _class(item: Item) -> str:
    """The kind of passage that an attempt is."""
    return {"right": "right", "wrong": "wrong", "missing": "wrong"}.get(item.facets["check"], "open")


_BODIES = {
    Table.QUESTION: _question,
    Table.ATTEMPT: _attempt,
    Table.REFLECTION: _reflection,
    Table.TRACE: _trace,
    Table.RESPONSE: _response,
    Table.DROP: _drop,
}
