"""Reinforcement with GRPO: tasks and a model in, a model folder out. `docs/training.md` is its manual."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

from skillfactory.config import dump
from skillfactory.errors import ConfigError, InputError, require
from skillfactory.funnel import Funnel
from skillfactory.progress import Progress, Silent
from skillfactory.seeds import digest
from skillfactory.supply import Pool, gather, sources
from skillfactory.train.cards import write_card
from skillfactory.train.checkpoints import Work, claimed
from skillfactory.train.fingerprints import fingerprint, held
from skillfactory.train.questions import Asking, prompt_tokens
from skillfactory.train.rewards import Rewards
from skillfactory.train.sft import Computing, Lora


@dataclass(frozen=True)
class Rollouts:
    """How responses are drawn; the defaults are the paper's."""

    group_size: int = field(default=16, metadata={"help": "responses to a question, compared with each other"})
    prompts_per_step: int = field(default=256, metadata={"help": "questions a step"})
    max_new_tokens: int = field(default=4096, metadata={"help": "tokens of a response at most"})
    temperature: float = field(default=1.0, metadata={"help": "sampling temperature"})
    top_p: float = field(default=1.0, metadata={"help": "nucleus"})
    top_k: int = field(default=0, metadata={"help": "most likely tokens kept; 0 is off"})
    generate_batch: int = field(default=512, metadata={"help": "responses generated together, without vLLM"})
    vllm: Literal["off", "colocate", "server"] = field(
        default="off", metadata={"help": "let vLLM generate: in this process, or a server started with `trl vllm-serve`"}
    )
    vllm_url: str = field(default="http://localhost:8000", metadata={"help": "the server's address"})
    vllm_memory: float = field(default=0.3, metadata={"help": "share of the GPU's memory that a colocated vLLM takes"})

    def __post_init__(self) -> None:
        _within(
            self,
            group_size=(self.group_size >= 2, "2 or more"),
            prompts_per_step=(self.prompts_per_step >= 1, "1 or more"),
            max_new_tokens=(self.max_new_tokens >= 1, "1 or more"),
            temperature=(self.temperature > 0, "more than 0"),
            top_p=(0 < self.top_p <= 1, "more than 0 and at most 1"),
            top_k=(self.top_k >= 0, "0 (off) or more"),
            generate_batch=(self.generate_batch >= 1, "1 or more"),
            vllm_memory=(0 < self.vllm_memory < 1, "more than 0 and less than 1"),
        )


@dataclass(frozen=True)
class Reinforcement:
    """How weights change, and for how long; the defaults are the paper's, or verl's where it is silent."""

    learning_rate: float = field(default=1e-6, metadata={"help": "peak"})
    schedule: Literal["constant_with_warmup", "cosine", "linear"] = field(
        default="constant_with_warmup",
        metadata={"help": "course of the learning rate; all but the first need to know the steps"},
    )
    warmup: int = field(default=0, metadata={"help": "steps in which the learning rate rises"})
    steps: int | None = field(default=150, metadata={"help": "steps; with none, max_generated_tokens ends it"})
    max_generated_tokens: int | None = field(
        default=None,
        metadata={"help": "stop after the step that brings the tokens of all responses to so many", "shown": "no limit"},
    )
    mini_batch: int = field(default=32, metadata={"help": "questions per update of the weights"})
    iterations: int = field(default=1, metadata={"help": "passes over the responses of a step"})
    beta: float = field(default=0.0, metadata={"help": "weight of the KL term against the model at the start"})
    loss: Literal["dapo", "grpo", "dr_grpo", "bnpo", "cispo"] = field(
        default="dapo", metadata={"help": "how tokens are weighed (TRL's loss_type)"}
    )
    scale_rewards: Literal["group", "batch", "none"] = field(
        default="group", metadata={"help": "whose standard deviation divides the advantages"}
    )
    clip_low: float = field(default=0.2, metadata={"help": "how far below 1 the ratio of probabilities counts"})
    clip_high: float | None = field(default=None, metadata={"help": "how far above 1", "shown": "as far as below"})
    weight_decay: float = field(default=0.01, metadata={"help": "of AdamW"})
    betas: tuple[float, ...] = field(default=(0.9, 0.999), metadata={"help": "of AdamW"})
    max_grad_norm: float = field(default=1.0, metadata={"help": "norm to which gradients are clipped; 0 is off"})

    def __post_init__(self) -> None:
        _within(
            self,
            learning_rate=(self.learning_rate > 0, "more than 0"),
            warmup=(self.warmup >= 0, "0 or more"),
            steps=(self.steps is None or self.steps >= 1, "1 or more"),
            max_generated_tokens=(self.max_generated_tokens is None or self.max_generated_tokens >= 1, "1 or more"),
            mini_batch=(self.mini_batch >= 1, "1 or more"),
            iterations=(self.iterations >= 1, "1 or more"),
            beta=(self.beta >= 0, "0 (off) or more"),
            clip_low=(0 < self.clip_low < 1, "more than 0 and less than 1"),
            clip_high=(self.clip_high is None or self.clip_high > 0, "more than 0"),
            weight_decay=(self.weight_decay >= 0, "0 or more"),
            betas=(len(self.betas) == 2 and all(0 <= beta < 1 for beta in self.betas), "two numbers from 0 on and below 1"),
            max_grad_norm=(self.max_grad_norm >= 0, "0 (off) or more"),
        )
        if self.steps is None and self.max_generated_tokens is None:
            raise ConfigError("steps: none, and no max_generated_tokens: give one of them, or the training has no end")
        if self.steps is None and self.schedule != "constant_with_warmup":
            raise ConfigError(f"schedule: {self.schedule} ends at a known step; give steps, or use constant_with_warmup")


@dataclass(frozen=True)
class Running(Computing):
    """Where it runs, what it keeps and what it says."""

    tokens_per_pass: int = field(default=16_384, metadata={"help": "tokens, padding included, of a forward and backward pass"})
    save_steps: int = field(default=10, metadata={"help": "steps between checkpoints; the last one is kept, until the end"})
    keep_every: int | None = field(
        default=None, metadata={"help": "keep the model of every so many steps in OUTPUT/steps/STEP", "shown": "the last alone"}
    )
    sample_every: int = field(default=10, metadata={"help": "steps between samples in rollouts.jsonl"})
    samples: int = field(default=4, metadata={"help": "responses in a sample; 0 is off"})
    report_to: tuple[str, ...] = field(
        default=(), metadata={"help": "trackers that transformers knows, e.g. tensorboard, trackio, wandb"}
    )

    def __post_init__(self) -> None:
        for name in ("tokens_per_pass", "save_steps", "keep_every", "sample_every"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected 1 or more, came {value}")


@dataclass(frozen=True)
class GrpoConfig:
    """Options of `skillfactory grpo`."""

    task: tuple[str, ...] = field(
        metadata={
            "help": "a task, by name or as module:object, its level (else the first) and share of the questions (else 1)",
            "metavar": "TASK[:LEVEL][@WEIGHT]",
        }
    )
    output: Path = field(metadata={"help": "the folder of the trained model; the same command goes on with it after a stop"})
    model: str = field(
        default="mini", metadata={"help": "the model to begin with: a folder, a Hub id, or mini, the embedded one"}
    )
    option: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "an option of the task; of several tasks TASK.KEY=VALUE"}
    )
    questions: int = field(default=1000, metadata={"help": "how many distinct questions, shared out among the tasks"})
    split: Literal["rl", "sft"] = field(
        default="rl", metadata={"help": "whose questions; those of the evaluation are never used"}
    )
    seed: int = field(default=0, metadata={"help": "seed of questions, their order and responses"})
    overwrite: bool = field(default=False, metadata={"help": "start anew where another training stands"})
    asking: Asking = field(default_factory=Asking)
    rollouts: Rollouts = field(default_factory=Rollouts)
    rewards: Rewards = field(default_factory=Rewards)
    reinforcement: Reinforcement = field(default_factory=Reinforcement)
    lora: Lora = field(default_factory=Lora)
    running: Running = field(default_factory=Running)

    def __post_init__(self) -> None:
        prompts, mini = self.rollouts.prompts_per_step, self.reinforcement.mini_batch
        if not self.task:
            raise ConfigError("expected a task, e.g. --task countdown:3")
        if self.questions < 1:
            raise ConfigError(f"questions: expected 1 or more, came {self.questions}")
        if prompts % min(mini, prompts):
            raise ConfigError(f"prompts_per_step: expected a multiple of mini_batch ({mini}), came {prompts}")

    @property
    def updates(self) -> int:
        """How often the weights change in a step."""
        prompts = self.rollouts.prompts_per_step
        return prompts // min(self.reinforcement.mini_batch, prompts) * self.reinforcement.iterations

    @property
    def most_steps(self) -> int:
        """The steps, or with a limit of tokens alone as many as there could be: a response has a token at least."""
        how, responses = self.reinforcement, self.rollouts.prompts_per_step * self.rollouts.group_size
        return how.steps or math.ceil((how.max_generated_tokens or 0) / responses)


@dataclass(frozen=True, slots=True)
class GrpoSummary:
    """What a training came to."""

    output: Path
    account: Mapping[str, Any]  # the content of training.json
    nothing_to_do: bool

    @property
    def funnel(self) -> Funnel:
        """What became of the questions."""
        return Funnel(**self.account["questions"])

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        told = {name: value for name, value in self.account.items() if name not in ("questions", "settings", "files")}
        head = {"output": str(self.output), "nothing_to_do": self.nothing_to_do, "funnels": [self.funnel.to_dict()]}
        return head | told

    def __str__(self) -> str:
        """A few lines for people."""
        said = self.account
        lines = [str(self.funnel), *said["notes"]]
        lines.append(
            f"{self.output}: {said['steps']:,} steps, {said['generated_tokens']:,} generated tokens, {said['seconds']:,.1f} s; "
            f"stopped by {said['stopped_by']}; reward {said['first_reward']:.3f} → {said['last_reward']:.3f}"
        )
        return "\n".join([*lines, *(["finished before: nothing to do"] if self.nothing_to_do else [])])


def grpo(config: GrpoConfig, progress: Progress | None = None) -> GrpoSummary:
    """Trains a model on its own responses to questions into `config.output`, on from the last checkpoint if there is one.

    Errors: ConfigError for an unknown task, level or option, an output of other settings, a GPU, a tracker or vLLM that isn't
    there; InputError for a model that can't be loaded, a grader that fails, or if no question is left.
    """
    progress = progress or Silent()
    config.running.check(config.running.report_to)
    pool = gather(sources(config.task, config.option), config.questions, config.seed, config.split)
    if config.rollouts.vllm != "off":
        require("vllm", "vllm")
    with claimed(config.output, "grpo", _settings(config, pool), config.overwrite) as work:
        if work.finished is not None:
            return GrpoSummary(config.output, work.finished, nothing_to_do=True)
        require("trl", "train")
        return GrpoSummary(config.output, _train(config, pool, work, progress), nothing_to_do=False)


def _settings(config: GrpoConfig, pool: Pool) -> dict[str, Any]:
    """All options but those of the output, as JSON-safe values; the questions and the model by what they hold."""
    values = dump(config)
    for name in ("output", "overwrite"):
        del values[name]
    asked = digest(*(text for one in pool.asked for text in (one.question.id, one.question.prompt)))
    found = {"questions": asked} | held(config.model)
    if config.asking.chat_template is not None:
        found["chat_template"] = fingerprint(config.asking.chat_template)
    return values | {"held": found}


def _train(config: GrpoConfig, pool: Pool, work: Work, progress: Progress) -> dict[str, Any]:
    from skillfactory.train.grpo_run import reinforced
    from skillfactory.train.loading import load, quiet

    with quiet():
        base = load(config.model, config.asking.chat_template)
        pool = _fitting(config, pool, base)
        work.note(questions=pool.funnel.to_dict(), notes=pool.notes)
        totals = reinforced(config, base, pool.asked, work, progress)
    found = {name: round(value, 4) if isinstance(value, float) else value for name, value in totals.items()}
    tasks = ", ".join(f"`{one}`" for one in config.task)
    how = dump(config.reinforcement) | dump(config.rewards) | {"seed": config.seed, "questions": pool.funnel.kept}
    write_card(
        work.staged,
        "A model reinforced with GRPO",
        config.model,
        [f"`{config.model}`, reinforced on {tasks} (split {config.split}).", f"{pool.funnel}."],
        how | dump(config.rollouts) | (dump(config.lora) if config.lora.lora_rank else {}),
        found,
    )
    return work.finish(**found)


def _fitting(config: GrpoConfig, pool: Pool, base: Any) -> Pool:
    """The pool without the questions whose prompts are too long; InputError if none is left."""
    limit = min(config.asking.max_prompt_tokens, (base.context or math.inf) - 1)
    asked = [one for one in pool.asked if prompt_tokens(config.asking, one, base.tokenizer) <= limit]
    lost = len(pool.asked) - len(asked)
    if not asked:
        raise InputError(f"all {lost:,} prompts are longer than {limit:,} tokens; raise --max-prompt-tokens or shorten them")
    funnel = replace(pool.funnel, kept=len(asked), dropped={**pool.funnel.dropped, **({"too_long": lost} if lost else {})})
    return Pool(asked, funnel, pool.notes)


def _within(config: Any, **limits: tuple[bool, str]) -> None:
    """ConfigError for the first field whose value isn't what its limit says."""
    for name, (holds, expected) in limits.items():
        if not holds:
            raise ConfigError(f"{name}: expected {expected}, came {getattr(config, name)}")
