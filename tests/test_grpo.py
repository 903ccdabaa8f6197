"""Reinforcement with the real trainer and the embedded model: rewards by the check, limits, kills, and a reward that rises."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skillfactory.embedded import located
from skillfactory.errors import ConfigError, InputError
from skillfactory.supply import gather, sources
from skillfactory.train.grpo import GrpoConfig, GrpoSummary, Reinforcement, Rollouts, Running, grpo
from skillfactory.train.questions import Asking, prompt_tokens
from skillfactory.train.rewards import Rewards
from skillfactory.train.sft import Lora

HERE = Path(__file__).parent
STEPS = 6
NAMES = {
    *("step", "loss", "grad_norm", "learning_rate", "entropy", "clipped", "reward", "response_length", "longest", "cut_off"),
    *("malformed", "undecided", "no_signal", "answers", "reflections", "seconds", "generated_tokens"),
}


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> None:
    """The same arithmetic here and in the process that is killed."""
    import torch

    torch.set_num_threads(1)


def common(output: Path) -> GrpoConfig:
    """The training that the tests share: two tasks, and two updates a step."""
    return GrpoConfig(
        task=("easy_task:Sevens", "countdown:mini@0.5"),
        output=output,
        questions=24,
        rollouts=Rollouts(group_size=4, prompts_per_step=4, max_new_tokens=32),
        reinforcement=Reinforcement(learning_rate=1e-3, steps=STEPS, mini_batch=2),
        running=Running(device="cpu", save_steps=2, keep_every=3, sample_every=2, samples=3),
    )


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSONL file."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> GrpoSummary:
    """The common training, undisturbed."""
    return grpo(common(tmp_path_factory.mktemp("models") / "whole"))


def test_every_step_logs_all_measures_and_those_of_each_task(trained: GrpoSummary) -> None:
    logged = lines(trained.output / "metrics.jsonl")
    assert [line["step"] for line in logged] == list(range(1, STEPS + 1))
    assert all(set(line) >= NAMES for line in logged)
    assert {name for line in logged for name in line if "/" in name} == {
        "reward/easy_task:Sevens:all",
        "reward/countdown:mini",
    }
    assert all(0 < line["response_length"] <= line["longest"] <= 32 for line in logged)
    tokens = [line["generated_tokens"] for line in logged]
    assert tokens == sorted(tokens)
    assert trained.account["generated_tokens"] == tokens[-1] == sum(round(16 * line["response_length"]) for line in logged)


def test_the_account_tells_what_came_of_it(trained: GrpoSummary) -> None:
    account = json.loads((trained.output / "training.json").read_text("utf-8"))
    assert (account["steps"], account["stopped_by"], account["finished"]) == (STEPS, "steps", True)
    assert str(trained.funnel).startswith("grpo: 24 questions = 24 kept") or "repeated" in str(trained.funnel)
    assert "reinforced on `easy_task:Sevens`, `countdown:mini@0.5`" in (trained.output / "README.md").read_text("utf-8")
    assert not (trained.output / "checkpoints").exists()


def test_samples_are_few_and_say_what_became_of_them(trained: GrpoSummary) -> None:
    samples = lines(trained.output / "rollouts.jsonl")
    assert [sample["step"] for sample in samples] == [1, 1, 1, 3, 3, 3, 5, 5, 5]
    assert all(sample["outcome"] in {"right", "wrong", "malformed", "cut_off"} for sample in samples)


def test_the_models_of_kept_steps_and_the_last_one_load(trained: GrpoSummary) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folders = [trained.output / "steps" / "3", trained.output / "steps" / "6", trained.output]
    models = [AutoModelForCausalLM.from_pretrained(folder) for folder in folders]
    assert all(AutoTokenizer.from_pretrained(folder).chat_template for folder in folders)
    states = [model.state_dict() for model in models]
    assert all(states[1][name].equal(states[2][name]) for name in states[1])
    assert not all(states[0][name].equal(states[2][name]) for name in states[0])
    assert models[2].generation_config.eos_token_id is not None


def test_a_finished_training_has_nothing_to_do_and_other_settings_are_refused(trained: GrpoSummary) -> None:
    config = common(trained.output)
    again = grpo(replace(config, running=replace(config.running, tokens_per_pass=99)))
    assert again.nothing_to_do
    assert str(again) == f"{trained}\nfinished before: nothing to do"
    other = replace(config, reinforcement=replace(config.reinforcement, learning_rate=2e-3))
    with pytest.raises(
        ConfigError, match=r"reinforcement.learning_rate: 0.001 → 0.002\); choose another --output, or add --over"
    ):
        grpo(other)


def test_a_killed_training_ends_with_the_weights_and_lines_of_an_undisturbed_one(trained: GrpoSummary, tmp_path: Path) -> None:
    output = tmp_path / "killed"
    code = f"from pathlib import Path\nfrom test_grpo import common, grpo\ngrpo(common(Path({str(output)!r})))"
    process = subprocess.Popen([sys.executable, "-c", code], cwd=HERE, env={**os.environ, "OMP_NUM_THREADS": "1"})
    while process.poll() is None and not list((output / "checkpoints").glob("checkpoint-*/complete.json")):
        time.sleep(0.002)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert (output / "checkpoints").exists()
    begun = len(lines(output / "metrics.jsonl"))
    assert 2 <= begun < STEPS
    summary = grpo(common(output))
    assert not summary.nothing_to_do
    for name in ("model.safetensors", "rollouts.jsonl", "steps/3/model.safetensors"):
        assert (output / name).read_bytes() == (trained.output / name).read_bytes(), name
    timeless = [[{**line, "seconds": 0} for line in lines(folder / "metrics.jsonl")] for folder in (output, trained.output)]
    assert timeless[0] == timeless[1]


def test_a_limit_of_tokens_stops_after_the_step_that_reaches_it(trained: GrpoSummary, tmp_path: Path) -> None:
    tokens = [line["generated_tokens"] for line in lines(trained.output / "metrics.jsonl")]
    config = common(tmp_path / "limited")
    limited = replace(config.reinforcement, steps=None, max_generated_tokens=tokens[1] + 1)
    account = grpo(replace(config, reinforcement=limited)).account
    assert (account["steps"], account["stopped_by"], account["generated_tokens"]) == (3, "tokens", tokens[2])
    assert lines(tmp_path / "limited" / "metrics.jsonl")[-1]["step"] == 3
    assert (tmp_path / "limited" / "model.safetensors").read_bytes() == (
        trained.output / "steps" / "3" / "model.safetensors"
    ).read_bytes()


def easy(output: Path, **how: Any) -> GrpoConfig:
    """A training on the easy task, with signal from the first step on."""
    return replace(
        common(output),
        task=("easy_task:Sevens",),
        questions=20,
        rollouts=Rollouts(group_size=8, prompts_per_step=8, max_new_tokens=60),
        reinforcement=Reinforcement(**{"learning_rate": 1e-3, "steps": 12, **how}),
    )


def test_the_reward_of_an_easy_task_rises(tmp_path: Path) -> None:
    grpo(easy(tmp_path / "easy"))
    rewards = [line["reward"] for line in lines(tmp_path / "easy" / "metrics.jsonl")]
    assert sum(rewards[-3:]) / 3 > sum(rewards[:2]) / 2 + 0.3, rewards


def test_a_bug_in_a_check_stops_the_training(tmp_path: Path) -> None:
    config = replace(common(tmp_path / "out"), task=("easy_task:Broken",), questions=20)
    with pytest.raises(KeyError, match="a bug of the check"):
        grpo(replace(config, rollouts=replace(config.rollouts, max_new_tokens=100)))


def test_adapters_are_trained_kept_and_merged(tmp_path: Path) -> None:
    config = common(tmp_path / "lora")
    grpo(replace(config, lora=Lora(lora_rank=2), reinforcement=replace(config.reinforcement, steps=3, iterations=2)))
    assert (tmp_path / "lora" / "adapter" / "adapter_model.safetensors").exists()
    kept, last = (tmp_path / "lora" / name / "model.safetensors" for name in ("steps/3", "."))
    assert kept.read_bytes() == last.read_bytes()


def test_a_kl_term_is_computed_and_logged(tmp_path: Path) -> None:
    grpo(easy(tmp_path / "kl", beta=0.05, steps=3))
    distances = [line["kl"] for line in lines(tmp_path / "kl" / "metrics.jsonl")]
    assert abs(distances[0]) < 1e-6
    assert distances[2] > 1e-4


def test_prompts_that_are_too_long_are_counted_and_left_out(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    config = replace(common(tmp_path / "long"), asking=Asking(system="Be brief.", suffix=" Think."))
    pool = gather(sources(config.task, config.option), config.questions, config.seed, config.split)
    tokenizer = AutoTokenizer.from_pretrained(located("mini"))
    lengths = [prompt_tokens(config.asking, one, tokenizer) for one in pool.asked]
    assert min(lengths) < max(lengths)
    asking, how = replace(config.asking, max_prompt_tokens=max(lengths) - 1), replace(config.reinforcement, steps=1)
    funnel = grpo(replace(config, asking=asking, reinforcement=how)).funnel
    assert funnel.dropped["too_long"] == lengths.count(max(lengths))
    with pytest.raises(InputError, match=r"all 24 prompts are longer than 5 tokens; raise --max-prompt-tokens"):
        grpo(replace(config, output=tmp_path / "none", asking=replace(asking, max_prompt_tokens=5)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"task": ("countdwn",)}, "unknown task 'countdwn'; did you mean 'countdown'"),
        ({"task": ("countdown:7",)}, "unknown level of countdown '7'"),
        ({"task": ("countdown:mini@0",)}, "with a weight above 0, came 'countdown:mini@0'"),
        ({"task": ("countdown:mini", "countdown:mini@2")}, "'countdown:mini' stands twice"),
        (
            {"option": {"use_all": True}},
            "option use_all: there are several tasks; say whose it is, e.g. easy_task:Sevens.use_all",
        ),
        ({"option": {"acronym.use_all": True}}, "unknown task of the option acronym.use_all: 'acronym'"),
        ({"rollouts": Rollouts(vllm="colocate")}, "vllm can't be imported"),
        ({"running": Running(report_to=("tensorbord",))}, "unknown tracker 'tensorbord'; did you mean 'tensorboard'"),
    ],
)
def test_what_cannot_be_trained_on_is_refused_before_anything_is_written(
    tmp_path: Path, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        grpo(replace(common(tmp_path / "out"), **change))
    assert message in str(raised.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Rollouts(group_size=1), "group_size: expected 2 or more, came 1"),
        (lambda: Rollouts(temperature=0), "temperature: expected more than 0, came 0"),
        (lambda: Reinforcement(steps=None), "give one of them, or the training has no end"),
        (lambda: Reinforcement(steps=None, max_generated_tokens=9, schedule="cosine"), "schedule: cosine ends at a known step"),
        (lambda: Reinforcement(betas=(0.9,)), "betas: expected two numbers from 0 on and below 1"),
        (lambda: Running(save_steps=0), "save_steps: expected 1 or more, came 0"),
        (
            lambda: GrpoConfig(("countdown",), Path("x"), rollouts=Rollouts(prompts_per_step=33)),
            "a multiple of mini_batch (32), came 33",
        ),
        (lambda: GrpoConfig((), Path("x")), "expected a task"),
        (lambda: Asking(max_prompt_tokens=0), "max_prompt_tokens: expected 1 or more, came 0"),
    ],
)
def test_values_out_of_range_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        make()
    assert message in str(raised.value)


def test_the_defaults_are_the_papers() -> None:
    config = GrpoConfig(task=("countdown:3",), output=Path("out"))
    assert (config.rollouts.group_size, config.rollouts.prompts_per_step, config.reinforcement.mini_batch) == (16, 256, 32)
    assert (config.asking.max_prompt_tokens, config.rollouts.max_new_tokens) == (512, 4096)
    assert (config.reinforcement.learning_rate, config.reinforcement.beta, config.reinforcement.steps) == (1e-6, 0.0, 150)
    assert config.rewards == Rewards(truncated="zero", malformed="zero")
    assert config.updates == 8
