"""Where a step of GRPO on the CPU spends its time: TRL as it comes, and as `skillfactory grpo` runs it, on the same work.

    OMP_NUM_THREADS=1 python benchmarks/grpo_speed.py --prompts 16 --group 8 --limit 640 --mean 200

The model has the embedded one's shape and random weights, made so that a response ends with equal chance after every token:
lengths differ widely, `--mean` on average. Rewards are drawn; `--signal` is the share of groups that hold both rewards.
Times are CPU seconds of this process per step, the first step left out, so that a busy machine changes them little.
"""

import argparse
import json
import random
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer
from trl.trainer.grpo_config import GRPOConfig
from trl.trainer.grpo_trainer import GRPOTrainer

from skillfactory.embedded import located
from skillfactory.engines.chat import Chat
from skillfactory.train.grpo import GrpoConfig, Reinforcement, Rollouts, Running
from skillfactory.train.grpo_trainer import Reinforcer
from skillfactory.train.loading import quiet


def model_of(mean: int) -> Any:
    """A model whose responses have `mean` tokens, if nothing cuts them."""
    torch.manual_seed(0)
    config = AutoConfig.from_pretrained(located("mini"))
    model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    end, width, vocabulary = config.eos_token_id, config.hidden_size, config.vocab_size
    with torch.no_grad():
        common = torch.ones(width)
        model.model.embed_tokens.weight += common  # so that all states have one direction in common
        odds = (vocabulary - 1) / (mean - 1)
        model.lm_head.weight[end] = common * torch.log(torch.tensor(odds)) / width
    return model


class Times:
    """CPU seconds of the parts of each step."""

    def __init__(self) -> None:
        self.steps: list[dict[str, float]] = []
        self._since = time.process_time()

    def generated(self, tokens: int) -> None:
        """Takes the end of a generation; what came before it since the last step is its time."""
        self.steps.append({"generate": self._lap(), "tokens": tokens})

    def stepped(self) -> None:
        """Takes the end of a step."""
        self.steps[-1]["train"] = self._lap()

    def _lap(self) -> float:
        now = time.process_time()
        passed, self._since = now - self._since, now
        return passed


def timed(base: type[Any], times: Times, group: int, signal: float) -> type[Any]:
    """A trainer of the class `base` with drawn rewards, which tells `times` of its parts."""

    class Trainer(base):  # type: ignore[misc]
        def _generate_single_turn(self, *arguments: Any, **named: Any) -> Any:
            found = super()._generate_single_turn(*arguments, **named)
            times.generated(sum(map(len, found[0])))
            return found

        def training_step(self, *arguments: Any, **named: Any) -> Any:
            loss = super().training_step(*arguments, **named)
            times.stepped()
            return loss

        def reward(self, completion_ids: list[list[int]], **_: Any) -> list[float]:
            return drawn_rewards(len(completion_ids), group, signal)

    return Trainer


def drawn_rewards(rows: int, group: int, signal: float) -> list[float]:
    """Rewards of 0 and 1; a share `signal` of the groups has both."""
    draw = random.Random(0)
    rewards = []
    for number in range(rows // group):
        mixed = number < signal * (rows // group)
        rewards += [float(draw.random() < 0.5) if mixed and n else 1.0 * mixed for n in range(group)]
    return rewards


def main() -> None:
    """Prints a line per variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name, value in (("prompts", 16), ("group", 8), ("limit", 640), ("mean", 200), ("steps", 4), ("pass-tokens", 16384)):
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--signal", type=float, default=0.7)
    parser.add_argument("--bf16", action="store_true")
    parser.add_argument("--only", choices=("trl", "ours"), default="")
    given = parser.parse_args()
    torch.set_num_threads(1)
    for name in ("trl", "ours"):
        if given.only in ("", name):
            print(json.dumps({"variant": name, **measured(name, given)}), flush=True)


def measured(name: str, given: Any) -> dict[str, float]:
    """The mean times of a variant's steps, and tokens per second."""
    times = Times()
    rows = [{"prompt": [{"role": "user", "content": f"Make {n} from 3 5 7."}], "question": n} for n in range(100)]
    with tempfile.TemporaryDirectory() as folder, quiet():
        tokenizer = AutoTokenizer.from_pretrained(located("mini"))
        common = {"model": model_of(given.mean), "train_dataset": Dataset.from_list(rows), "processing_class": tokenizer}
        trainer_type = timed(Reinforcer if name == "ours" else GRPOTrainer, times, given.group, given.signal)
        if name == "ours":
            config = GrpoConfig(
                task=("countdown:mini",),
                output=Path(folder),
                rollouts=Rollouts(group_size=given.group, prompts_per_step=given.prompts, max_new_tokens=given.limit),
                reinforcement=Reinforcement(mini_batch=given.prompts, steps=given.steps),
                running=Running(tokens_per_pass=given.pass_tokens),
            )
            ends = Chat(tokenizer).ends(tokenizer.eos_token_id)
            asked: Any = rows  # rewards are drawn: nobody looks at the questions
            trainer = trainer_type(config, asked, ends, args=_arguments(given, folder), **common)
        else:
            trainer = trainer_type(
                reward_funcs=lambda **k: drawn_rewards(len(k["completions"]), given.group, given.signal),
                args=_arguments(given, folder),
                **common,
            )
        trainer.train()
    later = times.steps[1:]
    total = {part: sum(step[part] for step in later) for part in ("generate", "train", "tokens")}
    return {
        "seconds_per_step": round((total["generate"] + total["train"]) / len(later), 2),
        "generate": round(total["generate"] / len(later), 2),
        "train": round(total["train"] / len(later), 2),
        "tokens_per_step": round(total["tokens"] / len(later)),
        "generated_per_second": round(total["tokens"] / total["generate"]),
        "trained_per_second": round(total["tokens"] / total["train"]),
    }


def _arguments(given: Any, folder: str) -> Any:
    return GRPOConfig(
        output_dir=folder,
        use_cpu=True,
        bf16=given.bf16,
        gradient_checkpointing=False,
        per_device_train_batch_size=given.prompts * given.group,
        gradient_accumulation_steps=1,
        num_generations=given.group,
        max_completion_length=given.limit,
        max_steps=given.steps,
        learning_rate=1e-6,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )


if __name__ == "__main__":
    main()
