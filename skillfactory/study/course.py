"""The course of a study: plan, work, equal steps, table, report."""

import json
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, replace
from typing import Any

from skillfactory.forecast.plan import Plan as Forecast
from skillfactory.forecast.plan import Planning
from skillfactory.progress import Progress
from skillfactory.rundir import locked, write_text
from skillfactory.study import StudyConfig, StudySummary
from skillfactory.study.plan import Node, Plan, plan
from skillfactory.study.recipe import Recipe, read
from skillfactory.study.steps import EqualSteps, budgets, equal_steps
from skillfactory.study.work import StageFailedError, account, finished, work


def conduct(config: StudyConfig, progress: Progress) -> StudySummary:
    """Conducts a study; see `skillfactory.study.study`."""
    recipe = read(config.study)
    output, model = config.output or recipe.run.output, config.model or recipe.run.model
    recipe = replace(recipe, run=replace(recipe.run, output=output, model=model))
    chosen = plan(recipe, config.arms, config.seeds)
    if config.dry_run:
        return _planned(recipe, chosen, config.planning)
    workers = config.workers or recipe.run.workers
    recipe.run.output.mkdir(parents=True, exist_ok=True)
    with locked(recipe.run.output):
        made, failed = plan(recipe), None
        try:
            work(made, chosen.nodes, workers, progress)
        except StageFailedError as error:
            failed = error
        equal = equal_steps(made, recipe)
        if failed is None:
            work(made, equal.of(chosen), workers, progress)
        summary = _written(recipe, made, equal)
    if failed is not None:
        raise failed
    return summary


def _written(recipe: Recipe, made: Plan, equal: EqualSteps) -> StudySummary:
    """Writes the tables, the numbers and the report of all that is finished, selected now or not."""
    from skillfactory.gathering.pages import completed
    from skillfactory.gathering.stored import ACCOUNT, FIELDS
    from skillfactory.outputs import outputs
    from skillfactory.report.document import page
    from skillfactory.report.table import costs, differences, results, skills
    from skillfactory.study.gather import gather

    study, runs = gather(recipe, made, equal)
    folder = recipe.run.output
    notes = "\n".join(f"- {note}" for note in study.notes)
    table = "\n\n".join(filter(None, (results(study), skills(study), differences(study), notes)))
    spent = costs(study)
    write_text(folder / "table.md", f"{table}\n")
    write_text(folder / "costs.md", f"{spent}\n")
    held = asdict(study)
    values = {name: held[name] for name in FIELDS} | {"costs": held["stages"], "runs": runs, "stages": _stages(made)}
    write_text(folder / ACCOUNT, json.dumps(values, indent=1, ensure_ascii=False) + "\n")
    shown = outputs([str(folder)]) if any(map(finished, made.nodes.values())) else []
    write_text(folder / "report.html", page(completed(study, shown)))
    lines = [*table.splitlines(), "", *spent.splitlines(), "", f"{folder}: table.md, costs.md, study.json, report.html"]
    return StudySummary(tuple(lines), values)


def _stages(made: Plan) -> list[dict[str, Any]]:
    """Every finished node with what it cost and what its command said."""
    return [_row(made, node) | account(node) for node in made.nodes.values() if finished(node)]


def _planned(recipe: Recipe, made: Plan, planning: Planning) -> StudySummary:
    """The plan, in the order in which one worker would run it."""
    from skillfactory.study.forecast import forecasts, summary

    ordered, found = made.order(), forecasts(made, planning)
    told = {name: forecast.to_dict() for name, forecast in found.items()}
    rows = [_row(made, node) | {"done": finished(node), "forecast": told.get(node.id)} for node in ordered]
    notes = tuple(f"note: {note}" for note in budgets(made))
    lines = (*_lines(recipe, made, ordered, found), *summary(found, planning), *notes)
    return StudySummary(lines, {"plan": rows, "notes": list(budgets(made))})


def _row(made: Plan, node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "stage": node.stage,
        "command": node.command,
        "seed": node.seed,
        "arms": list(made.users(node.id)),
        "needs": list(node.needs),
        "output": str(node.output),
        "options": dict(node.options),
    }


def _lines(recipe: Recipe, made: Plan, ordered: list[Node], found: Mapping[str, Forecast]) -> Iterator[str]:
    done = sum(map(finished, ordered))
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(node.seed for node in ordered))
    yield f"{recipe.path}: {len(ordered)} stages in {recipe.run.output}, {done} of them done; seeds {seeds}"
    for node in ordered:
        arms = ", ".join(made.users(node.id))
        yield f"  {'done' if finished(node) else 'open'}  seed {node.seed}  {node.id}  ({arms})"
        if not finished(node):
            yield f"        skillfactory {node.command} --recipe {shlex.quote(str(node.folder / 'recipe.yaml'))}"
            if node.id in found:
                yield f"        {found[node.id].line}"
