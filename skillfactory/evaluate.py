"""Evaluation: which held-out questions are asked, how, and of which model; see `docs/evaluation.md`."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import repeat
from pathlib import Path
from typing import Any, TypeVar

from skillfactory.config import dump
from skillfactory.curate import Decoding, sources
from skillfactory.errors import ConfigError, unknown
from skillfactory.examination import Evaluated, Examination, respond, unusable
from skillfactory.flow import Flow, Sampling
from skillfactory.machines import Machines
from skillfactory.prompts import load_reflection, load_variants
from skillfactory.records import Drop, Question
from skillfactory.skills.base import resolved
from skillfactory.suites import Group, Part, groups_of, load_suite
from skillfactory.suites.questions import check_supply, held_out
from skillfactory.tasks import resolve

T = TypeVar("T")
Item = tuple[int, Question | Drop]  # the place of its group among those asked, and what is asked
SUITE = "mini"  # what is asked if nobody says so


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
    """Which words ask, and which skills are counted. By default a question's prompt stands alone, as in training."""

    variant: str = field(
        default="", metadata={"help": "ask with a prompt variant, by name: a prompted baseline", "shown": "the question alone"}
    )
    variants_file: Path | None = field(
        default=None, metadata={"help": "your own prompt variants (YAML), or brief", "shown": "the shipped ones"}
    )
    reflection_file: Path | None = field(
        default=None, metadata={"help": "retry: your own reflection prompt (YAML), or brief", "shown": "the shipped one"}
    )
    skills: tuple[str, ...] = field(
        default=(), metadata={"help": "skills of your own to count beside the shipped ones, as module:object"}
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
        metadata={"help": "the run directory; the same command goes on with it after a stop", "metavar": "RUN", "remote": True}
    )
    suite: str | None = field(
        default=None,
        metadata={
            "help": "mini, paper, math, or a YAML file with groups",
            "shown": "mini, if no task is given",
            "replaces": ("task", "option"),
        },
    )
    task: tuple[str, ...] = field(
        default=(),
        metadata={
            "metavar": "NAME[:LEVEL][@N]",
            "help": "in place of a suite: a task, or module:object, its level, and how many questions",
            "shown": "the suite's",
            "replaces": ("suite",),
        },
    )
    option: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "an option of the task; NAME.KEY=VALUE where there are several"}
    )
    groups: tuple[str, ...] = field(default=(), metadata={"help": "groups to ask, by name, e.g. countdown-4", "shown": "all"})
    questions: int | None = field(default=None, metadata={"help": "questions per group", "shown": "as the suite, or @N, says"})
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
    regrade: bool = field(
        default=False, metadata={"help": "grade the stored texts of a finished run again; no model is loaded or asked"}
    )
    decoding: Plain = field(default_factory=Plain)
    prompts: Asking = field(default_factory=Asking)
    generation: Answering = field(default_factory=Answering)
    machines: Machines = field(default_factory=Machines)

    def __post_init__(self) -> None:
        for name, low in {"questions": 1, "samples": 1, "retry": 0}.items():
            value = getattr(self, name)
            if value is not None and value < low:
                raise ConfigError(f"{name}: expected {low} or more, came {value}")
        if self.task and self.suite is not None:
            raise ConfigError(f"--task and --suite {self.suite} are given: say what to ask with one of them")
        if self.option and not self.task:
            raise ConfigError("--option is given without --task: those of a suite's tasks stand in the suite")

    @property
    def asks(self) -> str:
        """What is asked, in a word or two: the suite, or the tasks."""
        return ", ".join(self.task) or self.suite or SUITE

    def chosen(self) -> tuple[Group, ...]:
        """The groups to ask, in the order of the suite or the tasks, with what the options override."""
        suite = groups_of(self.task, self.option, self.questions) if self.task else load_suite(self.suite or SUITE)
        known = [group.name for group in suite]
        for name in self.groups:
            if name not in known:
                raise unknown(f"group of {'the suite ' if not self.task else ''}{self.asks}", name, known)
        given = {"questions": None if self.task else self.questions, "samples": self.samples, "part": self.part}
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
            skills=resolved(prompts.skills),
        )

    def settings(self, groups: Sequence[Group]) -> dict[str, Any]:
        """All that the results depend on, the words of the prompts included, as JSON-safe values."""
        how, own = self.examination(groups[0]), self.prompts.skills
        decoding = {**dump(self.decoding), "max_tokens": {group.name: group.max_tokens for group in groups}}
        return {
            "groups": {group.name: {"place": n, **dump(group)} for n, group in enumerate(groups)},
            "decoding": decoding if self.retry else {**decoding, "reflect_max_tokens": None},
            "variant": asdict(how.variant) if how.variant else None,
            "reflection": asdict(how.reflection) if how.reflection else None,
            "retry": self.retry,
            "seed": self.seed,
            "source": sources(*(name for group in groups for name in (group.task, *group.option.values())), *own),
            **({"skills": list(own)} if own else {}),
        }


def flows(config: EvaluateConfig, groups: Sequence[Group]) -> Iterator[Flow[Evaluated]]:
    """A flow for every question of the groups; see `asked`."""
    return asked(config, groups, _asked)


def asked(
    config: EvaluateConfig, groups: Sequence[Group], ask: Callable[[Question | Drop, Examination], Flow[T]]
) -> Iterator[Flow[T]]:
    """The flow that `ask` makes of every question of the groups, in the order of `items`, begun one by one."""
    hows = [config.examination(group) for group in groups]
    return (ask(item, hows[place]) for place, item in items(config, groups, hows))


def items(config: EvaluateConfig, groups: Sequence[Group], hows: Sequence[Examination]) -> Iterator[Item]:
    """Every question of the groups with the place of its group, one of each group in turn, made one by one.

    InputError at the call if a group has too few questions. In turn, so that more questions for all don't move the first ones.
    """
    for group, how in zip(groups, hows, strict=True):
        check_supply(group, how.task, config.seed)
    both = enumerate(zip(groups, hows, strict=True))
    return _in_turn([zip(repeat(place), held_out(group, how.task, config.seed)) for place, (group, how) in both])


def begun(hows: Sequence[Examination], item: Item) -> Flow[Evaluated]:
    """The flow of an item."""
    place, question = item
    return _asked(question, hows[place])


def _asked(item: Question | Drop, how: Examination) -> Flow[Evaluated]:
    return unusable(how.group, item) if isinstance(item, Drop) else respond(item, how)


def _in_turn(sources: Sequence[Iterator[T]]) -> Iterator[T]:
    """One item of each source in turn, until all are empty."""
    left = list(sources)
    while left:
        for source in list(left):
            try:
                yield next(source)
            except StopIteration:
                left.remove(source)
