"""Reinforcement with TRL: the questions are the split's, the reward is ours, and the script really trains."""

import filecmp
import json
import os
import re
import subprocess
import sys
from math import prod
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from tiny_model import save_tiny_model

from skillfactory.embedded import located
from skillfactory.errors import ConfigError
from skillfactory.export import ExportConfig, Summary, export
from skillfactory.export.target import Wanted
from skillfactory.export.trl_grpo_script import fitting, parsed, reward
from skillfactory.tasks import resolve
from skillfactory.tasks.generated import split_of
from skillfactory.train.rewards import judged

FEW = ["--prompts", "2", "--mini-batch", "1", "--samples", "2", "--per-device", "2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_tiny_model(tmp_path_factory.mktemp("model"), context=2048, hidden=16)


def run(output: Path, count: int = 20, held: int = 8, **options: Any) -> Summary:
    """The questions of two tasks."""
    wanted = Wanted(("multiplication:2@3", "acronym:4"), questions=count, validation=held)
    return export(ExportConfig(output.parent, "trl-grpo", output, wanted=wanted, **options))


def rows(folder: Path, split: str) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pq.read_table(folder / "data" / f"{split}-00000-of-00001.parquet").to_pylist()
    return found


def script(folder: Path, *options: str) -> "subprocess.CompletedProcess[str]":
    """Runs the export's script, offline."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "cache")}
    command = [sys.executable, "grpo.py", *options]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)


def test_the_questions_are_of_the_split_rl_and_the_held_out_ones_are_not(tmp_path: Path) -> None:
    found = run(tmp_path / "out")
    training, held = rows(tmp_path / "out", "train"), rows(tmp_path / "out", "validation")
    assert (found.funnel.unit, found.funnel.kept, len(training), len(held)) == ("questions", 20, 20, 8)
    assert {row["task"] for row in training} == {"multiplication:2", "acronym:4"}
    assert not {row["truth"] for row in training} & {row["truth"] for row in held}
    for row in training + held:
        told = json.loads(row["truth"])
        task = resolve(told["task"], told["option"])
        question = task.question(told["facts"])
        assert row["prompt"] == [{"role": "user", "content": question.prompt}]
        assert split_of(task.canonical(question)) == ("rl" if row in training else "eval")
    assert "20 questions to train on and 8 held-out ones" in (tmp_path / "out" / "README.md").read_text("utf-8")


def test_the_folder_is_a_data_set_and_the_same_export_has_the_same_bytes(tmp_path: Path) -> None:
    from datasets import load_dataset

    found = run(tmp_path / "out")
    run(tmp_path / "again")
    assert filecmp.cmpfiles(tmp_path / "out", tmp_path / "again", found.files, shallow=False) == ([*found.files], [], [])
    loaded = load_dataset(str(tmp_path / "out"), cache_dir=str(tmp_path / "cache"))
    assert loaded["train"]["truth"][:] == [row["truth"] for row in rows(tmp_path / "out", "train")]
    assert loaded["validation"].num_rows == 8
    run(tmp_path / "bare", held=0)
    assert [*load_dataset(str(tmp_path / "bare"), cache_dir=str(tmp_path / "cache"))] == ["train"]


def test_the_reward_of_responses_is_ours(model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(model)
    run(tmp_path / "out", count=10)
    texts, truths, ours = [], [], []
    for row in rows(tmp_path / "out", "train"):
        told = json.loads(row["truth"])
        task = resolve(told["task"], told["option"])
        question = task.question(told["facts"])
        gold = str(prod(told["facts"].get("factors", [0])))  # wrong for acronyms
        for text in (
            f"<think>\nHm\n</think>\n<answer>\n{gold}\n</answer>",
            f"<answer>{gold}</answer> or <answer>0</answer>",
            f"<think><answer>{gold}</answer></think> none",
            f"<answer>{gold}",
            gold,
            "<answer>" + "(" * 300 + "</answer>",
            f"<answer>🙂 {gold}</answer>",
            "",
        ):
            texts += [text, text]
            truths += [row["truth"]] * 2
            ours += [judged(task, question, text, ended=ended).reward for ended in (True, False)]
    ids = [tokenizer(text)["input_ids"] for text in texts]
    limit = 1 + max(map(len, ids))
    ids = [[*one, tokenizer.eos_token_id] if n % 2 == 0 else (one * limit + [0] * limit)[:limit] for n, one in enumerate(ids)]
    assert len(ids) == 160
    assert reward(tokenizer, limit)(completion_ids=ids, truth=truths, prompts=[], completions=[]) == ours
    assert ours.count(1.0) == 8  # the whole answer, for the 8 products


def test_the_script_trains_on_the_reward(tmp_path: Path) -> None:
    from transformers import AutoModelForCausalLM

    wanted = Wanted(("countdown:mini",), questions=20, validation=0)
    export(ExportConfig(tmp_path, "trl-grpo", tmp_path / "out", wanted=wanted, model="mini", max_length=64))
    done = script(tmp_path / "out", "--prompts=4", "--mini-batch=2", "--samples=4", "--max-steps=2", "--learning-rate=0.001")
    assert done.returncode == 0, done.stderr[-2000:]
    said = re.search(r"2 steps, mean reward (0\.\d+) at first, 0\.\d+ at last; saved to model", done.stdout)
    assert said is not None
    assert 0 < float(said[1]) < 1
    before, after = (AutoModelForCausalLM.from_pretrained(path) for path in (located("mini"), tmp_path / "out" / "model"))
    assert not before.lm_head.weight.equal(after.lm_head.weight)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--prompts", "3", "--mini-batch", "2"], "--prompts 3 is no multiple of --mini-batch 2"),
        ([*FEW, "--per-device", "3"], "a step of 2 responses is no multiple of the 3 in a pass: choose --per-device"),
    ],
)
def test_batches_that_do_not_divide_are_refused(options: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parsed({"model": "m", "max_length": 9, "seed": 0}, options)
    assert message in capsys.readouterr().err


def test_questions_that_do_not_fit_are_refused(model: Path, tmp_path: Path) -> None:
    from datasets import Dataset
    from transformers import AutoTokenizer

    run(tmp_path / "out")
    data, tokenizer = Dataset.from_list(rows(tmp_path / "out", "train")), AutoTokenizer.from_pretrained(model)

    def fit(*options: str) -> int:
        return len(fitting(data, tokenizer, parsed({"model": "m", "max_length": 9, "seed": 0}, [*options])))

    assert fit(*FEW) == 20
    with pytest.raises(SystemExit, match="20 questions don't fill a batch of 256: export more, or lower --prompts"):
        fit()
    with pytest.raises(SystemExit, match=r"20 of 20 prompts have more than 9 tokens \(up to \d+\): --max-prompt"):
        fit(*FEW, "--max-prompt", "9")


def test_the_values_are_the_papers(tmp_path: Path) -> None:
    found = run(tmp_path / "out", model="Qwen/Qwen2.5-1.5B-Instruct")
    said = json.loads((tmp_path / "out" / "export.json").read_text("utf-8"))
    assert (said["model"], said["max_length"], said["seed"]) == ("Qwen/Qwen2.5-1.5B-Instruct", 4096, 0)
    options = vars(parsed(said, []))
    paper: dict[str, float] = {
        "prompts": 256,
        "samples": 16,
        "mini_batch": 32,
        "max_prompt": 512,
        "max_response": 4096,
        "batches": 150,
    }
    paper |= {"learning_rate": 1e-6, "beta": 0.0}
    assert {key: options[key] for key in paper} == paper
    assert found.notes == ()


def test_the_script_says_what_to_install_where_skillfactory_is_missing(tmp_path: Path) -> None:
    run(tmp_path / "out")
    code = "import sys; sys.modules['skillfactory'] = None; import grpo; grpo.reward(None, 9)"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path / "out", capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("the reward is computed by skillfactory, which is missing here: pip install CLONE, ")


def test_a_directory_that_names_no_task_needs_one(tmp_path: Path) -> None:
    (tmp_path / "build.json").write_text('{"settings": {"inputs": []}}', "utf-8")
    with pytest.raises(ConfigError, match="doesn't say which task it was made from; name it: --task countdown:3"):
        export(ExportConfig(tmp_path, "trl-grpo", tmp_path / "out"))
