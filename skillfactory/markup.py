"""The tags of a trace, known here and nowhere else: reading model text, rendering traces, parsing them back.

Model text is hostile. Reading is linear in its length, and rendering neutralises every tag that it holds, save the one
`<answer>` pair of an attempt and the one `<verdict>` pair of a reflection, so that `parse(render(trace))` gives the parts back.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from skillfactory.records import Check, Kind, Segment, Trace, Verdict

_TAG = re.compile(r"</?(?:think|sample|reflect|answer|verdict)>", re.IGNORECASE)
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
    return (answer, "answered") if neutral(answer).strip() else (None, "empty_answer")


def verdict(text: str) -> Verdict:
    """What the last `<verdict>` pair of a reflection says (upper or lower case), ABSENT if it says neither."""
    for word, said in _ENDS.items():
        if text.endswith(word):
            return said  # the usual case
    span = _last_pair(text, "verdict")
    if span is None or span[1] - span[0] > 40:
        return Verdict.ABSENT
    return _VERDICTS.get(text[span[0] : span[1]].strip().lower(), Verdict.ABSENT)


def neutral(text: str) -> str:
    """`text` with every tag of ours and every chat-template token replaced by a space, so that none can be re-formed."""
    if "<" not in text:
        return text
    return _SPECIAL.sub(" ", _TAG.sub(" ", text))


def attempt_body(text: str) -> str:
    """An attempt as it stands in a trace: stripped, its last `<answer>` pair kept, all other tags neutralised."""
    if text.count("<") == 2 and 0 <= text.find("<answer>") < text.find("</answer>"):
        return text.strip()  # nothing but the one pair: the usual case
    return _keeping(text, "answer", max(0, text.rfind("</think>")))


def reflection_body(text: str) -> str:
    """A reflection as it stands in a trace: stripped, its last `<verdict>` pair kept, all other tags neutralised."""
    if text.count("<") == 2 and 0 <= text.find("<verdict>") < text.find("</verdict>"):
        return text.strip()
    return _keeping(text, "verdict", 0)


def _keeping(text: str, tag: str, start: int) -> str:
    span = _last_pair(text, tag, start)
    if span is None:
        return neutral(text).strip()
    begin, end = span
    before, after = text[: begin - len(tag) - 2], text[end + len(tag) + 3 :]
    return f"{neutral(before)}<{tag}>{neutral(text[begin:end])}</{tag}>{neutral(after)}".strip()


def render(trace: Trace) -> tuple[str, list[Segment]]:
    """The assistant turn of a trace and its segments in order (method section 2, Format)."""
    parts: list[str] = []
    segments: list[Segment] = []
    at = 0
    before = "<think>\n<sample>\n"
    for kind, attempt_id, right, body, tag in _stretches(trace):
        start = at + len(before)
        at = start + len(body)
        segments.append(Segment(kind, start, at, attempt_id, right))
        parts += (before, body)
        before = tag
    parts.append(before)
    return "".join(parts), segments


_Stretch = tuple[Kind, str | None, bool | None, str, str]  # kind, attempt id, right, text, the tags up to the next stretch


def _stretches(trace: Trace) -> Iterator[_Stretch]:
    for number, step in enumerate(trace.steps, 1):
        attempt = step.attempt
        right = attempt.check is Check.RIGHT
        onward = "<sample>\n" if number < len(trace.steps) else "</think>\n\n"
        if step.glue:
            onward = ""
        closed = "\n</sample>\n" + ("<reflect>\n" if step.reflection else onward)
        yield Kind.ATTEMPT, attempt.id, right, attempt_body(attempt.text), closed
        if step.reflection:
            yield Kind.REFLECTION, attempt.id, right, reflection_body(step.reflection.text), "\n</reflect>\n" + onward
        if step.glue:
            yield Kind.GLUE, None, None, step.glue, "\n<sample>\n"
    yield Kind.CLOSING, None, None, trace.closing, "\n\n<answer>\n"
    yield Kind.ANSWER, None, None, neutral(trace.answer).strip(), "\n</answer>"


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a response holds: its parts in order, and what is wrong with its structure (empty if it is well-formed)."""

    parts: tuple[Segment, ...]
    problems: tuple[str, ...]

    @property
    def well_formed(self) -> bool:
        return not self.problems


_BLOCKS = {"sample": Kind.ATTEMPT, "reflect": Kind.REFLECTION}


def parse(text: str) -> Parsed:
    """The parts of a response in the trace format, tolerant of any text: problems are named, never raised; time is linear.

    Problems: no_think, late_think, unclosed_think, unclosed_sample, unclosed_reflect, stray_tag, no_answer, second_answer.
    """
    parts: list[Segment] = []
    problems: list[str] = []
    start = text.find("<think>")
    if start != 0:
        problems.append("no_think" if start < 0 else "late_think")
    at = start + len("<think>") if start >= 0 else 0
    end = text.find("</think>", at)
    if end < 0:
        problems.append("unclosed_think")
    inside = end if end >= 0 else len(text)
    while at < inside:
        at = _block(text, at, inside, parts, problems)
    if end >= 0:
        _ending(text, end + len("</think>"), parts, problems)
    return Parsed(tuple(parts), tuple(problems))


_OPENING = re.compile(r"<(sample|reflect)>")
_STRAY = re.compile(r"</?(?:think|sample|reflect)>")


def _block(text: str, at: int, inside: int, parts: list[Segment], problems: list[str]) -> int:
    """Reads what stands before the next block, and that block; gives back where it ends."""
    found = _OPENING.search(text, at, inside)
    begin = found.start() if found else inside
    _part(text, at, begin, Kind.GLUE, parts, problems)
    if not found:
        return inside
    tag = found.group(1)
    close = text.find(f"</{tag}>", found.end(), inside)
    if close < 0:
        problems.append(f"unclosed_{tag}")
        close, after = inside, inside
    else:
        after = close + len(tag) + 3
    _part(text, found.end(), close, _BLOCKS[tag], parts, problems)
    return after


def _ending(text: str, at: int, parts: list[Segment], problems: list[str]) -> None:
    """Reads the closing phrase and the final answer."""
    span = _last_pair(text, "answer", at)
    if span is None:
        problems.append("no_answer")
        _part(text, at, len(text), Kind.CLOSING, parts, problems)
        return
    begin, end = span
    if text.count("<answer>", at) > 1:
        problems.append("second_answer")
    _part(text, at, begin - len("<answer>"), Kind.CLOSING, parts, problems)
    _part(text, begin, end, Kind.ANSWER, parts, problems)


def _part(text: str, start: int, end: int, kind: Kind, parts: list[Segment], problems: list[str]) -> None:
    """Notes the stretch without the white space around it; glue and closing phrases may be absent."""
    body = text[start:end]
    start += len(body) - len(body.lstrip())
    end = start + len(body.strip())
    if end <= start and kind in (Kind.GLUE, Kind.CLOSING):
        return
    if _STRAY.search(text, start, end):
        problems.append("stray_tag")
    parts.append(Segment(kind, start, end))
