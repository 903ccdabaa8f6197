"""Chats, a data set class and a launch script for verl's SFT trainer, with the paper's settings (method section 3)."""

from pathlib import Path

import pyarrow as pa

from skillfactory.export.card import trains
from skillfactory.export.parts import Recast, Shape, card, check_lengths, dropped, length_note, write_parts
from skillfactory.export.target import ExportConfig, Written
from skillfactory.export.verl import CHECKED, RESUMES, model_override, write_overrides
from skillfactory.masks import Mask, silent
from skillfactory.progress import Progress
from skillfactory.tracefiles import TraceFiles

DATASET = Path(__file__).with_name("verl_dataset.py")
_SPANS = pa.list_(pa.struct([("start", pa.int32()), ("end", pa.int32())]))
MASKED = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string()), ("silent", _SPANS)]))
"""Turns with the stretches of their text that bear no loss, null where there are none to tell."""

TRAIN_SH = """\
#!/usr/bin/env bash
# Full fine-tuning with verl on the traces beside this script:  GPUS=1 bash train.sh [KEY=VALUE ...]
# PYTHON names another interpreter than `python`. What is added to the command wins over overrides.txt.
set -euo pipefail
here="$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)"
python="${PYTHON:-python}"
"$python" "$here/dataset.py" "$@"
listed="$("$python" "$here/dataset.py" --print)"
mapfile -t overrides <<<"$listed"
exec "$python" -m torch.distributed.run --standalone --nnodes=1 --nproc_per_node="${GPUS:-1}" \\
  -m verl.trainer.sft_trainer "${overrides[@]}" "$@"
"""


def export(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/`, `dataset.py`, `overrides.txt`, `train.sh` and a README; refuses traces over the trainer's length."""
    limit = config.context
    lengths = check_lengths(source, limit, config.drop_long, "verl", config.model)
    recast = None if config.mask == "none" else Recast(MASKED, ("segments",), lambda batch: masked(batch, config.mask))
    written = write_parts(source, folder / "data", Shape("messages", limit=limit, recast=recast), progress)
    files = sorted(path.name for path in (folder / "data").iterdir())
    write_overrides(folder, _ABOUT, overrides(files, config))
    (folder / "dataset.py").write_text(DATASET.read_text("utf-8"), "utf-8")
    (folder / "train.sh").write_text(TRAIN_SH, "utf-8")
    notes = length_note(lengths, limit)
    (folder / "README.md").write_text(card(_body(written, config)), "utf-8")
    return Written(written, dropped(source, written), notes)


def masked(batch: pa.RecordBatch, mask: Mask) -> pa.Array:
    """The turns of traces, the assistant's with the spans that `mask` hides."""
    chats = []
    for turns, segments in zip(batch.column("conversations").to_pylist(), batch.column("segments").to_pylist(), strict=True):
        spans = [{"start": start, "end": end} for start, end in silent(segments, mask)]
        chats.append([*turns[:-1], {**turns[-1], "silent": spans}])
    return pa.array(chats, MASKED)


_ABOUT = f"""\
# What train.sh gives to verl.trainer.sft_trainer, one KEY=VALUE a line, in the keys of verl {CHECKED}.
# dataset.py reads this very file. @HERE@ stands for this folder, @GPUS@ for the variable GPUS (1 if it isn't set).
"""


def overrides(files: list[str], config: ExportConfig) -> dict[str, str]:
    """The options for verl, with the paper's values; a step takes one row on each GPU."""
    listed = ",".join(f'"@HERE@/data/{name}"' for name in files)
    return {
        "data.train_files": f"[{listed}]",
        "data.messages_key": "messages",
        "data.custom_cls.path": '"@HERE@/dataset.py"',
        "data.custom_cls.name": "SilverTraces",
        "data.train_batch_size": "@GPUS@",
        "data.micro_batch_size_per_gpu": "1",
        "data.max_length": f"{config.context}",
        "data.max_token_len_per_gpu": f"{max(8192, config.context)}",
        "data.truncation": "error",
        "data.enable_thinking_default": "null",
        "model.path": model_override(config),
        "optim.lr": "1e-6",
        "optim.lr_scheduler_type": "cosine",
        "optim.lr_warmup_steps_ratio": "0.05",
        "optim.betas": "[0.9,0.95]",
        "optim.weight_decay": "1e-4",
        "checkpoint.save_contents": "[model,optimizer,extra,hf_model]",
        "checkpoint.load_contents": "[model,optimizer,extra]",
        "trainer.total_epochs": "2",
        "trainer.nnodes": "1",
        "trainer.n_gpus_per_node": "@GPUS@",
        "trainer.logger": "[console]",
        "trainer.project_name": "skillfactory",
        "trainer.experiment_name": "sft",
        "trainer.save_freq": "after_each_epoch",
    }


def _body(written: int, config: ExportConfig) -> str:
    return f"""\
# Silver traces for verl's SFT trainer

{written:,} rows of `messages`. In this folder:

```sh
pip install 'verl[fsdp]=={CHECKED}'
python dataset.py       # no GPU needed; train.sh runs it first
GPUS=1 bash train.sh
```

`overrides.txt` holds the paper's values: full fine-tuning, learning rate 1e-6, cosine, warm-up 0.05, AdamW betas 0.9 and
0.95, weight decay 1e-4, two epochs, one row a step on each GPU, {config.context:,} tokens.
A longer row stops the training; none is cut.
{trains(config, "`model.path=NAME` added to the command")}

`dataset.py` is the data set class that verl loads: the loss is on the assistant's words and the token that ends them, and
nowhere else (mask: {config.mask}). verl's own class also trains what a template puts after that token, refuses templates whose
turns share a token, and knows no mask for a part of a turn. As a script it goes through all rows under verl's configuration and
stops where verl has no such key, a row is too long, or the chat template loses a part of it.

{RESUMES}

The trained model is in `checkpoints/ROWS/global_step_N/huggingface`; give it to the reinforcement:
`bash train.sh actor_rollout_ref.model.path=…` in the folder of `skillfactory export --to verl`.

Checked with verl {CHECKED}.
"""
