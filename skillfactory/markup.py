"""The tags of a trace, known here and nowhere else: reading model text, rendering traces, parsing them back.

Model text is hostile. Reading is linear in its length, and rendering neutralises every tag that it holds, save the one
`<answer>` pair of an attempt and the one `<verdict>` pair of a reflection, so that `parse(render(trace))` gives the parts back.

A skill's block stands between tags of the skill's name. Those of `SKILLS` are always read; callers name others in use.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from skillfactory.records import Block, Check, Kind, Segment, Step, Trace, Verdict
from skillfactory.skillset import SKILLS

RESERVED = ("think", "sample", "reflect", "answer", "verdict")  # tags of the format, which no skill can have
# What chat templates put between turns, such as <|im_end|>: spelled out in a text, a tokenizer would take it for the real one.
_SPECIAL = re.compile(r"<[|｜][^<>|｜\s]{1,40}[|｜]>")
_VERDICTS = {"correct": Verdict.CORRECT, "incorrect": Verdict.INCORRECT}
_ENDS = {"<verdict>Correct</verdict>": Verdict.CORRECT, "<verdict>Incorrect</verdict>": Verdict.INCORRECT}


def _last_pair(text: str, tag: str, start: int = 0) -> tuple[int, int] | None:
    """The span of what stands in the last complete `<tag>` pair at or after `start`, or None."""
    opening, closing = f"<{tag}>", f"</{tag}>"
    last = text.rfind(closing, start)
    begin = text.rfind(opening, start, last) if last >= 0 else -1
    if begin < 0:
        return None
    begin += len(opening)
    return begin, text.find(closing, begin)


def final_answer(text: str) -> tuple[str | None, str]:
    """The text of the last `<answer>` pair after the thinking, stripped, and a reason code (method section 2, Verify).

    Where there is a `</think>` only what follows the last one counts; a text that opens `<think>` and never closes it has no
    final answer. Reasons: answered, no_answer, unclosed_answer, empty_answer, unclosed_think.
    """
    start = text.rfind("</think>")
    if start < 0:
        if "<think>" in text:
            return None, "unclosed_think"
        start = 0
    span = _last_pair(text, "answer", start)
    if span is None:
        return None, "unclosed_answer" if text.find("<answer>", start) >= 0 else "no_answer"
    answer = text[span[0] : span[1]].strip()
    return (answer, "answered") if (neutral(answer).strip() if "<" in answer else answer) else (None, "empty_answer")


def verdict(text: str) -> Verdict:
    """What the last `<verdict>` pair of a reflection says (upper or lower case), ABSENT if it says neither."""
    for word, said in _ENDS.items():
        if text.endswith(word):
            return said  # the usual case
    span = _last_pair(text, "verdict")
    if span is None or span[1] - span[0] > 40:
        return Verdict.ABSENT
    return _VERDICTS.get(text[span[0] : span[1]].strip().lower(), Verdict.ABSENT)


def neutral(text: str, skills: tuple[str, ...] = ()) -> str:
    """`text` with every tag of the format and of `skills` and every chat-template token replaced by a space.

    None can be re-formed of what is left.
    """
    if "<" not in text:
        return text
    return _SPECIAL.sub(" ", _tags(skills).sub(" ", text))


@lru_cache(maxsize=64)
def _tags(skills: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile(f"</?(?:{_any((*RESERVED, *skills))})>", re.IGNORECASE)


def _any(names: Iterable[str]) -> str:
    """A pattern for any of the names."""
    return "|".join(map(re.escape, names))


def attempt_body(text: str, skills: tuple[str, ...] = ()) -> str:
    """An attempt as it stands in a trace: stripped, its last `<answer>` pair kept, all other tags neutralised."""
    if text.count("<") == 2 and 0 <= text.find("<answer>") < text.find("</answer>"):
        return text.strip()  # nothing but the one pair: the usual case
    return _keeping(text, "answer", max(0, text.rfind("</think>")), skills)


def reflection_body(text: str, skills: tuple[str, ...] = ()) -> str:
    """A reflection as it stands in a trace: stripped, its last `<verdict>` pair kept, all other tags neutralised."""
    if text.count("<") == 2 and 0 <= text.find("<verdict>") < text.find("</verdict>"):
        return text.strip()
    return _keeping(text, "verdict", 0, skills)


def block_body(block: Block, skills: tuple[str, ...] = ()) -> str:
    """A skill's block as it stands in a trace: stripped, all tags neutralised, those of the skill too."""
    return neutral(block.text, (block.skill, *skills)).strip()


def _keeping(text: str, tag: str, start: int, skills: tuple[str, ...]) -> str:
    span = _last_pair(text, tag, start)
    if span is None:
        return neutral(text, skills).strip()
    begin, end = span
    before, after = text[: begin - len(tag) - 2], text[end + len(tag) + 3 :]
    return f"{neutral(before, skills)}<{tag}>{neutral(text[begin:end], skills)}</{tag}>{neutral(after, skills)}".strip()


def render(trace: Trace) -> tuple[str, list[Segment]]:
    """The assistant turn of a trace and its segments in order (method section 2, Format)."""
    parts: list[str] = []
    segments: list[Segment] = []
    at = 0
    before = "<think>\n" + _opening(trace.steps[0] if trace.steps else None)
    for kind, attempt_id, right, skill, body, tag in _stretches(trace):
        start = at + len(before)
        at = start + len(body)
        segments.append(Segment(kind, start, at, attempt_id, right, skill))
        parts += (before, body)
        before = tag
    parts.append(before)
    return "".join(parts), segments


# kind, attempt id, right, skill, text, the tags up to the next stretch
_Stretch = tuple[Kind, str | None, bool | None, str | None, str, str]


def _stretches(trace: Trace) -> Iterator[_Stretch]:
    skills = in_use(trace.steps)
    for number, step in enumerate(trace.steps, 1):
        attempt = step.attempt
        right = attempt.check is Check.RIGHT
        following = _opening(trace.steps[number]) if number < len(trace.steps) else "</think>\n\n"
        onward = "" if step.glue else following
        for place, block in enumerate(step.blocks, 1):
            after = f"<{step.blocks[place].skill}>\n" if place < len(step.blocks) else "<sample>\n"
            closed = f"\n</{block.skill}>\n{after}"
            yield Kind.SKILL, attempt.id, right, block.skill, block_body(block, skills), closed
        closed = "\n</sample>\n" + ("<reflect>\n" if step.reflection else onward)
        yield Kind.ATTEMPT, attempt.id, right, None, attempt_body(attempt.text, skills), closed
        if step.reflection:
            body = reflection_body(step.reflection.text, skills)
            yield Kind.REFLECTION, attempt.id, right, None, body, "\n</reflect>\n" + onward
        if step.glue:
            yield Kind.GLUE, None, None, None, step.glue, "\n" + following
    yield Kind.CLOSING, None, None, None, trace.closing, "\n\n<answer>\n"
    yield Kind.ANSWER, None, None, None, neutral(trace.answer, skills).strip(), "\n</answer>"


def _opening(step: Step | None) -> str:
    """The tag that opens a step."""
    return f"<{step.blocks[0].skill}>\n" if step is not None and step.blocks else "<sample>\n"


def in_use(steps: Iterable[Step]) -> tuple[str, ...]:
    """The skills whose tags no text of a trace may hold: none if it shows no skill, so that it is as it was without them."""
    own = {block.skill for step in steps for block in step.blocks}
    return tuple(sorted(own.union(SKILLS))) if own else ()


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a response holds: its parts in order, and what is wrong with its structure (empty if it is well-formed)."""

    parts: tuple[Segment, ...]
    problems: tuple[str, ...]

    @property
    def well_formed(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class _Grammar:
    """The tags to look for."""

    opening: re.Pattern[str]  # of a block; a tag of thinking, which holds nothing by itself, has no group
    stray: re.Pattern[str]  # what may not stand outside of blocks and the answer
    ends: dict[str, re.Pattern[str]]  # skill → what ends its block: its closing tag, or the next attempt or reflection


@lru_cache(maxsize=64)
def _grammar(own: tuple[str, ...]) -> _Grammar:
    skills = tuple(dict.fromkeys((*SKILLS, *own)))
    return _Grammar(
        re.compile(f"<({_any((*_BLOCKS, *skills))})>|</?think>"),
        re.compile(f"</?(?:{_any((*_BLOCKS, *skills))})>"),
        {skill: re.compile(f"</{re.escape(skill)}>|<(?:{_any(_BLOCKS)})>") for skill in skills},
    )


_BLOCKS = {"sample": Kind.ATTEMPT, "reflect": Kind.REFLECTION}
_GLUE, _CLOSING = Kind.GLUE, Kind.CLOSING  # may be absent; Python 3.11 takes its time to find a member of an enumeration
_STRAY = re.compile(r"</?(?:sample|reflect)>")  # of what may hold tags of skills, as any other words


def parse(text: str, own: tuple[str, ...] = ()) -> Parsed:
    """The parts of a response in the trace format, tolerant of any text: problems are named, never raised; time is linear.

    `own`: skills in use beside those of `SKILLS`. All up to the last `</think>` is thinking, as for `final_answer`, so that no
    attempt is lost where a model thinks twice or late. A skill's block that isn't closed ends where the next attempt or
    reflection begins. Problems: no_think, late_think, second_think, unclosed_think, unclosed_sample, unclosed_reflect,
    unclosed_SKILL, stray_tag, no_answer, second_answer.
    """
    reading = _Reading(text, _grammar(own))
    start = text.find("<think>")
    if start != 0:
        reading.problems.append("no_think" if start < 0 else "late_think")
    begun = start + len("<think>") if start >= 0 else 0
    end = text.rfind("</think>")
    if end < 0:
        reading.problems.append("unclosed_think")
    if text.find("<think>", begun) >= 0 or text.find("</think>") != end:
        reading.problems.append("second_think")
    inside, at = end if end >= 0 else len(text), 0 if start > 0 else begun
    while at < inside:
        at = reading.block(at, inside)
    if end >= 0:
        reading.ending(end + len("</think>"))
    return Parsed(tuple(reading.parts), tuple(reading.problems))


class _Reading:
    """A text being read: what was found so far."""

    __slots__ = ("grammar", "parts", "problems", "text")

    def __init__(self, text: str, grammar: _Grammar) -> None:
        self.text, self.grammar = text, grammar
        self.parts: list[Segment] = []
        self.problems: list[str] = []

    def block(self, at: int, inside: int) -> int:
        """Reads what stands before the next block, and that block; gives back where it ends."""
        found = self.grammar.opening.search(self.text, at, inside)
        begin = found.start() if found else inside
        if begin > at and not self.text[at:begin].isspace():
            self._part(at, begin, _GLUE)
        if not found:
            return inside
        tag, start = found.group(1), found.end()
        if tag is None:
            return start
        if tag in self.grammar.ends:
            return self._skill(tag, start, inside)
        close = self.text.find(f"</{tag}>", start, inside)
        if close < 0:
            self.problems.append(f"unclosed_{tag}")
        self._part(start, inside if close < 0 else close, _BLOCKS[tag])
        return inside if close < 0 else close + len(tag) + 3

    def _skill(self, tag: str, start: int, inside: int) -> int:
        """Reads a skill's block, which begins at `start`; gives back where it ends."""
        end = self.grammar.ends[tag].search(self.text, start, inside)
        closed = end is not None and end[0].startswith("</")
        if not closed:
            self.problems.append(f"unclosed_{tag}")
        self._part(start, end.start() if end else inside, Kind.SKILL, tag)
        return inside if end is None else end.end() if closed else end.start()

    def ending(self, at: int) -> None:
        """Reads the closing phrase and the final answer."""
        text = self.text
        span = _last_pair(text, "answer", at)
        if span is None:
            self.problems.append("no_answer")
            self._part(at, len(text), Kind.CLOSING)
            return
        begin, end = span
        if text.count("<answer>", at) > 1:
            self.problems.append("second_answer")
        self._part(at, begin - len("<answer>"), Kind.CLOSING)
        self._part(begin, end, Kind.ANSWER)

    def _part(self, start: int, end: int, kind: Kind, skill: str | None = None) -> None:
        """Notes the stretch without the white space around it; glue and closing phrases may be absent."""
        body = self.text[start:end].lstrip()
        optional = kind is _GLUE or kind is _CLOSING
        if not body and optional:
            return
        start = end - len(body)
        end = start + len(body.rstrip())
        if "<" in body and (self.grammar.stray if optional else _STRAY).search(self.text, start, end):
            self.problems.append("stray_tag")
        self.parts.append(Segment(kind, start, end, None, None, skill))
