"""Data and launch scripts for open-instruct, with the paper's settings (method section 3): fine-tuning, and reinforcement."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from skillfactory import __version__
from skillfactory.export.card import code, trains
from skillfactory.export.openrlhf import model_in_shell
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
from skillfactory.export.versions import OPEN_INSTRUCT
from skillfactory.progress import Progress
from skillfactory.reward import truth
from skillfactory.supply import Asked
from skillfactory.tracefiles import TraceFiles

VERIFIER = Path(__file__).with_name("open_instruct_verifier.py")
NAME = "skillfactory"  # of the verifier, which rows name in `dataset`
_TEXTS = ("ground_truth", "dataset", "question_id", "task", "answer")
SCHEMA = pa.schema([("messages", TURNS), *((name, pa.string()) for name in _TEXTS)])
"""What open-instruct's RLVR data holds; `ground_truth` is what the verifier takes. Id, task and answer are for readers."""

_HEAD = """\
#!/usr/bin/env bash
# {about}
# Options that are added to the command win over those below.
set -euo pipefail
here="$(cd "$(dirname "${{BASH_SOURCE[0]}}")" && pwd)"
[ -n "${{MODEL:-}}" ] || MODEL={model}
[ ! -d "$MODEL" ] || MODEL="$(cd "$MODEL" && pwd)"
cd "${{OPEN_INSTRUCT:?set it to the folder of a clone of open-instruct}}"
"""
_GRPO = '''"""GRPO of open-instruct with SkillFactory's verifier among its own, which it finds by looking for subclasses."""

import runpy

import skillfactory_verifier  # noqa: F401

runpy.run_module("open_instruct.grpo_fast", run_name="__main__")
'''


def export(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/`, `train.sh` and a README; refuses traces that open-instruct would cut."""
    limit = config.context
    lengths = check_lengths(source, limit, config.drop_long, "open-instruct", config.model)
    written = write_parts(source, folder / "data", Shape("messages", limit=limit), progress)
    files = sorted(path.relative_to(folder).as_posix() for path in (folder / "data").iterdir())
    about = "Full fine-tuning with open-instruct on the traces beside this script:  OPEN_INSTRUCT=CLONE bash train.sh"
    (folder / "train.sh").write_text(_script(about, config, _sft(files, limit)), "utf-8")
    notes = length_note(lengths, limit)
    (folder / "README.md").write_text(card(_about_traces(written, config, length_promise(lengths, limit), notes)), "utf-8")
    return Written(written, dropped(source, written), notes)


def export_questions(asks: Asks, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/`, the verifier, `grpo.py`, `train.sh` and a README."""
    asked = asks.training.asked
    write_questions(asks, folder, SCHEMA, _row, progress)
    (folder / "skillfactory_verifier.py").write_text(VERIFIER.read_text("utf-8"), "utf-8")
    (folder / "grpo.py").write_text(_GRPO, "utf-8")
    about = "Reinforcement (GRPO) with open-instruct on the questions beside this script:  OPEN_INSTRUCT=CLONE bash train.sh"
    (folder / "train.sh").write_text(_script(about, config, _rl(len(asked), bool(asks.validation), config)), "utf-8")
    (folder / "README.md").write_text(_about_questions(asks, config), "utf-8")
    return Written(len(asked), notes=(*notes(asks, config), *batch_notes(asks)))


def _row(asked: Asked, number: int, split: str) -> dict[str, Any]:
    return {
        "messages": turns(asked),
        "ground_truth": truth(asked),
        "dataset": NAME,
        "question_id": asked.question.id,
        "task": asked.source.label,
        "answer": asked.question.answer,
    }


def _script(about: str, config: ExportConfig, lines: Sequence[str]) -> str:
    return _HEAD.format(about=about, model=model_in_shell(config)) + " \\\n  ".join([*lines, '"$@"']) + "\n"


_ALONE = [  # what open-instruct does by default within its makers' own cluster
    "--push_to_hub false --try_auto_save_to_beaker false",
    '--dataset_skip_cache true --dataset_local_cache_dir "$here/cache"',
]


def _sft(files: Sequence[str], limit: int) -> list[str]:
    mixed = " ".join(f'"$here/{name}" 1.0' for name in files)
    return [
        'exec accelerate launch --mixed_precision bf16 --num_processes "${GPUS:-1}" open_instruct/finetune.py',
        '--model_name_or_path "$MODEL" --tokenizer_name_or_path "$MODEL"',
        f"--dataset_mixer_list {mixed} --dataset_mixer_list_splits train",
        f"--max_seq_length {limit} --per_device_train_batch_size 1 --gradient_accumulation_steps 1",
        "--learning_rate 1e-6 --lr_scheduler_type cosine --warmup_ratio 0.05 --weight_decay 1e-4 --num_train_epochs 2",
        '--gradient_checkpointing --seed 0 --logging_steps 10 --output_dir "$here/model" --do_not_randomize_output_dir true',
        "--try_launch_beaker_eval_jobs false",
        *_ALONE,
    ]


def _rl(questions: int, held_out: bool, config: ExportConfig) -> list[str]:
    prompts, response = batch(questions), config.context
    lines = [
        'PYTHONPATH="$here:$PWD${PYTHONPATH:+:$PYTHONPATH}" exec python "$here/grpo.py"',
        '--model_name_or_path "$MODEL" --tokenizer_name_or_path "$MODEL"',
        f'--dataset_mixer_list "$here/{TRAIN}" 1.0 --dataset_mixer_list_splits train',
        f"--max_prompt_token_length {PROMPT_TOKENS} --response_length {response} --pack_length {PROMPT_TOKENS + response}",
        f"--num_unique_prompts_rollout {prompts} --num_samples_per_prompt_rollout {SAMPLES} --temperature 1.0",
        f"--num_mini_batches {prompts // min(MINI_BATCH, prompts)} --num_epochs 1 --total_episodes {STEPS * prompts * SAMPLES}",
        "--apply_verifiable_reward true --verification_reward 1.0 --advantage_normalization_type standard",
        "--beta 0.0 --load_ref_policy false --clip_lower 0.2 --clip_higher 0.2 --async_steps 1",
        "--learning_rate 1e-6 --lr_scheduler_type constant --warmup_ratio 0.0 --per_device_train_batch_size 1",
        '--num_learners_per_node "${LEARNERS:-2}" --vllm_num_engines "${ENGINES:-2}" --deepspeed_stage 3',
        f'--gradient_checkpointing --seed {config.wanted.seed} --output_dir "$here/model"',
        "--try_launch_beaker_eval_jobs_on_weka false",
        *_ALONE,
    ]
    if held_out:
        lines.append(f'--dataset_mixer_eval_list "$here/{VALIDATION}" 1.0 --dataset_mixer_eval_list_splits train')
        lines.append("--local_eval_every 10")
    return lines


def _about_traces(written: int, config: ExportConfig, promise: str, notes: Sequence[str]) -> str:
    warnings = "".join(f"\n**Careful:** {note}.\n" for note in notes)
    return f"""\
# Silver traces for open-instruct

{written:,} rows of `messages`. On a machine with GPUs, in the environment of a clone of open-instruct:

```sh
OPEN_INSTRUCT=/path/of/open-instruct GPUS=1 bash train.sh
```

`train.sh` is full fine-tuning with the paper's settings and the loss on the assistant's turn alone. One of them can't be set
there: AdamW's second beta stays at 0.999, not 0.95. Uploads to the Hub, which open-instruct makes by default, are off, and so
is its cache of prepared rows, which doesn't notice that a file has changed. It cuts rows over `--max_seq_length`.
{promise} Where the chat template puts a line end after the turn, that is learnt as well.
{warnings}
{trains(config, "`MODEL=NAME` before the command")}

Checked with open-instruct at {OPEN_INSTRUCT} on a CPU: its own preparation of data gives these rows the tokens and labels that
SkillFactory's own training has, up to the end of the turn, and `train.sh` has no option that it lacks. No training run stands
behind this folder.
"""


def _about_questions(asks: Asks, config: ExportConfig) -> str:
    count, prompts = len(asks.training.asked), batch(len(asks.training.asked))
    return f"""{front(asks)}
# Questions for reinforcement with open-instruct

{count:,} questions to train on and {len(asks.validation):,} held-out ones. On a machine with GPUs, in the environment of
a clone of open-instruct:

```sh
pip install --no-deps CLONE       # a clone of skillfactory {__version__}, whose verifier grades; numpy and pyarrow are there
OPEN_INSTRUCT=/path/of/open-instruct MODEL=/models/after-sft LEARNERS=2 ENGINES=2 bash train.sh
```

`MODEL` is the model that was fine-tuned on the traces, which is what the method asks for; without it,
{code(model_from(config))}. LEARNERS GPUs train while ENGINES others generate.

- `train.sh` holds the paper's values: GRPO without a KL term, learning rate 1e-6, {prompts} questions a step with {SAMPLES}
  responses each, {prompts // min(MINI_BATCH, prompts)} mini-batches, {STEPS} steps, {PROMPT_TOKENS} tokens for a prompt and
  {config.context:,} for a response. open-instruct generates at least one step ahead of its training (`--async_steps 1`).
- Each row's `dataset` names the verifier, `{NAME}`; `grpo.py` imports it from `skillfactory_verifier.py` and starts
  `open_instruct.grpo_fast`. Started without `grpo.py`, open-instruct doesn't know the name, warns, and **gives every response
  0**. The reward is 1 for a response whose final answer the task's own check finds right, else 0.

Checked with open-instruct at {OPEN_INSTRUCT} on a CPU: its preparation of rows, its way from rows to rewards with this
verifier, and the options of `train.sh`. No training run stands behind this folder.
"""
