"""The whole loop by one recipe, with the embedded model and the real trainers, from attempts to the report."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_kill_resume import environment

RECIPE = """
run: {{output: {folder}/study, workers: 2}}
stages:
  attempts:
    {{command: curate, task: countdown, level: mini, questions: 20, variants_file: brief, reflection_file: brief,
      variants: [original], samples: 6, reflections: 1, temperature: 1.0, max_tokens: 64, engine_option: {{batch_size: 128}}}}
  traces: {{command: build, layout: [random]}}
  texts: {{command: mini, action: replay, n: 10}}
  sft: {{command: sft, max_steps: 2, batch_size: 4, max_length: 640, replay: [texts@0.5], log_steps: 1}}
  grpo:
    {{command: grpo, task: ['countdown:mini'], questions: 8, group_size: 2, prompts_per_step: 2, mini_batch: 1,
      max_new_tokens: 16, steps: null, max_generated_tokens: 100, keep_every: 1}}
  eval: {{command: evaluate, suite: mini, groups: [countdown-3, countdown-4], questions: 3, samples: 1, max_tokens: 64}}
arms: {{full: [attempts, traces, sft, grpo]}}
labels: {{full: SkillFactory → GRPO}}
evaluate: [eval]
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a finished study."""
    folder = tmp_path_factory.mktemp("loop")
    (folder / "study.yaml").write_text(RECIPE.format(folder=folder), encoding="utf-8")
    study(folder / "study.yaml")
    return folder / "study"


def study(*arguments: str | Path) -> None:
    """Runs a study."""
    command = [sys.executable, "-m", "skillfactory", "run", *map(str, arguments), "--quiet"]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def numbers(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "study.json").read_text("utf-8"))
    return found


def output(folder: Path, stage: str) -> Path:
    return next(folder.glob(f"stages/{stage}-*")) / "out"


def test_each_stage_was_made_from_the_one_before_it(folder: Path) -> None:
    made = {
        stage: json.loads((output(folder, stage) / "training.json").read_text("utf-8"))["settings"] for stage in ("sft", "grpo")
    }
    assert made["sft"]["inputs"] == [str(output(folder, "traces"))]
    assert made["sft"]["replay"] == [f"{next(folder.glob('stages/texts-*'))}/out.jsonl@0.5"]
    assert made["grpo"]["model"] == str(output(folder, "sft"))
    judged = json.loads((output(folder, "eval") / "evaluation.json").read_text("utf-8"))
    assert judged["model"] == str(output(folder, "grpo"))
    assert made["sft"]["seed"] != made["grpo"]["seed"]


def test_costs_hold_the_tokens_and_steps_that_the_stages_tell(folder: Path) -> None:
    costs = {stage["label"]: stage for stage in numbers(folder)["costs"]}
    assert list(costs) == ["attempts", "traces", "texts", "sft", "grpo", "eval"]
    account = json.loads((output(folder, "grpo") / "training.json").read_text("utf-8"))
    assert (costs["grpo"]["generated_tokens"], costs["grpo"]["steps"]) == (account["generated_tokens"], account["steps"])
    assert account["generated_tokens"] >= 100
    assert costs["sft"]["steps"] == 2
    assert costs["sft"]["trained_tokens"] > 0
    assert costs["attempts"]["generated_tokens"] > 0
    assert all(stage["arms"] == ["full"] for stage in costs.values())


def test_curves_are_over_steps_though_a_step_is_two_updates(folder: Path) -> None:
    sft, grpo = numbers(folder)["trainings"]
    steps = json.loads((output(folder, "grpo") / "training.json").read_text("utf-8"))["steps"]
    assert grpo["steps"] == [float(step) for step in range(1, steps + 1)]
    assert grpo["tokens"] == sorted(grpo["tokens"])
    assert {"reward", "response_length", "answers"} <= set(grpo["series"])
    assert (sft["steps"], set(sft["series"])) == ([1.0, 2.0], {"loss"})


def test_the_page_shows_curves_and_responses(folder: Path) -> None:
    page = (folder / "report.html").read_text("utf-8")
    assert "SkillFactory → GRPO" in page
    assert page.count("<details") >= 3
    assert all(title in page for title in ("Reward", "SFT: loss", "countdown-4", "skillfactory run"))


def test_the_same_recipe_in_another_folder_gives_the_same_table(folder: Path, tmp_path: Path) -> None:
    study(folder.parent / "study.yaml", "--output", str(tmp_path / "other"))
    assert (tmp_path / "other" / "table.md").read_bytes() == (folder / "table.md").read_bytes()
