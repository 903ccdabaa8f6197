"""Supervised fine-tuning on silver traces: a configuration in, a model folder out. `docs/training.md` is its manual."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skillfactory.config import dump
from skillfactory.errors import ConfigError, InputError, require
from skillfactory.funnel import Funnel
from skillfactory.masks import Mask
from skillfactory.progress import Progress, Silent
from skillfactory.train.cards import write_card
from skillfactory.train.checkpoints import Work, claimed
from skillfactory.train.examples import Replay
from skillfactory.train.fingerprints import fingerprint, held


@dataclass(frozen=True)
class Optimisation:
    """How weights change; the defaults are the paper's (method section 3)."""

    learning_rate: float = field(default=1e-6, metadata={"help": "peak"})
    schedule: Literal["cosine", "linear", "constant_with_warmup"] = field(
        default="cosine", metadata={"help": "course of the learning rate after the warm-up"}
    )
    warmup: float = field(default=0.05, metadata={"help": "share of the steps in which the learning rate rises"})
    epochs: float = field(default=2.0, metadata={"help": "passes over the rows; 1.25 is one and a random quarter"})
    max_steps: int | None = field(default=None, metadata={"help": "stop after so many steps", "shown": "the epochs"})
    batch_size: int = field(default=1, metadata={"help": "rows a forward pass, of like length"})
    accumulate: int = field(default=1, metadata={"help": "forward passes a step"})
    weight_decay: float = field(default=1e-4, metadata={"help": "of AdamW (betas 0.9 and 0.95)"})
    clip: float = field(default=1.0, metadata={"help": "norm to which gradients are clipped; 0 is off"})

    def __post_init__(self) -> None:
        limits = {
            "learning_rate": (self.learning_rate > 0, "more than 0"),
            "warmup": (0 <= self.warmup < 1, "0 or more and less than 1"),
            "epochs": (self.epochs > 0, "more than 0"),
            "max_steps": (self.max_steps is None or self.max_steps >= 1, "1 or more"),
            "batch_size": (self.batch_size >= 1, "1 or more"),
            "accumulate": (self.accumulate >= 1, "1 or more"),
            "weight_decay": (self.weight_decay >= 0, "0 or more"),
            "clip": (self.clip >= 0, "0 (off) or more"),
        }
        for name, (holds, expected) in limits.items():
            if not holds:
                raise ConfigError(f"{name}: expected {expected}, came {getattr(self, name)}")


@dataclass(frozen=True)
class Lora:
    """Low-rank adapters in place of full fine-tuning."""

    lora_rank: int = field(default=0, metadata={"help": "rank of the adapters; 0 trains all weights"})
    lora_alpha: int | None = field(default=None, metadata={"help": "scale of the adapters", "shown": "twice the rank"})
    lora_dropout: float = field(default=0.0, metadata={"help": "dropout before the adapters"})
    lora_modules: tuple[str, ...] = field(
        default=(), metadata={"help": "names of the layers that get adapters", "shown": "all linear ones but the head"}
    )

    def __post_init__(self) -> None:
        if self.lora_rank < 0:
            raise ConfigError(f"lora_rank: expected 0 (off) or more, came {self.lora_rank}")
        if self.lora_alpha is not None and self.lora_alpha <= 0:
            raise ConfigError(f"lora_alpha: expected more than 0, came {self.lora_alpha}")
        if not 0 <= self.lora_dropout < 1:
            raise ConfigError(f"lora_dropout: expected 0 or more and less than 1, came {self.lora_dropout}")


@dataclass(frozen=True)
class Computing:
    """On what it computes, and how precisely."""

    device: Literal["auto", "cpu", "cuda"] = field(default="auto", metadata={"help": "auto is a GPU if there is one"})
    precision: Literal["auto", "bfloat16", "float32"] = field(
        default="auto",
        metadata={"help": "of the computation (weights stay float32); auto is bfloat16 on a GPU, float32 on a CPU"},
    )
    gradient_checkpointing: Literal["auto", "on", "off"] = field(
        default="auto", metadata={"help": "trade time for memory; auto is on on a GPU"}
    )

    def check(self, trackers: Sequence[str]) -> None:
        """ConfigError if a GPU that is asked for, or one of the trackers, isn't there; loads torch only to look for them."""
        if self.device == "cuda" or trackers:
            require("trl", "train")
            from skillfactory.train.outfit import check

            check(self, trackers)


@dataclass(frozen=True)
class Running(Computing):
    """Where it runs and what it says; none of this changes what is learnt, but for the precision."""

    save_steps: int = field(default=500, metadata={"help": "steps between checkpoints; the last one is kept, until the end"})
    log_steps: int = field(default=10, metadata={"help": "steps between lines of metrics.jsonl"})
    report_to: tuple[str, ...] = field(
        default=(), metadata={"help": "trackers that transformers knows, e.g. tensorboard, trackio, wandb"}
    )

    def __post_init__(self) -> None:
        for name in ("save_steps", "log_steps"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected 1 or more, came {getattr(self, name)}")


@dataclass(frozen=True)
class SftConfig:
    """Options of `skillfactory sft`."""

    inputs: tuple[Path, ...] = field(
        metadata={
            "positional": True,
            "metavar": "DIR",
            "help": "traces of `build`, or runs of `curate` for their right attempts",
        }
    )
    output: Path = field(metadata={"help": "the folder of the trained model; the same command goes on with it after a stop"})
    model: str = field(
        default="mini", metadata={"help": "the model to begin with: a folder, a Hub id, or mini, the embedded one"}
    )
    per_question: int = field(default=4, metadata={"help": "of runs: distinct right attempts a question at most"})
    mask: Mask = field(default="none", metadata={"help": "attempts of traces that bear no loss"})
    replay: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "raw texts against forgetting: Parquet or JSONL with prompt and completion, SHARE of them per other row",
            "metavar": "FILE@SHARE",
        },
    )
    max_length: int = field(
        default=4096, metadata={"help": "longer rows, in tokens, are left out; so are those over the context"}
    )
    chat_template: Path | None = field(
        default=None, metadata={"help": "a Jinja file in place of the tokenizer's template", "shown": "the tokenizer's"}
    )
    seed: int = field(default=0, metadata={"help": "seed of draws, order and adapters"})
    overwrite: bool = field(default=False, metadata={"help": "start anew where another training stands"})
    optimisation: Optimisation = field(default_factory=Optimisation)
    lora: Lora = field(default_factory=Lora)
    running: Running = field(default_factory=Running)

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ConfigError("expected an input: a folder of traces or a run directory of `curate`")
        for name in ("per_question", "max_length"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name}: expected 1 or more, came {getattr(self, name)}")
        for text in self.replay:
            Replay.read(text)


@dataclass(frozen=True, slots=True)
class SftSummary:
    """What a training came to."""

    output: Path
    account: Mapping[str, Any]  # the content of training.json
    nothing_to_do: bool

    @property
    def funnel(self) -> Funnel:
        """What became of the rows."""
        return Funnel(**self.account["rows"])

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        told = {name: value for name, value in self.account.items() if name not in ("command", "rows", "settings", "files")}
        head = {"output": str(self.output), "nothing_to_do": self.nothing_to_do, "funnels": [self.funnel.to_dict()]}
        return head | told

    def __str__(self) -> str:
        """What came out, in a few lines."""
        said = self.account
        rate = f"{said['tokens'] / said['seconds']:,.0f} a second" if said["seconds"] else "at once"
        lines = [
            str(self.funnel),
            f"{said['trained_share']:.1%} of the tokens in these rows are trained on",
            f"{self.output}: {said['steps']:,} steps in {said['seconds']:,.0f} s, {said['tokens']:,} tokens, {rate}",
        ]
        return "\n".join([*lines, *(["finished before: nothing to do"] if self.nothing_to_do else [])])


def sft(config: SftConfig, progress: Progress | None = None) -> SftSummary:
    """Trains a model on silver traces into `config.output`, on from the last checkpoint if there is one.

    Errors: ConfigError for an output of other settings, a chat template that can't be trained with, a GPU or tracker that
    isn't there; InputError for inputs that can't be used, or if no row is left.
    """
    progress = progress or Silent()
    config.running.check(config.running.report_to)
    with claimed(config.output, "sft", _settings(config), config.overwrite) as work:
        if work.finished is not None:
            return SftSummary(config.output, work.finished, nothing_to_do=True)
        require("trl", "train")
        return SftSummary(config.output, _train(config, work, progress), nothing_to_do=False)


def _settings(config: SftConfig) -> dict[str, Any]:
    """All options but those of the output, as JSON-safe values; files by what they hold."""
    values = dump(config)
    for name in ("output", "overwrite"):
        del values[name]
    replays = [Replay.read(text).path for text in config.replay]
    template = [config.chat_template] if config.chat_template else []
    missing = next((path for path in (*config.inputs, *replays, *template) if not path.exists()), None)
    if missing:
        raise InputError(f"{missing}: there is no such file or folder")
    files = {str(path): _held(path) for path in (*config.inputs, *replays, *template)}
    return values | {"held": files | held(config.model)}


def _held(path: Path) -> str:
    """A hash of what an input holds."""
    if path.is_file():
        return fingerprint(path)
    tables = ("attempts", "questions") if (path / "run.json").is_file() else ("traces",)
    return "-".join(fingerprint(path / name, "*.parquet") for name in tables)


def _train(config: SftConfig, work: Work, progress: Progress) -> dict[str, Any]:
    """The account of the training, once the model is in its folder."""
    from skillfactory.encoding import Encoder
    from skillfactory.train.loading import load, quiet, saved
    from skillfactory.train.material import gather
    from skillfactory.train.sft_trainer import trained

    with quiet():
        base = load(config.model, config.chat_template)
        encoder = Encoder(base.tokenizer, min(config.max_length, base.context or config.max_length))
        material = gather(config, encoder, progress)
        said = {"rows": material.funnel.to_dict(), "trained_share": round(material.share, 4), "max_length": encoder.limit}
        work.note(**said, planned_steps=_steps(config, len(material.order)))
        model, totals = trained(config, base, material, _steps(config, len(material.order)), work, progress)
        saved(model, base, encoder.end_token, work.staged)
    found = {name: round(value, 3) for name, value in totals.items()}
    _card(config, work.staged, str(material.funnel), {"share_of_tokens_trained_on": said["trained_share"], **found})
    return work.finish(**found)


def _steps(config: SftConfig, rows: int) -> int:
    """How many steps the training has."""
    how = config.optimisation
    steps = math.ceil(rows / (how.batch_size * how.accumulate))
    return min(steps, how.max_steps or steps)


def _card(config: SftConfig, folder: Path, account: str, results: Mapping[str, Any]) -> None:
    inputs = ", ".join(f"`{path}`" for path in config.inputs)
    replay = f", with texts of {', '.join(f'`{text}`' for text in config.replay)} against forgetting" if config.replay else ""
    settings = dump(config.optimisation) | {"seed": config.seed, "mask": config.mask}
    settings |= dump(config.lora) if config.lora.lora_rank else {}
    paragraphs = [f"`{config.model}`, fine-tuned on {inputs}{replay}.", f"{account}."]
    write_card(folder, "A model that learnt from silver traces", config.model, paragraphs, settings, results)
