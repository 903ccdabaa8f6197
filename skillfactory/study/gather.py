"""All that a study has come to so far, as a report takes it: numbers, texts, and where they are from."""

import platform
import shlex
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from skillfactory import __version__
from skillfactory.gathering.courses import MEASURES
from skillfactory.gathering.scores import Judged, Row, cell, comparison, groups_of, inference
from skillfactory.report import Arm, Comparison, Study
from skillfactory.study.costs import stages, trainings
from skillfactory.study.plan import Plan
from skillfactory.study.recipe import Recipe
from skillfactory.study.steps import EqualSteps, budgets
from skillfactory.study.work import account, finished

_INTERVALS = (
    "Means over seeds; the intervals are of new questions and, from two seeds on, of new seeds too. "
    "Differences and ratios are paired by question and by seed."
)
_PACKAGES = ("torch", "transformers", "trl", "vllm")


def gather(recipe: Recipe, made: Plan, equal: EqualSteps) -> tuple[Study, list[dict[str, Any]]]:
    """The study as a report takes it, but for what its stages tell of themselves, and where each evaluation lies."""
    rows = [*_rows(recipe, made), *_at_equal_steps(recipe, made, equal)]
    columns = groups_of(rows)
    found = tuple(filter(None, (cell(row, name, groups) for row in rows for name, (_, groups) in columns.items())))
    compared = tuple(_comparisons(recipe, rows, columns))
    about = {arm.name: " → ".join(stage.name for stage in arm.stages) or "the base model" for arm in recipe.arms}
    study = Study(
        title=recipe.run.title or recipe.path.stem,
        about=recipe.run.about,
        arms=tuple(Arm(row.name, row.label, about[row.arm], tuple(row.seeds)) for row in rows),
        groups=tuple(group for group, _ in columns.values()),
        cells=found,
        comparisons=compared,
        measures=MEASURES,
        trainings=tuple(trainings(made)),
        stages=tuple(stages(made, [row.name for row in rows])),
        intervals=_INTERVALS,
        notes=(*_missing(recipe, rows), *_given_up(made), *budgets(made), *inference(rows, found, compared), *equal.notes),
        settings={"models": ", ".join(recipe.run.model), "seeds": ", ".join(map(str, recipe.run.seeds))},
        versions={"skillfactory": __version__, "python": platform.python_version(), **dict(_versions())},
        command=shlex.join(["skillfactory", "run", str(recipe.path)]),
    )
    return study, list(_runs(rows))


def _rows(recipe: Recipe, made: Plan) -> Iterator[Row]:
    """A row for every arm, and one more for each further evaluation that it has."""
    for arm in recipe.arms:
        names = [each.stage.name for each in recipe.evaluations if arm.name in each.arms]
        for place, name in enumerate(names or [""]):
            own = [each for each in made.lineages if each.arm == arm.name and name in each.evaluations]
            nodes = {each.seed: made.nodes[each.evaluations[name]] for each in own}
            judged = {seed: Judged(node.output) for seed, node in nodes.items() if finished(node)}
            more = (f"/{name}", f", {name}") if place else ("", "")
            yield Row(arm.name + more[0], arm.label + more[1], arm.name, name, judged)


def _at_equal_steps(recipe: Recipe, made: Plan, equal: EqualSteps) -> Iterator[Row]:
    """A row for every arm of which a kept checkpoint was judged, under its first evaluation."""
    for arm in recipe.arms:
        name = next((each.stage.name for each in recipe.evaluations if arm.name in each.arms), "")
        if arm.name in equal.early and name:
            nodes = {seed: id for (own, seed, evaluation), id in equal.nodes.items() if (own, evaluation) == (arm.name, name)}
            steps = sorted({equal.steps[arm.name, seed] for seed in nodes})
            judged = {seed: Judged(made.nodes[id].output) for seed, id in nodes.items() if finished(made.nodes[id])}
            told = "–".join(str(step) for step in dict.fromkeys((steps[0], steps[-1])))
            yield Row(f"{arm.name}@steps", f"{arm.label}, at {told} steps", arm.name, name, judged)


def _comparisons(recipe: Recipe, rows: list[Row], columns: dict[str, Any]) -> Iterator[Comparison]:
    """The comparisons of the recipe, and the same at equal steps where these are other models."""
    named = {row.name: row for row in rows}
    for pair in recipe.compare:
        early = tuple(f"{name}@steps" if f"{name}@steps" in named else name for name in pair)
        for (one, other), note in {pair: "", early: "at equal steps"}.items() if early != pair else ((pair, ""),):
            if one in named and other in named:
                found = (comparison(named[one], named[other], name, groups, note) for name, (_, groups) in columns.items())
                yield from filter(None, found)


def _missing(recipe: Recipe, rows: list[Row]) -> Iterator[str]:
    """Notes on what is not evaluated yet."""
    for row in rows:
        missing = [str(seed) for seed in recipe.run.seeds if seed not in row.seeds]
        if missing and row.evaluation:
            yield f"{row.label}: not evaluated for seed {', '.join(missing)}"


def _given_up(made: Plan) -> Iterator[str]:
    """Notes on requests that an engine failed to serve: what rests on them is not what the recipe asks for."""
    for node in filter(finished, made.nodes.values()):
        failed = sum(account(node)["summary"].get("engine_errors", {}).values())
        if failed:
            yield f"{node.id}: the engine gave up on {failed:,} requests; remove {node.note.name} from its folder to ask again"


def _runs(rows: list[Row]) -> Iterator[dict[str, Any]]:
    """Where the responses and the numbers of each row and seed are, with these."""
    for row in rows:
        for seed, judged in row.seeds.items():
            numbers = {name: judged.numbers[name] for name in ("groups", "kinds")}
            yield {"row": row.name, "arm": row.arm, "seed": seed, "output": str(judged.output), **numbers}


def _versions() -> Iterator[tuple[str, str]]:
    for package in _PACKAGES:
        try:
            yield package, version(package)
        except PackageNotFoundError:
            continue
