"""One unit of a build: its pools planned, put into words, fitted to the length limit and written, with its counts."""

import gc
import platform
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np

from skillfactory.build.assemble import FullPool, Words, assemble
from skillfactory.build.lengths import TokenCounter, refit
from skillfactory.build.sources import Source
from skillfactory.errors import InputError
from skillfactory.layouts import Draw, Plan, plan
from skillfactory.markup import render
from skillfactory.records import Drop
from skillfactory.seeds import derive, rng
from skillfactory.traces import SCHEMA, WITH_SKILLS, DropWriter, Row, TraceWriter

_SHARED = "; all machines must find inputs and output under the same names: in a shared folder, or at a URL"
_FLUSH = 16 << 20  # characters of traces held before a row group is written


@dataclass(slots=True)
class Counts:
    """What one unit, or all of them, came to."""

    attempts: int = 0
    lost_attempts: Counter[str] = field(default_factory=Counter)
    traces: Counter[str] = field(default_factory=Counter)  # by layout
    lost_traces: Counter[str] = field(default_factory=Counter)  # by reason
    lost_by_layout: Counter[str] = field(default_factory=Counter)
    variants: set[str] = field(default_factory=set)
    ids: list[np.ndarray] = field(default_factory=list)  # a hash of every question, 8 bytes each
    files: dict[str, str] = field(default_factory=dict)  # of one unit: names in the output → names among the drafts

    def add(self, other: "Counts") -> None:
        self.attempts += other.attempts
        self.lost_attempts += other.lost_attempts
        self.traces += other.traces
        self.lost_traces += other.lost_traces
        self.lost_by_layout += other.lost_by_layout
        self.variants |= other.variants
        self.ids += other.ids


def _layout_of(drop: Drop, pool: FullPool) -> str:
    """The layout of a trace that was not made, from its id: QUESTION/LAYOUT/REPEAT/NUMBER."""
    return drop.subject_id[len(pool.question_id) + 1 :].rsplit("/", 2)[0]


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


class ScatteredError(Exception):
    """A question's rows don't stand together: they must be regrouped before a build."""


@dataclass
class Builder:
    """Builds one unit of a source at a time; it pickles, so that worker processes can have one each."""

    source: Source
    draw: Draw
    words: Words
    seed: int
    drafts: Path  # in the output
    tokenizer: str | None = None
    max_tokens: int | None = None
    _counter: TokenCounter | None = None

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_counter": None}  # a tokenizer is loaded where it is used

    def unit(self, number: int) -> Counts:
        """Drafts a unit's part files and gives back its counts. InputError where input or output aren't in sight."""
        if not (self.drafts.parent / "build.json").is_file():
            raise InputError(f"{self.drafts.parent}: not in sight of {platform.node()}, which is to write there{_SHARED}")
        try:
            with _no_collection():
                return self._unit(number)
        except FileNotFoundError as error:
            raise InputError(f"not in sight of {platform.node()}: {error}{_SHARED}") from error

    def _unit(self, number: int) -> Counts:
        counts = Counts()
        ids: dict[int, None] = {}
        part = f"part-{number:05d}.parquet"
        draft = f"{uuid4().hex}-{part}"  # nobody else's: who was taken for dead may be at the same unit
        drops = DropWriter(self.drafts / f"drops-{draft}")
        shown = any(layout.skills for layout in self.draw.layouts)
        writer = TraceWriter(self.drafts / f"traces-{draft}", WITH_SKILLS if shown else SCHEMA)
        random = rng(self.seed, "shuffle", number)
        for pool in self.source.pools(number):
            if isinstance(pool, Drop):
                counts.lost_attempts[pool.reason] += 1
                drops.add(pool)
                continue
            identity = derive(0, pool.question_id)
            if identity in ids:
                raise ScatteredError(pool.question_id)
            ids[identity] = None
            counts.attempts += len(pool.variants)
            counts.variants.update(pool.variants)
            for row in self.traces(pool):
                if isinstance(row, Drop):
                    drops.add(row)
                    counts.lost_traces[row.reason] += 1
                    counts.lost_by_layout[_layout_of(row, pool)] += 1
                else:
                    counts.traces[row.trace.layout] += 1
                    writer.add(row)
                    if writer.size > _FLUSH:
                        writer.flush(random)
        writer.flush(random)
        for table, written in ("traces", writer.close()), ("drops", drops.close()):
            if written:
                counts.files[f"{table}/{part}"] = f"{table}-{draft}"
        counts.ids.append(np.array(list(ids), np.uint64))
        return counts

    def traces(self, pool: FullPool) -> Iterator[Row | Drop]:
        """The traces of one question, or why they are not."""
        planned = plan(pool, self.draw, self.seed)
        yield from planned.drops
        for number, chosen in enumerate(planned.plans):
            yield self._row(chosen, pool) if self.tokenizer is None else self._fitted(number, planned.plans, pool)

    def _row(self, chosen: Plan, pool: FullPool) -> Row:
        trace = assemble(chosen, pool, self.words, self.seed)
        text, segments = render(trace)
        return Row(trace, pool.gold, text, segments, None)

    def _fitted(self, number: int, plans: list[Plan], pool: FullPool) -> Row | Drop:
        """The row with its token count; parts are exchanged for shorter ones until it fits."""
        if self._counter is None:
            self._counter = TokenCounter(self.tokenizer or "")
        row = self._row(plans[number], pool)
        row.tokens = self._counter.count(pool.prompt, row.text)
        while self.max_tokens is not None and row.tokens > self.max_tokens:
            shorter = refit(plans[number], plans, pool, self.draw.unique_variants)
            if shorter is None:
                return Drop("length", plans[number].trace_id, "over_max_tokens", f"{row.tokens} tokens")
            plans[number] = shorter
            row = self._row(shorter, pool)
            row.tokens = self._counter.count(pool.prompt, row.text)
        return row
