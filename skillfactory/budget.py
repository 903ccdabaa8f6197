"""Budget forcing: which model is asked what, and how far its responses are made to go on; see `docs/budget.md`."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError
from skillfactory.evaluate import Answering, Asking, EvaluateConfig, Plain, asked
from skillfactory.examination import Evaluated, Examination, account
from skillfactory.flow import Flow
from skillfactory.forcing import Forced, Forcing, force
from skillfactory.records import Drop, Question
from skillfactory.suites import Group, Part


@dataclass(frozen=True)
class Chance:
    """How tokens are drawn; the default is the model's own distribution."""

    temperature: float = field(default=1.0, metadata={"help": "sampling temperature; 0 is greedy"})
    top_p: float = field(default=1.0, metadata={"help": "nucleus; 1 is off"})
    top_k: int = field(default=0, metadata={"help": "most likely tokens kept; 0 is off"})
    repetition_penalty: float = field(default=1.0, metadata={"help": "1 is off"})


@dataclass(frozen=True)
class Words:
    """Which words ask. By default a question's prompt stands alone, as in training."""

    variant: str = field(default="", metadata={"help": "ask with a prompt variant, by name", "shown": "the question alone"})
    variants_file: Path | None = field(
        default=None, metadata={"help": "your own prompt variants (YAML), or brief", "shown": "the shipped ones"}
    )


@dataclass(frozen=True)
class BudgetConfig:
    """Options of `skillfactory budget`."""

    model: str = field(
        metadata={"positional": True, "metavar": "MODEL", "help": "a folder, a Hub id, mini, or what a server calls the model"}
    )
    output: Path = field(
        metadata={"help": "the run directory; the same command goes on with it after a stop", "metavar": "RUN"}
    )
    suite: str | None = field(
        default=None, metadata={"help": "mini, paper, math, or a YAML file with groups", "shown": "mini, if no task is given"}
    )
    task: tuple[str, ...] = field(
        default=(), metadata={"metavar": "NAME[:LEVEL][@N]", "help": "in place of a suite: a task", "shown": "the suite's"}
    )
    option: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "an option of the task; NAME.KEY=VALUE where there are several"}
    )
    groups: tuple[str, ...] = field(default=(), metadata={"help": "groups to ask, by name, e.g. countdown-4", "shown": "all"})
    questions: int | None = field(default=None, metadata={"help": "questions per group", "shown": "as the suite says"})
    samples: int | None = field(default=None, metadata={"help": "responses per question", "shown": "as the suite says"})
    part: Part | None = field(
        default=None, metadata={"help": "of the held-out questions: dev, test or all", "shown": "as the suite says"}
    )
    seed: int = field(default=0, metadata={"help": "seed of questions and samples"})
    forcing: Forcing = field(default_factory=Forcing)
    decoding: Chance = field(default_factory=Chance)
    prompts: Words = field(default_factory=Words)
    generation: Answering = field(default_factory=Answering)

    def __post_init__(self) -> None:
        if self.forcing.vote and self.decoding.temperature == 0:
            raise ConfigError("with temperature 0 independent samples are all the same text: give --no-vote")
        self.evaluation()

    def evaluation(self) -> EvaluateConfig:
        """The evaluation whose responses are the first round's."""
        same = ("model", "output", "suite", "task", "option", "groups", "questions", "samples", "part", "seed", "generation")
        how = Plain(**asdict(self.decoding), max_tokens=self.forcing.budgets[0])
        prompts = Asking(self.prompts.variant, self.prompts.variants_file)
        return EvaluateConfig(**{name: getattr(self, name) for name in same}, decoding=how, prompts=prompts)

    def settings(self, groups: Sequence[Group]) -> dict[str, Any]:
        """All that the results depend on, as JSON-safe values."""
        forcing = asdict(self.forcing) | {"budgets": list(self.forcing.budgets), "trigger": self.forcing.words}
        return {**self.evaluation().settings(groups), "forcing": forcing}


def flows(config: BudgetConfig, groups: Sequence[Group]) -> Iterator[Flow[Forced]]:
    """A flow for every question of the groups."""
    return asked(config.evaluation(), groups, partial(_asked, config.forcing))


def _asked(forcing: Forcing, item: Question | Drop, how: Examination) -> Flow[Forced]:
    if isinstance(item, Drop):
        return Forced(how.group, None, drops=(item,))
    return (yield from force(item, how, forcing))


def counted(forced: Forced) -> dict[str, int]:
    """What a question adds to the account of its run."""
    counts = account(Evaluated(forced.group, forced.question, drops=forced.drops))
    for name in ("responses/requested", "responses/kept"):
        counts[name] += len(forced.responses)
    return counts
