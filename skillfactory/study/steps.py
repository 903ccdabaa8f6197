"""Equal steps beside equal tokens: kept checkpoints of the arms that made more steps, judged as well."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from skillfactory.study.plan import Lineage, Made, Node, Plan, evaluate_at, value
from skillfactory.study.recipe import Recipe
from skillfactory.study.work import account, finished

TOLERANCE = 1.05  # arms whose steps or tokens differ by less count as equal


@dataclass(slots=True)
class EqualSteps:
    """What the arms of a study come to at equal steps."""

    nodes: dict[tuple[str, int, str], str] = field(default_factory=dict)  # (arm, seed, evaluation) → node that judges it
    steps: dict[tuple[str, int], int] = field(default_factory=dict)  # (arm, seed) → steps of the model that is judged
    early: set[str] = field(default_factory=set)  # arms of which a kept checkpoint is judged
    notes: list[str] = field(default_factory=list)

    def of(self, chosen: Plan) -> list[str]:
        """The nodes that judge the arms and seeds of a part of the plan."""
        wanted = {(each.arm, each.seed) for each in chosen.lineages}
        return [node for (arm, seed, _), node in self.nodes.items() if (arm, seed) in wanted]


def trained(made: Plan, lineage: Lineage) -> Node | None:
    """The finished reinforcement that an arm ends with; None if it ends with something else."""
    last = made.nodes[lineage.nodes[-1]] if lineage.nodes else None
    return last if last is not None and last.command == "grpo" and finished(last) else None


def equal_steps(made: Plan, recipe: Recipe) -> EqualSteps:
    """The evaluations at the fewest steps that any arm of a seed made; those of kept checkpoints are added to the plan."""
    found = EqualSteps()
    for seed in dict.fromkeys(lineage.seed for lineage in made.lineages):
        ended = {each.arm: (each, node) for each in made.lineages if each.seed == seed and (node := trained(made, each))}
        steps = {arm: int(account(node)["summary"]["steps"]) for arm, (_, node) in ended.items()}
        for arm, (lineage, node) in ended.items():
            _judge(found, made, recipe, lineage, node, (steps[arm], min(steps.values())))
    return found


def _judge(found: EqualSteps, made: Plan, recipe: Recipe, lineage: Lineage, node: Node, steps: tuple[int, int]) -> None:
    """Adds the evaluations of one arm under one seed; `steps`: what it made, and the fewest of any arm."""
    own, fewest = steps
    arm, seed = lineage.arm, lineage.seed
    if own <= TOLERANCE * fewest:
        found.nodes |= {(arm, seed, name): id for name, id in lineage.evaluations.items()}
        found.steps[arm, seed] = own
        return
    kept = max((step for step in _kept(node) if step <= fewest), default=None)
    if kept is None:
        found.notes.append(
            f"seed {seed}: {arm} made {own} steps and another arm {fewest}, and no checkpoint up to there was kept (keep_every)"
        )
        return
    model = Made(str(node.output / "steps" / str(kept)), f"{node.id}@{kept}", node)
    for evaluation in recipe.evaluations:
        if evaluation.stage.name in lineage.evaluations:
            judging = evaluate_at(made, recipe, evaluation, model, seed)
            found.nodes[arm, seed, evaluation.stage.name] = judging.id
    found.steps[arm, seed] = kept
    found.early.add(arm)


def _kept(node: Node) -> Iterator[int]:
    """The steps whose models a reinforcement kept."""
    for path in (node.output / "steps").glob("*/config.json"):
        if path.parent.name.isdigit():
            yield int(path.parent.name)


def budgets(made: Plan) -> Iterator[str]:
    """What a reader should know of the RL tokens of arms: other limits by the recipe, other numbers in fact."""
    limits: dict[str, int | None] = {}
    spent: dict[int, dict[str, int]] = {}
    for lineage in made.lineages:
        nodes = [made.nodes[name] for name in lineage.nodes if made.nodes[name].command == "grpo"]
        asked = [value(node, "max_generated_tokens") for node in nodes]
        if nodes:
            limits[lineage.arm] = None if None in asked else sum(asked)
        if nodes and all(map(finished, nodes)):
            tokens = sum(int(account(node)["summary"]["generated_tokens"]) for node in nodes)
            spent.setdefault(lineage.seed, {})[lineage.arm] = tokens
    if len({*limits.values()}) > 1:
        yield f"the recipe gives arms different numbers of RL tokens (max_generated_tokens): {_told(limits)}"
    for seed, tokens_of in spent.items():
        if max(tokens_of.values()) > TOLERANCE * min(tokens_of.values()):
            yield f"seed {seed}: the RL tokens of arms differ by more than {TOLERANCE - 1:.0%}: {_told(tokens_of)}"


def _told(tokens: Mapping[str, int | None]) -> str:
    return ", ".join(f"{arm} {'no limit' if count is None else f'{count:,}'}" for arm, count in tokens.items())
