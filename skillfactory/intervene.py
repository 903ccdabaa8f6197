"""A causal test of reflections: what a response does when one of them is dropped or replaced; see `docs/budget.md`."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Literal, NamedTuple

from skillfactory.deck import clean
from skillfactory.errors import ConfigError
from skillfactory.evaluate import Answering
from skillfactory.flow import Completion, Flow, Message, Request, Sampling, Start
from skillfactory.markup import final_answer, parse, verdict
from skillfactory.measure import ballot
from skillfactory.records import Check, Drop, Grade, Kind, Question, Stop, Verdict
from skillfactory.seeds import derive, rng
from skillfactory.tasks.base import Task
from skillfactory.tasks.judging import Judging

Way = Literal["drop", "blank", "flip", "swap"]
WAYS: tuple[Way, ...] = ("drop", "blank", "flip", "swap")
CONTROL = "keep"
_OPENING, _CLOSING = "<reflect>", "</reflect>"
_OPPOSITE = {Verdict.CORRECT: "Incorrect", Verdict.INCORRECT: "Correct"}


class Step(StrEnum):
    """What a response does after a reflection."""

    ATTEMPT = "attempt"  # it tries again
    ANSWER = "answer"  # it closes its thinking
    NONE = "none"  # it ends, or is cut, before either


@dataclass(frozen=True)
class InterveneConfig:
    """Options of `skillfactory intervene`. Decoding and prompts are the run's."""

    run: Path = field(metadata={"positional": True, "metavar": "RUN", "help": "a finished run of `skillfactory evaluate`"})
    output: Path = field(
        metadata={"help": "the run directory; the same command goes on with it after a stop", "metavar": "OUT"}
    )
    model: str | None = field(
        default=None, metadata={"help": "where the run's model is now; another one is refused", "shown": "as the run says"}
    )
    groups: tuple[str, ...] = field(default=(), metadata={"help": "groups of the run, by name", "shown": "all"})
    questions: int | None = field(default=None, metadata={"help": "the first so many questions of each group", "shown": "all"})
    ways: tuple[Way, ...] = field(
        default=WAYS,
        metadata={
            "help": "what to do to a reflection: drop it, blank it (its tags stay), flip its verdict, swap it for that of "
            "another question"
        },
    )
    samples: int = field(default=1, metadata={"help": "continuations of each way, and of the reflection as it was"})
    max_tokens: int | None = field(
        default=None, metadata={"help": "new tokens of a continuation", "shown": "what the kept text left"}
    )
    seed: int = field(default=0, metadata={"help": "seed of places, swaps and continuations"})
    generation: Answering = field(default_factory=Answering)

    def __post_init__(self) -> None:
        for name in ("questions", "samples", "max_tokens"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected 1 or more, came {value}")
        if not self.ways:
            raise ConfigError(f"ways: expected some of {', '.join(WAYS)}, came none")


@dataclass(frozen=True, slots=True)
class Given:
    """A response of the run, as it is stored."""

    id: str
    sample: int
    text: str
    answer: str | None
    tokens: int | None  # None where nobody counted, as in imported data


@dataclass(frozen=True, slots=True)
class Intervention:
    """How the responses of a group are tested."""

    group: str
    task: Task
    ask: Callable[[Question], tuple[Message, ...]]
    sampling: Sampling
    kept_counts: bool  # whether the kept text takes its tokens off the limit
    ways: tuple[Way, ...]
    samples: int
    seed: int
    pool: Sequence["Spare"]  # reflections to swap in


class Spare(NamedTuple):
    """A reflection of the group and the question that it is about."""

    question_id: str
    body: str


class Place(NamedTuple):
    """A reflection in a response: where its block begins and ends, and what it says."""

    start: int
    end: int
    body: str
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Continued:
    """A response continued after a reflection, as it was or not."""

    response_id: str
    question_id: str
    group: str
    sample: int
    way: str
    number: int
    verdict: Verdict  # of the reflection that the model sees
    original_verdict: Verdict
    step: Step
    original_step: Step
    text: str
    answer: str | None
    check: Check
    reason: str
    stop: Stop
    original_answer: str | None
    original_check: Check
    changed_step: bool
    changed_answer: bool
    key: str
    tokens: int
    forced: int  # of the text before, encoded once


@dataclass(frozen=True, slots=True)
class Intervened:
    """What came of a question's responses."""

    group: str
    continued: tuple[Continued, ...] = ()
    responses: int = 0
    drops: tuple[Drop, ...] = ()


def places(text: str) -> list[Place]:
    """The reflections of a response that stand between things: after an attempt, closed, with a verdict, and not at its end."""
    found: list[Place] = []
    before: Kind | None = None
    for part in parse(text).parts:
        if part.kind is Kind.REFLECTION and before is Kind.ATTEMPT:
            start, close = text.rfind(_OPENING, 0, part.start), text.find(_CLOSING, part.end)
            end = close + len(_CLOSING)
            body = text[part.start : part.end]
            said = verdict(body)
            whole = start >= 0 and close >= 0 and not text[part.end : close].strip()
            if whole and said is not Verdict.ABSENT and text[end:].strip():
                found.append(Place(start, end + text.startswith("\n", end), body, said))
        before = part.kind
    return found


def treated(text: str, place: Place, way: str, spare: Spare | None) -> tuple[str, Verdict] | None:
    """The text up to a reflection that is treated one way, and what that says then; None if it can't be treated so."""
    head, body = text[: place.start], place.body
    if way == CONTROL:
        return text[: place.end], place.verdict
    if way == "drop":
        return head, Verdict.ABSENT
    if way == "blank":
        body = ""
    elif way == "flip":
        body = _flipped(place)
    elif spare is None:
        return None
    else:
        body = spare.body
    said = verdict(body)
    if way == "flip" and said in (place.verdict, Verdict.ABSENT):
        return None
    newline = "\n" if text[: place.end].endswith("\n") else ""
    inside = f"{body}\n" if body else ""
    return f"{head}{_OPENING}\n{inside}{_CLOSING}{newline}", said


def _flipped(place: Place) -> str:
    """The reflection with its last verdict turned round and nothing else changed."""
    before, opening, rest = place.body.rpartition("<verdict>")
    _, closing, after = rest.partition("</verdict>")
    return f"{before}{opening}{_OPPOSITE[place.verdict]}{closing}{after}"


def step(text: str, attempts: int) -> Step:
    """What comes first after so many openings of attempts: one more, or the end of thinking."""
    at = -1
    for _ in range(attempts + 1):
        at = text.find("<sample>", at + 1)
        if at < 0:
            break
    end = text.find("</think>")
    if at >= 0 and (end < 0 or at < end):
        return Step.ATTEMPT
    return Step.ANSWER if end >= 0 else Step.NONE


class _Asked(NamedTuple):
    """A continuation that is asked for."""

    response: Given
    original: Verdict
    original_step: Step
    way: str
    number: int
    verdict: Verdict
    attempts: int  # that are begun before the place
    request: Request


def intervene(question: Question, given: Sequence[Given], how: Intervention) -> Flow[Intervened]:
    """The flow of one question: for each response one reflection, chosen by seed, treated all ways, and all continued."""
    judge = Judging(partial(how.task.check, question))
    wanted: list[_Asked] = []
    drops: list[Drop] = []
    for response in given:
        asked = _asked(question, response, how)
        if isinstance(asked, str):
            drops.append(Drop("intervene", response.id, asked))
        else:
            wanted += asked
    made: Sequence[Completion] = (yield [each.request for each in wanted]) if wanted else ()
    lost: dict[str, Drop] = {}
    for each, completion in zip(wanted, made, strict=True):
        id = each.response.id
        if completion.stop is Stop.ERROR:
            lost[id] = Drop("intervene", id, "engine_error", completion.error)
        elif completion.full and not completion.tokens:
            lost.setdefault(id, Drop("intervene", id, "no_room", completion.error))
    continued = tuple(
        _continued(question, how.group, each, completion, judge)
        for each, completion in zip(wanted, made, strict=True)
        if each.response.id not in lost
    )
    return Intervened(how.group, continued, len(given), (*drops, *lost.values()))


def _asked(question: Question, response: Given, how: Intervention) -> list[_Asked] | str:
    """What is asked of a response; why nothing is, if so."""
    fit = places(response.text)
    if not fit:
        return "no_reflection"
    place = rng(how.seed, response.id, "place").choice(fit)
    others = [spare for spare in how.pool if spare.question_id != question.id]
    spare = rng(how.seed, response.id, "swap").choice(others) if others else None
    before = step(response.text, response.text[: place.end].count("<sample>"))
    limit = how.sampling.max_tokens
    if how.kept_counts and response.tokens is not None:  # the same for all ways, so that they differ in nothing else
        limit = max(1, limit - round(response.tokens * place.end / len(response.text)))
    sampling = replace(how.sampling, max_tokens=limit)
    asked = []
    for way in (CONTROL, *how.ways):
        changed = treated(response.text, place, way, spare)
        if changed is None:
            return f"no_{way}"
        text, said = changed
        for number in range(how.samples):
            seed = derive(how.seed, response.id, "intervene", way, number)
            request = Request(how.ask(question), sampling, seed, Start(then=text))
            asked.append(_Asked(response, place.verdict, before, way, number, said, text.count("<sample>"), request))
    return asked


def _continued(question: Question, group: str, asked: _Asked, made: Completion, judge: Judging) -> Continued:
    response, text = asked.response, clean(made.text)
    answer, reason = final_answer(text)
    grade = Grade(Check.MISSING, reason) if answer is None else judge(answer)
    before = Check.MISSING if response.answer is None else judge(response.answer).check  # not the run's: one verifier for both
    now = step(text, asked.attempts)
    return Continued(
        response.id,
        question.id,
        group,
        response.sample,
        asked.way,
        asked.number,
        asked.verdict,
        asked.original,
        now,
        asked.original_step,
        text,
        answer,
        grade.check,
        grade.reason,
        made.stop,
        response.answer,
        before,
        now is not asked.original_step,
        _voted(answer) != _voted(response.answer),
        made.key,
        made.tokens,
        made.forced,
    )


def _voted(answer: str | None) -> str | None:
    return None if answer is None else ballot(answer)


def counted(found: Intervened) -> dict[str, int]:
    """What a question adds to the account of its run: responses/requested, responses/kept, responses/dropped/reason."""
    counts = Counter(f"responses/dropped/{drop.reason}" for drop in found.drops)
    counts["responses/requested"] = found.responses
    counts["responses/kept"] = found.responses - len(found.drops)
    return dict(counts)
