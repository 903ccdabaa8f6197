"""Where a build takes its pools from: released raw data or curated runs, cut into units of work."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from skillfactory.build.assemble import FullPool
from skillfactory.build.regroup import COLUMNS, json_rows, parquet_rows, regroup
from skillfactory.build.released import RawReader, RowGroup, Wanted, row_groups
from skillfactory.deck import defect, flaw
from skillfactory.errors import InputError, require
from skillfactory.layouts import Fit
from skillfactory.patterns import Want
from skillfactory.places import address, below, files, footer, is_url, names, parquet, place, reaching
from skillfactory.records import Attempt, Check, Drop, Reflection, Stop, Verdict
from skillfactory.seeds import derive

UNIT_BYTES = 64 << 20  # of uncompressed input


class Source(Protocol):
    """A sequence of pools in units that depend on the input alone."""

    @property
    def units(self) -> int:
        """How many units there are."""

    def size(self, unit: int) -> int:
        """The rows of a unit, for progress."""

    def pools(self, unit: int) -> Iterator[FullPool | Drop]:
        """The pools of a unit, and drops for what can't be used."""


@dataclass(slots=True)
class RawSource:
    """Released raw data in Parquet files, the rows of a question together."""

    reader: RawReader
    spans: tuple[tuple[int, int], ...]  # row groups, first and one past the last

    @classmethod
    def cut(cls, reader: RawReader, groups: Sequence[RowGroup]) -> "RawSource":
        """Units of about `UNIT_BYTES`."""
        spans, start, size = [], 0, 0
        for k, group in enumerate(groups):
            size += group.size
            if size >= UNIT_BYTES or k + 1 == len(groups):
                spans.append((start, k + 1))
                start, size = k + 1, 0
        return cls(reader, tuple(spans))

    @property
    def units(self) -> int:
        return len(self.spans)

    def size(self, unit: int) -> int:
        return sum(group.rows for group in self.reader.groups[slice(*self.spans[unit])])

    def pools(self, unit: int) -> Iterator[FullPool | Drop]:
        return self.reader.pools(*self.spans[unit])

    def regroup(self, scratch: Path) -> "RawSource":
        """The same rows, each question's together."""
        reader = self.reader
        data = tuple(dict.fromkeys(group.path for group in reader.groups))
        return Unordered(data, reader.wanted).regroup(scratch)


@dataclass(slots=True)
class RunSource:
    """Curated run directories: a unit is a part of one."""

    parts: tuple[tuple[Path, str], ...]  # run directory, file name
    variants: frozenset[str] = frozenset()
    wanted: tuple[Mapping[str, Any], ...] = ()  # what the lazy ones among the runs were curated for
    notes: tuple[str, ...] = ()

    @classmethod
    def open(cls, runs: Sequence[Path], variants: frozenset[str]) -> "RunSource":
        """The current parts of the runs; an unfinished run gives those that it has, and a note says so."""
        parts: list[tuple[Path, str]] = []
        notes: list[str] = []
        for run in runs:
            state = json.loads((run / "run.json").read_text("utf-8"))
            there = files(run / "questions", "part-*.parquet")
            current = [part for part in there if _stamp(run, part.name) == state["stamp"]]
            parts += [(run, part.name) for part in current]
            if len(current) < len(there) or not state["finished"]:
                notes.append(f"{address(run)} isn't finished under its present settings: {len(current)} parts of it were used")
        if not parts:
            raise InputError(
                f"{address(runs[0])}: the run holds no finished part yet; let `skillfactory curate` finish a block first"
            )
        _refuse_twins(parts)
        return cls(tuple(parts), variants, tuple(filter(None, map(_wanted, runs))), tuple(notes))

    @property
    def units(self) -> int:
        return len(self.parts)

    def size(self, unit: int) -> int:
        run, name = self.parts[unit]
        with parquet(run / "attempts" / name) as file:
            return int(file.metadata.num_rows)

    def pools(self, unit: int) -> Iterator[FullPool | Drop]:
        """A pool for every question of the part."""
        run, name = self.parts[unit]
        attempts: dict[str, list[Attempt]] = {}
        for row in _rows(run / "attempts" / name, Attempt):
            attempt = Attempt(**row | {"check": Check(row["check"]), "stop": Stop(row["stop"])})
            why = defect(attempt)
            if why is None and self.variants and attempt.variant not in self.variants:
                why = "variant_not_chosen"
            if why is None:
                attempts.setdefault(attempt.question_id, []).append(attempt)
            else:
                yield Drop("rows", attempt.id, why)
        reflections: dict[str, list[Reflection]] = {}
        for row in _rows(run / "reflections" / name, Reflection):
            reflection = Reflection(**row | {"verdict": Verdict(row["verdict"]), "stop": Stop(row["stop"])})
            reflections.setdefault(reflection.attempt_id, []).append(reflection)
        for question in _table(run / "questions" / name, ["id", "prompt", "answer"]):
            yield RunPool(question, attempts.get(question["id"], []), reflections)


def _stamp(run: Path, name: str) -> str:
    """What a part says of the settings that made it; "" if its block was never finished."""
    about = footer(run / "completions" / name) or {}
    return about.get(b"stamp", b"").decode()


def _refuse_twins(parts: Sequence[tuple[Path, str]]) -> None:
    """An error if a question is in two runs: its attempts, and so its traces, would share their ids."""
    if len({run for run, _ in parts}) == 1 and len(set(parts)) == len(parts):
        return
    seen: dict[int, int] = {}  # question → the number of its part: numbers alone, as there may be millions
    for number, (run, name) in enumerate(parts):
        for row in _table(run / "questions" / name, ["id"]):
            question = row["id"]
            other = seen.setdefault(derive(0, question), number)
            if other != number:
                names_of = f"{address(run)} and in {address(parts[other][0])}"
                raise InputError(
                    f"question '{question}' is in {names_of}: traces of both would have the same ids; "
                    "build each run into a directory of its own, or curate with another seed"
                )


def _wanted(run: Path) -> dict[str, Any]:
    """The layouts, their options and the seed that a lazy run serves; empty for an eager one."""
    settings = json.loads((run / "run.json").read_text("utf-8"))["settings"]
    if settings["mode"] != "lazy":
        return {}
    wanted = dict(settings["wanted"])
    return wanted | {"layout": tuple(wanted["layout"]), "seed": settings["seed"]}


def _rows(path: Path, record: type) -> list[dict[str, Any]]:
    return _table(path, [field.name for field in fields(record)])


def _table(path: Path, columns: Sequence[str]) -> list[dict[str, Any]]:
    """The rows of a part, some columns of them."""
    with parquet(path) as file:
        rows: list[dict[str, Any]] = file.read(list(columns)).to_pylist()
    return rows


class RunPool:
    """The usable attempts of one curated question."""

    def __init__(
        self, question: Mapping[str, str], attempts: Sequence[Attempt], reflections: Mapping[str, list[Reflection]]
    ) -> None:
        self.question_id, self.prompt, self.gold = question["id"], question["prompt"], question["answer"]
        self.variants = [attempt.variant for attempt in attempts]
        self.samples = [attempt.sample for attempt in attempts]
        self._attempts = attempts
        self._reflections = [_first_valid(attempt, reflections.get(attempt.id, [])) for attempt in attempts]

    def text(self, i: int) -> str:
        return self._attempts[i].text

    def attempt(self, i: int) -> Attempt:
        """Attempt `i`."""
        return self._attempts[i]

    def reflection(self, i: int) -> Reflection | None:
        """The first valid reflection on it."""
        return self._reflections[i]

    def fits(self, i: int, want: Want, reflected: bool) -> Fit:
        right = self._attempts[i].check is Check.RIGHT
        if (want is not Want.ANY and right is not (want is Want.RIGHT)) or (reflected and self._reflections[i] is None):
            return Fit.NO
        return Fit.YES


def _first_valid(attempt: Attempt, reflections: Sequence[Reflection]) -> Reflection | None:
    ordered = sorted(reflections, key=lambda reflection: reflection.sample)
    return next((reflection for reflection in ordered if flaw(reflection, attempt) is None), None)


_HUB_ID = re.compile(r"(?:hub:)?([\w.-]+/[\w.-]+)(?:@([\w./-]+))?")


def open_source(inputs: Sequence[str], wanted: Wanted) -> "Source | Unordered":
    """The source that the inputs make: run directories, or raw data as folders, Parquet or JSON-lines files, or Hub ids."""
    if not inputs:
        raise InputError("expected an input: a run directory, a folder or files of raw data, or a Hub id (NAME/DATASET)")
    paths = [_brought(text) for text in inputs]
    runs = [path for path in paths if (path / "run.json").is_file()]
    if runs and len(runs) < len(paths):
        raise InputError("run directories and raw data can't be mixed in one build; build them one after the other")
    if runs:
        return RunSource.open(runs, wanted.variants)
    data = [file for path in paths for file in _files(path)]
    if any(file.suffix != ".parquet" for file in data):
        return Unordered(tuple(data), wanted)
    groups = row_groups(data, wanted)
    if not groups:
        raise InputError(f"{inputs[0]}: the input holds no row")
    return RawSource.cut(RawReader(groups, wanted), groups)


@dataclass(frozen=True, slots=True)
class Unordered:
    """Raw data that must be regrouped first: JSON lines, or rows of a question that don't stand together."""

    files: tuple[Path, ...]
    wanted: Wanted

    def regroup(self, scratch: Path) -> RawSource:
        """The same rows from scratch files, each question's together."""
        tables = [file for file in self.files if file.suffix == ".parquet"]
        lines = [file for file in self.files if file.suffix != ".parquet"]
        groups = row_groups(tables, self.wanted)
        rows = chain(parquet_rows(RawReader(groups, self.wanted)), json_rows(lines, self.wanted))
        size = sum(group.size for group in groups) + sum(file.stat().st_size for file in lines)
        wanted = replace(self.wanted, columns=COLUMNS)
        sorted_groups = row_groups(regroup(rows, size, scratch), wanted)
        return RawSource.cut(RawReader(sorted_groups, wanted), sorted_groups)


def _brought(text: str) -> Path:
    """A path, or a place elsewhere; data sets of the Hub are brought to the local cache first."""
    if is_url(text):
        there = place(text)
        with reaching(there):
            names(there)
        if there.exists():
            return there
        raise InputError(f"{text}: there is no such file or folder")
    path = Path(text)
    if path.exists() and not text.startswith("hub:"):
        return path
    found = _HUB_ID.fullmatch(text)
    if not found:
        raise InputError(
            f"{text}: there is no such file or folder, and it is no Hub id (NAME/DATASET or NAME/DATASET@REVISION)"
        )
    hub = require("huggingface_hub", "data")
    try:
        where = hub.snapshot_download(
            found[1], repo_type="dataset", revision=found[2], allow_patterns=["*.parquet", "*.jsonl", "*.json"]
        )
    except (OSError, ValueError) as error:
        raise InputError(f"{text}: no such local path, and the Hub data set '{found[1]}' can't be had: {error}") from error
    return Path(where)


def _files(path: Path) -> list[Path]:
    """The data files of a folder, in order of their names, or the file itself."""
    kinds = (".parquet", ".jsonl", ".json")
    if path.is_file():
        if path.suffix not in kinds:
            raise InputError(f"{address(path)}: expected a file that ends in .parquet or .jsonl")
        return [path]
    every = below(path)
    found = [file for file in every if file.suffix == ".parquet"]
    lines = [file for file in every if file.suffix == ".jsonl"]
    if found and lines:
        raise InputError(
            f"{address(path)}: holds both Parquet ({found[0].name}) and JSON lines ({lines[0].name}): "
            "name the files that you mean"
        )
    found = found or lines or [file for file in every if file.suffix == ".json"]
    if not found:
        raise InputError(f"{address(path)}: the folder holds no .parquet or .jsonl file")
    return found
