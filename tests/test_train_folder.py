"""The folder of a training: what it holds when, what a kill leaves, and that nothing of the user's goes."""

import json
import os
from pathlib import Path

import pytest

from skillfactory.errors import ConfigError, InputError, RunLockedError
from skillfactory.hardware import threads_for
from skillfactory.train.cards import write_card
from skillfactory.train.checkpoints import claimed, fingerprint

SETTINGS = {"seed": 0, "optimisation": {"learning_rate": 1e-6}}


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
        (tmp_path / "config.json").write_text("{}", "utf-8")
        account = work.finish(steps=12)
    assert (account["finished"], account["rows"], account["steps"], account["command"]) == (True, 3, 12, "sft")
    assert account["files"] == ["config.json", "training.json"]
    assert not (tmp_path / "checkpoints").exists()
    with claimed(tmp_path, "sft", SETTINGS, False) as work:
        assert work.finished == account


def test_other_settings_are_an_error_that_names_them_and_overwrite_starts_anew(tmp_path: Path) -> None:
    with claimed(tmp_path, "sft", SETTINGS, False) as work:
        (tmp_path / "config.json").write_text("{}", "utf-8")
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
