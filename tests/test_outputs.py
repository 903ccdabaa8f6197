"""Laws of what is at a path: what wrote it, what it is called, and which arms and seeds of a study rest on it."""

import json
from pathlib import Path
from typing import Any

import pytest
import solver
from test_build_from_run import built, curated

from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.errors import InputError
from skillfactory.evaluate import Answering, EvaluateConfig
from skillfactory.evaluation import evaluate
from skillfactory.outputs import Output, What, outputs, what_is

SUITE = "groups:\n  - {name: two, kind: in-domain, task: multiplication, level: 2, questions: 3, samples: 1, max_tokens: 100}\n"


def account(folder: Path, name: str, **content: Any) -> Path:
    """A folder with the account that a command leaves."""
    folder.mkdir(parents=True)
    (folder / name).write_text(json.dumps(content), "utf-8")
    return folder


def evaluated(folder: Path, model: str = "mini") -> Path:
    account(folder, "run.json", command="evaluate", model=f"{model} (files 00)")
    (folder / "evaluation.json").write_text(json.dumps({"model": model}), "utf-8")
    return folder


def study(folder: Path) -> Path:
    """A study of two arms on two seeds that share a model to begin with; one evaluation is of no row."""
    stages = folder / "stages"
    evaluated(stages / "eval-0" / "out")
    account(stages / "replay-1" / "else", "notes.json")
    for seed in (0, 1):
        account(stages / f"sft-{seed}" / "out", "training.json", command="sft", settings={"model": "mini"})
        for name in ("eval-a", "eval-b", "retry-b", "spare"):
            evaluated(stages / f"{name}-{seed}" / "out", f"sft-{seed}")
    told = [{"id": "eval-0", "stage": "eval", "command": "evaluate", "seed": 0, "arms": ["base"]}]
    told += [{"id": "replay-1", "stage": "replay", "command": "mini", "seed": 0, "arms": ["a"]}]
    runs = [{"row": "base", "seed": seed, "output": "elsewhere/stages/eval-0/out"} for seed in (0, 1)]
    for seed in (0, 1):
        told.append({"id": f"sft-{seed}", "stage": "sft", "command": "sft", "seed": seed, "arms": ["a", "b"]})
        for name, stage, row in (("eval-a", "eval", "a"), ("eval-b", "eval", "b"), ("retry-b", "retry", "b/retry")):
            arm = row.partition("/")[0]
            told.append({"id": f"{name}-{seed}", "stage": stage, "command": "evaluate", "seed": seed, "arms": [arm]})
            runs.append({"row": row, "seed": seed, "output": f"elsewhere/stages/{name}-{seed}/out"})
        told.append({"id": f"spare-{seed}", "stage": "spare", "command": "evaluate", "seed": seed, "arms": []})
    arms = [{"name": name, "seeds": [0, 1]} for name in ("base", "a", "b", "b/retry")]
    (folder / "study.json").write_text(json.dumps({"arms": arms, "stages": told, "runs": runs}), "utf-8")
    return folder


def test_what_the_commands_write_is_known_by_its_files(tmp_path: Path) -> None:
    built(curated(tmp_path / "curated", "lazy", "paper", questions=8), tmp_path / "built", workers=1)
    (tmp_path / "suite.yaml").write_text(SUITE, "utf-8")
    answering = Answering("scripted", {"answer": "solver:answer"})
    config = EvaluateConfig("model", tmp_path / "evaluated", str(tmp_path / "suite.yaml"), generation=answering)
    evaluate(config, engine=lambda: ScriptedEngine(ScriptedOptions(solver.answer)))
    found = outputs([str(tmp_path / name) for name in ("curated", "built", "evaluated")])
    assert [each.what for each in found] == [What.CURATION, What.TRACES, What.EVALUATION]
    assert [each.label for each in found] == ["curated", "built", "evaluated"]
    assert found[2].model == "model"


@pytest.mark.parametrize(
    ("name", "command", "what"),
    [
        ("run.json", "budget", What.BUDGET),
        ("run.json", "intervene", What.INTERVENTION),
        ("training.json", "sft", What.SFT),
        ("training.json", "grpo", What.GRPO),
    ],
)
def test_what_takes_long_to_make_is_known_by_its_account(tmp_path: Path, name: str, command: str, what: What) -> None:
    folder = account(tmp_path / "made", name, command=command, model="mini", settings={"model": "mini"})
    assert outputs([str(folder)]) == [Output(what, folder, "made", (), "mini")]


def test_folders_are_called_by_the_end_of_their_paths_that_tells_them_apart(tmp_path: Path) -> None:
    paths = [evaluated(tmp_path / name) for name in ("one/run", "two/run", "other", "stages/eval-7/out")]
    assert [each.label for each in outputs(list(map(str, paths)))] == ["one/run", "two/run", "other", "eval-7"]
    assert [each.label for each in outputs([str(paths[2])] * 2)] == ["other", "other (2)"]


def test_a_label_makes_an_arm_and_several_runs_of_it_are_its_seeds(tmp_path: Path) -> None:
    one, two, three = (str(evaluated(tmp_path / name)) for name in "123")
    for several in ([f"rl={one},{two}"], [f"rl={one}", f"rl={two}"]):
        found = outputs([*several, f"base={three}"])
        assert [(each.label, each.uses) for each in found] == [
            ("rl, run 1", (("rl", 0),)),
            ("rl, run 2", (("rl", 1),)),
            ("base", (("base", None),)),
        ]
    assert [found[0].seed, found[2].seed] == [0, None]
    strange = evaluated(tmp_path / "a=b,c")
    assert [each.path for each in outputs([str(strange)])] == [strange]


def test_a_study_is_the_outputs_of_its_stages_with_their_arms_and_seeds_wherever_it_was_moved(tmp_path: Path) -> None:
    folder = study(tmp_path / "moved")
    found = {each.label: each for each in outputs([str(folder)])}
    assert list(found) == [
        *("base", "sft a, b, seed 0", "a, seed 0", "b, seed 0", "b/retry, seed 0", "spare, seed 0"),
        *("sft a, b, seed 1", "a, seed 1", "b, seed 1", "b/retry, seed 1", "spare, seed 1"),
    ]
    assert found["base"].uses == (("base", 0), ("base", 1))
    assert (found["base"].seeds, found["base"].seed) == ((0, 1), None)
    shared = found["sft a, b, seed 1"]
    assert (shared.what, shared.arms, shared.arm, shared.seed) == (What.SFT, ("a", "b"), "a, b", 1)
    assert shared.path == folder / "stages" / "sft-1" / "out"
    assert found["b/retry, seed 1"].uses == (("b/retry", 1),)
    assert found["spare, seed 0"].uses == ()


def test_two_studies_keep_their_arms_apart(tmp_path: Path) -> None:
    paths = [str(study(tmp_path / name)) for name in ("first", "second")]
    found = outputs(paths)
    assert {each.label for each in found} >= {"first: a, seed 0", "second: a, seed 0"}
    assert {arm for each in found for arm in each.arms} >= {"first: a", "second: a"}
    named = outputs([f"old={paths[0]}", paths[1]])
    assert {arm for each in named for arm in each.arms} >= {"old: a", "second: a"}


def test_a_study_under_way_gives_what_has_ended(tmp_path: Path) -> None:
    folder = study(tmp_path / "study")
    (folder / "study.json").unlink()
    with pytest.raises(InputError, match=r"study: no stage of this study has ended yet; `skillfactory run` with its recipe"):
        outputs([str(folder)])
    (folder / "stages" / "sft-1" / "done.json").write_text("{}", "utf-8")
    assert [(each.label, each.what, each.uses) for each in outputs([str(folder)])] == [("sft-1", What.SFT, ())]


def test_a_stage_may_be_named_by_its_folder(tmp_path: Path) -> None:
    folder = study(tmp_path / "study")
    found = outputs([str(folder / "stages" / "eval-a-0")])
    assert [(each.label, each.path.name) for each in found] == [("eval-a-0", "out")]


def test_errors_name_the_path_what_is_there_and_what_was_expected(tmp_path: Path) -> None:
    def told(text: str) -> str:
        with pytest.raises(InputError) as error:
            outputs([text.replace("@", str(tmp_path))])
        return str(error.value).replace(str(tmp_path), "@")

    expected = (
        "a folder that `skillfactory curate`, `build`, `sft`, `grpo`, `evaluate`, `budget`, `intervene` or `run` has written"
    )
    assert told("@/none") == f"@/none: there is no such folder; expected {expected}"
    (tmp_path / "file").write_text("", "utf-8")
    assert told("@/file") == f"@/file: a file; expected {expected}"
    account(tmp_path / "other", "notes.txt")
    names = "run.json, build.json, training.json, study.json"
    assert told("@/other") == f"@/other: holds notes.txt, but none of {names}; expected {expected}"
    (tmp_path / "empty").mkdir()
    assert told("@/empty") == f"@/empty: is empty, but none of {names}; expected {expected}"
    account(tmp_path / "new", "run.json", command="dream")
    assert told("@/new") == "@/new/run.json: says that 'dream' wrote it; expected curate, evaluate, budget, intervene"
    (tmp_path / "new" / "run.json").write_text("{", "utf-8")
    assert told("@/new").startswith("@/new/run.json: not a JSON file: ")
    (tmp_path / "new" / "run.json").write_text("[]", "utf-8")
    assert told("@/new") == "@/new/run.json: expected a JSON object, came a list"
    (study(tmp_path / "study") / "study.json").write_text('{"runs": [], "arms": []}', "utf-8")
    assert told("@/study").startswith("@/study/study.json: expected the account of a study, with runs, arms and stages")
    for bad in ("=@/empty", "a=", "a=@/empty,", ""):
        assert told(bad) == f"'{bad}': expected PATH, LABEL=PATH or LABEL=PATH,PATH"


def test_what_is_at_a_path_alone(tmp_path: Path) -> None:
    assert what_is(study(tmp_path / "study")) is What.STUDY
    assert what_is(evaluated(tmp_path / "run")) is What.EVALUATION
