"""What an export target gets and gives back."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skillfactory.embedded import located
from skillfactory.errors import ConfigError
from skillfactory.funnel import Funnel
from skillfactory.masks import Mask

PAPER_CONTEXT = 4096  # tokens (method section 3)
PAPER_MODEL = "Qwen/Qwen2.5-1.5B-Instruct"

TARGETS: dict[str, str] = {
    "axolotl": "skillfactory.export.axolotl:export",
    "chat": "skillfactory.export.chat:export",
    "hub": "skillfactory.export.hub:export",
    "llamafactory": "skillfactory.export.llamafactory:export",
    "open-instruct": "skillfactory.export.open_instruct:export",
    "openrlhf": "skillfactory.export.openrlhf:export",
    "tokens": "skillfactory.export.tokens:export",
    "trl": "skillfactory.export.trl:export",
    "verl-sft": "skillfactory.export.verl_sft:export",
}

OF_QUESTIONS: dict[str, str] = {  # reinforcement: these get the questions, and no traces
    "open-instruct-rl": "skillfactory.export.open_instruct:export_questions",
    "openrlhf-rl": "skillfactory.export.openrlhf:export_questions",
    "trl-grpo": "skillfactory.export.trl_grpo:export",
    "verl": "skillfactory.export.verl:export",
}


@dataclass(frozen=True)
class Wanted:
    """Which questions a reinforcement in another trainer is to ask; none of them is in the traces' split."""

    task: tuple[str, ...] = field(
        default=(),
        metadata={
            "metavar": "TASK[:LEVEL][@WEIGHT]",
            "help": "reinforcement: a task, its level and its share of the questions; repeatable",
            "shown": "those that DIR was made from",
        },
    )
    option: Mapping[str, Any] = field(
        default_factory=dict, metadata={"help": "reinforcement: an option of the task; TASK.KEY=VALUE where there are several"}
    )
    questions: int = field(default=1000, metadata={"help": "reinforcement: questions to train on, of the split rl"})
    validation: int = field(default=200, metadata={"help": "reinforcement: held-out questions, of the development part"})
    seed: int = field(default=0, metadata={"help": "reinforcement: seed of the questions"})

    def __post_init__(self) -> None:
        for name, low in {"questions": 1, "validation": 0}.items():
            if getattr(self, name) < low:
                raise ConfigError(f"{name}: expected {low} or more, came {getattr(self, name)}")


@dataclass(frozen=True)
class Upload:
    """Where the target hub puts a data set."""

    repo: str = field(default="", metadata={"metavar": "OWNER/NAME", "help": "hub: the data set's name", "shown": "none"})
    public: bool = field(default=False, metadata={"help": "hub: let everybody see it"})
    licence: str = field(default="", metadata={"help": "hub: the data's licence, e.g. apache-2.0", "shown": "not said"})


@dataclass(frozen=True)
class ExportConfig:
    """What to export, for whom, and where to."""

    directory: Path = field(
        metadata={
            "positional": True,
            "metavar": "DIR",
            "help": "traces, as `skillfactory build` wrote them; for reinforcement a run of `skillfactory curate` too",
            "remote": True,
        }
    )
    to: str = field(
        metadata={
            "metavar": "TARGET",
            "help": f"{', '.join(sorted([*TARGETS, *OF_QUESTIONS]))}, or module:function (docs/export.md)",
        }
    )
    output: Path | None = field(
        default=None, metadata={"help": "the folder to write; an earlier export there is replaced", "shown": "DIR-TARGET"}
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "the trainer's context in tokens, longer traces are refused; for reinforcement the length of a response",
            "shown": "4096 for trainers, none for chat",
        },
    )
    drop_long: bool = field(
        default=False, metadata={"help": "leave traces over --max-length out, counted, instead of refusing"}
    )
    model: str = field(
        default="",
        metadata={
            "help": "the model that the training files name",
            "shown": f"that of the runs that DIR was made from, else {PAPER_MODEL}",
        },
    )
    template: str = field(
        default="", metadata={"help": "LLaMA-Factory's name of a chat template", "shown": "what it finds in the model's own"}
    )
    chat_template: Path | None = field(
        default=None,
        metadata={"help": "a Jinja file in place of the tokenizer's template (axolotl, tokens)", "shown": "the tokenizer's"},
    )
    format: Literal["parquet", "jsonl"] = field(default="parquet", metadata={"help": "file format of the target chat"})
    provenance: bool = field(default=True, metadata={"help": "keep ids, layout, tokens and segments as columns (target chat)"})
    mask: Mask = field(default="none", metadata={"help": "attempts that bear no loss (docs/training.md)"})
    force: bool = field(
        default=False, metadata={"help": "write into a folder that holds other things; files of the same name go"}
    )
    wanted: Wanted = field(default_factory=Wanted)
    upload: Upload = field(default_factory=Upload)

    def __post_init__(self) -> None:
        if self.max_length is not None and self.max_length < 1:
            raise ConfigError(f"max_length: expected a number above 0, came {self.max_length}")
        if self.drop_long and self.max_length is None and self.to == "chat":
            raise ConfigError("drop_long needs a length to drop by: --max-length N")

    @property
    def folder(self) -> Path:
        """The folder to write."""
        directory = self.directory.resolve() if self.directory.name in ("", "..") else self.directory
        return self.output or directory.with_name(f"{directory.name}-{self.to.rpartition(':')[2]}")

    @property
    def context(self) -> int:
        """The context of a trainer: what the user says, or the paper's."""
        return PAPER_CONTEXT if self.max_length is None else self.max_length


@dataclass(frozen=True, slots=True)
class Summary:
    """What an export came to."""

    target: str
    output: Path
    funnel: Funnel
    files: tuple[str, ...]
    notes: tuple[str, ...] = ()  # what the user should know, such as traces of unknown length

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        funnel = self.funnel.to_dict()
        return {
            "target": self.target,
            "output": str(self.output),
            "funnels": [funnel],
            "files": [*self.files],
            "notes": [*self.notes],
        }


@dataclass(frozen=True, slots=True)
class Written:
    """What a target gives back: traces written and left out, and notes for the user."""

    kept: int
    dropped: dict[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def model_from(config: ExportConfig) -> str:
    """The model as the files in the export's folder name it: a local one by its way from there, else as it is (a Hub id)."""
    model = Path(located(config.model))
    return os.path.relpath(model.resolve(), config.folder.resolve()) if model.exists() else config.model
