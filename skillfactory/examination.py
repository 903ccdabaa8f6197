"""The flow of one held-out question: its responses, graded, with the skills that they show.

Beside plain sampling there is the retry outside of the model: sample, let the same model review, stop at its first `Correct`.
"""

from collections import Counter
from collections.abc import Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import NamedTuple

from skillfactory.deck import clean
from skillfactory.flow import Completion, Flow, Message, Request, Sampling
from skillfactory.markup import final_answer, render, verdict
from skillfactory.prompts import ReflectionPrompt, Variant
from skillfactory.records import Attempt, Check, Drop, Grade, Question, Reflection, Step, Stop, Trace, Verdict
from skillfactory.seeds import derive
from skillfactory.skills import Shown, shown
from skillfactory.skills.base import Skill
from skillfactory.tasks.base import Task
from skillfactory.tasks.judging import Judging


@dataclass(frozen=True)
class Examination:
    """How the questions of one group are asked: everything that a flow needs beside the question."""

    group: str
    task: Task
    samples: int
    sampling: Sampling
    reflecting: Sampling
    seed: int = 0
    variant: Variant | None = None  # None: the question's prompt as it is
    retry: int = 0  # attempts at most that are retried outside of the model; 0: one response, no review
    reflection: ReflectionPrompt | None = None  # for these
    skills: tuple[Skill, ...] = ()  # counted beside those of SKILLS

    def attempt(self, question: Question, sample: int, number: int = 0) -> Request:
        """The request for an attempt; the first one is that of plain sampling."""
        names = (sample, "attempt", number) if number else (sample,)
        messages: tuple[Message, ...] = (("user", question.prompt),)
        if self.variant is not None:
            messages = self.variant.messages(question, self.task.answer_format)
        return Request(messages, self.sampling, derive(self.seed, question.id, "evaluate", *names))

    def review(self, question: Question, sample: int, number: int, text: str) -> Request:
        """The request to review the text of an attempt."""
        assert self.reflection is not None
        seed = derive(self.seed, question.id, "evaluate", sample, "review", number)
        return Request(self.reflection.messages(question, text), self.reflecting, seed)


@dataclass(frozen=True, slots=True)
class Response:
    """What a model said to a question, graded; with retries, all that led to it."""

    id: str
    question_id: str
    group: str
    sample: int
    text: str
    answer: str | None  # the final one
    check: Check
    reason: str
    stop: Stop | None  # None where nobody said, as in imported data; the same of the next ones
    tokens: int | None  # generated, retries and reviews included
    prompt_tokens: int | None  # as the requests counted them
    requests: int | None
    keys: tuple[str, ...]  # of the completions
    skills: Shown


@dataclass(frozen=True, slots=True)
class Evaluated:
    """What came of a question."""

    group: str
    question: Question | None  # None if the task could not give it
    responses: tuple[Response, ...] = ()
    drops: tuple[Drop, ...] = ()


def respond(question: Question, how: Examination) -> Flow[Evaluated]:
    """The flow of one question: all samples at once, of which each goes on by itself if it is to be retried."""
    talks = [_talk(question, how, sample) for sample in range(how.samples)]
    asked = {sample: next(talk) for sample, talk in enumerate(talks)}
    ended: dict[int, list[_Try]] = {}
    while asked:
        completions = yield list(asked.values())
        answered, asked = zip(asked, completions, strict=True), {}
        for sample, completion in answered:
            try:
                asked[sample] = talks[sample].send(completion)
            except StopIteration as end:
                ended[sample] = end.value
    judge = Judging(partial(how.task.check, question))
    found = [_result(question, how, sample, ended[sample], judge) for sample in range(how.samples)]
    responses = tuple(item for item in found if isinstance(item, Response))
    return Evaluated(how.group, question, responses, tuple(item for item in found if isinstance(item, Drop)))


def unusable(group: str, question: Drop) -> Flow[Evaluated]:
    """The flow of a question that the task could not give: it asks for nothing."""
    yield from ()
    return Evaluated(group, None, drops=(question,))


class _Try(NamedTuple):
    """An attempt and the review of it, None if there is none."""

    attempt: Completion
    review: Completion | None = None


def _talk(question: Question, how: Examination, sample: int) -> Generator[Request, Completion, list[_Try]]:
    """One sample: attempts with a review after each, up to the first verdict Correct.

    The last attempt gets no review, as nothing could come of it, and neither does one without an answer.
    """
    tries: list[_Try] = []
    last = max(how.retry, 1) - 1
    for number in range(last + 1):
        attempt = yield how.attempt(question, sample, number)
        tries.append(_Try(attempt))
        text = clean(attempt.text)
        if attempt.stop is Stop.ERROR or number == last:
            break
        if final_answer(text)[0] is None:
            continue
        review = yield how.review(question, sample, number, text)
        tries[-1] = _Try(attempt, review)
        if review.stop is Stop.ERROR or verdict(clean(review.text)) is Verdict.CORRECT:
            break
    return tries


def _result(question: Question, how: Examination, sample: int, tries: Sequence[_Try], judge: Judging) -> Response | Drop:
    """The graded response of a sample; a drop if the engine failed on a part of it."""
    id = f"{how.group}/{question.id}/{sample}"
    made = [completion for each in tries for completion in each if completion is not None]
    lost = next((completion for completion in made if completion.stop is Stop.ERROR), None)
    if lost is not None:
        return Drop("evaluate", id, "engine_error", lost.error)
    attempts = [_attempt(f"{id}/{number}", question, each.attempt) for number, each in enumerate(tries)]
    # The one that was found Correct is the last; where none was, the last that has an answer counts.
    final = next((attempt for attempt in reversed(attempts) if attempt.answer is not None), attempts[-1])
    grade = Grade(final.check, final.reason) if final.answer is None else judge(final.answer)
    text = _written(attempts, tries, final.answer or "") if how.retry else final.text
    skills = shown(text, lambda answer: judge.attempt(answer).check, how.skills)
    return Response(
        id=id,
        question_id=question.id,
        group=how.group,
        sample=sample,
        text=text,
        answer=final.answer,
        check=grade.check,
        reason=grade.reason,
        stop=final.stop,
        tokens=sum(completion.tokens for completion in made),
        prompt_tokens=sum(completion.prompt_tokens for completion in made),
        requests=len(made),
        keys=tuple(completion.key for completion in made),
        skills=replace(skills, uses_tags=None, well_formed=None) if how.retry else skills,
    )


def _attempt(id: str, question: Question, completion: Completion) -> Attempt:
    """The attempt in a completion; if it has an answer, that isn't graded yet."""
    text = clean(completion.text)
    answer, reason = final_answer(text)
    check = Check.MISSING if answer is None else Check.UNDECIDED
    return Attempt(id, question.id, "", 0, text, answer, check, reason, completion.stop)


def _written(attempts: Sequence[Attempt], tries: Sequence[_Try], answer: str) -> str:
    """The tries in the form of a trace, so that the same measures apply to them."""
    steps = []
    for attempt, (_, review) in zip(attempts, tries, strict=True):
        text = "" if review is None else clean(review.text)
        reflection = None if review is None else Reflection("", attempt.id, 0, text, verdict(text), review.stop)
        steps.append(Step(attempt, reflection, ""))
    return render(Trace("", "", "", "retry", tuple(steps), "", answer, 0))[0]


def account(evaluated: Evaluated) -> dict[str, int]:
    """What a question adds to the account of its run: unit/requested, unit/kept, unit/dropped/reason, and failed/group."""
    counts: Counter[str] = Counter({"questions/requested": 1, "questions/kept": int(evaluated.question is not None)})
    counts["responses/requested"] = counts["responses/kept"] = len(evaluated.responses)
    for drop in evaluated.drops:
        unit = "questions" if evaluated.question is None else "responses"
        counts[f"{unit}/dropped/{drop.reason}"] += 1
        if unit == "responses":
            counts["responses/requested"] += 1
            counts[f"failed/{evaluated.group}"] += 1
    return dict(counts)
