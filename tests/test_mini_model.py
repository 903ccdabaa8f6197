"""Laws of the embedded base model: its files, its tokenizer, the recipe that made it, what it can do far from its question."""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from random import Random

import numpy as np
import psutil
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from skillfactory.embedded import located
from skillfactory.errors import ConfigError, InputError, RunLockedError
from skillfactory.markup import parse
from skillfactory.mini.probe import Prober
from skillfactory.mini.schedule import TrainConfig
from skillfactory.mini.stage import MiniConfig
from skillfactory.mini.texts import Piece, Text, Writer, chat
from skillfactory.mini.train import Run, first_losses, loss_on_new_texts, train
from skillfactory.rundir import locked
from skillfactory.seeds import rng

FOLDER = Path(located("mini"))


def some_texts(n: int) -> list[Text]:
    writer, random = Writer(600), Random(7)
    return [writer.text(random) for _ in range(n)]


@pytest.fixture(scope="module")
def tokenizer() -> AutoTokenizer:
    return AutoTokenizer.from_pretrained(FOLDER)


def test_it_is_small_and_loads_as_any_other_model() -> None:
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) < 16e6
    assert (FOLDER / "model.safetensors").exists()
    model = AutoModelForCausalLM.from_pretrained(FOLDER)
    assert type(model).__name__ == "Qwen3ForCausalLM"
    assert model.num_parameters() < 3e6
    assert (FOLDER / "README.md").read_text("utf-8").startswith("---\n")


def test_every_word_of_the_small_world_is_a_token_of_its_own(tokenizer: AutoTokenizer) -> None:
    for text in some_texts(300):
        ids = tokenizer(text.whole, add_special_tokens=False)["input_ids"]
        assert tokenizer.unk_token_id not in ids
        assert tokenizer(tokenizer.decode(ids), add_special_tokens=False)["input_ids"] == ids
        reply = text.whole.partition("assistant\n")[2].removesuffix("<|im_end|>\n")
        again = tokenizer.decode(tokenizer(reply, add_special_tokens=False)["input_ids"])
        assert "".join(again.split()) == "".join(reply.split())


def test_the_chat_template_writes_what_training_read(tokenizer: AutoTokenizer) -> None:
    text = chat("Make 24 from 3 7 12.", [Piece("Step by step: 12 + 12 = 24.", 1.0)])
    turns = [
        {"role": "user", "content": "Make 24 from 3 7 12."},
        {"role": "assistant", "content": "Step by step: 12 + 12 = 24."},
    ]
    assert tokenizer.apply_chat_template(turns, tokenize=False).strip() == text.whole.strip()
    found = tokenizer.apply_chat_template(turns, return_dict=True, return_assistant_tokens_mask=True)
    learned = [token for token, mine in zip(found["input_ids"], found["assistant_masks"], strict=True) if mine]
    assert tokenizer.decode(learned) == "Step by step: 12 + 12 = 24. <|im_end|>"


def test_a_trace_keeps_its_parts_through_the_tokenizer(tokenizer: AutoTokenizer) -> None:
    block = "<sample>\nMake 9 from 4 5. 4 + 5 = 9.\n<answer>4 + 5</answer>\n</sample>\n"
    block += "<reflect>\nCheck: 9.\n<verdict>Correct</verdict>\n</reflect>"
    trace = f"<think>\n{block}\nOnce more.\n{block}\n</think>\n\nSo the answer is\n\n<answer>\n4 + 5\n</answer>"
    again = tokenizer.decode(tokenizer(trace, add_special_tokens=False)["input_ids"])
    was, now = parse(trace), parse(again)
    assert now.well_formed
    assert [(part.kind, again[part.start : part.end].split()) for part in now.parts] == [
        (part.kind, trace[part.start : part.end].split()) for part in was.parts
    ]


def test_the_recipe_begins_as_the_shipped_weights_began() -> None:
    made = json.loads((FOLDER / "made.json").read_text("utf-8"))
    found = first_losses(TrainConfig(Path("unused"), steps=made["steps"], seed=made["seed"]))
    assert np.array(found) == pytest.approx(np.array(made["first_losses"]), rel=2e-3)
    other = first_losses(TrainConfig(Path("unused"), steps=made["steps"], seed=made["seed"] + 1))
    assert np.array(other) != pytest.approx(np.array(made["first_losses"]), rel=2e-3)


def test_the_embedded_model_has_the_loss_that_the_recipe_ended_with() -> None:
    made = json.loads((FOLDER / "made.json").read_text("utf-8"))
    run = Run(TrainConfig(Path("unused"), steps=made["steps"], seed=made["seed"]))
    assert loss_on_new_texts(run) > 5
    run.model.load_state_dict(AutoModelForCausalLM.from_pretrained(FOLDER).state_dict())
    assert loss_on_new_texts(run) == pytest.approx(made["loss_on_new_texts"], rel=2e-3)


def started(output: Path, steps: int, processes: int) -> subprocess.Popen[str]:
    """A process that trains into `output`, with a checkpoint after every step."""
    code = "import sys; from pathlib import Path; from skillfactory.mini.schedule import TrainConfig; "
    code += "from skillfactory.mini.train import train; "
    code += "output, steps, processes = sys.argv[1:]; "
    code += "train(TrainConfig(Path(output), int(steps), processes=int(processes), save_steps=1))"
    command = [sys.executable, "-c", code, str(output), str(steps), str(processes)]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True)


def metrics(output: Path) -> list[dict[str, float]]:
    """The lines of metrics.jsonl without their times."""
    lines = [json.loads(line) for line in (output / "metrics.jsonl").read_text("utf-8").splitlines()]
    return [{name: value for name, value in line.items() if name != "cpu_seconds"} for line in lines]


def await_first_step(output: Path, process: subprocess.Popen[str]) -> None:
    while not (output / "checkpoint.pt").exists():
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a training of few steps that nothing disturbed."""
    output = tmp_path_factory.mktemp("trained") / "whole"
    train(TrainConfig(output, steps=5, processes=1, save_steps=1))
    return output


def test_one_process_and_two_make_the_same_weights(whole: Path, tmp_path: Path) -> None:
    train(TrainConfig(tmp_path, steps=5, processes=2))
    assert (tmp_path / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()


def test_a_training_that_was_killed_ends_in_the_weights_and_losses_of_an_undisturbed_one(whole: Path, tmp_path: Path) -> None:
    process = started(tmp_path, 5, 1)
    await_first_step(tmp_path, process)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert len(metrics(tmp_path)) < 5
    train(TrainConfig(tmp_path, steps=5, processes=1, save_steps=1))
    assert (tmp_path / "model/model.safetensors").read_bytes() == (whole / "model/model.safetensors").read_bytes()
    assert metrics(tmp_path) == metrics(whole)
    assert [line["step"] for line in metrics(whole)] == [1, 2, 3, 4, 5]


@pytest.mark.parametrize(
    ("late", "message"),
    [(False, "the second process of the training ended at its start (exit code -9); "), (True, "lost each other (")],
)
def test_a_training_whose_second_process_dies_ends_and_says_so(tmp_path: Path, late: bool, message: str) -> None:
    process = started(tmp_path, 3000, 2)
    try:
        if late:
            await_first_step(tmp_path, process)
        # torch's spawn has a process of its own for semaphores, which isn't the one that trains.
        while not (
            others := [child for child in psutil.Process(process.pid).children() if "spawn_main" in str(child.cmdline())]
        ):
            assert process.poll() is None
            time.sleep(0.005)
        others[0].kill()
        told = process.communicate(timeout=60)[1]
    finally:
        process.kill()
    assert process.returncode == 1
    assert message in told
    assert "--processes 1 does without a second process" in told


def test_two_trainings_are_never_at_work_in_one_folder(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(RunLockedError, match="another process is at work"):
        train(TrainConfig(tmp_path, steps=1, processes=1))


def test_a_checkpoint_that_is_damaged_or_of_other_settings_is_named_with_the_remedy(whole: Path, tmp_path: Path) -> None:
    good = (whole / "checkpoint.pt").read_bytes()
    run = Run(TrainConfig(tmp_path, steps=5))
    for damaged in (b"", b"junk", b"PK\x03\x04", good[: len(good) // 2]):
        (tmp_path / "checkpoint.pt").write_bytes(damaged)
        with pytest.raises(InputError, match=r"checkpoint\.pt: damaged \(.*remove it, and the training starts anew"):
            run.load(tmp_path)
    (tmp_path / "checkpoint.pt").write_bytes(good)
    with pytest.raises(ConfigError, match=r"holds a training with other settings .*'steps': 5.*; give another --output"):
        Run(TrainConfig(tmp_path, steps=6)).load(tmp_path)


def test_the_command_trains_as_the_recipe_does_and_refuses_what_can_not_be() -> None:
    options, recipe = MiniConfig(), TrainConfig(Path("unused"))
    made = json.loads((FOLDER / "made.json").read_text("utf-8"))
    assert (options.steps, options.seed, options.processes) == (recipe.steps, recipe.seed, recipe.processes)
    assert recipe.settings() == {name: made[name] for name in ("steps", "seed", "rate")}
    with pytest.raises(ConfigError, match="save_steps: expected 1 or more, came 0"):
        TrainConfig(Path("unused"), save_steps=0)
    with pytest.raises(ConfigError, match="processes: expected 1 or 2, came 3"):
        TrainConfig(Path("unused"), processes=3)


def test_texts_are_a_function_of_seed_step_and_shard() -> None:
    writer = Writer(400)
    assert writer.text(rng(0, "context", 5)) == writer.text(rng(0, "context", 5)) != writer.text(rng(1, "context", 5))


@pytest.mark.parametrize("size", [3, 6])
def test_far_from_its_question_it_still_attempts_reviews_and_copies(size: int) -> None:
    prober = Prober("mini")
    for failures in (3, None):
        found = prober.probe(size, failures, 32, seed=1)
        assert found.tokens > (1024 if failures is None else 100)
        assert found.restated > 0.9
        assert found.sound > (0.8 if size == 3 else 0.5)
        assert found.reviewed > 0.85
        assert found.copied > 0.85


def test_only_what_writes_needs_an_output() -> None:
    assert MiniConfig("texts").output is None
    assert MiniConfig("probe").output is None
    for action in ("train", "replay"):
        with pytest.raises(ConfigError, match=f"mini {action} needs --output"):
            MiniConfig(action)
