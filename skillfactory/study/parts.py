"""The commands that a study chains: where each takes the model, the data and the seed from, and what it gives.

A literal table. The options are those of the commands' own configurations, by the names that recipes use.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from skillfactory.errors import ConfigError, unknown

Gives = Literal["run", "traces", "texts", "model", "numbers"]


@dataclass(frozen=True, slots=True)
class Part:
    """What a study knows of a command. `model`, `data` and `seed` are options that the study gives; "" for none."""

    config: Callable[[], type[Any]]
    gives: Gives
    model: str = ""  # takes the model that the chain has come to
    data: str = ""  # takes what an earlier stage made
    takes: tuple[Gives, ...] = ()  # kinds of data that it takes, the preferred one first
    texts: str = ""  # takes files as FILE@SHARE, or stages that give texts as NAME@SHARE
    suffix: str = ""  # of what it writes, where that is a file
    seed: str = ""  # takes a seed derived from the study's; "": none, all arms and seeds answer the same questions
    neutral: tuple[str, ...] = ()  # options that change no result
    check: Callable[[Any], object] = bool  # raises what is wrong with a configuration, beyond its fields
    weight: float = 1.0  # how long it takes against others, roughly: the longest chain of what is ready starts first


def _curate() -> type[Any]:
    from skillfactory.curate import CurateConfig

    return CurateConfig


def _build() -> type[Any]:
    from skillfactory.build import BuildConfig

    return BuildConfig


def _check_curate(config: Any) -> None:
    config.curation()


def _check_build(config: Any) -> None:
    from skillfactory.layouts import Draw

    if config.layout:  # none: the layouts of the run that it reads
        Draw.read(config.layout, config.max_attempts, config.repeats, config.unique_variants)


def _check_evaluate(config: Any) -> None:
    for group in config.chosen():
        config.examination(group)


def _check_grpo(config: Any) -> None:
    from skillfactory.supply import sources

    sources(config.task, config.option)


def _mini() -> type[Any]:
    from skillfactory.mini.stage import MiniConfig

    return MiniConfig


def _check_mini(config: Any) -> None:
    if config.action != "replay":
        raise ConfigError(f"action: a stage of 'mini' writes texts to replay; expected replay, came {config.action}")


def _sft() -> type[Any]:
    from skillfactory.train.sft import SftConfig

    return SftConfig


def _grpo() -> type[Any]:
    from skillfactory.train.grpo import GrpoConfig

    return GrpoConfig


def _evaluate() -> type[Any]:
    from skillfactory.evaluate import EvaluateConfig

    return EvaluateConfig


_LOGGED = ("save_steps", "log_steps", "report_to")
PARTS: Mapping[str, Part] = {
    "curate": Part(_curate, "run", model="model", seed="seed", check=_check_curate, weight=5),
    "build": Part(
        _build,
        "traces",
        model="tokenizer",  # which counts the tokens of traces
        data="inputs",
        takes=("run",),
        seed="seed",
        neutral=("workers",),
        check=_check_build,
        weight=0.2,
    ),
    "mini": Part(_mini, "texts", suffix=".jsonl", seed="seed", neutral=("processes", "steps", "model"), check=_check_mini),
    "sft": Part(
        _sft,
        "model",
        model="model",
        data="inputs",
        takes=("traces", "run"),
        texts="replay",
        seed="seed",
        neutral=_LOGGED,
        weight=5,
    ),
    "grpo": Part(_grpo, "model", model="model", seed="seed", neutral=_LOGGED, check=_check_grpo, weight=20),
    "evaluate": Part(_evaluate, "numbers", model="model", check=_check_evaluate, weight=3),
}


def part(command: str) -> Part:
    """What a study knows of a command; ConfigError for one that it can't chain."""
    if command not in PARTS:
        raise unknown("command of a stage", command, PARTS)
    return PARTS[command]
