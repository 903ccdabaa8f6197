"""`make demo`, with the shipped recipe cut down to seconds: it runs through, tells where things are, and can be run again.

What the whole demo must come to (points gained over the base, responses in tags, F1 of verdicts) takes its minutes, and is
measured in docs/results.md.
"""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from skillfactory.study.recipe import read

ROOT = Path(__file__).parent.parent
RECIPE = ROOT / "recipes/mini/demo.yaml"
SMALL: dict[str, dict[str, Any]] = {  # a command: options that make it quick
    "curate": {"questions": 6, "samples": 8},
    "build": {"repeats": 1},
    "mini": {"n": 20},
    "sft": {"max_steps": 2, "batch_size": 2},
    "grpo": {"questions": 8, "prompts_per_step": 2, "mini_batch": 2, "group_size": 4, "max_new_tokens": 48}
    | {"steps": 2, "max_generated_tokens": 600},
    "evaluate": {"questions": 3, "max_tokens": 96, "groups": ["countdown-3", "countdown-4"]},
}


def run_demo(folder: Path, recipe: Path) -> str:
    """What the demo prints, run into `folder` as `make demo` runs it."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(ROOT / "examples/demo.sh"), str(folder), str(recipe)]
    environment = {**os.environ, "PATH": path, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=1800)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, str]:
    """The folder of a small demo, its recipe, and what it printed."""
    folder = tmp_path_factory.mktemp("demo")
    content = yaml.safe_load(RECIPE.read_text("utf-8"))
    for stage in content["stages"].values():
        stage |= SMALL.get(stage["command"], {})
    (folder / "small.yaml").write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return folder / "study", folder / "small.yaml", run_demo(folder / "study", folder / "small.yaml")


def test_the_demo_compares_all_its_arms_and_says_where_things_are(demo: tuple[Path, Path, str]) -> None:
    folder, _, printed = demo
    assert printed.startswith("$ skillfactory run ")
    table = (folder / "table.md").read_text("utf-8")
    assert table in printed
    for name in ("table.md", "report.html", "study.json", "stages"):
        assert f"{folder}/{name}" in printed
        assert (folder / name).exists()
    arms = read(RECIPE).arms
    assert {"base", "sft", "rl", "star", "skillfactory"} <= {arm.name for arm in arms}
    page = (folder / "report.html").read_text("utf-8")
    numbers = json.loads((folder / "study.json").read_text("utf-8"))
    for arm in arms:
        assert f"| {arm.label} " in table
        assert arm.label in page
        assert [cell for cell in numbers["cells"] if (cell["arm"], cell["group"]) == (arm.name, "countdown-3")]


def test_all_trainings_of_the_demo_leave_models_and_curves(demo: tuple[Path, Path, str]) -> None:
    folder, _, _ = demo
    for command, count in (("sft", 1), ("star-sft", 2), ("grpo", 3)):
        made = [path.parent for path in folder.glob(f"stages/{command}-*/out/training.json")]
        assert len(made) == count
        for out in made:
            assert json.loads((out / "training.json").read_text("utf-8"))["finished"]
            assert (out / "metrics.jsonl").read_text("utf-8").count("\n") >= 1
            assert (out / "model.safetensors").exists()


def test_a_second_demo_starts_no_stage_and_gives_the_same_table(demo: tuple[Path, Path, str]) -> None:
    folder, recipe, printed = demo
    stages = {path: path.stat().st_mtime_ns for path in (folder / "stages").rglob("*")}
    assert run_demo(folder, recipe) == printed
    assert {path: path.stat().st_mtime_ns for path in (folder / "stages").rglob("*")} == stages
