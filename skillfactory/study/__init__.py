"""Studies: a recipe of arms, each a chain of stages, run side by side and compared. `docs/studies.md` is the manual."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError
from skillfactory.forecast.plan import Planning
from skillfactory.progress import Progress, Silent


@dataclass(frozen=True, slots=True)
class StudyConfig:
    """Options of `skillfactory run`."""

    study: Path = field(metadata={"positional": True, "metavar": "RECIPE", "help": "the recipe of the study (docs/studies.md)"})
    output: Path | None = field(default=None, metadata={"help": "the folder of the study", "shown": "the recipe's"})
    model: tuple[str, ...] = field(
        default=(), metadata={"help": "what the arms begin with; of several, seed i takes model i", "shown": "the recipe's"}
    )
    arms: tuple[str, ...] = field(default=(), metadata={"help": "run these arms only", "shown": "all"})
    seeds: tuple[int, ...] = field(default=(), metadata={"help": "run these of the recipe's seeds only", "shown": "all"})
    workers: int | None = field(default=None, metadata={"help": "stages that run at the same time", "shown": "the recipe's"})
    dry_run: bool = field(default=False, metadata={"help": "print what would run and what it would take; start nothing"})
    planning: Planning = field(default_factory=Planning)

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers: expected 1 or more, came {self.workers}")


@dataclass(frozen=True, slots=True)
class StudySummary:
    """What a study came to, or would do: lines to read, and the same as JSON-safe values."""

    lines: tuple[str, ...]
    values: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """The study as JSON-safe values."""
        return dict(self.values)


def study(config: StudyConfig, progress: Progress | None = None) -> StudySummary:
    """Runs what isn't done of a study, writes its table and its report, and gives the table; with `dry_run`, the plan.

    Errors: ConfigError for the recipe; StageFailedError for stages that failed, when all others have ended; RunLockedError if
    another process is at work on the study.
    """
    from skillfactory.study.course import conduct  # loads Arrow and numpy

    return conduct(config, progress or Silent())
