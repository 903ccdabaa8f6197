"""Laws of dry runs: what trainings and studies would cost, told without loading a model, and every recipe can be planned."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from silver import simple, write

import skillfactory
from skillfactory.commands import COMMANDS
from skillfactory.config import construct, read_recipe
from skillfactory.errors import InputError
from skillfactory.forecast.plan import Planning
from skillfactory.study.forecast import TRACES, forecasts, summary
from skillfactory.study.plan import Plan, plan, value
from skillfactory.study.recipe import read
from skillfactory.train.grpo import GrpoConfig, Reinforcement, Rollouts
from skillfactory.train.planning import Rows, plan_grpo, plan_sft
from skillfactory.train.sft import Lora, Optimisation, SftConfig

RECIPES = Path(skillfactory.__file__).parent.parent / "recipes"
STUDIES = sorted(path for path in RECIPES.rglob("*.yaml") if "run" in yaml.load(path.read_text("utf-8"), yaml.BaseLoader))
STAGES = sorted(path for path in RECIPES.rglob("*.yaml") if path not in STUDIES)
PAPER = [path for path in STUDIES if path.parent.name == "paper"]
QWEN = "Qwen/Qwen2.5-1.5B-Instruct"
SFT = SftConfig(inputs=(Path("traces"),), output=Path("out"), model=QWEN)
GRPO = GrpoConfig(task=("countdown:3",), output=Path("out"), model=QWEN)


@pytest.mark.parametrize("path", STUDIES, ids=lambda path: path.stem)
def test_every_study_among_the_recipes_can_be_planned_with_all_its_stages(path: Path) -> None:
    made = plan(read(path))
    found = forecasts(made, Planning(gpus=2))
    assert set(found) == {node.id for node in made.nodes.values() if node.command in ("curate", "sft", "grpo", "evaluate")}
    for forecast in found.values():
        assert forecast.model.parameters
        assert None not in forecast.memory.values()
        assert json.dumps(forecast.to_dict())
    assert next(summary(found, Planning(gpus=2))).startswith("forecast on 2 H100 SXM: about ")
    tokens = {value(node, "max_generated_tokens") for node in made.nodes.values() if node.command == "grpo"}
    assert len(tokens) <= 1  # no arm gets more than another


@pytest.mark.parametrize("path", STAGES, ids=lambda path: path.stem)
def test_every_stage_of_the_other_recipes_has_options_that_its_command_takes(path: Path) -> None:
    stages = yaml.load(path.read_text("utf-8"), yaml.BaseLoader)
    for stage in stages:
        kind = COMMANDS[stage].config()
        assert construct(kind, read_recipe(path, stage, kind, COMMANDS))


@pytest.mark.parametrize("path", PAPER, ids=lambda path: path.stem)
def test_the_recipes_of_the_paper_have_its_hyperparameters(path: Path) -> None:
    made = plan(read(path))
    assert {lineage.arm for lineage in made.lineages} == {"base", "sft", "rl", "star", "skillfactory"}
    assert f"skillfactory run recipes/paper/{path.name}\n" in path.read_text("utf-8")
    wanted: dict[str, dict[str, Any]] = {
        "curate": {"temperature": 0.7, "top_p": 0.8, "top_k": 20, "repetition_penalty": 1.1, "mode": "eager", "split": "sft"},
        "build": {"layout": ["paper"], "max_attempts": 5, "max_tokens": 4096},
        "sft": {
            "learning_rate": 1e-6,
            "schedule": "cosine",
            "warmup": 0.05,
            "epochs": 2.0,
            "batch_size": 1,
            "weight_decay": 1e-4,
        },
        "grpo": {"group_size": 16, "prompts_per_step": 256, "mini_batch": 32, "max_prompt_tokens": 512, "max_new_tokens": 4096},
        "evaluate": {"suite": "paper" if "countdown" in path.stem else "math"},
    }
    wanted["sft"]["max_length"] = 4096
    wanted["grpo"] |= {"learning_rate": 1e-6, "beta": 0.0, "questions": 1000, "split": "rl"}
    for node in made.nodes.values():
        assert {name: value(node, name) for name in wanted[node.command]} == wanted[node.command]
        if node.command == "grpo":
            assert value(node, "max_generated_tokens") == 150 * 256 * 16 * 1024
    if "countdown" in path.stem:
        first = next(node for node in made.nodes.values() if node.stage == "attempts")
        asked = {name: value(first, name) for name in ("questions", "samples", "reflections", "task", "level")}
        assert asked == {"questions": 4000, "samples": 16, "reflections": 4, "task": "countdown", "level": "3"}


def named(made: Plan, found: dict[str, Any], stage: str) -> Any:
    """The forecast of the first node of a stage."""
    return found[next(node.id for node in made.nodes.values() if node.stage == stage)]


def test_a_study_counts_what_its_stages_hand_on_before_any_has_run() -> None:
    made = plan(read(RECIPES / "paper/qwen2.5-1.5b-countdown.yaml"))
    found = forecasts(made, Planning())
    assert named(made, found, "attempts").counts["attempts"] == 4000 * 4 * 16
    assert named(made, found, "attempts").counts["reflections"] == 4000 * 4 * 16 * 4
    assert named(made, found, "sft").counts["rows"] == round(4000 * TRACES) == 14_655
    assert named(made, found, "star").counts["rows"] == 4000 * 4
    assert named(made, found, "grpo").counts["steps"] == 150
    assert {forecast.model.name for forecast in found.values()} == {QWEN}  # also where a stage takes what another will make
    shorter = forecasts(made, Planning(response_tokens=256))
    assert named(made, shorter, "grpo").counts["steps"] == 600


def test_the_plan_of_a_fine_tuning_counts_steps_and_tokens() -> None:
    found = plan_sft(replace(SFT, optimisation=Optimisation(batch_size=4, accumulate=2)), Planning(), Rows(1000, 500))
    assert (found.counts["steps"], found.counts["tokens read"]) == (250, 1_000_000)
    capped = plan_sft(replace(SFT, optimisation=Optimisation(batch_size=4, max_steps=10)), Planning(), Rows(1000, 500))
    assert (capped.counts["steps"], capped.counts["tokens read"]) == (10, 20_000)
    replayed = plan_sft(replace(SFT, replay=("texts.jsonl@0.5",)), Planning(), Rows(1000, 500))
    assert replayed.counts["steps"] == 3000
    unknown = plan_sft(SFT, Planning(), Rows(None, 500))
    assert unknown.counts["steps"] is None
    assert re.search(r"\n  steps +unknown\n", str(unknown))
    assert unknown.line.endswith("time unknown")


def test_the_plan_of_a_reinforcement_ends_with_its_steps_or_its_tokens() -> None:
    found = plan_grpo(GRPO, Planning())
    assert found.counts["steps"] == 150
    assert found.counts["responses"] == 614_400
    assert found.counts["most generated tokens"] == 614_400 * 4096
    budget = Reinforcement(max_generated_tokens=4096 * 1024 * 20)
    assert plan_grpo(replace(GRPO, reinforcement=budget), Planning()).counts["steps"] == 20
    assert plan_grpo(replace(GRPO, reinforcement=budget), Planning(response_tokens=100)).counts["steps"] == 150
    endless = replace(budget, steps=None)
    assert plan_grpo(replace(GRPO, reinforcement=endless), Planning(response_tokens=100)).counts["steps"] == 205


def test_what_a_reinforcement_holds_depends_on_who_generates_what_is_trained_and_the_kl_term() -> None:
    plain = plan_grpo(GRPO, Planning()).memory
    beside = plan_grpo(replace(GRPO, rollouts=Rollouts(vllm="colocate", vllm_memory=0.25)), Planning()).memory
    apart = plan_grpo(replace(GRPO, rollouts=Rollouts(vllm="server")), Planning())
    assert {*beside} - {*apart.memory} == {"vllm"}
    assert beside["vllm"] == round(0.25 * 79.6 * 2**30)
    assert {*plain} - {*apart.memory} == {"cache of 512 texts"}
    assert "the GPU of the vLLM server comes on top" in str(apart)
    held = plan_grpo(replace(GRPO, reinforcement=Reinforcement(beta=0.001)), Planning())
    assert held.memory["reference model"] == 4 * 1_543_714_304
    small = plan_grpo(replace(GRPO, lora=Lora(lora_rank=16)), Planning()).memory
    assert (small["optimizer"] or 0) * 50 < (plain["optimizer"] or 0)


def test_rows_of_inputs_that_are_not_there_are_an_error() -> None:
    with pytest.raises(InputError, match="traces: expected the folder that"):
        plan_sft(SFT, Planning())


@pytest.mark.parametrize("stage", ["sft", "grpo"])
def test_a_dry_run_prints_a_plan_writes_nothing_and_loads_nothing_heavy(stage: str, tmp_path: Path) -> None:
    inputs = {"sft": [str(write(tmp_path / "traces", simple(3)))], "grpo": ["--task", "countdown:3"]}[stage]
    command = [stage, *inputs, "--model", QWEN, "--output", str(tmp_path / "out"), "--dry-run", "--gpu", "a100-40", "--json"]
    code = (
        "import sys\nfrom skillfactory.cli import main\ncode = main(sys.argv[1:])\nprint(*sorted(sys.modules))\nsys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code, *command], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    said, modules = done.stdout.strip().rsplit("\n", 1)
    told = json.loads(said)
    assert (told["plan"], told["gpu"]) == (stage, "A100 SXM 40 GB")
    assert told["counts"]["steps"] == {"sft": 6, "grpo": 150}[stage]
    assert not {"torch", "transformers", "trl", "vllm", "datasets"} & set(modules.split())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("how", "passes"),
    [
        (Reinforcement(), 5),  # forward, backward as two, forward again for checkpointing, and the old probabilities
        (Reinforcement(mini_batch=256), 4),  # one update: the old probabilities are the present ones
        (Reinforcement(beta=0.1), 6),
        (Reinforcement(iterations=2), 9),
    ],
)
def test_the_hours_of_a_reinforcement_count_its_passes(how: Reinforcement, passes: int) -> None:
    unit = plan_grpo(GRPO, Planning()).hours["train"] / 5
    assert plan_grpo(replace(GRPO, reinforcement=how), Planning()).hours["train"] == pytest.approx(passes * unit)


def test_what_a_study_asks_of_data_of_unknown_size_is_unknown_and_left_out_of_the_sum(tmp_path: Path) -> None:
    group = "{name: far, kind: other, task: openthoughts, samples: 1}"
    (tmp_path / "suite.yaml").write_text(f"groups:\n  - {group}\n", "utf-8")
    stages = f"stages:\n  eval: {{command: evaluate, suite: {tmp_path}/suite.yaml}}\n"
    path = tmp_path / "study.yaml"
    path.write_text(
        f"run: {{output: {tmp_path}/out, model: [{QWEN}]}}\n{stages}arms: {{base: []}}\nevaluate: [eval]\n", "utf-8"
    )
    found = forecasts(plan(read(path)), Planning())
    (name,) = found
    assert found[name].line.startswith("unknown responses, unknown generated tokens")
    assert found[name].line.endswith("time unknown")
    assert next(summary(found, Planning())).endswith(f"one stage after another, without {name}, whose time is unknown")
