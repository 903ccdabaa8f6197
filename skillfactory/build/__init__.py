"""Pools → silver traces on disk: plan, assemble, fit to the length limit, write.

The work is cut into units that depend on the input alone, so the output has the same bytes with any number of workers.
"""

import shutil
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from skillfactory.build.assemble import Words
from skillfactory.build.directory import claim, clear, describe, keep_some
from skillfactory.build.parallel import each_unit
from skillfactory.build.released import Wanted
from skillfactory.build.sources import RawSource, RunSource, Source, Unordered, open_source
from skillfactory.build.unit import Builder, Counts, ScatteredError
from skillfactory.config import dump
from skillfactory.errors import ConfigError
from skillfactory.funnel import Funnel
from skillfactory.layouts import Draw
from skillfactory.progress import Progress, Silent
from skillfactory.prompts import load_phrases
from skillfactory.seeds import digest


@dataclass(frozen=True, slots=True)
class BuildConfig:
    """What to build silver traces from, and how."""

    inputs: tuple[str, ...] = field(
        default=(),
        metadata={
            "help": "run directories, or released raw data: folders, Parquet or JSONL files, a Hub id (hub:NAME)",
            "positional": True,
            "metavar": "INPUT",
        },
    )
    output: Path = field(default=Path("traces"), metadata={"help": "the directory to write"})
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
        default=None, metadata={"help": "your own phrases, a YAML file with the six kinds", "shown": "the shipped ones"}
    )
    overwrite: bool = field(default=False, metadata={"help": "replace what an earlier build with other settings wrote"})

    def __post_init__(self) -> None:
        if self.max_tokens is not None and self.tokenizer is None:
            raise ConfigError("max_tokens needs a tokenizer to count with: --tokenizer PATH_OR_HUB_ID")
        for name in ("limit", "max_tokens", "workers"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{name}: expected a number above 0, not {value}")
        if self.seed is not None and not 0 <= self.seed < 1 << 63:
            raise ConfigError(f"seed: expected a number from 0 to 2^63 - 1, not {self.seed}")

    def settings(self) -> dict[str, Any]:
        """What the output depends on, as JSON-safe values; the phrases by a hash of their words."""
        values = dump(self)
        for name in ("output", "workers", "overwrite"):
            del values[name]
        words = asdict(load_phrases(self.phrases)).values()
        return values | {"seed": self.seed or 0, "phrases": digest(*(phrase for kind in words for phrase in kind))}

    def draw(self) -> Draw:
        """The layouts, parsed."""
        return Draw.read(self.layout or ("paper",), self.max_attempts, self.repeats, self.unique_variants)


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


def build(config: BuildConfig, progress: Progress | None = None) -> BuildSummary:
    """Builds traces into `config.output`: traces/ and drops/ as Parquet, build.json, and a card that `datasets` reads.

    The bytes depend on the inputs and the settings alone, not on `workers`. Errors: InputError for inputs that can't be
    read and for an output that holds something else, ConfigError for layouts and settings.
    """
    progress = progress or Silent()
    reflected = any(layout.reflected for layout in config.draw().layouts)  # refuses a bad layout before any work
    source = open_source(config.inputs, Wanted(config.columns, frozenset(config.variants), reflected))
    config, notes = _as_curated(config, source)
    settings = config.settings()
    with claim(config.output, settings, config.overwrite):
        counts = _build(source, config, progress)
        for layout in config.draw().layouts:
            counts.traces.setdefault(layout.name, 0)
        summary = _summary(config, counts, notes)
        describe(config.output, settings, summary.to_dict())
    return summary


def _build(source: Source | Unordered, config: BuildConfig, progress: Progress) -> Counts:
    """Builds every unit, regrouped rows if need be, and keeps as many traces as are wanted."""
    scratch = config.output / ".scratch"
    try:
        if isinstance(source, Unordered):
            progress.begin("regroup", "rows")
            source = source.regroup(scratch)
        try:
            counts = _run(source, config, progress)
        except ScatteredError:
            assert isinstance(source, RawSource)  # a run has each question once
            progress.begin("regroup", "rows")
            source = source.regroup(scratch)
            counts = _run(source, config, progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        progress.end()
    if config.limit is not None:
        gone = keep_some(config.output, config.limit, config.seed or 0)
        counts.traces.subtract(gone)
        counts.lost_traces["over_limit"] += gone.total()
        counts.lost_by_layout += gone
    return counts


def _as_curated(config: BuildConfig, source: Source | Unordered) -> tuple[BuildConfig, tuple[str, ...]]:
    """The settings with the layouts and the seed that a lazy run was curated for, where none are given; and notes.

    A lazy run holds what its own layouts and seed draw; others find too little there, and no longer at random.
    """
    if not isinstance(source, RunSource):
        return config, ()
    notes, wanted = source.notes, source.wanted
    if wanted:
        names = ("layout", "max_attempts", "repeats", "unique_variants")
        adopted: dict[str, Any] = {} if config.layout else {name: wanted[0][name] for name in names}
        seed = wanted[0]["seed"] if config.seed is None else config.seed
        config = replace(config, **adopted, seed=seed)
        other = {name for asked in wanted for name, value in asked.items() if getattr(config, name) != value}
        other |= {"variants"} if config.variants else set()
        if other:
            names_of = ", ".join(sorted(other))
            notes += (f"the run was curated lazily with other {names_of}: traces will lack attempts, and not at random",)
    return config, notes


def _summary(config: BuildConfig, counts: Counts, notes: tuple[str, ...]) -> BuildSummary:
    attempts, traces = counts.attempts, counts.traces.total()
    lost_attempts, lost_traces = +counts.lost_attempts, +counts.lost_traces
    unseen = sorted(set(config.variants) - counts.variants)
    if unseen:
        notes += (f"no usable attempt is of the variant {', '.join(unseen)}",)
    funnels = (
        Funnel("build", "attempts", attempts + lost_attempts.total(), attempts, lost_attempts),
        Funnel("build", "traces", traces + lost_traces.total(), traces, lost_traces),
    )
    return BuildSummary(config.output, funnels, sum(map(len, counts.ids)), counts.traces, counts.lost_by_layout, notes)


def _run(source: Source, config: BuildConfig, progress: Progress) -> Counts:
    """Builds every unit."""
    clear(config.output)
    total = sum(source.size(unit) for unit in range(source.units))
    progress.begin("build", "attempts", total)
    counts = Counts()
    words = Words(load_phrases(config.phrases))
    builder = Builder(source, config.draw(), words, config.seed or 0, config.output, config.tokenizer, config.max_tokens)
    for done in each_unit(builder.unit, source.units, config.workers):
        counts.add(done)
        progress.advance(done.attempts + done.lost_attempts.total(), f"{counts.traces.total():,} traces")
    ids = np.concatenate(counts.ids) if counts.ids else np.array([], np.uint64)
    if len(np.unique(ids)) < len(ids):
        raise ScatteredError
    return counts
