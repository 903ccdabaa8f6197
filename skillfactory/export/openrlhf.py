"""Data and launch scripts for OpenRLHF, with the paper's settings (method section 3): fine-tuning, and reinforcement."""

import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from skillfactory import __version__
from skillfactory.embedded import located
from skillfactory.export.card import code, trains
from skillfactory.export.parts import Shape, card, check_lengths, dropped, length_note, length_promise, write_parts
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
from skillfactory.export.versions import CHECKED
from skillfactory.progress import Progress
from skillfactory.reward import truth
from skillfactory.supply import Asked
from skillfactory.tracefiles import TraceFiles

REWARD = Path(__file__).with_name("openrlhf_reward.py")
SCHEMA = pa.schema(
    [
        ("prompt", TURNS),
        ("label", pa.string()),
        ("datasource", pa.string()),
        ("question_id", pa.string()),
        ("answer", pa.string()),
    ]
)
"""What OpenRLHF's data set of prompts reads, and the id and a right answer for readers; `label` is what the reward takes."""

_HEAD = """\
#!/usr/bin/env bash
# {about}
# Options that are added to the command win over those below.
set -euo pipefail
here="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"
gpus="${{GPUS:-{gpus}}}"
[ -n "${{MODEL:-}}" ] || MODEL={model}
"""


def export(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/`, `train.sh` and a README; refuses traces that OpenRLHF would cut."""
    limit = config.context
    lengths = check_lengths(source, limit, config.drop_long, "OpenRLHF", config.model)
    written = write_parts(source, folder / "data", Shape("messages", limit=limit), progress)
    about = "Full fine-tuning with OpenRLHF on the traces beside this script:  GPUS=4 bash train.sh [OPTION ...]"
    (folder / "train.sh").write_text(_script(about, 1, config, _sft(limit)), "utf-8")
    notes = length_note(lengths, limit)
    (folder / "README.md").write_text(card(_about_traces(written, config, length_promise(lengths, limit), notes)), "utf-8")
    return Written(written, dropped(source, written), notes)


def export_questions(asks: Asks, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/`, `reward.py`, `train.sh` and a README."""
    asked = asks.training.asked
    write_questions(asks, folder, SCHEMA, _row, progress)
    (folder / "reward.py").write_text(REWARD.read_text("utf-8"), "utf-8")
    about = "Reinforcement (GRPO) with OpenRLHF on the questions beside this script:  GPUS=4 bash train.sh [OPTION ...]"
    (folder / "train.sh").write_text(_script(about, 4, config, _rl(len(asked), bool(asks.validation), config)), "utf-8")
    (folder / "README.md").write_text(_about_questions(asks, config), "utf-8")
    return Written(len(asked), notes=(*notes(asks, config), *batch_notes(asks)))


def _row(asked: Asked, number: int, split: str) -> dict[str, Any]:
    return {
        "prompt": turns(asked),
        "label": truth(asked),
        "datasource": asked.source.label,
        "question_id": asked.question.id,
        "answer": asked.question.answer,
    }


def model_in_shell(config: ExportConfig) -> str:
    """The model as a word of a script: a local one by its way from the folder, which is `$here`."""
    name = shlex.quote(model_from(config))
    return f'"$here"/{name}' if Path(located(config.model)).exists() else name


def _script(about: str, gpus: int, config: ExportConfig, lines: Sequence[str]) -> str:
    head = _HEAD.format(about=about, gpus=gpus, model=model_in_shell(config))
    return head + " \\\n  ".join([*lines, '"$@"']) + "\n"


def _sft(limit: int) -> list[str]:
    return [
        'exec deepspeed --num_gpus "$gpus" --module openrlhf.cli.train_sft',
        '--model.model_name_or_path "$MODEL"',
        '--data.dataset "$here/data" --data.input_key messages --data.apply_chat_template',
        f"--data.max_len {limit}",
        '--train.micro_batch_size 1 --train.batch_size "$gpus" --train.max_epochs 2 --train.seed 0',
        "--adam.lr 1e-6 --adam.betas 0.9 0.95 --adam.weight_decay 1e-4",
        "--lr_scheduler cosine --lr_warmup_ratio 0.05",
        "--ds.zero_stage 2 --ds.param_dtype bf16 --model.gradient_checkpointing_enable",
        '--logger.logging_steps 10 --ckpt.output_dir "$here/model" --ckpt.path "$here/checkpoints"',
    ]


def _rl(questions: int, held_out: bool, config: ExportConfig) -> list[str]:
    prompts, response = batch(questions), config.context
    lines = [
        "exec python3 -m openrlhf.cli.train_ppo_ray",
        '--actor.model_name_or_path "$MODEL" --reward.remote_url "$here/reward.py"',
        f'--data.prompt_dataset "$here/{TRAIN}" --data.prompt_split train',
        "--data.input_key prompt --data.label_key label --data.apply_chat_template",
        f"--data.max_len {PROMPT_TOKENS + response} --rollout.max_new_tokens {response}",
        f"--rollout.batch_size {prompts} --rollout.n_samples_per_prompt {SAMPLES} --rollout.temperature 1.0",
        f"--train.batch_size {min(MINI_BATCH, prompts) * SAMPLES} --train.micro_batch_size 1 --train.seed {config.wanted.seed}",
        f"--train.num_episodes {math.ceil(STEPS / (questions // prompts))}",
        "--algo.advantage.estimator group_norm --algo.kl.init_coef 0",
        "--actor.adam.lr 1e-6 --actor.lr_scheduler constant --actor.lr_warmup_ratio 0",
        '--actor.num_gpus_per_node "$gpus" --vllm.num_engines "$gpus" --vllm.tensor_parallel_size 1',
        "--train.colocate_all --vllm.enable_sleep --ds.enable_sleep --vllm.gpu_memory_utilization 0.6",
        "--ds.zero_stage 3 --actor.gradient_checkpointing_enable",
        '--ckpt.output_dir "$here/model" --ckpt.path "$here/checkpoints" --ckpt.save_steps 50',
    ]
    if held_out:
        lines.append(f'--eval.dataset "$here/{VALIDATION}" --eval.split train --eval.steps 10')
    return lines


def _about_traces(written: int, config: ExportConfig, promise: str, notes: Sequence[str]) -> str:
    warnings = "".join(f"\n**Careful:** {note}.\n" for note in notes)
    return f"""\
# Silver traces for OpenRLHF

{written:,} rows of `messages`. On a machine with GPUs:

```sh
pip install 'openrlhf=={CHECKED["openrlhf"]}'
GPUS=1 bash train.sh
```

`train.sh` is full fine-tuning with the paper's settings and the loss on the assistant's turn alone; its batch is one row for
each GPU. OpenRLHF cuts rows over `--data.max_len` and puts an end token there.
{promise} Where the chat template ends a turn with another token than the tokenizer's end token, OpenRLHF appends that one, and
it is learnt.
{warnings}
{trains(config, "`MODEL=NAME` before the command")}

Checked with OpenRLHF {CHECKED["openrlhf"]} on a CPU: its data set class gives these rows the tokens, and the loss mask, that
SkillFactory's own training has, and `train.sh` has no option that it doesn't know. It trains on GPUs alone; no training run
stands behind this folder.
"""


def _about_questions(asks: Asks, config: ExportConfig) -> str:
    count, prompts = len(asks.training.asked), batch(len(asks.training.asked))
    return f"""{front(asks)}
# Questions for reinforcement with OpenRLHF

{count:,} questions to train on and {len(asks.validation):,} held-out ones. On a machine with GPUs:

```sh
pip install 'openrlhf[vllm]=={CHECKED["openrlhf"]}'
pip install CLONE       # a clone of skillfactory {__version__}, there too: the reward runs in every Ray worker
ray start --head
MODEL=/models/after-sft GPUS=4 bash train.sh
```

`MODEL` is the model that was fine-tuned on the traces, which is what the method asks for; without it,
{code(model_from(config))}.

- `train.sh` holds the paper's values: GRPO without a KL term, learning rate 1e-6, {prompts} questions a step with {SAMPLES}
  responses each, mini-batches of {min(MINI_BATCH, prompts) * SAMPLES} responses, about {STEPS} steps, {PROMPT_TOKENS} tokens
  for a prompt and {config.context:,} for a response.
- `reward.py` gives 1 to a response whose final answer the task's own check finds right, else 0. OpenRLHF hands it prompt and
  response as one text, and **swallows what it raises**: look for `Failed to fetch reward` in the log. Without SkillFactory
  installed the training stops as it begins.

Checked with OpenRLHF {CHECKED["openrlhf"]} on a CPU: its data set of prompts, its executor with `reward.py` on responses of a
stand-in for vLLM, and the options of `train.sh`. It trains on GPUs alone; no training run stands behind this folder.
"""
