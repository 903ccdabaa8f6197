"""The skill subgoals: a plan of steps before they are carried out, as the prompt variant plan_and_execute asks for it.

A plan is what follows a heading such as "Plan:" or "## My plan", up to where it is carried out ("Execute:", "Now let's carry
out the plan.", "## Solution") or to the end of its list of steps. A list at the very beginning needs no heading if it is
carried out after.
"""

import re
from collections.abc import Iterator

from skillfactory.skills.base import Skill

_LONGEST = 8000  # characters of a plan, and how far into an attempt one may begin
_MOST = 64  # plans that are counted in one text

_LEAD = r"[ \t>#*_-]{0,8}(?:\d{1,2}[.)][ \t])?"  # at the beginning of a line
_WORDS = r"(?:(?:\d{1,2}:|[\w'’-]{1,12}[,!]?)[ \t]){0,5}"  # a few, of one sentence
_HEADING = re.compile(
    rf"^{_LEAD}{_WORDS}(?:plan|sub-?goals)\b(?![ \t]*,)[^\n:.!?]{{0,30}}(?::|[.*_ \t]{{0,4}}$)",
    re.IGNORECASE | re.MULTILINE,
)
# What says that the plan is carried out from here: at the beginning of a line or of a sentence.
_EXECUTION = re.compile(
    rf"(?:^{_LEAD}|(?<=[.!?;:])[ \t][*_]{{0,3}}){_WORDS}"
    r"(?:execut(?:e|ion|ing)|carry(?:ing)?(?: (?:it|this|that|the plan|my plan))? out|solution)"
    r"(?:[ \t](?:of|the|this|that|my|it|plan|steps?|each|now|step[ -]by[ -]step)){0,5}[*_ \t]{0,4}(?:[:.]|$)",
    re.IGNORECASE | re.MULTILINE,
)
_ITEM = re.compile(
    r"[ \t>*_]{0,8}(?:\d{1,2}[.):]|[-*•+][ \t]|\(?[a-z\d]\)[ \t]|(?:step|stage|goal|sub-?goal)[ \t]\d{1,2}\b)", re.IGNORECASE
)


def find(text: str) -> tuple[int, int] | None:
    """Where the plan of an attempt stands: its first, before any answer, and with work between it and the answer."""
    start = text.rfind("</think>") + len("</think>") if "</think>" in text else 0
    answer = text.find("<answer>", start)
    stop = len(text) if answer < 0 else answer
    span = _headed(text, start, min(stop, start + _LONGEST)) or _listed(text, start, stop)
    return span if span and text[span[1] : stop].strip(" \t\n*_#") else None


def detect(text: str) -> int:
    """How many plans a text holds, `_MOST` at most; none reaches over an answer."""
    return sum(1 for _ in _plans(text))


SUBGOALS = Skill("subgoals", ("plan_and_execute",), find, detect)


def _plans(text: str) -> Iterator[tuple[int, int]]:
    at, span = 0, _listed(text, 0, _until(text, 0))
    for _ in range(_MOST):
        if span is not None:
            yield span
            at = span[1]
        heading = _heading(text, at, len(text))
        if heading is None:
            return
        at, span = heading.end(), _body(text, heading, _until(text, heading.end()))


def _until(text: str, at: int) -> int:
    """Where the next answer begins."""
    answer = text.find("<answer>", at)
    return len(text) if answer < 0 else answer


def _heading(text: str, at: int, stop: int) -> re.Match[str] | None:
    words = text[at:stop].lower()
    if "plan" not in words and "goals" not in words:
        return None  # most texts hold no such word, and this is found out thirty times as fast
    return _HEADING.search(text, at, stop)


def _headed(text: str, start: int, stop: int) -> tuple[int, int] | None:
    """The first plan under a heading."""
    at = start
    for _ in range(_MOST):
        heading = _heading(text, at, stop)
        if heading is None:
            return None
        span = _body(text, heading, _until(text, heading.end()))
        if span is not None:
            return span
        at = heading.end()
    return None


def _body(text: str, heading: re.Match[str], stop: int) -> tuple[int, int] | None:
    """The plan under a heading: up to its execution, else its list of steps."""
    stop = min(stop, heading.end() + _LONGEST)
    execution = _EXECUTION.search(text, heading.end(), stop)
    if execution is not None:
        end = execution.start()
    else:
        end, items = _list_end(text, heading.end(), stop)
        if not items:
            return None
    return (heading.start(), end) if text[heading.end() : end].strip(" \t\n*_#:") else None


def _listed(text: str, start: int, stop: int) -> tuple[int, int] | None:
    """A list of two steps or more at the very beginning that is carried out right after it."""
    stop = min(stop, start + _LONGEST)
    end, items = _list_end(text, start, stop)
    execution = _EXECUTION.match(text, end, stop) if items > 1 else None
    return (start, end) if execution else None


def _list_end(text: str, at: int, stop: int) -> tuple[int, int]:
    """Where the list that begins at `at` ends, and how many steps it has; white space behind it belongs to it."""
    items, end = 0, at
    while at < stop:
        line_end = text.find("\n", at, stop)
        line_end = stop if line_end < 0 else line_end + 1
        line = text[at:line_end]
        if not line.strip():
            pass
        elif _ITEM.match(line) and not _EXECUTION.match(line):
            items += 1
        elif not items or not line.startswith((" ", "\t")):  # indented lines go on with a step
            break
        at = end = line_end
    return end, items
