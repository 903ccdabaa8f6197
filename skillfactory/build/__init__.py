"""Pools → silver traces on disk: plan, assemble, fit to the length limit, write.

The work is cut into units that depend on the input alone, so the output has the same bytes with any number of workers.
"""

from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillfactory.build.parallel import Crew, Processes
from skillfactory.errors import ConfigError
from skillfactory.funnel import Funnel
from skillfactory.machines import Workers
from skillfactory.progress import Progress, Silent


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """What to build silver traces from, and how."""

    inputs: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "run directories, or released raw data: folders, Parquet or JSONL files, a Hub id (hub:NAME); URLs too",
            "positional": True,
            "metavar": "INPUT",
        },
    )
    output: Path = field(default=Path("traces"), metadata={"help": "the directory to write", "remote": True})
    layout: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "a layout's name, a pattern, or NAME = PATTERN; with @WEIGHT one is drawn per question (docs/layouts.md)",
            "shown": "paper; for a lazy run, the layouts that it was curated for",
            "split": False,
        },
    )
    max_attempts: int = field(default=5, metadata={"help": "the most attempts in a trace (L_max for the layout 'paper')"})
    repeats: int = field(default=1, metadata={"help": "how often each layout is built per question, from unused attempts"})
    seed: int | None = field(default=None, metadata={"help": "seed of every draw", "shown": "0; for a lazy run, its own"})
    variants: tuple[str, ...] = field(
        default=(), metadata={"help": "use attempts of these prompt variants only", "shown": "all"}
    )
    unique_variants: bool = field(default=False, metadata={"help": "no prompt variant twice within a trace"})
    limit: int | None = field(default=None, metadata={"help": "keep this many traces, drawn at random", "shown": "all"})
    max_tokens: int | None = field(
        default=None, metadata={"help": "the longest chat, in tokens of --tokenizer; never cut", "shown": "no limit"}
    )
    tokenizer: str | None = field(
        default=None, metadata={"help": "tokenizer (path or Hub id) that counts the tokens of a chat"}
    )
    workers: int = field(default=1, metadata={"help": "processes; the output is the same"})
    columns: Mapping[str, str] = field(
        default_factory=dict, metadata={"help": "columns of raw data, ROLE=NAME (question, answer, variant, response, …)"}
    )
    phrases: Path | None = field(
        default=None,
        metadata={"help": "your own phrases, a YAML file with the six kinds, or brief", "shown": "the shipped ones"},
    )
    overwrite: bool = field(default=False, metadata={"help": "replace what an earlier build with other settings wrote"})
    machines: Workers = field(default_factory=Workers)

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.tokenizer is None:
            raise ConfigError("max_tokens needs a tokenizer to count with: --tokenizer PATH_OR_HUB_ID")
        for name in ("limit", "max_tokens", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected a number above 0, not {value}")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"seed: expected a number from 0 to 2^63 - 1, not {self.seed}")
        if self.machines.on is not None and self.workers > 1:
            raise ConfigError(f"workers: {self.workers} processes of this machine can't help a cluster; with on, say actors")


@dataclass(frozen=True, slots=True)
class BuildSummary:
    """What a build came to."""

    output: Path
    funnels: tuple[Funnel, ...]  # attempts, traces
    questions: int
    traces: Mapping[str, int]  # by layout
    dropped: Mapping[str, int]  # traces, by layout
    notes: tuple[str, ...] = ()  # what the user should know of the settings

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        return {
            "questions": self.questions,
            "traces": dict(sorted(self.traces.items())),
            "dropped": dict(sorted(self.dropped.items())),
            "funnels": [funnel.to_dict() for funnel in self.funnels],
            "notes": list(self.notes),
        }


def build(config: BuildConfig, progress: Progress | None = None, crew: Crew | None = None) -> BuildSummary:
    """Builds traces into `config.output`: traces/ and drops/ as Parquet, build.json, and a card that `datasets` reads.

    The bytes depend on the inputs and the settings alone, not on who builds: `config.workers` processes, or `crew`, such as
    `cluster.crew.hired` makes one of `config.machines`. Errors: InputError for inputs that can't be read and for an output that
    holds something else, ConfigError for layouts and settings.
    """
    if crew is None and config.machines.on is not None:
        raise ConfigError(f"on: '{config.machines.on}' needs a crew; skillfactory.cluster.crew.hired makes one")
    with Processes(config.workers - 1, "skillfactory.build.stage") if crew is None else nullcontext(crew) as hands:
        from skillfactory.build.stage import run  # loads Arrow and numpy, as the crew does at the same time

        return run(config, hands, progress or Silent())
