"""What a response shows of the skills: its attempts, each graded, and its reflections, each held against the truth.

`docs/evaluation.md` says what counts. Model text is hostile: reading is linear in its length, and at most MAX_ATTEMPTS answers
of it are graded.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from skillfactory.markup import final_answer, parse, verdict
from skillfactory.records import Check, Kind, Segment, Verdict
from skillfactory.skills.base import Skill
from skillfactory.skills.loops import repeated_share
from skillfactory.skills.transitions import EMPTY, LETTERS, LONGEST, RIGHT, UNDECIDED, WRONG
from skillfactory.skills.usage import Counts, used

# Python 3.11 takes its time to find a member of an enumeration, and these are looked up for every part of every response.
_ATTEMPT, _REFLECTION, _ANSWER, _GLUE = Kind.ATTEMPT, Kind.REFLECTION, Kind.ANSWER, Kind.GLUE
_CORRECT, _INCORRECT = Verdict.CORRECT, Verdict.INCORRECT
_RIGHT, _WRONG = Check.RIGHT, Check.WRONG

MAX_ATTEMPTS = 256  # no honest response has so many, and some verifiers take a hundredth of a second for each

Judge = Callable[[str], Check]  # what the task's verifier finds for an answer


@dataclass(frozen=True, slots=True)
class Shown:
    """What one response shows; None where a thing is undefined."""

    attempts: int  # with an explicit answer
    repeats: int  # attempts whose answer an earlier one gave, white space aside
    first_right: bool  # whether the first attempt is right; where there is none it is not
    any_right: bool
    after_right: float | None  # share of the text after the first right answer; None without one
    reflections: int
    true_correct: int  # reflections that say Correct of a right attempt
    false_correct: int  # that say it of a wrong one
    true_incorrect: int  # that say Incorrect of a wrong attempt
    false_incorrect: int  # that say it of a right one
    no_verdict: int  # reflections that say neither
    stopped: bool | None  # whether no attempt follows the first verdict Correct; None without one
    uses_tags: bool | None  # whether there is a <sample> block; None where the tags are not the model's
    well_formed: bool | None  # the same: whether markup.parse names no problem
    course: str  # a letter for each attempt and a sign for each reflection, see `transitions`
    looped: float  # share of the text that repeats in a loop what stands before, see `loops`
    blocks: Counts = ()  # of each skill of SKILLS, see `usage`
    untagged: Counts = ()  # the same outside of blocks


def shown(text: str, judge: Judge, own: tuple[Skill, ...] = ()) -> Shown:
    """What a response shows; `judge` is asked once for each different answer. `own`: skills to count beside those of SKILLS."""
    parsed = parse(text, tuple(skill.name for skill in own))
    graded: dict[str, str] = {}  # answer → its letter in the course
    claims: Counter[str] = Counter()  # the letter of an attempt and the sign of a reflection on it
    before = first = ""  # letters of the attempt before a reflection and of the first one with an answer; "" if there is none
    right_at: int | None = None
    stopped: bool | None = None
    attempts = reflections = answered = 0
    different: set[str] = set()
    course: list[str] = []
    for event in _events(text, parsed.parts):
        if isinstance(event, Verdict):
            reflections += 1
            sign = "+" if event is _CORRECT else "-" if event is _INCORRECT else "?"
            claims[before + sign] += 1
            course.append(sign)
            if event is _CORRECT and stopped is None:
                stopped = True
            continue
        stopped = None if stopped is None else False
        if event is None or answered == MAX_ATTEMPTS:
            attempts += event is not None
            before = EMPTY if event is None else UNDECIDED
            course.append(before)
            continue
        known = graded.get(event.answer)
        if known is None:
            check = judge(event.answer)
            known = RIGHT if check is _RIGHT else WRONG if check is _WRONG else LETTERS[check]
            graded[event.answer] = known
        before = known
        first = first or known
        course.append(known)
        attempts += 1
        answered += 1
        different.add(event.squeezed)
        if before == RIGHT and right_at is None:
            right_at = event.end
    return Shown(
        attempts=attempts,
        repeats=answered - len(different),
        first_right=first == RIGHT,
        any_right=right_at is not None,
        after_right=None if right_at is None else (len(text) - right_at) / len(text),
        reflections=reflections,
        true_correct=claims["r+"],
        false_correct=claims["w+"],
        true_incorrect=claims["w-"],
        false_incorrect=claims["r-"],
        no_verdict=sum(count for claim, count in claims.items() if claim[-1] == "?"),
        stopped=stopped,
        uses_tags=any(part.kind is _ATTEMPT for part in parsed.parts),
        well_formed=parsed.well_formed,
        course="".join(course[:LONGEST]),
        looped=repeated_share(text),
        **used(text, parsed.parts, own)._asdict(),
    )


class _Attempt(NamedTuple):
    """An attempt's answer, as it stands and without white space, and where it ends in the response."""

    answer: str
    squeezed: str
    end: int


def _events(text: str, parts: Sequence[Segment]) -> Iterator[_Attempt | Verdict | None]:
    """The attempts and verdicts of a response in order; None for a block without an answer.

    An answer outside of a block is an attempt of its own, unless it repeats the attempt before it or stands after the thinking.
    """
    last: str | None = None  # the latest attempt's answer
    for part in parts:
        kind, body = part.kind, text[part.start : part.end]
        if kind is _REFLECTION:
            yield verdict(body)
        elif kind is _ATTEMPT:
            answer, _ = final_answer(body)
            if answer is None:
                yield None
                continue
            last = _squeezed(answer)
            yield _Attempt(answer, last, part.start + body.rfind("</answer>"))
        elif kind is _ANSWER:
            if last is None and body:
                yield _Attempt(body, _squeezed(body), part.end)
        elif kind is _GLUE:
            for bare in _bare(body, part.start):
                if bare.squeezed != last:
                    last = bare.squeezed
                    yield bare


def _bare(body: str, start: int) -> Iterator[_Attempt]:
    """Every answer of a stretch outside of blocks, which begins at `start` of the response."""
    opening, closing = "<answer>", "</answer>"
    begin = body.find(opening)
    while begin >= 0:
        end = body.find(closing, begin)
        if end < 0:
            return
        answer = body[body.rfind(opening, begin, end) + len(opening) : end].strip()
        if answer:
            yield _Attempt(answer, _squeezed(answer), start + end)
        begin = body.find(opening, end)


def _squeezed(answer: str) -> str:
    return "".join(answer.split())
