"""Pools → silver traces on disk: plan, assemble, fit to the length limit, write.

The work is cut into units that depend on the input alone, so the output has the same bytes with any number of workers.
"""

import gc
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np

from skillfactory.build.assemble import FullPool, Words, assemble
from skillfactory.build.directory import claim, clear, describe, keep_some
from skillfactory.build.lengths import TokenCounter, refit
from skillfactory.build.parallel import each_unit
from skillfactory.build.sources import RawSource, RunSource, Source, Unordered, open_source
from skillfactory.errors import ConfigError
from skillfactory.funnel import Funnel
from skillfactory.layouts import Draw, Plan, plan
from skillfactory.markup import render
from skillfactory.progress import Progress, Silent
from skillfactory.prompts import load_phrases
from skillfactory.records import Drop
from skillfactory.seeds import derive, rng
from skillfactory.traces import Row, TraceWriter, write_drops

_FLUSH = 16 << 20  # characters of traces held before a row group is written


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
    seed: int = field(default=0, metadata={"help": "seed of every draw"})
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

    def settings(self) -> dict[str, Any]:
        """What the output depends on, as JSON-safe values."""
        values = {name: getattr(self, name) for name in self.__slots__ if name not in ("output", "workers", "overwrite")}
        return {
            name: str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
            for name, value in values.items()
        }

    def draw(self) -> Draw:
        """The layouts, parsed."""
        return Draw.read(self.layout or ("paper",), self.max_attempts, self.repeats, self.unique_variants)


@dataclass(slots=True)
class Counts:
    """What one unit, or all of them, came to."""

    attempts: int = 0
    lost_attempts: Counter[str] = field(default_factory=Counter)
    traces: Counter[str] = field(default_factory=Counter)  # by layout
    lost_traces: Counter[str] = field(default_factory=Counter)
    ids: list[np.ndarray] = field(default_factory=list)  # a hash of every question, 8 bytes each

    def add(self, other: "Counts") -> None:
        self.attempts += other.attempts
        self.lost_attempts += other.lost_attempts
        self.traces += other.traces
        self.lost_traces += other.lost_traces
        self.ids += other.ids


@contextmanager
def _no_collection() -> Iterator[None]:
    """Holds the search for cyclic garbage: a unit makes none, and to search all rows held takes a seventh of its time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


class Builder:
    """Builds one unit of a source at a time; it pickles, so that worker processes can have one each."""

    def __init__(self, source: Source, config: BuildConfig, output: Path) -> None:
        self.source, self.config, self.output = source, config, output
        self.draw = config.draw()
        self.words = Words(load_phrases(config.phrases))
        self._counter: TokenCounter | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_counter": None}  # a tokenizer is loaded where it is used

    def unit(self, number: int) -> Counts:
        """Builds a unit and writes its part files; gives back its counts."""
        with _no_collection():
            return self._unit(number)

    def _unit(self, number: int) -> Counts:
        counts = Counts()
        drops: list[Drop] = []
        ids: list[int] = []
        part = f"part-{number:05d}.parquet"
        writer = TraceWriter(self.output / "traces" / part)
        random = rng(self.config.seed, "shuffle", number)
        for pool in self.source.pools(number):
            if isinstance(pool, Drop):
                drops.append(pool)
                continue
            ids.append(derive(0, pool.question_id))
            counts.attempts += len(pool.variants)
            for row in self.traces(pool):
                if isinstance(row, Drop):
                    drops.append(row)
                else:
                    counts.traces[row.trace.layout] += 1
                    writer.add(row)
                    if writer.size > _FLUSH:
                        writer.flush(random)
        writer.flush(random)
        writer.close()
        write_drops(drops, self.output / "drops" / part)
        counts.ids.append(np.array(ids, np.uint64))
        for drop in drops:
            (counts.lost_attempts if drop.stage == "rows" else counts.lost_traces)[drop.reason] += 1
        return counts

    def traces(self, pool: FullPool) -> Iterator[Row | Drop]:
        """The traces of one question, or why they are not."""
        planned = plan(pool, self.draw, self.config.seed)
        yield from planned.drops
        for number, chosen in enumerate(planned.plans):
            yield self._row(chosen, pool) if self.config.tokenizer is None else self._fitted(number, planned.plans, pool)

    def _row(self, chosen: Plan, pool: FullPool) -> Row:
        trace = assemble(chosen, pool, self.words, self.config.seed)
        text, segments = render(trace)
        return Row(trace, pool.gold, text, segments, None)

    def _fitted(self, number: int, plans: list[Plan], pool: FullPool) -> Row | Drop:
        """The row with its token count; parts are exchanged for shorter ones until it fits."""
        if self._counter is None:
            self._counter = TokenCounter(self.config.tokenizer or "")
        row = self._row(plans[number], pool)
        row.tokens = self._counter.count(pool.prompt, row.text)
        while self.config.max_tokens is not None and row.tokens > self.config.max_tokens:
            shorter = refit(plans[number], plans, pool)
            if shorter is None:
                return Drop("length", plans[number].trace_id, "over_max_tokens", f"{row.tokens} tokens")
            plans[number] = shorter
            row = self._row(shorter, pool)
            row.tokens = self._counter.count(pool.prompt, row.text)
        return row


@dataclass(frozen=True, slots=True)
class BuildSummary:
    """What a build came to."""

    output: Path
    funnels: tuple[Funnel, ...]  # attempts, traces
    questions: int
    traces: Mapping[str, int]  # by layout
    notes: tuple[str, ...] = ()  # what the user should know of the settings

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        return {
            "questions": self.questions,
            "traces": dict(sorted(self.traces.items())),
            "funnels": [funnel.to_dict() for funnel in self.funnels],
            "notes": list(self.notes),
        }


def build(config: BuildConfig, progress: Progress | None = None) -> BuildSummary:
    """Builds traces into `config.output`: traces/ and drops/ as Parquet, build.json, and a card that `datasets` reads.

    The bytes depend on the inputs and the settings alone, not on `workers`. Errors: InputError for inputs that can't be
    read and for an output that holds something else, ConfigError for layouts and settings.
    """
    progress = progress or Silent()
    config.draw()  # refuses a bad layout before any work
    source = open_source(config.inputs, config.columns, config.variants)
    config, notes = _as_curated(config, source)
    settings = config.settings()
    claim(config.output, settings, config.overwrite)
    scratch = config.output / ".scratch"
    try:
        if isinstance(source, Unordered):
            progress.begin("regroup", "rows")
            source = source.regroup(scratch)
        counts = _run(source, config, progress)
        if isinstance(source, RawSource) and _scattered(counts):
            progress.begin("regroup", "rows")
            source = source.regroup(scratch)
            counts = _run(source, config, progress)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)
        progress.end()
    if config.limit is not None:
        gone = keep_some(config.output, config.limit, config.seed)
        counts.traces -= gone
        counts.lost_traces["over_limit"] += gone.total()
    summary = _summary(config, counts, notes)
    describe(config.output, settings, summary.to_dict())
    return summary


def _as_curated(config: BuildConfig, source: Source | Unordered) -> tuple[BuildConfig, tuple[str, ...]]:
    """The settings with the layouts that a lazy run was curated for, if none are given; notes where they ask for others.

    A lazy run holds what its own layouts and seed draw; others find too little there, and no longer at random.
    """
    wanted = source.wanted if isinstance(source, RunSource) else []
    if not wanted:
        return config, ()
    if not config.layout:
        names = ("layout", "max_attempts", "repeats", "unique_variants")
        config = replace(config, **{name: wanted[0][name] for name in names})
    now = {name: getattr(config, name) for name in wanted[0]}
    other = sorted({name for asked in wanted for name in now if asked[name] != now[name]})
    note = f"the run was curated lazily with another {', '.join(other)}: traces will lack attempts, and not at random"
    return config, (note,) if other else ()


def _summary(config: BuildConfig, counts: Counts, notes: tuple[str, ...]) -> BuildSummary:
    attempts, traces = counts.attempts, counts.traces.total()
    lost_attempts, lost_traces = +counts.lost_attempts, +counts.lost_traces
    funnels = (
        Funnel("build", "attempts", attempts + lost_attempts.total(), attempts, lost_attempts),
        Funnel("build", "traces", traces + lost_traces.total(), traces, lost_traces),
    )
    return BuildSummary(config.output, funnels, sum(map(len, counts.ids)), counts.traces, notes)


def _run(source: Source, config: BuildConfig, progress: Progress) -> Counts:
    """Builds every unit."""
    clear(config.output)
    total = sum(source.size(unit) for unit in range(source.units))
    progress.begin("build", "attempts", total)
    counts = Counts()
    for done in each_unit(Builder(source, config, config.output).unit, source.units, config.workers):
        counts.add(done)
        progress.advance(done.attempts + done.lost_attempts.total(), f"{counts.traces.total():,} traces")
    return counts


def _scattered(counts: Counts) -> bool:
    """Whether a question was met twice, with other questions between."""
    ids = np.concatenate(counts.ids) if counts.ids else np.array([], np.uint64)
    return len(np.unique(ids)) < len(ids)
