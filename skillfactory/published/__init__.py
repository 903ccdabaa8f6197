"""The published evaluation schema (method section 2): our evaluations as its Parquet, and its Parquet as evaluations of ours.

`docs/evaluation.md` says which column holds what, and what an import can't know.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError, InputError
from skillfactory.progress import Progress, Silent

RESPONSES = "model_responses"
CORRECT, EXTRACTED = f"{RESPONSES}__eval_is_correct", f"{RESPONSES}__eval_extracted_answers"
INNER_CORRECT = f"{RESPONSES}__internal_answers__eval_is_correct"
INNER_EXTRACTED = f"{RESPONSES}__internal_answers__eval_extracted_answers"
OTHERS, METADATA = "all_other_columns", "metadata"
COLUMNS = (
    "question",
    "answer",
    "task",
    "prompt",
    RESPONSES,
    CORRECT,
    EXTRACTED,
    INNER_CORRECT,
    INNER_EXTRACTED,
    OTHERS,
    METADATA,
)
OURS = "skillfactory"  # the key of what only our exports say, in the file's metadata and in the column `metadata`


@dataclass(frozen=True)
class PublishedConfig:
    """Options of `skillfactory published`."""

    source: Path = field(
        metadata={
            "positional": True,
            "metavar": "RUN|PARQUET",
            "help": "an evaluation to export, or a Parquet file (or a folder of them) to import",
        }
    )
    output: Path = field(metadata={"help": "the Parquet file to write, or the run directory of the import", "metavar": "PATH"})
    kind: Mapping[str, str] = field(
        default_factory=dict,
        metadata={
            "help": "import: what the questions of a task are to the model, e.g. countdown_4arg=harder; repeatable",
            "shown": "as the file says, else the task itself",
        },
    )

    def __post_init__(self) -> None:
        if self.exports and self.kind:
            raise ConfigError("--kind is for imports; an evaluation knows the kinds of its groups")
        if self.exports and self.output.suffix != ".parquet":
            raise ConfigError(f"output: an evaluation is exported to a file that ends in .parquet, not to '{self.output}'")
        if not self.exports and self.output.suffix == ".parquet":
            raise InputError(f"{self.source}: no evaluation that could be exported (it has no run.json)")

    @property
    def exports(self) -> bool:
        """Whether the source is one of our runs."""
        return (self.source / "run.json").is_file()


def published(config: PublishedConfig, progress: Progress | None = None) -> Any:
    """Exports an evaluation, or imports published data as one, and says what came of it."""
    bar = progress or Silent()
    try:
        if config.exports:
            from skillfactory.published.outgoing import export

            return export(config.source, config.output, bar)
        from skillfactory.published.incoming import load

        return load(config.source, config.output, config.kind, bar)
    finally:
        bar.end()
