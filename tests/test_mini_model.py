"""Laws of the embedded base model: its files, its tokenizer, the recipe that made it, what it can do far from its question."""

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from transformers import AutoModelForCausalLM, AutoTokenizer

from skillfactory.embedded import located
from skillfactory.errors import ConfigError
from skillfactory.markup import parse
from skillfactory.mini.probe import Prober
from skillfactory.mini.stage import MiniConfig
from skillfactory.mini.texts import Piece, Text, Writer, chat
from skillfactory.mini.train import Run, TrainConfig, first_losses, loss_on_new_texts, train
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


def test_one_process_and_two_make_the_same_weights_and_a_stop_changes_nothing(tmp_path: Path) -> None:
    for processes in (1, 2):
        train(TrainConfig(tmp_path / str(processes), steps=3, processes=processes))
    stopped = Run(TrainConfig(tmp_path / "stopped", steps=3, processes=1))
    stopped.advance(range(2), shared=False)
    (tmp_path / "stopped").mkdir()
    stopped.save(tmp_path / "stopped")
    train(TrainConfig(tmp_path / "stopped", steps=3, processes=1))
    weights = {name: (tmp_path / name / "model" / "model.safetensors").read_bytes() for name in ("1", "2", "stopped")}
    assert weights["1"] == weights["2"] == weights["stopped"]


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
