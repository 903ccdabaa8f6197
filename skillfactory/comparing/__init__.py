"""Evaluations side by side: differences over the same questions, how sure they are, and which questions make them.

`docs/comparing.md` is the manual.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skillfactory.errors import ConfigError


@dataclass(frozen=True, slots=True)
class CompareConfig:
    """Options of `skillfactory compare`."""

    runs: tuple[str, ...] = field(
        metadata={
            "positional": True,
            "metavar": "RUN",
            "split": False,
            "help": "runs of `evaluate` and folders of studies, as PATH or LABEL=PATH; LABEL=PATH,PATH is an arm of two seeds",
        }
    )
    baseline: str = field(
        default="", metadata={"help": "the arm that the others are held against", "metavar": "ARM", "shown": "the first"}
    )
    all_pairs: bool = field(default=False, metadata={"help": "hold every arm against every other"})
    arms: tuple[str, ...] = field(
        default=(), metadata={"help": "compare these arms only, in this order", "metavar": "ARM", "shown": "all"}
    )
    groups: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "compare on these columns of the table only, such as 'mean harder'",
            "metavar": "COLUMN",
            "shown": "all",
        },
    )
    pair_seeds: Literal["auto", "yes", "no"] = field(
        default="auto", metadata={"help": "whether equal seeds of two arms belong together; auto: those of one study do"}
    )
    show: int = field(default=5, metadata={"help": "questions won, and lost, by the most that are shown for each pair"})
    output: Path | None = field(
        default=None,
        metadata={"help": "folder for table.md, compare.json and questions.parquet", "metavar": "FOLDER", "shown": "none"},
    )

    def __post_init__(self) -> None:
        if self.show < 0:
            raise ConfigError(f"show: expected 0 or more, came {self.show}")
        if self.all_pairs and self.baseline:
            raise ConfigError("--baseline names what all arms are held against, --all-pairs holds each against each: give one")


@dataclass(frozen=True, slots=True)
class Compared:
    """What a comparison came to: Markdown to read, and the same as JSON-safe values."""

    text: str
    values: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The comparison as JSON-safe values."""
        return dict(self.values)

    def __str__(self) -> str:
        return self.text


def compare(config: CompareConfig) -> Compared:
    """Compares evaluations, and writes what came out into `config.output` if there is one.

    InputError for runs that can't be compared; ConfigError for arms or columns that there are not.
    """
    from skillfactory.comparing.course import conduct  # loads Arrow and numpy

    return conduct(config)
