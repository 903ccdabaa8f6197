"""Evaluation: a flow per held-out question, its responses graded, with the skills that they show; see `docs/evaluation.md`.

Beside plain sampling there is the retry outside of the model: sample, let the same model review, stop at its first `Correct`.
"""

from collections import Counter
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from skillfactory.config import dump
from skillfactory.curate import Decoding, sources
from skillfactory.deck import clean
from skillfactory.errors import ConfigError, unknown
from skillfactory.flow import Completion, Flow, Message, Request, Sampling
from skillfactory.markup import final_answer, render, verdict
from skillfactory.prompts import ReflectionPrompt, Variant, load_reflection, load_variants
from skillfactory.records import Attempt, Check, Drop, Grade, Question, Reflection, Step, Stop, Trace, Verdict
from skillfactory.seeds import derive
from skillfactory.skills import Shown, shown
from skillfactory.suites import Group, Part, load_suite
from skillfactory.suites.questions import check_supply, held_out
from skillfactory.tasks import resolve
from skillfactory.tasks.base import Task

T = TypeVar("T")


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
    stop: Stop
    tokens: int  # generated, retries and reviews included
    prompt_tokens: int  # as the requests counted them
    requests: int
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
    judge = cache(partial(how.task.check, question))
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


def _result(
    question: Question, how: Examination, sample: int, tries: Sequence[_Try], judge: Callable[[str], Grade]
) -> Response | Drop:
    """The graded response of a sample; a drop if the engine failed on a part of it."""
    id = f"{how.group}/{question.id}/{sample}"
    made = [completion for each in tries for completion in each if completion is not None]
    lost = next((completion for completion in made if completion.stop is Stop.ERROR), None)
    if lost is not None:
        return Drop("evaluate", id, "engine_error", lost.error)
    attempts = [_attempt(f"{id}/{number}", question, each.attempt, judge) for number, each in enumerate(tries)]
    # The one that was found Correct is the last; where none was, the last that has an answer counts.
    final = next((attempt for attempt in reversed(attempts) if attempt.answer is not None), attempts[-1])
    text = _written(attempts, tries, final.answer or "") if how.retry else final.text
    skills = shown(text, lambda answer: judge(answer).check)
    return Response(
        id=id,
        question_id=question.id,
        group=how.group,
        sample=sample,
        text=text,
        answer=final.answer,
        check=final.check,
        reason=final.reason,
        stop=final.stop,
        tokens=sum(completion.tokens for completion in made),
        prompt_tokens=sum(completion.prompt_tokens for completion in made),
        requests=len(made),
        keys=tuple(completion.key for completion in made),
        skills=replace(skills, uses_tags=None, well_formed=None) if how.retry else skills,
    )


def _attempt(id: str, question: Question, completion: Completion, judge: Callable[[str], Grade]) -> Attempt:
    text = clean(completion.text)
    answer, reason = final_answer(text)
    grade = Grade(Check.MISSING, reason) if answer is None else judge(answer)
    return Attempt(id, question.id, "", 0, text, answer, grade.check, grade.reason, completion.stop)


def _written(attempts: Sequence[Attempt], tries: Sequence[_Try], answer: str) -> str:
    """The tries in the form of a trace, so that the same measures apply to them."""
    steps = []
    for attempt, (_, review) in zip(attempts, tries, strict=True):
        text = "" if review is None else clean(review.text)
        reflection = None if review is None else Reflection("", attempt.id, 0, text, verdict(text), review.stop)
        steps.append(Step(attempt, reflection, ""))
    return render(Trace("", "", "", "retry", tuple(steps), "", answer, 0))[0]


@dataclass(frozen=True)
class Plain:
    """How responses are sampled. The default is the model's own distribution, which is what GRPO has trained.

    The paper's decoding (temperature 0.7, top_p 0.8, top_k 20, repetition penalty 1.1) makes another policy of it, and a
    penalty on repetition hinders a model that has to copy numbers.
    """

    temperature: float = field(default=1.0, metadata={"help": "sampling temperature; 0 is greedy"})
    top_p: float = field(default=1.0, metadata={"help": "nucleus; 1 is off"})
    top_k: int = field(default=0, metadata={"help": "most likely tokens kept; 0 is off"})
    repetition_penalty: float = field(default=1.0, metadata={"help": "1 is off"})
    max_tokens: int | None = field(
        default=None, metadata={"help": "new tokens of a response, of an attempt with --retry", "shown": "as the suite says"}
    )
    reflect_max_tokens: int | None = field(
        default=None, metadata={"help": "retry: new tokens of a review", "shown": "as of an attempt"}
    )

    def __post_init__(self) -> None:
        self.sampling(1 if self.max_tokens is None else self.max_tokens)

    def sampling(self, max_tokens: int, reflect: bool = False) -> Sampling:
        """The decoding parameters with a token limit, that of a review on demand; ConfigError if they make no sense."""
        how = Decoding(self.temperature, self.top_p, self.top_k, self.repetition_penalty, max_tokens, self.reflect_max_tokens)
        return how.sampling(how.reflect_max_tokens if reflect else None)


@dataclass(frozen=True)
class Asking:
    """Which words ask. By default a question's prompt stands alone, as in training."""

    variant: str = field(
        default="", metadata={"help": "ask with a prompt variant, by name: a prompted baseline", "shown": "the question alone"}
    )
    variants_file: Path | None = field(
        default=None, metadata={"help": "your own prompt variants (YAML), or brief", "shown": "the shipped ones"}
    )
    reflection_file: Path | None = field(
        default=None, metadata={"help": "retry: your own reflection prompt (YAML), or brief", "shown": "the shipped one"}
    )


@dataclass(frozen=True)
class Answering:
    """Which engine runs the model."""

    engine: str = field(default="transformers", metadata={"help": "scripted, transformers, vllm or openai"})
    engine_option: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "an option of the engine; batch_size of transformers is 128 here; repeatable"}
    )


@dataclass(frozen=True)
class EvaluateConfig:
    """Options of `skillfactory evaluate`."""

    model: str = field(
        metadata={"positional": True, "metavar": "MODEL", "help": "a folder, a Hub id, mini, or what a server calls the model"}
    )
    output: Path = field(
        metadata={"help": "the run directory; the same command goes on with it after a stop", "metavar": "RUN"}
    )
    suite: str = field(default="mini", metadata={"help": "mini, paper, or a YAML file with groups"})
    groups: tuple[str, ...] = field(default=(), metadata={"help": "groups of the suite to ask, by name", "shown": "all"})
    questions: int | None = field(default=None, metadata={"help": "questions per group", "shown": "as the suite says"})
    samples: int | None = field(default=None, metadata={"help": "responses per question", "shown": "as the suite says"})
    part: Part | None = field(
        default=None,
        metadata={"help": "of the held-out questions: dev (a quarter), test (the rest) or all", "shown": "as the suite says"},
    )
    retry: int = field(
        default=0,
        metadata={
            "help": "attempts per response at most, each reviewed in a request of its own, until one is found Correct",
            "shown": "one attempt, no review",
        },
    )
    seed: int = field(default=0, metadata={"help": "seed of questions and samples"})
    decoding: Plain = field(default_factory=Plain)
    prompts: Asking = field(default_factory=Asking)
    generation: Answering = field(default_factory=Answering)

    def __post_init__(self) -> None:
        for name, low in {"questions": 1, "samples": 1, "retry": 0}.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"{name}: expected {low} or more, came {value}")

    def chosen(self) -> tuple[Group, ...]:
        """The groups to ask, in the suite's order, with what the options override."""
        suite = load_suite(self.suite)
        known = [group.name for group in suite]
        for name in self.groups:
            if name not in known:
                raise unknown(f"group of the suite {self.suite}", name, known)
        given = {"questions": self.questions, "samples": self.samples, "part": self.part}
        given |= {"max_tokens": self.decoding.max_tokens}
        changes: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
        return tuple(replace(group, **changes) for group in suite if not self.groups or group.name in self.groups)

    def examination(self, group: Group) -> Examination:
        """What the flows of a group need, with names resolved and files read."""
        prompts, decoding = self.prompts, self.decoding
        if prompts.variants_file and not prompts.variant:
            raise ConfigError("--variants-file is given without --variant: name the prompt variant that is to ask")
        return Examination(
            group=group.name,
            task=resolve(group.task, group.option),
            samples=group.samples,
            sampling=decoding.sampling(group.max_tokens),
            reflecting=decoding.sampling(group.max_tokens, reflect=True),
            seed=self.seed,
            variant=load_variants(prompts.variants_file, [prompts.variant])[0] if prompts.variant else None,
            retry=self.retry,
            reflection=load_reflection(prompts.reflection_file) if self.retry else None,
        )

    def settings(self, groups: Sequence[Group]) -> dict[str, Any]:
        """All that the results depend on, the words of the prompts included, as JSON-safe values."""
        how = self.examination(groups[0])
        decoding = {**dump(self.decoding), "max_tokens": {group.name: group.max_tokens for group in groups}}
        return {
            "groups": {group.name: {"place": n, **dump(group)} for n, group in enumerate(groups)},
            "decoding": decoding if self.retry else {**decoding, "reflect_max_tokens": None},
            "variant": asdict(how.variant) if how.variant else None,
            "reflection": asdict(how.reflection) if how.reflection else None,
            "retry": self.retry,
            "seed": self.seed,
            "source": sources(*(name for group in groups for name in (group.task, *group.option.values()))),
        }


def flows(config: EvaluateConfig, groups: Sequence[Group]) -> Iterator[Flow[Evaluated]]:
    """A flow for every question of the groups, one of each group in turn, begun one by one.

    InputError at the call if a group has too few questions. In turn, so that more questions for all don't move the first ones.
    """
    hows = [config.examination(group) for group in groups]
    for group, how in zip(groups, hows, strict=True):
        check_supply(group, how.task, config.seed)
    return _in_turn([_begun(held_out(group, how.task, config.seed), how) for group, how in zip(groups, hows, strict=True)])


def _begun(questions: Iterable[Question | Drop], how: Examination) -> Iterator[Flow[Evaluated]]:
    for item in questions:
        yield unusable(how.group, item) if isinstance(item, Drop) else respond(item, how)


def _in_turn(sources: Sequence[Iterator[T]]) -> Iterator[T]:
    """One item of each source in turn, until all are empty."""
    left = list(sources)
    while left:
        for source in list(left):
            try:
                yield next(source)
            except StopIteration:
                left.remove(source)


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
