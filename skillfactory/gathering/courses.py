"""How trainings went, from the lines that they log."""

import json
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError
from skillfactory.report import Measure, Training
from skillfactory.train.checkpoints import ACCOUNT, METRICS

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


def training(folder: Path, command: str, arm: str, seed: int) -> Training:
    """The course of the training in `folder`; one without a logged step has no points."""
    path = folder / METRICS
    lines = _lines(path) if path.is_file() else []
    # A step may be several updates of the weights, which is what the trainer counts.
    steps = _steps(folder)
    updates = max(1, round(lines[-1]["step"] / steps)) if lines and steps else 1
    names = [measure.name for measure in MEASURES if (measure.name == "loss") == (command == "sft")]
    series = {name: tuple(line.get(name) for line in lines) for name in names if any(name in line for line in lines)}
    counted = bool(lines) and all("generated_tokens" in line for line in lines)
    tokens = tuple(line["generated_tokens"] for line in lines) if counted else ()
    return Training(arm, seed, tuple(line["step"] / updates for line in lines), tokens, series)


def _lines(path: Path) -> list[dict[str, Any]]:
    """The logged steps."""
    try:
        found = [json.loads(line) for line in path.read_text("utf-8").splitlines() if line.strip()]
    except ValueError as error:
        raise InputError(f"{path}: expected a JSON object on each line, as a training logs its steps: {error}") from error
    for number, line in enumerate(found, 1):
        if not isinstance(line, dict) or not isinstance(line.get("step"), int | float):
            raise InputError(f"{path}: line {number}: expected an object with a number 'step', as a training logs its steps")
    return found


def _steps(folder: Path) -> int:
    """How many steps the account counts; 0 if it has none yet."""
    account = json.loads((folder / ACCOUNT).read_text("utf-8"))
    return int(account.get("steps") or 0)
