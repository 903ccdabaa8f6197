"""The course of a study: plan, work, equal steps, tables."""

import shlex
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from skillfactory.progress import Progress
from skillfactory.rundir import locked
from skillfactory.study import StudyConfig, StudySummary
from skillfactory.study.plan import Node, Plan, plan, value
from skillfactory.study.recipe import Recipe, read
from skillfactory.study.work import finished, work


def conduct(config: StudyConfig, progress: Progress) -> StudySummary:
    """Conducts a study; see `skillfactory.study.study`."""
    recipe = read(config.study)
    if config.output is not None:
        recipe = replace(recipe, run=replace(recipe.run, output=config.output))
    made = plan(recipe, config.arms, config.seeds)
    if config.dry_run:
        return _planned(recipe, made)
    recipe.run.output.mkdir(parents=True, exist_ok=True)
    with locked(recipe.run.output):
        work(made, made.nodes, config.workers or recipe.run.workers, progress)
    return StudySummary((f"{recipe.run.output}: {len(made.nodes)} stages are done",), {"stages": [*made.nodes]})


def _planned(recipe: Recipe, made: Plan) -> StudySummary:
    """The plan, in the order in which one worker would run it."""
    ordered = made.order()
    rows = [_row(made, node) for node in ordered]
    return StudySummary(
        (*_lines(recipe, made, ordered), *notes(recipe, made)), {"plan": rows, "notes": list(notes(recipe, made))}
    )


def _row(made: Plan, node: Node) -> dict[str, Any]:
    return {
        "id": node.id,
        "stage": node.stage,
        "command": ["skillfactory", node.command, "--recipe", str(node.folder / "recipe.yaml")],
        "seed": node.seed,
        "arms": list(made.users(node.id)),
        "needs": list(node.needs),
        "done": finished(node),
        "options": dict(node.options),
    }


def _lines(recipe: Recipe, made: Plan, ordered: list[Node]) -> Iterator[str]:
    done = sum(map(finished, ordered))
    seeds = ", ".join(str(seed) for seed in dict.fromkeys(node.seed for node in ordered))
    yield f"{recipe.path}: {len(ordered)} stages in {recipe.run.output}, {done} of them done; seeds {seeds}"
    for node in ordered:
        state = "done" if finished(node) else "open"
        yield f"  {state}  seed {node.seed}  {node.id}  ({', '.join(made.users(node.id))})"
        if not finished(node):
            yield f"        {shlex.join(_row(made, node)['command'])}"


def notes(recipe: Recipe, made: Plan) -> Iterator[str]:
    """What a reader should know of the recipe itself: arms with other budgets of RL tokens."""
    budgets: dict[str, int | None] = {}
    for lineage in made.lineages:
        trained = [made.nodes[name] for name in lineage.nodes if made.nodes[name].command == "grpo"]
        tokens = [value(node, "max_generated_tokens") for node in trained]
        if tokens:
            budgets[lineage.arm] = None if None in tokens else sum(tokens)
    if len({*budgets.values()}) > 1:
        said = ", ".join(f"{arm} {tokens:,}" if tokens else f"{arm} without a limit" for arm, tokens in budgets.items())
        yield f"arms are given different numbers of RL tokens (max_generated_tokens): {said}"
