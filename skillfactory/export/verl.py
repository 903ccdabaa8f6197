"""Questions, a reward file and a launch script for reinforcement with verl, with the paper's settings (method section 3)."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa

from skillfactory import __version__
from skillfactory.embedded import located
from skillfactory.errors import ConfigError, InputError
from skillfactory.export.card import code
from skillfactory.export.parts import digest
from skillfactory.export.questions import Asks
from skillfactory.export.reinforcement import (
    MINI_BATCH,
    PROMPT_TOKENS,
    SAMPLES,
    STEPS,
    TRAIN,
    TURNS,
    VALIDATION,
    batch,
    batch_notes,
    front,
    notes,
    turns,
    write_questions,
)
from skillfactory.export.target import ExportConfig, Written, model_from
from skillfactory.progress import Progress
from skillfactory.reward import truth
from skillfactory.supply import Asked

CHECKED = "0.9.1"  # the version of verl that the keys below are of
REWARD, CHECK = (Path(__file__).with_name(name) for name in ("verl_reward.py", "verl_check.py"))

_TOLD = [("index", pa.int64()), *((name, pa.string()) for name in ("split", "question_id", "task", "level", "answer"))]
SCHEMA = pa.schema(
    [
        ("data_source", pa.string()),
        ("prompt", TURNS),
        ("ability", pa.string()),
        ("reward_model", pa.struct([("style", pa.string()), ("ground_truth", pa.string())])),
        ("extra_info", pa.struct(_TOLD)),
    ]
)
"""What verl's data set of prompts reads; `ground_truth` is what `skillfactory.reward.score` takes."""

TRAIN_SH = """\
#!/usr/bin/env bash
# Reinforcement (GRPO) with verl on the questions beside this script:  GPUS=4 bash train.sh [KEY=VALUE ...]
# PYTHON names another interpreter than `python`. What is added to the command wins over overrides.txt.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python}"
"$python" "$here/check_setup.py" "$@"
listed="$("$python" "$here/check_setup.py" --print)"
mapfile -t overrides <<<"$listed"
exec "$python" -m verl.trainer.main_ppo "${overrides[@]}" "$@"
"""


def export(asks: Asks, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/`, `reward.py`, `overrides.txt`, `train.sh`, `check_setup.py` and a README.

    ConfigError or InputError if there is no question to validate on: verl won't train without.
    """
    if not config.wanted.validation:
        raise ConfigError("validation: verl needs held-out questions; ask for 1 or more")
    if not asks.validation:
        raise InputError("no held-out question was found, and verl won't train without; raise --validation")
    asked = asks.training.asked
    write_questions(asks, folder, SCHEMA, row, progress)
    write_overrides(folder, _ABOUT, overrides(len(asked), config))
    (folder / "reward.py").write_text(REWARD.read_text("utf-8"), "utf-8")
    (folder / "check_setup.py").write_text(CHECK.read_text("utf-8"), "utf-8")
    (folder / "train.sh").write_text(TRAIN_SH, "utf-8")
    (folder / "README.md").write_text(_readme(asks, config), "utf-8")
    return Written(len(asked), notes=(*notes(asks, config), *batch_notes(asks)))


def row(asked: Asked, index: int, split: str) -> dict[str, Any]:
    """A question as verl reads it. The gold answer is for check_setup.py and for readers; verl shows it to no model."""
    question = asked.question
    return {
        "data_source": asked.source.label,
        "prompt": turns(asked),
        "ability": asked.source.name,
        "reward_model": {"style": "rule", "ground_truth": truth(asked)},
        "extra_info": {
            "index": index,
            "split": split,
            "question_id": question.id,
            "task": asked.source.name,
            "level": asked.source.level,
            "answer": question.answer,
        },
    }


_ABOUT = f"""\
# What train.sh gives to verl.trainer.main_ppo, one KEY=VALUE a line, in the keys of verl {CHECKED}.
# check_setup.py reads this very file. @HERE@ stands for this folder, @GPUS@ for the variable GPUS (4 if it isn't set).
"""


def overrides(questions: int, config: ExportConfig) -> dict[str, str]:
    """The options for verl: the paper's values, and as many rounds through the questions as its steps need.

    verl ends after `total_epochs` even where `total_training_steps` asks for more.
    """
    prompts, response = batch(questions), config.context
    rounds = math.ceil(STEPS / (questions // prompts))
    actor, rollout = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"
    return {
        "data.train_files": f'["@HERE@/{TRAIN}"]',
        "data.val_files": f'["@HERE@/{VALIDATION}"]',
        "data.train_batch_size": f"{prompts}",
        "data.max_prompt_length": f"{PROMPT_TOKENS}",
        "data.max_response_length": f"{response}",
        "data.filter_overlong_prompts": "true",
        "data.truncation": "error",
        "data.seed": f"{config.wanted.seed}",
        "actor_rollout_ref.model.path": model_override(config),
        f"{actor}.optim.lr": "1e-6",
        f"{actor}.ppo_mini_batch_size": f"{min(MINI_BATCH, prompts)}",
        f"{actor}.use_dynamic_bsz": "true",
        f"{actor}.ppo_max_token_len_per_gpu": f"{max(16384, PROMPT_TOKENS + response)}",
        f"{actor}.use_kl_loss": "false",
        f"{rollout}.name": "vllm",
        f"{rollout}.n": f"{SAMPLES}",
        f"{rollout}.temperature": "1.0",
        f"{rollout}.tensor_model_parallel_size": "1",
        "algorithm.adv_estimator": "grpo",
        "algorithm.use_kl_in_reward": "false",
        "reward.reward_manager.name": "naive",
        "reward.custom_reward_function.path": '"@HERE@/reward.py"',
        "reward.custom_reward_function.name": "compute_score",
        "trainer.total_training_steps": f"{STEPS}",
        "trainer.total_epochs": f"{rounds}",
        "trainer.nnodes": "1",
        "trainer.n_gpus_per_node": "@GPUS@",
        "trainer.logger": "[console]",
        "trainer.project_name": "skillfactory",
        "trainer.experiment_name": "grpo",
        "trainer.save_freq": "50",
        "trainer.test_freq": "10",
    }


def write_overrides(folder: Path, about: str, options: Mapping[str, str]) -> None:
    """Writes `overrides.txt`, with a place for checkpoints that belongs to these rows and options.

    verl goes on from whatever stands there, be it of other rows.
    """
    lines = [f"{key}={value}" for key, value in options.items()]
    lines.append(f'trainer.default_local_dir="@HERE@/checkpoints/{digest(folder / "data", *lines)}"')
    (folder / "overrides.txt").write_text("\n".join([about + lines[0], *lines[1:]]) + "\n", "utf-8")


RESUMES = """\
verl goes on from the checkpoints that it finds in `checkpoints/ROWS/`; ROWS belongs to these rows and to `overrides.txt` as it
was exported. After a try, or with another model or other options, add `trainer.resume_mode=disable` to begin anew."""


def model_override(config: ExportConfig) -> str:
    """The model as an override: a local one by its way from the folder, else its Hub id."""
    return f'"@HERE@/{model_from(config)}"' if Path(located(config.model)).exists() else f'"{config.model}"'


def _readme(asks: Asks, config: ExportConfig) -> str:
    count, prompts = len(asks.training.asked), batch(len(asks.training.asked))
    return f"""{front(asks)}
# Questions for reinforcement with verl

{count:,} questions to train on and {len(asks.validation):,} held-out ones. In this folder:

```sh
pip install 'verl[vllm,fsdp]=={CHECKED}'  # on the machines with GPUs
pip install CLONE       # a clone of skillfactory {__version__}, there too: the reward runs in every Ray worker
python check_setup.py   # no GPU needed; train.sh runs it first
GPUS=4 bash train.sh
```

What is added to the command wins over `overrides.txt`: `bash train.sh actor_rollout_ref.model.path=/models/after-sft`
trains the model that was fine-tuned on the traces, which is what the method asks for; without it,
{code(model_from(config))}.

- `overrides.txt` holds the paper's values: GRPO without a KL term, learning rate 1e-6, {prompts} questions a step with
  {SAMPLES} responses each, mini-batches of {min(MINI_BATCH, prompts)} questions, {STEPS} steps, {PROMPT_TOKENS} tokens for a
  prompt and {config.context:,} for a response.
- `reward.py` gives 1 to a response whose final answer the task's own check finds right, else 0. verl doesn't tell it whether
  the token limit cut a response off: one that was cut after its answer is graded like any other.
- `check_setup.py` composes verl's configuration from the very options of `train.sh` and stops if verl has no such key or
  wouldn't use it, if no rollout engine is named, if the reward that verl would call isn't `reward.py` or errs on a right or
  a wrong answer, if a row would be lost, or if the steps would end early.

{RESUMES}

Checked with verl {CHECKED}: its data set, its reward loop and its configuration, on a CPU; no
training run on GPUs stands behind this folder.
"""
