"""How the base model is trained: the options and their defaults, the length of contexts and the learning rate at a step."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillfactory.errors import ConfigError

SHARDS = 2  # of a step; two processes take one each
PHASES = ((0.35, 512), (0.85, 1024), (1.0, 2048))  # up to this share of the steps: tokens of a context
WARM_UP, HOLD, FLOOR = 50, 0.3, 0.02


@dataclass(frozen=True)
class TrainConfig:
    """How to train."""

    output: Path
    steps: int = 6000
    seed: int = 0
    processes: int = 2
    rate: float = 4e-3
    save_steps: int = 100  # from checkpoint to checkpoint

    def __post_init__(self) -> None:
        if self.processes not in (1, SHARDS):
            raise ConfigError(f"processes: expected 1 or {SHARDS}, came {self.processes}")
        for name, value in (("steps", self.steps), ("save_steps", self.save_steps)):
            if value < 1:
                raise ConfigError(f"{name}: expected 1 or more, came {value}")

    def settings(self) -> dict[str, Any]:
        """What the weights depend on; not the number of processes, nor how often they are saved."""
        return {"steps": self.steps, "seed": self.seed, "rate": self.rate}


def length_at(step: int, steps: int) -> int:
    """Tokens of a context at a step."""
    return next(length for until, length in PHASES if step < until * steps or until == 1.0)


def rate_at(step: int, steps: int, peak: float) -> float:
    """The learning rate at a step: a warm-up, a plateau, a straight line down."""
    done = step / steps
    return peak * min(1.0, (step + 1) / WARM_UP) * (1.0 if done < HOLD else max(FLOOR, (1 - done) / (1 - HOLD)))
