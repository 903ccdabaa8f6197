"""What the stages of a study cost, and how its trainings went."""

import json
from collections.abc import Iterator, Sequence

from skillfactory.report import Measure, Stage, Training
from skillfactory.study.plan import Node, Plan
from skillfactory.study.work import account, finished
from skillfactory.train.checkpoints import METRICS

MEASURES = (
    Measure("reward", "Reward", "share"),
    Measure("response_length", "Tokens of a response", "tokens"),
    Measure("cut_off", "Responses cut off", "share"),
    Measure("no_signal", "Questions without signal", "share"),
    Measure("answers", "Answers in a response"),
    Measure("reflections", "Reflections in a response"),
    Measure("entropy", "Entropy", "nats"),
    Measure("kl", "KL from the start", "nats"),
    Measure("loss", "SFT: loss", "nats"),
)


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
            yield _training(node, made.users(node.id)[0])


def _training(node: Node, arm: str) -> Training:
    lines = [json.loads(line) for line in (node.output / METRICS).read_text("utf-8").splitlines()]
    # A step may be several updates of the weights, which is what the trainer counts.
    steps = account(node)["summary"].get("steps") or 0
    updates = max(1, round(lines[-1]["step"] / steps)) if lines and steps else 1
    names = [measure.name for measure in MEASURES if (measure.name == "loss") == (node.command == "sft")]
    series = {name: tuple(line.get(name) for line in lines) for name in names if any(name in line for line in lines)}
    counted = bool(lines) and all("generated_tokens" in line for line in lines)
    tokens = tuple(line["generated_tokens"] for line in lines) if counted else ()
    return Training(arm, node.seed, tuple(line["step"] / updates for line in lines), tokens, series)
