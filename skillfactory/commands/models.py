"""The commands that train and measure models."""

from collections.abc import Iterator, Mapping
from typing import Any

from skillfactory.commands.base import Command, Result
from skillfactory.progress import Progress


def _evaluate_config() -> type[Any]:
    from skillfactory.evaluate import EvaluateConfig

    return EvaluateConfig


def _evaluate(config: Any, progress: Progress) -> Result:
    from skillfactory.evaluation import evaluate

    return evaluate(config, progress)


def _show_evaluate(summary: Any) -> Iterator[str]:
    yield from str(summary).splitlines()


def _engine_options() -> Mapping[str, type[Any]]:
    from skillfactory.engines import ENGINES, engine_class

    return {f"--engine-option of {name}": engine_class(name).Options for name in ENGINES}


def _sft_config() -> type[Any]:
    from skillfactory.train.sft import SftConfig

    return SftConfig


def _sft(config: Any, progress: Progress) -> Result:
    from skillfactory.train.sft import sft

    return sft(config, progress)


def _show_sft(summary: Any) -> Iterator[str]:
    yield from str(summary).splitlines()


MODELS: Mapping[str, Command] = {
    "sft": Command(
        summary="fine-tune a model on silver traces",
        description="Fine-tunes a model on traces of `build`, or on the right attempts of a run of `curate` (rejection sampling), "
        "with TRL's trainer; all weights or low-rank adapters, which are merged at the end. The loss is on the assistant's turn "
        "with its end token alone. No row is cut: those over the context are left out and counted before training starts. "
        "Writes a plain transformers folder with a model card, training.json and metrics.jsonl. A stopped or killed training goes "
        "on from its last checkpoint. The defaults are the paper's.",
        example="skillfactory sft traces --model Qwen/Qwen2.5-1.5B-Instruct --output sft\n"
        "skillfactory sft traces --model mini --output sft --learning-rate 5e-4 --batch-size 16 --replay replay.jsonl@0.5\n"
        "skillfactory sft run --model mini --output star --learning-rate 5e-4 --batch-size 16 --per-question 2",
        resume="The same command goes on from the last checkpoint.",
        config=_sft_config,
        run=_sft,
        show=_show_sft,
    ),
    "evaluate": Command(
        summary="measure a model on held-out questions",
        description="Asks a model the held-out questions of a suite, several times each, and grades the answers. Reports, per "
        "group of questions and per kind of group, accuracy with a 95 % interval clustered by question, pass@k, and the skills "
        "that the responses show: attempts, reflections, how true their verdicts are, format, length. Every response is kept in "
        "a run directory, and the numbers in its evaluation.json. A stopped or killed run goes on with the same command. --retry "
        "is the baseline outside of the model: it samples, lets the model review, and stops at the first verdict Correct.",
        example="skillfactory evaluate mini --suite mini --output base-eval --engine-option threads=1\n"
        "skillfactory evaluate grpo --suite mini --groups countdown-3,countdown-4 --part dev --questions 100 --output dev\n"
        "skillfactory evaluate rl-only --retry 8 --reflection-file brief --output retry-eval",
        resume="The same command goes on; no finished text is lost.",
        config=_evaluate_config,
        run=_evaluate,
        show=_show_evaluate,
        pairs=_engine_options,
    ),
}
