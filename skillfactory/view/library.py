"""The runs that are looked at: their indexes, and which of them were made from which."""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError
from skillfactory.outputs import Output, What, outputs, what_is
from skillfactory.progress import Progress
from skillfactory.view.index import Index, cache_folder, remove_unused, stamp
from skillfactory.view.reading import parts
from skillfactory.view.tables import Item, Table

_ACCOUNTS = ("run.json", "build.json")


@dataclass(frozen=True, slots=True)
class Run:
    """A run with its index. `sources` are the numbers of the runs whose attempts its traces are made of."""

    number: int  # its place in the library, and in addresses
    output: Output
    index: Index
    account: dict[str, Any]  # what it says of itself
    sources: tuple[int, ...] = ()
    missing: tuple[str, ...] = ()  # inputs of a build that weren't found

    def changed(self) -> bool:
        """Whether its tables have other files than when it was opened."""
        return self.index.meta["files"] != stamp(self.output.path)


@dataclass(frozen=True, slots=True)
class Library:
    """All runs that are looked at, in order."""

    runs: tuple[Run, ...]
    silent: tuple[str, ...] = ()  # the labels of what was named and holds no texts

    @classmethod
    def open(cls, paths: Sequence[str], progress: Progress, cache: Path | None = None) -> "Library":
        """The runs at the paths (PATH or LABEL=PATH, studies too), and those that their traces were made from.

        Indexes that are missing or not current are made first. InputError names a path at which there is nothing to see.
        """
        folder = cache_folder() if cache is None else cache
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        remove_unused(folder)
        named = outputs(paths)
        shown = [output for output in named if parts(output.path)]
        silent = [output for output in named if not parts(output.path)]
        if not shown:
            raise InputError(
                f"{', '.join(str(output.path) for output in silent)}: nothing to look at here; expected runs of `skillfactory "
                "curate`, `build`, `evaluate`, `budget` or `intervene`, or a study, with questions, traces or responses"
            )
        return cls(tuple(_opened(_with_sources(shown), folder, progress)), tuple(output.label for output in silent))

    def attempt(self, run: Run, id: str) -> tuple[Run, Item] | None:
        """The attempt with this id in the runs that `run` was made from, or in `run` itself."""
        for number in (run.number, *run.sources):
            item = self.runs[number].index.found(id, Table.ATTEMPT)
            if item is not None:
                return self.runs[number], item
        return None

    def question(self, run: Run, id: str) -> tuple[Run, Item] | None:
        """The question with this id: with its facts where a run that `run` was made from has them, else from any run.

        Ids of questions tell them apart whichever run asks them.
        """
        near = (*run.sources, run.number)
        for number in (*near, *(other.number for other in self.runs if other.number not in near)):
            item = self.runs[number].index.found(id, Table.QUESTION)
            if item is not None:
                return self.runs[number], item
        return None

    def made_from(self, run: Run) -> Iterator[Run]:
        """The runs whose traces are made of this one's attempts."""
        return (other for other in self.runs if run.number in other.sources)


def _with_sources(shown: Sequence[Output]) -> list[tuple[Output, list[Path], list[str]]]:
    """The outputs, sources before what is made from them, each with its sources and those that weren't found."""
    by_path = {output.path.resolve(): output for output in shown}
    ordered: dict[Path, tuple[Output, list[Path], list[str]]] = {}
    for output in shown:
        paths, missing = _sources(output)
        for path in paths:
            if path not in ordered:
                known = by_path.get(path) or outputs([str(path)])[0]
                ordered[path] = (known, [], [])
        ordered.setdefault(output.path.resolve(), (output, paths, missing))
    named = [ordered[path] for path in by_path]
    return named + [entry for path, entry in ordered.items() if path not in by_path]


def _sources(output: Output) -> tuple[list[Path], list[str]]:
    """Where the runs lie that traces were built from, and what of them wasn't found."""
    if output.what is not What.TRACES:
        return [], []
    inputs = _account(output.path).get("settings", {}).get("inputs", ())
    found = [(str(name), _located(output.path.resolve(), str(name))) for name in inputs if isinstance(name, str)]
    return [path for _, path in found if path is not None], [name for name, path in found if path is None]


def _located(traces: Path, name: str) -> Path | None:
    """The run that a build calls `name`: as it is, or near the traces if both were moved together."""
    given = Path(name)
    places = [given] + [
        parent / Path(*given.parts[start:]) for start in range(len(given.parts)) for parent in traces.parents if start or parent
    ]
    for place in places:
        if _is_run(place):
            return place.resolve()
    return None


def _is_run(path: Path) -> bool:
    try:
        return path.is_dir() and what_is(path) is What.CURATION
    except (InputError, OSError):
        return False


def _opened(found: Iterable[tuple[Output, list[Path], list[str]]], cache: Path, progress: Progress) -> Iterator[Run]:
    """The runs in order, opened with their sources before them."""
    listed = list(found)
    numbers = {output.path.resolve(): number for number, (output, _, _) in enumerate(listed)}
    indexes: dict[int, Index] = {}
    for number in sorted(range(len(listed)), key=lambda each: len(listed[each][1])):  # those made from nothing first
        output, paths, _ = listed[number]
        sources = [indexes[numbers[path]] for path in paths]

        def known(question: str, sources: Sequence[Index] = sources) -> tuple[str, str] | None:
            return next((topic for source in sources if (topic := source.topic(question)) is not None), None)

        depends = " ".join(source.meta["stamp"] for source in sources)
        indexes[number] = Index.open(output.path, cache, known, progress, (output.label, depends))
    for number, (output, paths, missing) in enumerate(listed):
        sources_of = tuple(numbers[path] for path in paths)
        yield Run(number, output, indexes[number], _account(output.path), sources_of, tuple(missing))


def _account(run: Path) -> dict[str, Any]:
    """What a run says of itself, {} if it says nothing that can be read: the tables are what is shown."""
    for name in _ACCOUNTS:
        if (run / name).is_file():
            try:
                account = json.loads((run / name).read_text("utf-8"))
            except ValueError:
                continue
            return account if isinstance(account, dict) else {}
    return {}
