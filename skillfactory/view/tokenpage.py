"""The page of `skillfactory tokens`: every token an element of its own, told apart by colour and by the line under it."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

from skillfactory.report.document import alone
from skillfactory.report.elements import Child, Markup, element, header, joined, row, table
from skillfactory.report.responses import facts
from skillfactory.report.words import count, line, share
from skillfactory.view.tokens import CONTEXT, SILENT, TRAINED, Shown, Spelt, TokensConfig

_WORDS = {
    TRAINED: "bears loss, so it is learnt",
    SILENT: "the model's own words, silenced by the mask",
    CONTEXT: "the question, the frame of the chat, what follows the end of the turn",
}
_SIGNS = (
    "↵ is a new line, · a further token of the same character; what has no line under it belongs to no token. "
    "Point at a token for its number."
)
_RULES = """
pre.tokens { line-height: 1.9; padding: .75rem 1rem; border-radius: .25rem; }
pre.tokens span { border-bottom: 2px solid transparent; padding: .1em 0; margin-right: 2px; }
pre.tokens .trained, .key .trained { background: var(--right); border-bottom: 2px solid var(--h2); }
pre.tokens .silent, .key .silent { background: var(--wrong); border-bottom: 2px dotted var(--h1); }
pre.tokens .context { color: var(--quiet); border-bottom-color: var(--rule); }
.key .context { color: var(--quiet); border-bottom: 2px solid var(--rule); }
.key li { padding: .2rem .6rem; }
pre.tokens i { font-style: normal; opacity: .45; }
h2 { overflow-wrap: anywhere; }
"""


def page(found: Sequence[Spelt], config: TokensConfig) -> str:
    """The whole page, as HTML; no script, nothing fetched, and what a model wrote opens and closes no tag."""
    about = {"Traces": str(config.directory), "Tokens of": config.model, "Mask": config.mask}
    if config.chat_template is not None:
        about["Chat template"] = str(config.chat_template)
    keys = (element("li", f"{state}: {words}", class_=state) for state, words in _WORDS.items())
    parts = [
        element("h1", "What is learnt of a trace, token by token"),
        facts(about),
        element("ul", *keys, class_="key", aria_label="What the colours and lines mean"),
        element("p", _SIGNS, class_="quiet"),
        _counts(found),
        *(_trace(place, each) for place, each in enumerate(found, 1)),
    ]
    return alone("What is learnt of a trace", joined(parts), _RULES)


def _counts(found: Sequence[Spelt]) -> Markup:
    """How many tokens each trace has in each state."""
    together = sum((each.counts for each in found), Counter[str]())
    lines = [row(element("a", line(each.id), href=f"#t{place}"), _cells(each.counts)) for place, each in enumerate(found, 1)]
    head = header(["Trace", "Tokens", "Trained", "Silent", "Context", "Trained, %"])
    foot = row("All of these", _cells(together)) if len(found) > 1 else None
    return table("counts", "Tokens by what they are to the training.", head, element("tbody", *lines), foot)


def _cells(counts: Counter[str]) -> Iterable[Child]:
    total = counts.total()
    numbers = [count(number) for number in (total, counts[TRAINED], counts[SILENT], counts[CONTEXT])]
    return (*numbers, share(counts[TRAINED] / total if total else None))


def _trace(place: int, spelt: Spelt) -> Markup:
    title = element("h2", line(spelt.id), id=f"t{place}")
    if spelt.refused:
        return joined([title, element("p", f"Left out of a training: {spelt.refused} (docs/training.md).", class_="cut")])
    return joined([title, element("pre", *_spans(spelt.tokens), class_="tokens", dir="auto")])


def _spans(tokens: Iterable[Shown]) -> Iterator[Child]:
    for token in tokens:
        if token.id is None:
            yield element("i", *_words(token.text))
        else:
            words = _words(token.text) if token.text else [element("i", "·")]
            yield element("span", *words, class_=token.state, title=f"{token.id}")


def _words(text: str) -> Iterator[Child]:
    """The text, with a sign before every new line."""
    for place, part in enumerate(text.split("\n")):
        if place:
            yield element("i", "↵")
            yield "\n"
        if part:
            yield part
