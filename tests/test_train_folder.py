"""The folder of a training: what it holds when, what a kill leaves, and that nothing of the user's goes."""

import json
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skillfactory.errors import ConfigError, InputError, RunLockedError
from skillfactory.hardware import threads_for
from skillfactory.train.cards import write_card
from skillfactory.train.checkpoints import Work, claimed
from skillfactory.train.fingerprints import MODEL, fingerprint, held
from skillfactory.train.outfit import adapters, arguments, check, in_bfloat16, tracked
from skillfactory.train.sft import Computing, Lora

SETTINGS = {"seed": 0, "optimisation": {"learning_rate": 1e-6}}


def stage(work: Work, *names: str) -> None:
    """Files as a training writes them that are to stay."""
    for name in names:
        (work.staged / name).parent.mkdir(parents=True, exist_ok=True)
        (work.staged / name).write_text("{}", "utf-8")


def checkpoint(folder: Path, step: int) -> Path:
    """A checkpoint as a trainer writes it, not yet complete."""
    found = folder / "checkpoints" / f"checkpoint-{step}"
    found.mkdir(parents=True)
    (found / "model.safetensors").write_text(str(step), "utf-8")
    return found


def test_a_stopped_training_goes_on_from_its_last_complete_checkpoint(tmp_path: Path) -> None:
    with claimed(tmp_path, "sft", SETTINGS, False) as work:
        assert work.resume is None
        assert work.finished is None
        for step in (10, 20):
            checkpoint(tmp_path, step)
            for n in (5, 10):
                work.log({"step": step - 10 + n})
            work.complete(step, {"tokens": step * 7})
        checkpoint(tmp_path, 30)  # torn
        work.log({"step": 25})
    with (tmp_path / "metrics.jsonl").open("a") as file:
        file.write('{"step": 3')  # torn
    assert [path.name for path in (tmp_path / "checkpoints").iterdir() if (path / "complete.json").exists()] == [
        "checkpoint-20"
    ]
    with claimed(tmp_path, "sft", SETTINGS, False) as work:
        assert work.resume is not None
        assert (work.resume.step, work.resume.totals) == (20, {"tokens": 140})
        assert not (tmp_path / "checkpoints" / "checkpoint-30").exists()
        steps = [json.loads(line)["step"] for line in (tmp_path / "metrics.jsonl").read_text("utf-8").splitlines()]
        assert steps == [5, 10, 15, 20]


def test_a_finished_training_has_nothing_to_do_and_says_what_it_was(tmp_path: Path) -> None:
    with claimed(tmp_path, "sft", SETTINGS, False) as work:
        work.note(rows=3)
        checkpoint(tmp_path, 10)
        work.complete(10, {})
        assert json.loads((tmp_path / "training.json").read_text("utf-8"))["finished"] is False
        stage(work, "config.json")
        account = work.finish(steps=12)
    assert (account["finished"], account["rows"], account["steps"], account["command"]) == (True, 3, 12, "sft")
    assert account["files"] == ["config.json", "metrics.jsonl", "training.json"]
    assert not (tmp_path / "checkpoints").exists()
    checkpoint(tmp_path, 10)  # a kill came between the account and the removal
    with claimed(tmp_path, "sft", SETTINGS, False) as work:
        assert work.finished == account
    assert not (tmp_path / "checkpoints").exists()


def test_other_settings_are_an_error_that_names_them_and_overwrite_starts_anew(tmp_path: Path) -> None:
    with claimed(tmp_path, "sft", SETTINGS, False) as work:
        stage(work, "config.json")
        work.finish()
    (tmp_path / "notes.txt").write_text("mine", "utf-8")
    other = {"seed": 0, "optimisation": {"learning_rate": 1e-5}, "inputs": ["x" * 100]}
    with pytest.raises(ConfigError, match="other settings") as caught, claimed(tmp_path, "sft", other, False):
        pass
    message = str(caught.value)
    assert "(inputs, optimisation.learning_rate: 1e-06 → 1e-05)" in message
    assert "--overwrite" in message
    with pytest.raises(ConfigError, match='command: "sft" → "grpo"'), claimed(tmp_path, "grpo", SETTINGS, False):
        pass
    with claimed(tmp_path, "sft", other, True) as work:
        assert work.finished is None
        assert not (tmp_path / "config.json").exists()
        assert (tmp_path / "notes.txt").read_text("utf-8") == "mine"


def test_a_folder_of_something_else_and_one_at_work_are_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").write_text("x", "utf-8")
    with pytest.raises(InputError, match=r"not empty \(it holds thesis.tex\)"), claimed(tmp_path / "mine", "sft", {}, True):
        pass
    with (
        claimed(tmp_path / "run", "sft", {}, False),
        pytest.raises(RunLockedError, match=f"process {os.getpid()} on"),
        claimed(tmp_path / "run", "sft", {}, False),
    ):
        pass


def test_overwrite_begins_a_finished_training_anew_and_goes_on_with_a_stopped_one(tmp_path: Path) -> None:
    with claimed(tmp_path, "sft", SETTINGS, True) as work:
        checkpoint(tmp_path, 5)
        work.complete(5, {})
    with claimed(tmp_path, "sft", SETTINGS, True) as work:
        assert work.resume is not None
        stage(work, "config.json")
        work.finish()
    with claimed(tmp_path, "sft", SETTINGS, True) as work:
        assert (work.finished, work.resume) == (None, None)
    assert not (tmp_path / "config.json").exists()


@pytest.mark.parametrize("finished", [False, True])
def test_starting_anew_removes_what_was_written_and_nothing_of_the_users(tmp_path: Path, finished: bool) -> None:
    ours = ["steps/3/config.json", "steps/3/model.safetensors", "steps/6/config.json", "rollouts.jsonl", "tracking/events"]
    users = ["steps/3/mine.txt", "notes.txt", "adapter/mine.txt"]
    with claimed(tmp_path, "grpo", SETTINGS, False) as work:
        stage(work, *ours[:3])
        work.settle()
        work.own("rollouts.jsonl")
        for name in (*ours[3:], *users):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text("x", "utf-8")
        checkpoint(tmp_path, 10)
        work.complete(10, {})
        work.log({"step": 1})
    with claimed(tmp_path, "grpo", SETTINGS, False) as work:  # a resumed training remembers what it wrote before
        stage(work, "adapter/adapter_config.json")
        work.settle()
        if finished:
            work.finish()
    assert all((tmp_path / name).exists() for name in (*ours, *users))
    with claimed(tmp_path, "grpo", {"seed": 1}, True) as work:
        assert work.resume is None
    left = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert left - {".lock"} == {*users, "training.json"}
    assert not (tmp_path / "steps" / "6").exists()


def test_a_training_stopped_before_its_first_checkpoint_leaves_nothing_to_the_next(tmp_path: Path) -> None:
    with claimed(tmp_path, "grpo", SETTINGS, False) as work:
        stage(work, "steps/3/config.json")
        work.settle()
        stage(work, "config.json")  # torn
    with claimed(tmp_path, "grpo", SETTINGS, False) as work:
        assert not (tmp_path / "steps").exists()
        assert not work.staged.exists()


def test_where_it_runs_may_change_between_a_stop_and_going_on_and_the_precision_may_not(tmp_path: Path) -> None:
    running = {"device": "cuda", "tokens_per_pass": 8, "gradient_checkpointing": "off", "precision": "auto", "report_to": []}
    settings = {"running": running, "rollouts": {"vllm_url": "a", "vllm_memory": 0.3}}
    with claimed(tmp_path, "grpo", settings, False) as work:
        checkpoint(tmp_path, 5)
        work.complete(5, {})
    other = running | {"device": "cpu", "tokens_per_pass": 4, "gradient_checkpointing": "on", "report_to": ["wandb"]}
    changed = {"running": other, "rollouts": {"vllm_url": "b", "vllm_memory": 0.2}}
    with claimed(tmp_path, "grpo", changed, False) as work:
        assert work.resume is not None
    precise = {**settings, "running": {**running, "precision": "float32"}}
    with pytest.raises(ConfigError, match=r'running\.precision: "auto" → "float32"'), claimed(tmp_path, "grpo", precise, False):
        pass


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("training.json", '{"finis', r"training.json: damaged \(.*; remove .*, or choose another --output"),
        ("training.json", "[]", r"training.json: damaged \(expected an object\)"),
        ("training.json", '{"command": "sft"}', r"training.json: damaged \(settings is missing or of another type\)"),
        ("checkpoints/checkpoint-5/complete.json", "", r"complete.json: damaged .*remove .*checkpoint-5: the training then"),
        ("checkpoints/checkpoint-5/complete.json", '{"step": 5}', r"complete.json: damaged \(totals is missing"),
        ("metrics.jsonl", '{"step": 1}\n{"st\n', r"metrics.jsonl, line 2: damaged, it names no step; remove the line"),
    ],
)
def test_a_damaged_file_is_named_with_a_remedy(tmp_path: Path, name: str, text: str, message: str) -> None:
    with claimed(tmp_path, "sft", SETTINGS, False) as work:
        checkpoint(tmp_path, 5)
        work.complete(5, {})
    (tmp_path / name).write_text(text, "utf-8")
    with pytest.raises(InputError, match=message), claimed(tmp_path, "sft", SETTINGS, False):
        pass


def test_a_large_model_that_was_trained_on_in_place_has_another_fingerprint(tmp_path: Path) -> None:
    found = []
    for n, change in enumerate((None, 10, 32 * 2**20 + 9, 65 * 2**20 - 1)):
        folder = tmp_path / str(n)
        folder.mkdir()
        with (folder / "model.safetensors").open("wb") as file:
            file.truncate(65 * 2**20)
            if change is not None:
                file.seek(change)
                file.write(b"x")
        found.append(fingerprint(folder, *MODEL))
    assert len(set(found)) == 4


@pytest.mark.parametrize(
    "name", ["model.safetensors", "pytorch_model.bin", "spiece.model", "merges.txt", "chat_template.jinja"]
)
def test_a_model_is_known_by_its_weights_and_its_tokenizer_and_not_by_its_card(tmp_path: Path, name: str) -> None:
    before = held(str(tmp_path))
    (tmp_path / "README.md").write_text("x", "utf-8")
    assert held(str(tmp_path)) == before
    (tmp_path / name).write_text("x", "utf-8")
    assert held(str(tmp_path)) != before
    assert held("someone/on-the-hub") == {}


def test_a_tracker_must_be_known_and_installed() -> None:
    with pytest.raises(ConfigError, match="unknown tracker 'tensorbord'; did you mean 'tensorboard'"):
        check(Computing(), ["tensorbord"])
    with pytest.raises(ConfigError, match="report_to: comet_ml isn't installed; install it with: pip install comet-ml"):
        check(Computing(), ["comet_ml"])


def test_trackers_write_beside_the_model_unless_the_user_says_where(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TENSORBOARD_LOGGING_DIR", raising=False)
    monkeypatch.setenv("WANDB_DIR", "mine")
    with claimed(tmp_path / "run", "sft", SETTINGS, False) as work:
        with tracked(work, ["tensorboard", "wandb"]):
            assert os.environ["TENSORBOARD_LOGGING_DIR"] == str(tmp_path / "run" / "tracking")
            assert os.environ["WANDB_DIR"] == "mine"
        assert "TENSORBOARD_LOGGING_DIR" not in os.environ
        work.finish()
    assert (tmp_path / "run" / "tracking").is_dir()
    assert arguments(Computing(), ["tensorboard"], tmp_path / "run")["run_name"] == "run"


def test_the_device_and_the_precision_are_those_that_there_are() -> None:
    import torch

    if torch.cuda.is_available():
        check(Computing(device="cuda"), [])
    else:
        with pytest.raises(ConfigError, match=r"device: cuda, but .*; use --device cpu or auto, or install a torch"):
            check(Computing(device="cuda"), [])
    told: dict[str, Any] = arguments(Computing(device="cpu"), [], Path("out"))
    assert (told["use_cpu"], told["bf16"], told["gradient_checkpointing"], told["report_to"]) == (True, False, False, "none")
    assert [in_bfloat16("auto", native) for native in (False, True)] == [False, True]
    assert [in_bfloat16(precision, False) for precision in ("bfloat16", "float32")] == [True, False]


def test_adapters_have_a_scale_of_twice_the_rank_if_none_is_given() -> None:
    assert adapters(Lora()) is None
    assert [adapters(replace(Lora(lora_rank=4), lora_alpha=alpha)).lora_alpha for alpha in (None, 3)] == [8, 3]
    with pytest.raises(ConfigError, match="lora_alpha: expected more than 0, came 0"):
        Lora(lora_alpha=0)


def test_a_fingerprint_tells_contents_and_not_times(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text("1", "utf-8")
    (tmp_path / "training.json").write_text("1", "utf-8")
    before = fingerprint(tmp_path, "*.json")
    (tmp_path / "training.json").write_text("2", "utf-8")
    os.utime(tmp_path / "a.json", (1, 1))
    assert fingerprint(tmp_path, "*.json") == before
    (tmp_path / "a.json").write_text("2", "utf-8")
    assert fingerprint(tmp_path, "*.json") != before
    assert fingerprint(tmp_path / "a.json") == fingerprint(tmp_path / "a.json")


def test_the_card_escapes_what_it_is_given(tmp_path: Path) -> None:
    write_card(tmp_path, "A model", "org/name", ["Words."], {"a_b": "<b>|"}, {"steps": 1234, "loss": 0.5})
    text = (tmp_path / "README.md").read_text("utf-8")
    assert "base_model: org/name" in text
    assert "| a b | &lt;b>&#124; |" in text
    assert "| steps | 1,234 |" in text


def test_a_small_model_on_a_small_machine_gets_one_thread_unless_the_user_says_otherwise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    few = (os.cpu_count() or 1) <= 4
    assert threads_for(1_000_000) == (1 if few else None)
    assert threads_for(1_500_000_000) is None
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    assert threads_for(1_000_000) is None
