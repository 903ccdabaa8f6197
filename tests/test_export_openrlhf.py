"""OpenRLHF and open-instruct: rows that their loaders read, scripts that a shell reads as meant, the task's own rewards.

What the real packages make of these is checked by integrations/openrlhf and integrations/open-instruct.
"""

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pyarrow.parquet as pq
import pytest
from silver import simple, write

from skillfactory.errors import InputError
from skillfactory.export import ExportConfig, export
from skillfactory.export.target import Wanted
from skillfactory.reward import score

STRANGE = "model $(touch owned) `touch owned` \" ' } \\ a"
RL, SFT = ("openrlhf-rl", "open-instruct-rl"), ("openrlhf", "open-instruct")
PROGRAM = {"openrlhf": "deepspeed", "openrlhf-rl": "python3", "open-instruct": "accelerate", "open-instruct-rl": "python"}


@pytest.fixture
def traces(tmp_path: Path) -> Path:
    """Ten traces in two parts, lengths 100 and 5,000 in turn."""
    return write(tmp_path / "traces", simple(10, (100, 5000)), parts=2)


def exported(traces: Path, to: str, **options: Any) -> Path:
    """The folder of an export: of few questions where it is of questions."""
    wanted = Wanted(("countdown:mini", "acronym:mini"), questions=40, validation=6, seed=1)
    given: dict[str, Any] = {"max_length": 5000, "wanted": wanted, **options}
    out = traces.with_name(to)
    export(ExportConfig(traces, to, out, **given))
    return out


def said(folder: Path, to: str, *extra: str, **variables: str) -> list[str]:
    """What train.sh hands to the program that it starts, word by word."""
    bin_folder, clone = folder.with_name("bin"), folder.with_name("clone")
    for made in (bin_folder, clone):
        made.mkdir(exist_ok=True)
    program = bin_folder / PROGRAM[to]
    program.write_text('#!/usr/bin/env bash\nprintf "%s\\0" "$@"\n')
    program.chmod(0o755)
    environment = (
        os.environ
        | variables
        | {
            "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}",
            "OPEN_INSTRUCT": str(clone),
            "GPUS": "3",
        }
    )
    done = subprocess.run(
        ["bash", folder / "train.sh", *extra], env=environment, capture_output=True, text=True, check=True, cwd=folder.parent
    )
    return done.stdout.split("\0")[:-1]


def value(words: list[str], option: str) -> str:
    return words[words.index(option) + 1]


@pytest.mark.parametrize("to", [*SFT, *RL])
def test_a_script_is_read_by_the_shell_as_it_is_meant_whatever_the_model_is_called(to: str, traces: Path) -> None:
    folder = exported(traces, to, model=STRANGE)
    words = said(folder, to, "--last", "word")
    assert words[-2:] == ["--last", "word"]
    assert STRANGE in words
    assert not list(traces.parent.rglob("owned"))
    files = [Path(word) for word in words if word.endswith(".parquet")]
    assert all(file.is_file() for file in files)
    assert not [word for word in words if "@" in word or "{" in word]


@pytest.mark.parametrize("to", [*SFT, *RL])
def test_a_local_model_is_found_from_wherever_the_script_is_called(to: str, traces: Path) -> None:
    local = traces.with_name("my $model")
    local.mkdir()
    words = said(exported(traces, to, model=str(local)), to)
    assert [word for word in words if "$model" in word and Path(word).resolve() == local.resolve()]


@pytest.mark.parametrize("to", ["open-instruct", "open-instruct-rl"])
def test_a_model_that_the_user_names_by_its_way_from_here_is_found_from_the_clone(to: str, traces: Path) -> None:
    folder = exported(traces, to, model="some/model")
    (traces.parent / "after sft").mkdir()
    for model, found in {"after sft": str(traces.parent / "after sft"), "owner/name": "owner/name"}.items():
        assert value(said(folder, to, MODEL=model), "--model_name_or_path") == found


def test_scripts_hold_the_papers_values(traces: Path) -> None:
    words = said(exported(traces, "openrlhf"), "openrlhf")
    paper = {"--adam.lr": "1e-6", "--adam.weight_decay": "1e-4", "--lr_scheduler": "cosine", "--lr_warmup_ratio": "0.05"}
    assert {name: value(words, name) for name in paper} == paper
    assert words[words.index("--adam.betas") + 1 :][:2] == ["0.9", "0.95"]
    assert (value(words, "--data.max_len"), value(words, "--train.max_epochs")) == ("5000", "2")
    words = said(exported(traces, "open-instruct"), "open-instruct")
    paper = {"--learning_rate": "1e-6", "--weight_decay": "1e-4", "--lr_scheduler_type": "cosine", "--warmup_ratio": "0.05"}
    assert {name: value(words, name) for name in paper} == paper
    assert (value(words, "--push_to_hub"), value(words, "--dataset_skip_cache")) == ("false", "true")
    words = said(exported(traces, "openrlhf-rl", max_length=None), "openrlhf-rl")
    paper = {
        "--actor.adam.lr": "1e-6",
        "--algo.kl.init_coef": "0",
        "--rollout.n_samples_per_prompt": "16",
        "--data.max_len": "4608",
    }
    assert {name: value(words, name) for name in paper} == paper
    words = said(exported(traces, "open-instruct-rl", max_length=None), "open-instruct-rl")
    paper = {"--beta": "0.0", "--verification_reward": "1.0", "--response_length": "4096", "--push_to_hub": "false"}
    assert {name: value(words, name) for name in paper} == paper


@pytest.mark.parametrize("to", RL)
def test_steps_are_the_papers_with_as_many_questions_as_there_are(to: str, traces: Path) -> None:
    words = said(exported(traces, to), to)
    if to == "openrlhf-rl":
        prompts, mini, rounds = (
            value(words, "--rollout.batch_size"),
            value(words, "--train.batch_size"),
            value(words, "--train.num_episodes"),
        )
        assert (prompts, mini, rounds) == ("32", "512", "150")
    else:
        found = [value(words, f"--{name}") for name in ("num_unique_prompts_rollout", "num_mini_batches", "total_episodes")]
        assert found == ["32", "1", str(150 * 32 * 16)]


@pytest.mark.parametrize("to", SFT)
def test_every_chat_arrives_whole_and_every_part_is_named(to: str, traces: Path) -> None:
    folder = exported(traces, to)
    there = [
        turns for part in sorted((traces / "traces").iterdir()) for turns in pq.read_table(part)["conversations"].to_pylist()
    ]
    parts = sorted((folder / "data").iterdir())
    assert [turns for part in parts for turns in pq.read_table(part)["messages"].to_pylist()] == there
    if to == "open-instruct":
        words = said(folder, to)
        assert [word for word in words if word.endswith(".parquet")] == [str(part) for part in parts]


@pytest.mark.parametrize("to", RL)
def test_every_row_carries_its_question_and_a_right_answer_earns_1(to: str, traces: Path) -> None:
    folder = exported(traces, to)
    truth = "label" if to == "openrlhf-rl" else "ground_truth"
    turns = "prompt" if to == "openrlhf-rl" else "messages"
    rows = pq.read_table(folder / "data" / "train-00000-of-00001.parquet").to_pylist()
    held = pq.read_table(folder / "data" / "validation-00000-of-00001.parquet").to_pylist()
    assert (len(rows), len(held)) == (40, 6)
    assert len({row["question_id"] for row in rows + held}) == 46
    for row in rows + held:
        assert [turn["role"] for turn in row[turns]] == ["user"]
        assert score(f"<think></think><answer>{row['answer']}</answer>", row[truth]) == 1.0
        assert score("<answer>none</answer>", row[truth]) == 0.0
    if to == "open-instruct-rl":
        assert {row["dataset"] for row in rows} == {"skillfactory"}


@pytest.mark.parametrize("to", [*SFT, *RL])
def test_the_folder_is_a_data_set_and_its_readme_names_what_it_was_checked_with(to: str, traces: Path, tmp_path: Path) -> None:
    from datasets import load_dataset

    folder = exported(traces, to)
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == ({"train": 40, "validation": 6} if to in RL else {"train": 10})
    assert "Checked with" in (folder / "README.md").read_text("utf-8")
    assert "bash train.sh" in (folder / "README.md").read_text("utf-8")


@pytest.mark.parametrize("to", SFT)
def test_rows_that_would_be_cut_are_refused(to: str, traces: Path) -> None:
    with pytest.raises(InputError, match="5 of 10 traces are longer than 4,096 tokens"):
        exported(traces, to, max_length=None)


def reward_file(folder: Path) -> ModuleType:
    """The module reward.py of a folder, loaded as OpenRLHF loads it."""
    spec = importlib.util.spec_from_file_location("reward_func", folder / "reward.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_reward_for_openrlhf_grades_the_response_and_never_the_prompt(traces: Path) -> None:
    folder = exported(traces, "openrlhf-rl")
    module = reward_file(folder)
    row = pq.read_table(folder / "data" / "train-00000-of-00001.parquet").to_pylist()[0]
    answer, label = row["answer"], row["label"]
    asked = f"{row['prompt'][0]['content']} Write it inside <answer>{answer}</answer>."
    prompt = f"<|im_start|>user\n{asked}<|im_end|>\n<|im_start|>assistant\n"
    cases = {
        prompt + f"<answer>{answer}</answer>": 1.0,
        prompt: 0.0,
        prompt + "I don't know.": 0.0,
        prompt.replace("\n", " ") + f"<answer>{answer}</answer><|im_end|>": 1.0,  # spaces that the token ids have lost
        prompt[25:] + f"<answer>{answer}</answer>": 1.0,  # cut at its beginning
    }
    for query, expected in cases.items():
        found = module.reward_func([query], [prompt], [label])
        assert [float(found[name][0]) for name in ("rewards", "scores")] == [expected, expected], query
    with pytest.raises(ValueError, match="the prompt isn't in the text that OpenRLHF hands over"):
        module.reward_func(["something else"], [prompt], [label])


def test_the_reward_says_what_is_missing_where_skillfactory_is_not_installed(traces: Path) -> None:
    folder = exported(traces, "openrlhf-rl")
    code = f"import sys, runpy; sys.modules['skillfactory'] = None; runpy.run_path({str(folder / 'reward.py')!r})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "this reward is computed by skillfactory, which is missing here; install it" in done.stderr


def test_export_json_tells_the_account(traces: Path) -> None:
    account = json.loads((exported(traces, "openrlhf-rl") / "export.json").read_text("utf-8"))
    assert account["funnels"][0]["kept"] == 40
