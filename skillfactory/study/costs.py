"""What the stages of a study cost, and how its trainings went."""

from collections.abc import Iterator, Sequence

from skillfactory.gathering.courses import training
from skillfactory.report import Stage, Training
from skillfactory.study.plan import Plan
from skillfactory.study.work import account, finished


def stages(made: Plan, rows: Sequence[str]) -> Iterator[Stage]:
    """What each finished node cost. Checkpoints judged at equal steps count for all arms: the comparison needs them."""
    for node in filter(finished, made.nodes.values()):
        about = account(node)
        said = about["summary"]
        yield Stage(
            node.stage,
            tuple(name for name in made.users(node.id) if name in rows),
            node.seed,
            about["seconds"],
            about["cpu_seconds"],
            said.get("steps"),
            said.get("generated_tokens", said.get("tokens") if node.command in ("curate", "evaluate") else None),
            said.get("trained_tokens"),
        )


def trainings(made: Plan) -> Iterator[Training]:
    """The course of every finished training, for the first arm that it serves."""
    for node in made.nodes.values():
        if node.command in ("sft", "grpo") and finished(node):
            yield training(node.output, node.command, made.users(node.id)[0], node.seed)
