"""Laws of equal steps beside equal tokens: which checkpoints are judged, and what readers are told of budgets."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from skillfactory.errors import InputError
from skillfactory.study.child import start
from skillfactory.study.plan import Plan, plan, value
from skillfactory.study.recipe import Recipe, read
from skillfactory.study.steps import budgets, equal_steps, trained
from skillfactory.study.work import account

STAGES: dict[str, Any] = {
    "sft": {"command": "sft", "inputs": ["traces"]},
    "grpo": {"command": "grpo", "task": ["countdown:3"], "max_generated_tokens": 1000},
    "more": {"command": "grpo", "task": ["countdown:3"], "max_generated_tokens": 4000},
    "eval": {"command": "evaluate", "suite": "mini"},
}
ARMS: dict[str, Any] = {"base": [], "rl": ["grpo"], "full": ["sft", "grpo"]}


def study(folder: Path, arms: dict[str, Any] = ARMS) -> tuple[Recipe, Plan]:
    run = {"output": str(folder / "study"), "model": ["some/model"]}
    path = folder / "study.yaml"
    path.write_text(
        yaml.safe_dump({"run": run, "stages": STAGES, "arms": arms, "evaluate": ["eval"]}, sort_keys=False), "utf-8"
    )
    recipe = read(path)
    return recipe, plan(recipe)


def train(made: Plan, arm: str, steps: int, kept: tuple[int, ...] = (), tokens: int = 1000) -> None:
    """Writes what a finished reinforcement of an arm leaves."""
    lineage = next(each for each in made.lineages if each.arm == arm)
    node = made.nodes[lineage.nodes[-1]]
    for step in kept:
        folder = node.output / "steps" / str(step)
        folder.mkdir(parents=True)
        (folder / "config.json").write_text("{}", "utf-8")
    node.folder.mkdir(parents=True, exist_ok=True)
    node.note.write_text(json.dumps({"summary": {"steps": steps, "generated_tokens": tokens}}), "utf-8")


def test_the_arm_with_more_steps_is_judged_at_the_last_checkpoint_up_to_the_fewest(tmp_path: Path) -> None:
    recipe, made = study(tmp_path)
    train(made, "full", steps=7)
    train(made, "rl", steps=40, kept=(3, 6, 9))
    before = dict(made.nodes)
    found = equal_steps(made, recipe)
    added = [node for name, node in made.nodes.items() if name not in before]
    assert [value(node, "model") for node in added] == [str(before_output(made, "rl") / "steps" / "6")]
    assert found.nodes["rl", 0, "eval"] == added[0].id
    assert found.nodes["full", 0, "eval"] in before, "the arm with the fewest steps is judged already"
    assert (found.steps, found.early, found.notes) == ({("rl", 0): 6, ("full", 0): 7}, {"rl"}, [])


def before_output(made: Plan, arm: str) -> Path:
    """What the last stage of an arm writes."""
    lineage = next(each for each in made.lineages if each.arm == arm)
    return made.nodes[lineage.nodes[-1]].output


def test_another_checkpoint_or_another_training_is_another_node(tmp_path: Path) -> None:
    recipe, made = study(tmp_path)
    train(made, "full", steps=7)
    train(made, "rl", steps=40, kept=(6, 7))
    equal_steps(made, recipe)
    recipe, again = study(tmp_path)
    (before_output(again, "rl") / "steps" / "7" / "config.json").unlink()
    equal_steps(again, recipe)
    assert len({*made.nodes} ^ {*again.nodes}) == 2


def test_steps_that_hardly_differ_are_equal(tmp_path: Path) -> None:
    recipe, made = study(tmp_path)
    train(made, "full", steps=100)
    train(made, "rl", steps=105, kept=(50, 100))
    size = len(made.nodes)
    assert equal_steps(made, recipe).early == set()
    assert len(made.nodes) == size


def test_without_a_kept_checkpoint_readers_are_told(tmp_path: Path) -> None:
    recipe, made = study(tmp_path)
    train(made, "full", steps=7)
    train(made, "rl", steps=40, kept=(9,))
    found = equal_steps(made, recipe)
    assert found.notes == ["seed 0: rl made 40 steps and another arm 7, and no checkpoint up to there was kept (keep_every)"]
    assert found.early == set()


def test_only_a_finished_reinforcement_at_the_end_of_an_arm_counts(tmp_path: Path) -> None:
    _, made = study(tmp_path)
    train(made, "rl", steps=5)
    assert [each.arm for each in made.lineages if trained(made, each) is not None] == ["rl"]


def test_other_budgets_are_told_by_the_recipe_and_by_what_was_generated(tmp_path: Path) -> None:
    _, made = study(tmp_path)
    train(made, "rl", steps=5, tokens=1000)
    train(made, "full", steps=5, tokens=1049)
    assert list(budgets(made)) == []
    train(made, "full", steps=5, tokens=1060)
    assert list(budgets(made)) == ["seed 0: the RL tokens of arms differ by more than 5%: rl 1,000, full 1,060"]
    _, made = study(tmp_path, {**ARMS, "longer": ["sft", "grpo", "more"]})
    told = next(budgets(made))
    assert told == (
        "the recipe gives arms different numbers of RL tokens (max_generated_tokens): rl 1,000, full 1,000, longer 5,000"
    )


def test_a_part_of_a_study_judges_its_own_arms_only(tmp_path: Path) -> None:
    recipe, made = study(tmp_path)
    train(made, "full", steps=7)
    train(made, "rl", steps=40, kept=(6,))
    found = equal_steps(made, recipe)
    assert found.of(plan(recipe, ("full",))) == [found.nodes["full", 0, "eval"]]
    assert found.of(plan(recipe, ("base",))) == []
    assert sorted(found.of(made)) == sorted(found.nodes.values())


def test_a_damaged_note_of_a_stage_is_named_with_what_to_do(tmp_path: Path) -> None:
    _, made = study(tmp_path)
    train(made, "rl", steps=5)
    node = made.nodes[next(each for each in made.lineages if each.arm == "rl").nodes[-1]]
    for torn in ('{"summary": {"st', "", "[]", "{}", "\x00"):
        node.note.write_text(torn, "utf-8")
        with pytest.raises(
            InputError, match=r"done.json: expected what the stage .* remove the file, and the same command asks"
        ):
            account(node)
    (node.folder / "spent.json").write_text('{"seconds": 1, "', "utf-8")
    with pytest.raises(
        InputError, match=r"spent.json: expected what the stage has cost, .*; remove the file: only that is lost"
    ):
        start(node, None)
