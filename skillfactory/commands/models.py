"""The commands that train and measure models."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from skillfactory.commands.base import Command, Result
from skillfactory.progress import Progress


def _grpo_config() -> type[Any]:
    from skillfactory.train.planning import GrpoCommand

    return GrpoCommand


def _grpo(config: Any, progress: Progress) -> Result:
    from skillfactory.train.grpo import GrpoConfig, grpo
    from skillfactory.train.planning import plan_grpo, stage_of

    stage = stage_of(config, GrpoConfig)
    return plan_grpo(stage, config.planning) if config.planning.dry_run else grpo(stage, progress)


def _show_grpo(summary: Any) -> Iterator[str]:
    yield from str(summary).splitlines()


def _evaluate_config() -> type[Any]:
    from skillfactory.evaluate import EvaluateConfig

    return EvaluateConfig


def _evaluate(config: Any, progress: Progress) -> Result:
    from skillfactory.evaluation import evaluate

    return evaluate(config, progress)


def _show_evaluate(summary: Any) -> Iterator[str]:
    yield from str(summary).splitlines()


def _budget_config() -> type[Any]:
    from skillfactory.budget import BudgetConfig

    return BudgetConfig


def _budget(config: Any, progress: Progress) -> Result:
    from skillfactory.budgeting import budget

    return budget(config, progress)


def _intervene_config() -> type[Any]:
    from skillfactory.intervene import InterveneConfig

    return InterveneConfig


def _intervene(config: Any, progress: Progress) -> Result:
    from skillfactory.intervention import intervention

    return intervention(config, progress)


def _engine_options() -> Mapping[str, type[Any]]:
    from skillfactory.engines import ENGINES, engine_class

    return {f"--engine-option of {name}": engine_class(name).Options for name in ENGINES}


def _published_config() -> type[Any]:
    from skillfactory.published import PublishedConfig

    return PublishedConfig


def _published(config: Any, progress: Progress) -> Result:
    from skillfactory.published import published

    return published(config, progress)  # type: ignore[no-any-return]


def _skills_config() -> type[Any]:
    from skillfactory.usage.options import SkillsConfig

    return SkillsConfig


def _skills(config: Any, progress: Progress) -> Result:
    from skillfactory.usage.inventory import inventory

    return inventory(config, progress)


def _run_config() -> type[Any]:
    from skillfactory.study import StudyConfig

    return StudyConfig


def _run(config: Any, progress: Progress) -> Result:
    from skillfactory.study import study

    return study(config, progress)


def _show_run(summary: Any) -> Iterable[str]:
    return summary.lines  # type: ignore[no-any-return]


def _mini_config() -> type[Any]:
    from skillfactory.mini.stage import MiniConfig

    return MiniConfig


def _mini(config: Any, progress: Progress) -> Result:
    from skillfactory.mini.stage import mini

    return mini(config, progress)  # type: ignore[no-any-return]


def _show_mini(made: Any) -> Iterable[str]:
    if not isinstance(made, Iterator):
        return (str(made),)
    return (row["text"] if "text" in row else ", ".join(f"{name} {shown:.4g}" for name, shown in row.items()) for row in made)


def _sft_config() -> type[Any]:
    from skillfactory.train.planning import SftCommand

    return SftCommand


def _sft(config: Any, progress: Progress) -> Result:
    from skillfactory.train.planning import plan_sft, stage_of
    from skillfactory.train.sft import SftConfig, sft

    stage = stage_of(config, SftConfig)
    return plan_sft(stage, config.planning) if config.planning.dry_run else sft(stage, progress)


def _show_sft(summary: Any) -> Iterator[str]:
    yield from str(summary).splitlines()


MODELS: Mapping[str, Command] = {
    "mini": Command(
        summary="the embedded base model: make it, or see what it learned from",
        description="The package comes with a base model of 0.9M parameters (`--model mini`) that attempts small Countdown, "
        "multiplication and word questions and reviews attempts, from synthetic texts of which none holds two attempts at one "
        "question. `train` makes it anew with the recipe that made it; `texts` shows what it learns from; `replay` writes such "
        "texts for `skillfactory sft --replay`; `probe` measures what a model of this kind can do far from its question.",
        example="skillfactory mini texts --n 5\nskillfactory mini train --output base\n"
        "skillfactory mini replay --output replay.jsonl --n 2000",
        resume="The same command goes on from the last checkpoint.",
        config=_mini_config,
        run=_mini,
        show=_show_mini,
    ),
    "sft": Command(
        summary="fine-tune a model on silver traces",
        description="Fine-tunes a model on traces of `build`, or on the right attempts of a run of `curate` (rejection "
        "sampling), with TRL's trainer; all weights or low-rank adapters, which are merged at the end. The loss is on the "
        "assistant's turn with its end token alone. No row is cut: those over the context are left out and counted before "
        "training starts. Writes a plain transformers folder with a model card, training.json and metrics.jsonl. A stopped or "
        "killed training goes on from its last checkpoint. The defaults are the paper's.",
        example="skillfactory sft traces --model Qwen/Qwen2.5-1.5B-Instruct --output sft\n"
        "skillfactory sft traces --model mini --output sft --learning-rate 5e-4 --batch-size 16 --replay replay.jsonl@0.5\n"
        "skillfactory sft run --model mini --output star --learning-rate 5e-4 --batch-size 16 --per-question 2",
        resume="The same command goes on from the last checkpoint.",
        config=_sft_config,
        run=_sft,
        show=_show_sft,
    ),
    "grpo": Command(
        summary="reinforce a model on tasks with GRPO",
        description="Lets a model answer the questions of one or more tasks many times, and reinforces what the task's check "
        "finds right: reward 1 for a right final answer, else 0. Stops after so many steps, or once so many tokens were "
        "generated, whichever comes first. Writes a plain transformers folder with a model card, training.json, metrics.jsonl "
        "and samples of responses in rollouts.jsonl. A stopped or killed training goes on from its last checkpoint. The "
        "defaults are the paper's.",
        example="skillfactory grpo --task countdown:3 --model sft --output grpo\n"
        "skillfactory grpo --task countdown:mini@2 --task acronym:mini --model sft --output grpo --learning-rate 1e-4 \\\n"
        "    --prompts-per-step 16 --group-size 8 --max-new-tokens 640 --max-generated-tokens 1000000 --keep-every 20",
        resume="The same command goes on from the last checkpoint.",
        config=_grpo_config,
        run=_grpo,
        show=_show_grpo,
    ),
    "evaluate": Command(
        summary="measure a model on held-out questions",
        description="Asks a model the held-out questions of a suite, or of a list of tasks, several times each, and grades the "
        "answers. Reports, per group of questions and per kind of group, accuracy with a 95 % interval clustered by question, "
        "pass@k, the majority vote of k, and the skills that the responses show: attempts, reflections, how true their "
        "verdicts are, format, length. Every response is kept in a run directory, and the numbers in its evaluation.json. A "
        "stopped or killed run goes on with the same command. --retry is the baseline outside of the model: it samples, lets "
        "the model review, and stops at the first verdict Correct. --regrade grades stored texts again, without a model.",
        example="skillfactory evaluate mini --suite mini --output base-eval --engine-option threads=1\n"
        "skillfactory evaluate MODEL --task countdown:4@500 --task gsm8k --samples 8 --engine vllm --output eval\n"
        "skillfactory evaluate grpo --suite mini --groups countdown-3,countdown-4 --part dev --questions 100 --output dev\n"
        "skillfactory evaluate rl-only --retry 8 --reflection-file brief --output retry-eval",
        resume="The same command goes on; no finished text is lost.",
        config=_evaluate_config,
        run=_evaluate,
        show=_show_evaluate,
        pairs=_engine_options,
    ),
    "published": Command(
        summary="exchange evaluations in the published schema",
        description="Writes an evaluation as Parquet in the schema of SkillFactory's published evaluation data, or reads such "
        "Parquet into a run directory, on which the commands that measure, compare and show work. What is right is taken from "
        "the file. A row that can't be used is an error that names the file, the row and the column.",
        example="skillfactory published base-eval --output base-eval.parquet\n"
        "skillfactory published released/ --output released-eval --kind countdown_3arg=in-domain --kind countdown_4arg=harder",
        resume="The same command goes on, or starts again.",
        config=_published_config,
        run=_published,
        show=lambda summary: str(summary).splitlines(),
    ),
    "budget": Command(
        summary="make responses think longer, and see what it buys",
        description="Asks a model held-out questions, and when a budget of tokens is used up, or the response ends before, "
        "puts a trigger in place of the closing of its thinking and lets it go on to the next budget. Beside it, "
        "independent samples vote at the same number of measured tokens. Writes every round, the votes, and budget.json with "
        "both curves, accuracy against tokens, with intervals. A stopped or killed run goes on with the same command.",
        example="skillfactory budget grpo --suite mini --groups countdown-4 --budgets 256,512,1024 --output budget\n"
        "skillfactory budget MODEL --recipe recipes/paper/evaluate.yaml --output budget\n"
        "skillfactory budget MODEL --suite paper --budgets 4096,8192 --trigger wait --close 64 --output waiting",
        resume="The same command goes on; no finished text is lost.",
        config=_budget_config,
        run=_budget,
        show=_show_evaluate,
        pairs=_engine_options,
    ),
    "intervene": Command(
        summary="whether reflections matter: drop or replace them and go on",
        description="Takes the responses of a run of `evaluate` that reflect on an attempt, drops one reflection of each, "
        "blanks it, turns its verdict round or swaps it for another question's, and lets the same model go on. Reports how "
        "often the next step and the final answer change, from right to wrong and back, against a control that goes on from "
        "the reflection as it was. A stopped or killed run goes on with the same command.",
        example="skillfactory intervene grpo-eval --output causal\n"
        "skillfactory intervene grpo-eval --groups countdown-4 --questions 100 --ways flip,drop --output causal",
        resume="The same command goes on; no finished text is lost.",
        config=_intervene_config,
        run=_intervene,
        show=_show_evaluate,
        pairs=_engine_options,
    ),
    "skills": Command(
        summary="what stored texts show of the skills",
        description="Looks through the texts of evaluations, curations, builds, studies or files: answers, reflections and "
        "the F1 of their verdicts; what led from wrong to right and back; tokens after the first right answer; repeats and "
        "loops; and skills that are shown in plain words, found by stated rules. With --judge another model reads some of the "
        "texts too, and its agreement with the rules is told. --output keeps all numbers and every finding with its place.",
        example="skillfactory skills base-eval grpo-eval --output usage\n"
        "skillfactory skills texts.jsonl --column response --labels shows\n"
        "skillfactory skills grpo-eval --output usage --judge MODEL --engine-option base_url=http://127.0.0.1:8000/v1",
        resume="The same command starts again; what a judge has said is kept.",
        config=_skills_config,
        run=_skills,
        show=lambda found: str(found).splitlines(),
        pairs=_engine_options,
    ),
    "run": Command(
        summary="run a study: arms of chained stages, compared",
        description="Runs a recipe of arms, each a chain of the other commands, on one or more seeds: what arms share is run "
        "once, some stages at a time, and what is done is skipped. At the end it prints a table of the arms with intervals and "
        "writes it, all numbers, and a report page into the study's folder. After a stop or a kill the same command goes on. "
        "The recipe is the argument, not an option: --recipe holds options of this command.",
        example="skillfactory run recipes/study.yaml --dry-run\nskillfactory run recipes/study.yaml --arms base,rl --seeds 0",
        resume="The same command goes on; finished stages are kept.",
        config=_run_config,
        run=_run,
        show=_show_run,
    ),
}
