"""What an export target gets and gives back."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skillfactory.embedded import located
from skillfactory.errors import ConfigError
from skillfactory.funnel import Funnel

PAPER_CONTEXT = 4096  # tokens (method section 3)


@dataclass(frozen=True, slots=True)
class ExportConfig:
    """What to export, for whom, and where to."""

    directory: Path = field(
        metadata={"positional": True, "metavar": "DIR", "help": "traces, as `skillfactory build` wrote them"}
    )
    to: str = field(metadata={"metavar": "TARGET", "help": "chat, llamafactory, trl, or module:function"})
    output: Path | None = field(
        default=None, metadata={"help": "the folder to write; an earlier export there is replaced", "shown": "DIR-TARGET"}
    )
    max_length: int | None = field(
        default=None,
        metadata={
            "help": "the trainer's context in tokens; longer traces are refused",
            "shown": "4096 for trainers, none for chat",
        },
    )
    drop_long: bool = field(
        default=False, metadata={"help": "leave traces over --max-length out, counted, instead of refusing"}
    )
    model: str = field(default="Qwen/Qwen2.5-1.5B-Instruct", metadata={"help": "the model that the training files name"})
    template: str = field(default="qwen", metadata={"help": "LLaMA-Factory's name for the model's chat template"})
    format: Literal["parquet", "jsonl"] = field(default="parquet", metadata={"help": "file format of the target chat"})
    provenance: bool = field(default=True, metadata={"help": "keep ids, layout, tokens and segments as columns (target chat)"})
    force: bool = field(
        default=False, metadata={"help": "write into a folder that holds other things; files of the same name go"}
    )

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
