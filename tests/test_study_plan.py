"""Laws of a study's recipe and plan: what is shared, what a change makes anew, in which order, and what is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml

from skillfactory.errors import ConfigError
from skillfactory.study.plan import Node, Plan, plan, value
from skillfactory.study.recipe import read

STAGES: dict[str, Any] = {
    "attempts": {"command": "curate", "task": "countdown", "questions": 5, "variants_file": "brief"},
    "traces": {"command": "build", "layout": ["paper"]},
    "sft": {"command": "sft", "learning_rate": "5e-4"},
    "again": {"command": "sft", "from": "base"},
    "eval": {"command": "evaluate", "suite": "mini"},
}
ARMS: dict[str, Any] = {
    "base": [],
    "sft": ["attempts", "traces", "sft"],
    "full": ["attempts", {"traces": {"layout": ["*C_full"]}}, "sft"],
    "star": ["attempts", "sft", "attempts", "again"],
}


def recipe_of(folder: Path, **changes: Any) -> Path:
    """A recipe's file; `changes` are sections in place of the usual ones."""
    run = {"output": str(folder / "study"), "model": ["one/model", "two/model"], "seeds": [0, 1, 2]}
    content = {"run": run, "stages": STAGES, "arms": ARMS, "evaluate": ["eval"], **changes}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return path


def planned(folder: Path, **changes: Any) -> Plan:
    return plan(read(recipe_of(folder, **changes)))


def chain(made: Plan, arm: str, seed: int = 0) -> list[Node]:
    """The nodes of an arm in order, its evaluations last."""
    found = next(each for each in made.lineages if (each.arm, each.seed) == (arm, seed))
    return [made.nodes[name] for name in (*found.nodes, *found.evaluations.values())]


def test_arms_share_what_they_agree_on_and_nothing_else(tmp_path: Path) -> None:
    made = planned(tmp_path)
    sft, full = chain(made, "sft"), chain(made, "full")
    assert sft[0] == full[0]
    assert all(one.id != other.id for one, other in zip(sft[1:], full[1:], strict=True))
    assert made.users(sft[0].id) == ("sft", "full", "star")
    assert len({node.folder for node in made.nodes.values()}) == len(made.nodes)


def test_a_changed_option_makes_anew_what_depends_on_it_and_nothing_else(tmp_path: Path) -> None:
    before = planned(tmp_path)
    stages = {**STAGES, "sft": {**STAGES["sft"], "learning_rate": "1e-4"}}
    after = planned(tmp_path, stages=stages)
    for arm, same in (("base", 1), ("sft", 2), ("full", 2), ("star", 1)):
        old, new = ([node.id for node in chain(made, arm)] for made in (before, after))
        assert old[:same] == new[:same]
        assert not {*old[same:]} & {*new[same:]}


def test_the_same_value_written_otherwise_changes_nothing(tmp_path: Path) -> None:
    stages = {**STAGES, "sft": {"command": "sft", "optimisation": {"learning_rate": 0.0005}}}
    assert [*planned(tmp_path).nodes] == [*planned(tmp_path, stages=stages).nodes]


def test_a_chain_hands_on_its_model_and_its_data(tmp_path: Path) -> None:
    made = planned(tmp_path)
    attempts, traces, sft, judged = chain(made, "sft")
    assert value(attempts, "model") == "one/model"
    assert value(traces, "inputs") == [str(attempts.output)]
    assert value(traces, "tokenizer") == "one/model"
    assert (value(sft, "inputs"), value(sft, "model")) == ([str(traces.output)], "one/model")
    assert value(judged, "model") == str(sft.output)
    assert [node.needs for node in (attempts, traces, sft, judged)] == [(), (attempts.id,), (traces.id,), (sft.id,)]


def test_star_samples_from_the_last_model_and_trains_the_first_one_on_right_attempts(tmp_path: Path) -> None:
    first, once, second, again, judged = chain(planned(tmp_path), "star")
    assert value(once, "inputs") == [str(first.output)]
    assert value(second, "model") == str(once.output)
    assert (value(again, "inputs"), value(again, "model")) == ([str(second.output)], "one/model")
    assert value(judged, "model") == str(again.output)


def test_seeds_vary_questions_traces_and_training_and_leave_the_test_questions_alone(tmp_path: Path) -> None:
    made = planned(tmp_path)
    one, other = chain(made, "sft", 0), chain(made, "sft", 1)
    for place in range(3):
        seeds = {value(node[place], "seed") for node in (one, other)}
        assert len(seeds) == 2
        assert all(0 <= seed < 1 << 31 for seed in seeds)
    assert value(one[0], "seed") == value(one[1], "seed"), "traces are drawn with the seed of their run"
    assert value(one[3], "seed") == value(other[3], "seed")
    assert [value(chain(made, "base", seed)[0], "model") for seed in range(3)] == ["one/model", "two/model", "one/model"]


def test_a_stage_with_a_seed_of_its_own_is_made_once_for_all_seeds_of_one_model(tmp_path: Path) -> None:
    stages = {**STAGES, "attempts": {**STAGES["attempts"], "seed": 7}}
    made = planned(tmp_path, stages=stages)
    assert chain(made, "sft", 0)[:2] == chain(made, "sft", 2)[:2]
    assert chain(made, "sft", 0)[2] != chain(made, "sft", 2)[2]
    assert chain(made, "sft", 0)[0] != chain(made, "sft", 1)[0], "seed 1 begins with another model"


def test_a_file_that_an_option_names_counts_by_what_it_holds(tmp_path: Path) -> None:
    prompt = tmp_path / "reflection.yaml"
    stages = {**STAGES, "attempts": {**STAGES["attempts"], "reflection_file": str(prompt)}}
    nodes = []
    for word in ("Check", "Check", "Judge"):
        prompt.write_text(
            f"system: null\ntemplate: '{word} {{question}} {{attempt}} in <verdict>Correct</verdict>'\n", encoding="utf-8"
        )
        nodes.append(chain(planned(tmp_path, stages=stages), "sft")[0].id)
    assert nodes[0] == nodes[1] != nodes[2]


def test_a_training_may_replay_what_another_stage_writes(tmp_path: Path) -> None:
    texts = {"command": "mini", "action": "replay", "n": 10}
    stages = {**STAGES, "texts": texts, "sft": {**STAGES["sft"], "replay": ["texts@0.5"]}}
    made = planned(tmp_path, stages=stages)
    sft = chain(made, "sft")[2]
    written = next(node for node in made.nodes.values() if node.stage == "texts" and node.seed == 0)
    assert value(sft, "replay") == [f"{written.output}@0.5"]
    assert written.output.suffix == ".jsonl"
    assert value(written, "output") == str(written.output)
    assert written.id in sft.needs
    assert made.users(written.id) == ("sft", "full", "star")
    more = planned(tmp_path, stages={**stages, "texts": {**texts, "n": 11}})
    assert chain(more, "sft")[2].id != sft.id


def test_all_of_a_seed_comes_before_the_next_and_the_longest_chain_first(tmp_path: Path) -> None:
    ordered = planned(tmp_path).order()
    assert [node.seed for node in ordered] == sorted(node.seed for node in ordered)
    places = {node.id: n for n, node in enumerate(ordered)}
    assert all(places[needed] < places[node.id] for node in ordered for needed in node.needs)
    assert [node.stage for node in ordered[:2]] == ["attempts", "sft"], "STaR has the longest way to go"


def test_a_part_of_the_arms_and_seeds_is_a_part_of_the_plan(tmp_path: Path) -> None:
    recipe = read(recipe_of(tmp_path))
    whole, part = plan(recipe), plan(recipe, ("sft",), (1,))
    assert {*part.nodes} == {node.id for node in chain(whole, "sft", 1)}


def changed(stage: str, **options: Any) -> dict[str, Any]:
    return {"stages": {**STAGES, stage: {**STAGES[stage], **options}}}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"arm": {}}, "unknown section 'arm'; did you mean 'arms'?"),
        ({"run": {"seeds": [1]}}, "run.output is missing"),
        ({"run": {"output": "x", "seed": 1}}, "run: unknown key 'seed'; did you mean 'seeds'?"),
        ({"run": {"output": "x", "seeds": [1, 1]}}, "run: seeds: expected one or more different values, came [1, 1]"),
        ({"run": {"output": "x", "workers": 0}}, "run: workers: expected 1 or more, came 0"),
        (changed("sft", learning_rat=1), "stages.sft: unknown key 'learning_rat'; did you mean 'learning_rate'?"),
        (changed("sft", epochs="many"), "stages.sft.optimisation.epochs: expected a number, came 'many'"),
        (changed("sft", epochs=-1), "stage sft: epochs: expected more than 0, came -1"),
        (changed("sft", output="x"), "stages.sft.output: the study gives each stage its own folder; leave it out"),
        (changed("sft", command="stf"), "stages.sft.command: unknown command of a stage 'stf'; did you mean 'sft'?"),
        (changed("sft", **{"from": "start"}), "stages.sft.from: expected last or base, came 'start'"),
        (changed("traces", layout=["papr"]), "stage traces: unknown layout 'papr'"),
        (changed("attempts", task="coutdown"), "stage attempts: unknown task 'coutdown'; did you mean 'countdown'?"),
        (changed("eval", suite="mimi"), "stage eval: unknown suite 'mimi'"),
        ({"stages": {**STAGES, "more": {}}}, "stages.more.command is missing"),
        ({"arms": {"sft": ["atempts"]}}, "arms.sft: unknown stage 'atempts'; did you mean 'attempts'?"),
        ({"arms": {"sft": ["traces"]}}, "stage traces: 'build' has nothing to work on; let a stage of curate come before it"),
        ({"arms": {"sft": ["eval"]}}, "arms.sft: 'eval' is an evaluation; name it under 'evaluate:'"),
        ({"arms": {"sft": [{"attempts": {"sample": 2}}]}}, "arms.sft.attempts: unknown key 'sample'; did you mean 'samples'?"),
        (
            {"stages": {**STAGES, "texts": {"command": "mini"}}, "arms": {"x": ["texts"]}},
            "stage texts: action: a stage of 'mini'",
        ),
        ({"arms": {}}, "says nothing of 'arms'"),
        ({"evaluate": ["sft"]}, "evaluate: 'sft' is a stage of 'sft'; expected one of 'evaluate'"),
        ({"evaluate": [{"eval": {"arms": ["stf"]}}]}, "evaluate.eval.arms: unknown arm 'stf'"),
        ({"compare": [["sft"]]}, "compare: expected pairs such as [arm, baseline], came a list"),
        ({"compare": [["sft", "bse"]]}, "compare: unknown row of the table 'bse'; did you mean 'base'?"),
        ({"labels": {"bse": "x"}}, "labels: unknown arm 'bse'; did you mean 'base'?"),
    ],
)
def test_what_is_wrong_in_a_recipe_is_refused_before_anything_starts(
    tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    path = recipe_of(tmp_path, **changes)
    with pytest.raises(ConfigError) as caught:
        plan(read(path))
    assert str(caught.value).startswith(f"{path}: ")
    assert message in str(caught.value)
