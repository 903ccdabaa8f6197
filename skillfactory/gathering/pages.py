"""What a page shows of some runs: a study's own numbers where it is one study, else those of its runs, and their details."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from skillfactory.errors import InputError
from skillfactory.evaluation import NUMBERS
from skillfactory.gathering.budgets import effects, spendings
from skillfactory.gathering.courses import MEASURES, training
from skillfactory.gathering.origins import Ran, accounts, origins
from skillfactory.gathering.picks import Picked, picked
from skillfactory.gathering.scores import Asked, Judged, Row, cell, groups_of, numbers_of
from skillfactory.gathering.sheets import sheets
from skillfactory.gathering.stored import stored
from skillfactory.gathering.texts import selections, traces
from skillfactory.outputs import Output, What, what_is
from skillfactory.progress import Progress, Silent
from skillfactory.report import Arm, Cell, Estimate, Group, Lengths, Selection, Study, Training

_INTERVALS = (
    "Intervals are of new questions, clustered by question; where a row is several runs, means over these, "
    "and the intervals are of new runs too."
)
_TRAININGS = (What.SFT, What.GRPO)


def gathered(paths: Sequence[str], found: Sequence[Output], title: str = "", progress: Progress | None = None) -> Study:
    """All that a page shows of the outputs `found` at `paths`. One study alone is shown as its own page shows it."""
    alone = Path(paths[0]) if len(paths) == 1 and Path(paths[0]).is_dir() else None
    study = stored(alone) if alone is not None and what_is(alone) is What.STUDY else None
    study = study if study is not None else _loose(found)
    return completed(replace(study, title=title or study.title), found, progress)


def completed(study: Study, found: Sequence[Output], progress: Progress | None = None) -> Study:
    """The study with what its outputs tell beyond it: accounts, sheets, lengths, texts and origins."""
    rows = _rows(found, [arm.name for arm in study.arms])
    known = {group.name for group in study.groups}
    columns = {name: groups for name, (_, groups) in groups_of(rows).items() if name in known}
    names = {arm.name for arm in study.arms}
    runs = [Ran(output) for output in found]
    read = list(_read(study, rows, runs, progress or Silent()))
    return replace(
        study,
        stages=study.stages or tuple(ran.stage(tuple(arm for arm in ran.output.arms if arm in names)) for ran in runs),
        accounts=tuple(accounts(runs)),
        sheets=tuple(sheets(rows, columns)),
        lengths=tuple(lengths for lengths, _ in read if lengths is not None),
        spendings=tuple(spendings(found)),
        effects=tuple(effects(found)),
        selections=tuple(selection for _, several in read for selection in several),
        origins=tuple(origins(runs)),
    )


def _rows(found: Sequence[Output], arms: Sequence[str]) -> list[Row]:
    """A row for each arm that was evaluated, in the order of `arms`, with its evaluations by seed."""
    seeds: dict[str, dict[int, Judged]] = {}
    for output in found:
        if output.what is What.EVALUATION:
            for arm, seed in _uses(output):
                own = seeds.setdefault(arm, {})
                own[len(own) if seed is None else seed] = Judged(output.path)
    return [Row(arm, arm, arm, "", seeds[arm]) for arm in arms if arm in seeds]


def _uses(output: Output) -> tuple[tuple[str, int | None], ...]:
    """The arms and seeds of an output; one without is an arm of its own."""
    return output.uses or ((output.label, None),)


def _read(
    study: Study, rows: Sequence[Row], runs: Sequence[Ran], progress: Progress
) -> Iterator[tuple[Lengths | None, list[Selection]]]:
    """The lengths and the notable responses of each arm, then the traces of each build; those of several seeds together."""
    folders: dict[str, list[Path]] = {}
    for ran in runs:
        if ran.what is What.TRACES:
            folders.setdefault(ran.title, []).append(ran.output.path)
    progress.begin("report", "arms", len(rows) + len(folders))
    labels = {arm.name: arm.label for arm in study.arms}
    try:
        for row in rows:
            judged = _runs(row)
            counted: Picked = picked({run: folder for run, (folder, _) in judged.items()})
            yield counted.lengths(row.name), list(selections(counted, labels[row.name], judged))
            progress.advance(1)
        for title, several in folders.items():
            yield None, list(traces(several, f"Traces: {title}"))
            progress.advance(1)
    finally:
        progress.end()


def _runs(row: Row) -> dict[int, tuple[Path, int | None]]:
    """The folders of a row, each once, with the first seed that it serves."""
    firsts: dict[Path, int] = {}
    for seed, judged in row.seeds.items():
        firsts.setdefault(judged.output, seed)
    several = len(row.seeds) > 1
    return {place: (folder, seed if several else None) for place, (folder, seed) in enumerate(firsts.items())}


def _loose(found: Sequence[Output]) -> Study:
    """The numbers of runs that are no study, each by its label."""
    for output in found:
        if output.what is What.EVALUATION and not (output.path / NUMBERS).is_file():
            raise InputError(
                f"{output.path}: this evaluation has not ended, it has no {NUMBERS}; the same `skillfactory evaluate` goes on"
            )
    names = [arm for output in found if output.what is What.EVALUATION for arm, _ in _uses(output)]
    names += [_uses(output)[0][0] for output in found if output.what in _TRAININGS]
    rows = _rows(found, list(dict.fromkeys(names)))
    columns = groups_of(rows)
    runs = [Ran(output) for output in found]
    seeds = {row.name: tuple(row.seeds) if len(row.seeds) > 1 else () for row in rows}
    return Study(
        title=_title(found),
        about="",
        arms=tuple(Arm(name, name, seeds=seeds.get(name, ())) for name in dict.fromkeys(names)),
        groups=tuple(group for group, _ in columns.values()),
        cells=tuple(_cells(rows, columns)),
        measures=MEASURES,
        trainings=tuple(_trainings(found)),
        stages=tuple(ran.stage(()) for ran in runs),
        intervals=_INTERVALS if rows else "",
        notes=tuple(_unfinished(runs)),
    )


def _title(found: Sequence[Output]) -> str:
    return found[0].label if len(found) == 1 else f"{len(found)} runs: {', '.join(output.label for output in found)}"


def _cells(rows: Sequence[Row], columns: Mapping[str, tuple[Group, tuple[Asked, ...]]]) -> Iterator[Cell]:
    """The cells of all rows; those of a single run hold the very interval of its evaluation.json."""
    for row in rows:
        for name, (_, groups) in columns.items():
            made = cell(row, name, groups)
            if made is None:
                continue
            numbers = numbers_of(next(iter(row.seeds.values())), groups) if len(row.seeds) == 1 else None
            if numbers is not None:
                held = numbers["accuracy"]
                made = replace(made, accuracy=Estimate(held["value"], held["low"], held["high"]))
            yield made


def _trainings(found: Sequence[Output]) -> Iterator[Training]:
    for output in found:
        if output.what in _TRAININGS:
            yield training(output.path, output.what.value, _uses(output)[0][0], output.seed or 0)


def _unfinished(runs: Sequence[Ran]) -> Iterator[str]:
    """Notes on runs that have not ended."""
    for ran in runs:
        if ran.said.get("finished") is False:
            yield f"{ran.output.label}: `skillfactory {ran.what.value}` has not ended here, and the numbers are those so far"
