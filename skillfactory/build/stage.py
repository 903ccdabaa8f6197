"""The course of a build: source, units, counts, card."""

from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import numpy as np

from skillfactory.build import BuildConfig, BuildSummary
from skillfactory.build.assemble import Words
from skillfactory.build.directory import Claim, claimed, describe, keep_some
from skillfactory.build.parallel import Crew
from skillfactory.build.released import Wanted
from skillfactory.build.sources import RawSource, RunSource, Source, Unordered, open_source
from skillfactory.build.unit import Builder, Counts, ScatteredError
from skillfactory.config import dump
from skillfactory.curate import sources
from skillfactory.funnel import Funnel
from skillfactory.layouts import Draw
from skillfactory.places import is_remote, remove_folder
from skillfactory.progress import Progress
from skillfactory.prompts import load_phrases
from skillfactory.seeds import digest

_PUBLISHERS = 8  # parts that are published at a time: a store takes a second to copy one


def run(config: BuildConfig, crew: Crew, progress: Progress) -> BuildSummary:
    """Builds with the help of a crew; see `skillfactory.build.build`."""
    draw = _draw(config)
    draw.skills()  # this and the line before refuse a bad layout before any work
    reflected = any(layout.reflected for layout in draw.layouts)
    source = open_source(config.inputs, Wanted(config.columns, frozenset(config.variants), reflected))
    config, notes = _as_curated(config, source)
    settings = _settings(config)
    with claimed(config.output, settings, config.overwrite) as claim:
        counts = _build(source, config, claim, crew, progress)
        for layout in _draw(config).layouts:
            counts.traces.setdefault(layout.name, 0)
        summary = _summary(config, counts, notes)
        claim.check()
        describe(config.output, settings, summary.to_dict())
    return summary


def _settings(config: BuildConfig) -> dict[str, Any]:
    """What the output depends on, as JSON-safe values; phrases and skills of one's own by a hash of their words and files."""
    values = dump(config)
    for name in ("output", "workers", "overwrite", "machines"):
        del values[name]
    words = asdict(load_phrases(config.phrases)).values()
    own = sources(*(name for layout in _draw(config).layouts for name in layout.skills))
    values |= {"skills": own} if own else {}
    return values | {"seed": config.seed or 0, "phrases": digest(*(phrase for kind in words for phrase in kind))}


def _draw(config: BuildConfig) -> Draw:
    """The layouts, parsed."""
    return Draw.read(config.layout or ("paper",), config.max_attempts, config.repeats, config.unique_variants)


def _build(source: Source | Unordered, config: BuildConfig, claim: Claim, crew: Crew, progress: Progress) -> Counts:
    """Builds every unit, regrouped rows if need be, and keeps as many traces as are wanted."""
    near = is_remote(config.output) and config.machines.on is None  # no other machine needs what is regrouped
    scratch = Path(mkdtemp(prefix="skillfactory-")) if near else claim.drafts
    try:
        if isinstance(source, Unordered):
            progress.begin("regroup", "rows")
            source = source.regroup(scratch)
        try:
            counts = _run(source, config, claim, crew, progress)
        except ScatteredError:
            assert isinstance(source, RawSource)  # a run has each question once
            progress.begin("regroup", "rows")
            source = source.regroup(scratch)
            counts = _run(source, config, claim, crew, progress)
    finally:
        remove_folder(scratch)
        progress.end()
    if config.limit is not None:
        gone = keep_some(claim, config.limit, config.seed or 0)
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


def _run(source: Source, config: BuildConfig, claim: Claim, crew: Crew, progress: Progress) -> Counts:
    """Builds every unit, and publishes its parts once it is known to be done."""
    claim.clear()
    total = sum(source.size(unit) for unit in range(source.units))
    progress.begin("build", "attempts", total)
    counts = Counts()
    words = Words(load_phrases(config.phrases))
    builder = Builder(source, _draw(config), words, config.seed or 0, claim.drafts, config.tokenizer, config.max_tokens)
    publishing: deque[Future[None]] = deque()
    with ThreadPoolExecutor(_PUBLISHERS) as publishers:
        for done in crew.each(builder.unit, source.units):
            publishing.append(publishers.submit(claim.publish, done.files))
            counts.add(done)
            progress.advance(done.attempts + done.lost_attempts.total(), f"{counts.traces.total():,} traces")
            if len(publishing) > _PUBLISHERS:
                publishing.popleft().result()
        for each in publishing:
            each.result()
    ids = np.concatenate(counts.ids) if counts.ids else np.array([], np.uint64)
    if len(np.unique(ids)) < len(ids):
        raise ScatteredError
    return counts
