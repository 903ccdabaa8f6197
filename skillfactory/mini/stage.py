"""`skillfactory mini`: what makes the embedded model, and what it is made from."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from skillfactory.errors import ConfigError
from skillfactory.mini.schedule import TrainConfig
from skillfactory.progress import Progress


@dataclass(frozen=True, slots=True)
class MiniConfig:
    """Options of `skillfactory mini`."""

    action: Literal["train", "replay", "texts", "probe"] = field(
        default="texts",
        metadata={
            "help": "train the base model; write texts for `sft --replay`; show texts that it learns from; probe a model",
            "positional": True,
            "metavar": "train|replay|texts|probe",
        },
    )
    output: Path | None = field(default=None, metadata={"help": "train: a folder; replay: a .jsonl file", "shown": "none"})
    n: int = field(default=3, metadata={"help": "texts to show or to write; probe: questions of each kind"})
    model: str = field(default="mini", metadata={"help": "probe: the model"})
    steps: int = field(default=TrainConfig.steps, metadata={"help": "train: steps of 4,096 tokens"})
    processes: int = field(default=TrainConfig.processes, metadata={"help": "train: 1 or 2; they make the same weights"})
    seed: int = field(default=0, metadata={"help": "seed of the texts and of the first weights"})

    def __post_init__(self) -> None:
        if self.n < 0 or self.steps < 1 or self.processes not in (1, 2):
            raise ConfigError("mini: expected n of 0 or more, steps of 1 or more, and 1 or 2 processes")
        if self.action in ("train", "replay") and self.output is None:
            raise ConfigError(f"mini {self.action} needs --output")


def mini(config: MiniConfig, progress: Progress) -> Any:
    """What the action gives: a summary of `train` or `replay`, or texts as rows."""
    if config.action == "texts":
        return _texts(config)
    if config.action == "probe":
        from skillfactory.mini.probe import probe

        return probe(config.model, config.n, config.seed)
    assert config.output is not None
    if config.action == "replay":
        from skillfactory.mini.replay import replay

        return Written(config.output, replay(config.output, config.n, config.seed))
    from skillfactory.mini.train import train

    return train(TrainConfig(config.output, config.steps, config.seed, config.processes), progress)


@dataclass(frozen=True, slots=True)
class Written:
    """A file of replay texts."""

    output: Path
    rows: int

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        return {"output": str(self.output), "rows": self.rows}

    def __str__(self) -> str:
        return f"{self.output}: {self.rows:,} texts"


def _texts(config: MiniConfig) -> Iterator[Mapping[str, Any]]:
    from skillfactory.mini.texts import Writer
    from skillfactory.seeds import rng

    writer = Writer(600)
    for i in range(config.n):
        pieces = writer.text(rng(config.seed, "texts", i)).pieces
        yield {"text": "".join(piece.text for piece in pieces), "learned": "".join(p.text for p in pieces if p.weight == 1.0)}
