"""The hand-offs to verl: what stands in the folders, that their reward is the task's check, and that the keys are today's.

The real package reads the same folders in `integrations/verl/check.py`.
"""

import importlib.util
import json
import re
import subprocess
import sys
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from easy_task import Sevens
from silver import attempt, row, simple, write
from solver import answer
from test_build_from_run import built

from skillfactory.curate import CurateConfig, Generation
from skillfactory.curation import curate
from skillfactory.engines.scripted import ScriptedEngine, ScriptedOptions
from skillfactory.errors import ConfigError, InputError
from skillfactory.export import ExportConfig, Summary, export
from skillfactory.export.reinforcement import batch
from skillfactory.export.target import Wanted
from skillfactory.masks import Mask, silent
from skillfactory.records import Check, Grade, Question
from skillfactory.suites.questions import part_of
from skillfactory.tasks import resolve
from skillfactory.tasks.generated import split_of
from skillfactory.train.rewards import judged

TASKS = ("countdown:3@2", "countdown:4", "multiplication:2", "acronym:4", "letter_countdown:4")
OPTIONS = {"countdown.use_all": "true"}


def asked(output: Path, *tasks: str, directory: Path = Path("run"), **wanted: Any) -> Summary:
    """An export for verl's reinforcement of questions of `tasks`."""
    options: dict[str, Any] = {"questions": 60, "validation": 30, "option": OPTIONS if tasks == TASKS else {}}
    return export(ExportConfig(directory, "verl", output, model="some/model", wanted=Wanted(task=tasks, **(options | wanted))))


def rows(folder: Path, name: str) -> list[dict[str, Any]]:
    """The rows of a split of an export, in order."""
    found: list[dict[str, Any]] = pq.read_table(folder / "data" / f"{name}-00000-of-00001.parquet").to_pylist()
    return found


def reward(folder: Path) -> Any:
    """The function that verl would call, loaded from its file as verl loads it."""
    spec = importlib.util.spec_from_file_location("reward", folder / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.compute_score


def overrides(folder: Path) -> dict[str, str]:
    """The options of train.sh by key."""
    lines = (line for line in (folder / "overrides.txt").read_text("utf-8").splitlines() if not line.startswith("#"))
    pairs = [line.partition("=") for line in lines]
    assert len({key for key, _, _ in pairs}) == len(pairs)
    return {key: value for key, _, value in pairs}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export of questions of several tasks, one with an option."""
    output = tmp_path_factory.mktemp("verl") / "out"
    asked(output, *TASKS)
    return output


def test_a_row_is_a_question_as_verl_reads_it(folder: Path) -> None:
    for name, split in (("train", "rl"), ("validation", "validation")):
        found = rows(folder, name)
        assert [one["extra_info"]["index"] for one in found] == [*range(len(found))]
        for one in found:
            told, said = one["extra_info"], json.loads(one["reward_model"].pop("ground_truth"))
            question = resolve(said["task"], said["option"]).question(said["facts"])
            assert one["prompt"] == [{"role": "user", "content": question.prompt}]
            assert one["data_source"] == f"{told['task']}:{told['level']}"
            assert one["ability"] == told["task"] == said["task"] == question.task
            assert (told["split"], one["reward_model"]) == (split, {"style": "rule"})
            assert said["option"] == ({"use_all": "true"} if told["task"] == "countdown" else {})
            assert told["question_id"].startswith(f"{told['task']}-{told['level']}-{'rl' if name == 'train' else 'eval'}-")
            assert list(one) == ["data_source", "prompt", "ability", "reward_model", "extra_info"]


def test_questions_are_shared_out_by_weight_and_held_out_ones_too(folder: Path) -> None:
    for name, count in (("train", 10), ("validation", 5)):
        found = [one["data_source"] for one in rows(folder, name)]
        assert {source: found.count(source) for source in found} == {
            "countdown:3": 2 * count,
            **dict.fromkeys(("countdown:4", "multiplication:2", "acronym:4", "letter_countdown:4"), count),
        }


def test_no_question_is_of_the_traces_split_or_of_both_sides(folder: Path) -> None:
    keys = {}
    for name in ("train", "validation"):
        said = [json.loads(one["reward_model"]["ground_truth"]) for one in rows(folder, name)]
        tasks = [resolve(one["task"], one["option"]) for one in said]
        keys[name] = [task.canonical(task.question(one["facts"])) for task, one in zip(tasks, said, strict=True)]
        assert len(keys[name]) == len(set(keys[name])) == len(said)
    assert {split_of(key) for key in keys["train"]} == {"rl"}
    assert {split_of(key) for key in keys["validation"]} == {"eval"}
    assert {part_of(key) for key in keys["validation"]} == {"dev"}


def test_the_reward_is_1_for_gold_and_0_for_what_is_not_the_answer(folder: Path) -> None:
    score = reward(folder)
    found = [*rows(folder, "train"), *rows(folder, "validation")]
    others = [*found[1:], found[0]]
    for one, other in zip(found, others, strict=True):
        gold, said = one["extra_info"]["answer"], one["reward_model"]["ground_truth"]
        call = partial(score, one["data_source"], ground_truth=said, extra_info=one["extra_info"], num_turns=None)
        assert call(solution_str=f"<think>\n<answer>zz</answer>\n</think>\n\n<answer>\n{gold}\n</answer>") == 1.0
        for text in (gold, f"<answer>{gold}</answer><answer>zz</answer>", f"<answer>{gold}", f"<answer>{gold}zz</answer>", ""):
            assert call(solution_str=text) == 0.0, text
        if other["data_source"] != "multiplication:2":  # two pairs may have one product
            assert call(solution_str=f"<answer>{other['extra_info']['answer']}</answer>") == 0.0


def test_options_of_a_task_reach_the_reward(tmp_path: Path) -> None:
    for use_all, due in (("true", 0.0), ("false", 1.0)):
        asked(tmp_path / use_all, "countdown:mini", option={"use_all": use_all}, questions=300)
        score = reward(tmp_path / use_all)
        given = [one["reward_model"]["ground_truth"] for one in rows(tmp_path / use_all, "train")]
        facts = [json.loads(said)["facts"] for said in given]
        fewer = [(said, two) for said, one in zip(given, facts, strict=True) if (two := of_two(one["numbers"], one["target"]))]
        assert [score("countdown:mini", f"<answer>{two}</answer>", said) for said, two in fewer] == [due] * len(fewer)
        assert len(fewer) > 3


def of_two(numbers: list[int], target: int) -> str | None:
    """A sum or a difference of two of the numbers that is the target, if there is one."""
    pairs = [(a, b) for i, a in enumerate(numbers) for b in numbers[:i] + numbers[i + 1 :]]
    found = (f"{a} {sign} {b}" for a, b in pairs for sign in "+-" if (a + b if sign == "+" else a - b) == target)
    return next(found, None)


def test_the_reward_is_that_of_our_own_reinforcement(folder: Path) -> None:
    score, seen = reward(folder), set()
    for one in rows(folder, "train"):
        said = json.loads(one["reward_model"]["ground_truth"])
        task = resolve(said["task"], said["option"])
        question = task.question(said["facts"])
        gold = one["extra_info"]["answer"]
        for text in (
            gold,
            f"<answer>{gold}</answer>",
            f"<answer>{gold} {gold}</answer>",
            "<answer>" + "(" * 500,
            "<answer>1</answer>",
        ):
            ours = judged(task, question, text, ended=True)
            assert score(one["data_source"], text, one["reward_model"]["ground_truth"]) == (ours.reward or 0.0)
            seen.add(ours.outcome)
    assert len(seen) == 3


class Doubtful(Sevens):
    """A task whose check never comes to an end."""

    reason = "timeout"

    def check(self, question: Question, answer: str) -> Grade:
        """Nothing."""
        return Grade(Check.UNDECIDED, self.reason)


class Raising(Doubtful):
    """A task with a grader that has a bug."""

    reason = "raised_ZeroDivisionError"


def test_an_answer_that_cannot_be_decided_earns_nothing_and_a_broken_check_is_an_error(tmp_path: Path) -> None:
    for name in ("test_export_verl:Doubtful", "test_export_verl:Raising"):
        asked(tmp_path / name, name, questions=20, validation=2)
        one = rows(tmp_path / name, "train")[0]
        call = partial(reward(tmp_path / name), name, ground_truth=one["reward_model"]["ground_truth"])
        assert call("no answer") == 0.0
        if name == "test_export_verl:Raising":
            with pytest.raises(InputError, match="the grader of the task sevens raised ZeroDivisionError: '7'"):
                call("<answer>7</answer>")
        else:
            assert call("<answer>7</answer>") == 0.0


def test_a_ground_truth_of_another_make_is_an_error(folder: Path) -> None:
    with pytest.raises(InputError, match="expected the ground truth that an export wrote, came '42'"):
        reward(folder)("gsm8k", "<answer>42</answer>", "42")


def test_the_same_seed_gives_the_same_bytes_and_another_one_other_questions(tmp_path: Path) -> None:
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        asked(tmp_path / name, "countdown:3", "multiplication:2", questions=30, validation=4, seed=seed)
    a, b = ({path.name: path.read_bytes() for path in (tmp_path / name).rglob("*.*")} for name in "ab")
    assert {name: a[name] == b[name] for name in a} == dict.fromkeys(a, True)
    first, other = ([one["prompt"] for one in rows(tmp_path / name, "train")] for name in "ac")
    assert first != other


def test_the_tasks_are_those_that_the_directory_was_made_from(tmp_path: Path) -> None:
    config = CurateConfig(
        tmp_path / "run", task="multiplication", level="2", questions=4, samples=2, generation=Generation(engine="scripted")
    )
    curate(config, engine=lambda: ScriptedEngine(ScriptedOptions(answer=answer)))
    built(tmp_path / "run", tmp_path / "traces", "*C_full")
    for name in ("run", "traces"):
        asked(tmp_path / f"of-{name}", directory=tmp_path / name, questions=20)
        assert {one["data_source"] for one in rows(tmp_path / f"of-{name}", "train")} == {"multiplication:2"}
    curated = {json.loads(line) for part in (tmp_path / "run" / "questions").iterdir() for line in prompts(part)}
    assert curated
    assert curated.isdisjoint(one["prompt"][0]["content"] for one in rows(tmp_path / "of-run", "train"))


def prompts(part: Path) -> list[str]:
    """The prompts in a file of questions, as JSON."""
    return [json.dumps(prompt) for prompt in pq.read_table(part)["prompt"].to_pylist()]


def test_the_folder_is_a_data_set_of_two_splits(folder: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    found = load_dataset(str(folder), cache_dir=str(tmp_path))
    assert {name: len(found[name]) for name in found} == {"train": 60, "validation": 30}
    assert found["train"][0]["prompt"] == rows(folder, "train")[0]["prompt"]


def test_more_questions_than_a_row_group_holds_are_numbered_on(tmp_path: Path) -> None:
    asked(tmp_path / "out", "countdown:3", questions=1100, validation=2)
    with pq.ParquetFile(tmp_path / "out" / "data" / "train-00000-of-00001.parquet") as file:
        assert [file.metadata.row_group(n).num_rows for n in range(file.num_row_groups)] == [1024, 76]
    assert [one["extra_info"]["index"] for one in rows(tmp_path / "out", "train")] == [*range(1100)]


def test_the_account_counts_questions(tmp_path: Path) -> None:
    found = asked(tmp_path / "out", "countdown:mini", questions=200)
    account = json.loads((tmp_path / "out" / "export.json").read_text("utf-8"))
    assert account["funnels"] == [found.funnel.to_dict()] == found.to_dict()["funnels"]
    assert (found.funnel.unit, found.funnel.kept) == ("questions", 200)
    assert found.funnel.dropped["repeated"] > 0
    assert "200 questions to train on and 30 held-out ones" in (tmp_path / "out" / "README.md").read_text("utf-8")


GONE = {
    "custom_reward_function", "reward_model", "sandbox_fusion",  # whole sections that the trainer doesn't read any more
    "actor_rollout_ref.actor.ppo_micro_batch_size", "actor_rollout_ref.rollout.log_prob_micro_batch_size",
}  # fmt: skip


def test_the_options_are_todays_and_the_papers(folder: Path) -> None:
    found = overrides(folder)
    assert not {key for key in found if key in GONE or key.split(".")[0] in GONE or key.startswith(("+", "~"))}
    wanted = {
        "algorithm.adv_estimator": "grpo",
        "reward.reward_manager.name": "naive",
        "reward.custom_reward_function.path": '"@HERE@/reward.py"',
        "reward.custom_reward_function.name": "compute_score",
        "actor_rollout_ref.rollout.name": "vllm",
        "actor_rollout_ref.rollout.n": "16",
        "actor_rollout_ref.actor.optim.lr": "1e-6",
        "actor_rollout_ref.actor.ppo_mini_batch_size": "32",
        "actor_rollout_ref.actor.use_kl_loss": "false",
        "data.max_prompt_length": "512",
        "data.max_response_length": "4096",
        "trainer.total_training_steps": "150",
        "trainer.n_gpus_per_node": "@GPUS@",
    }
    assert {key: found.get(key) for key in wanted} == wanted


@pytest.mark.parametrize("questions", [1, 31, 60, 255, 256, 1000])
def test_the_rounds_suffice_for_the_steps_and_a_batch_is_never_larger_than_the_questions(questions: int) -> None:
    from skillfactory.export.verl import overrides as made

    found = made(questions, ExportConfig(Path("run"), "verl"))
    each = questions // int(found["data.train_batch_size"])
    assert each >= 1
    assert int(found["trainer.total_epochs"]) * each >= 150
    assert int(found["data.train_batch_size"]) % int(found["actor_rollout_ref.actor.ppo_mini_batch_size"]) == 0
    assert batch(questions) == {1: 1, 31: 16, 60: 32, 255: 128, 256: 256, 1000: 256}[questions]


def test_a_smaller_batch_than_the_papers_is_noted(tmp_path: Path) -> None:
    found = asked(tmp_path / "out", "easy_task:Sevens", questions=50, validation=3)
    assert found.notes == (
        "easy_task:Sevens:all: 20 distinct questions of the split rl were found, not 50",
        "a step takes 16 questions, not the paper's 256: there are no more",
    )


def test_the_scripts_run_up_to_the_package_that_is_missing_here(tmp_path: Path) -> None:
    place = tmp_path / 'a "quoted" place'
    place.mkdir()
    asked(place / "out", "multiplication:2", questions=4, validation=2)
    script = place / "out" / "train.sh"
    assert subprocess.run(["bash", "-n", str(script)], check=False).returncode == 0
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable, "GPUS": "8"}
    done = subprocess.run(["bash", str(script)], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "check_setup: verl is not installed here; see README.md\n"
    command = [sys.executable, str(place / "out" / "check_setup.py"), "--print"]
    listed = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()
    assert "trainer.n_gpus_per_node=8" in listed
    named = str(place / "out" / "reward.py").replace('"', r"\"")
    assert f'reward.custom_reward_function.path="{named}"' in listed
    assert not [line for line in listed if re.search("@[A-Z]+@", line)]


def test_a_local_model_is_named_by_its_way_from_the_folder(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    for model, name in ((str(tmp_path / "model"), '"@HERE@/../model"'), ("Qwen/Qwen2.5-1.5B", '"Qwen/Qwen2.5-1.5B"')):
        wanted = Wanted(task=("multiplication:2",), questions=4, validation=2)
        export(ExportConfig(Path("run"), "verl", tmp_path / "out", model=model, wanted=wanted))
        assert overrides(tmp_path / "out")["actor_rollout_ref.model.path"] == name


def test_what_verl_could_not_train_on_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="validation: verl needs held-out questions; ask for 1 or more"):
        asked(tmp_path / "out", "countdown:3", validation=0)
    with pytest.raises(ConfigError, match="unknown level of countdown 'x'"):
        asked(tmp_path / "out", "countdown:x")
    with pytest.raises(InputError, match=r"nothing: expected a run of `skillfactory curate` or traces of `skillfactory build`"):
        asked(tmp_path / "out", directory=tmp_path / "nothing")
    write(tmp_path / "traces", simple(2))
    with pytest.raises(InputError, match=r"build.json: not what `skillfactory build` wrote"):
        asked(tmp_path / "out", directory=tmp_path / "traces")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("mask", ["none", "wrong", "all-but-last"])
def test_the_chats_for_sft_say_which_characters_bear_no_loss(mask: Mask, tmp_path: Path) -> None:
    tried = [attempt("original/0", "Wrong.", False), attempt("rephrase/1", "Right.", True), attempt("original/2", "Yes.", True)]
    traces = write(tmp_path / "traces", [row("q1/a", [(one, "Hm.") for one in tried]), *simple(3)], parts=2)
    export(ExportConfig(traces, "verl-sft", tmp_path / "out", mask=mask))
    made = [
        one["messages"] for part in sorted((tmp_path / "out" / "data").iterdir()) for one in pq.read_table(part).to_pylist()
    ]
    kept = [one for part in sorted((traces / "traces").iterdir()) for one in pq.read_table(part).to_pylist()]
    assert [[(turn["role"], turn["content"]) for turn in turns] for turns in made] == [
        [(turn["role"], turn["content"]) for turn in one["conversations"]] for one in kept
    ]
    spans = [[(span["start"], span["end"]) for span in turns[-1].get("silent") or ()] for turns in made]
    assert spans == [list(silent(one["segments"], mask)) for one in kept]
    assert [turns[0].get("silent") for turns in made] == [None] * 4
    hidden = [made[0][-1]["content"][start:end].split("\n")[0] for start, end in spans[0]]
    assert hidden == {"none": [], "wrong": ["Wrong."], "all-but-last": ["Wrong.", "Right."]}[mask]


def test_the_options_for_sft_are_the_papers(tmp_path: Path) -> None:
    traces = write(tmp_path / "traces", simple(4), parts=2)
    export(ExportConfig(traces, "verl-sft", tmp_path / "out", max_length=9000))
    found = overrides(tmp_path / "out")
    assert found["data.train_files"] == ",".join(
        f'{"[" * (not n)}"@HERE@/data/train-0000{n}-of-00002.parquet"{"]" * n}' for n in range(2)
    )
    wanted = {
        "data.max_length": "9000",
        "data.max_token_len_per_gpu": "9000",
        "data.truncation": "error",
        "data.custom_cls.path": '"@HERE@/dataset.py"',
        "data.custom_cls.name": "SilverTraces",
        "optim.lr": "1e-6",
        "optim.lr_scheduler_type": "cosine",
        "optim.lr_warmup_steps_ratio": "0.05",
        "optim.betas": "[0.9,0.95]",
        "optim.weight_decay": "1e-4",
        "trainer.total_epochs": "2",
    }
    assert {key: found.get(key) for key in wanted} == wanted
    script = str(tmp_path / "out" / "train.sh")
    assert subprocess.run(["bash", "-n", script], check=False).returncode == 0
    environment = {"PATH": "/usr/bin:/bin", "PYTHON": sys.executable}
    done = subprocess.run(["bash", script], env=environment, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert (
        done.stderr.splitlines()[-1]
        == "ImportError: verl isn't installed here, or isn't made like the one that README.md names"
    )


def test_options_of_traces_and_of_questions_are_noted_where_they_mean_nothing(tmp_path: Path) -> None:
    wanted = Wanted(task=("multiplication:2",), questions=4, validation=2)
    found = export(ExportConfig(Path("run"), "verl", tmp_path / "a", model="some/model", drop_long=True, wanted=wanted))
    notes = [note.partition(" has no effect on the target verl;")[0] for note in found.notes[1:]]
    assert notes == ["drop_long"]
    found = export(
        ExportConfig(write(tmp_path / "t", simple(2)), "verl-sft", tmp_path / "b", model="some/model", wanted=wanted)
    )
    notes = [note.partition(" has no effect on the target verl-sft;")[0] for note in found.notes]
    assert notes == ["task", "questions", "validation"]
