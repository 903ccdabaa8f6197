"""A data set and a full fine-tuning recipe for LLaMA-Factory, with the paper's settings (method section 3)."""

import json
from pathlib import Path
from typing import Any

import yaml

from skillfactory.export.card import trains
from skillfactory.export.parts import Shape, card, check_lengths, dropped, length_note, length_promise, write_parts
from skillfactory.export.target import ExportConfig, Written, model_from
from skillfactory.progress import Progress
from skillfactory.tracefiles import TraceFiles

NAME = "skillfactory"
CHECK = Path(__file__).with_name("llamafactory_check.py")
DATASET: dict[str, Any] = {
    "file_name": "data",
    "formatting": "sharegpt",
    "columns": {"messages": "conversations"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
}
DEEPSPEED: dict[str, Any] = {
    "train_batch_size": "auto",
    "train_micro_batch_size_per_gpu": "auto",
    "gradient_accumulation_steps": "auto",
    "gradient_clipping": "auto",
    "zero_allow_untested_optimizer": True,
    "bf16": {"enabled": "auto"},
    "zero_optimization": {
        "stage": 3,
        "overlap_comm": True,
        "contiguous_gradients": True,
        "reduce_bucket_size": "auto",
        "stage3_prefetch_bucket_size": "auto",
        "stage3_param_persistence_threshold": "auto",
        "stage3_gather_16bit_weights_on_model_save": True,
    },
}
"""Weights, gradients and the optimizer's state shared out over the GPUs; "auto" is what sft.yaml says."""


def recipe(model: str, template: str, limit: int) -> dict[str, Any]:
    """The training options; the rates, the schedule and the epochs are the paper's."""
    return {
        "model_name_or_path": model,
        "stage": "sft",
        "do_train": True,
        "finetuning_type": "full",
        "dataset": NAME,
        "dataset_dir": ".",
        **({"template": template} if template else {}),  # without the key it takes the tokenizer's own chat template apart
        "cutoff_len": limit,
        "output_dir": "model",
        "overwrite_output_dir": True,  # else it goes on from checkpoints there, be they of other rows
        "logging_steps": 10,
        "save_strategy": "epoch",
        "save_only_model": True,
        "report_to": "none",
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1.0e-6,
        "num_train_epochs": 2.0,
        "lr_scheduler_type": "cosine",
        "warmup_ratio": 0.05,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "weight_decay": 1.0e-4,
        "bf16": True,
        "seed": 0,
    }


def export(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/`, `dataset_info.json`, `sft.yaml`, `deepspeed.json`, `check.py` and a README.

    Refuses traces that LLaMA-Factory would cut.
    """
    limit = config.context
    lengths = check_lengths(source, limit, config.drop_long, "LLaMA-Factory", config.model)
    written = write_parts(source, folder / "data", Shape("conversations", limit=limit), progress)
    (folder / "dataset_info.json").write_text(json.dumps({NAME: DATASET}, indent=2) + "\n", "utf-8")
    options = yaml.safe_dump(recipe(model_from(config), config.template, limit), sort_keys=False)
    (folder / "sft.yaml").write_text(options, "utf-8")
    (folder / "deepspeed.json").write_text(json.dumps(DEEPSPEED, indent=2) + "\n", "utf-8")
    (folder / "check.py").write_text(CHECK.read_text("utf-8"), "utf-8")
    notes = length_note(lengths, limit)
    (folder / "README.md").write_text(card(_body(written, config, length_promise(lengths, limit), notes)), "utf-8")
    return Written(written, dropped(source, written), notes)


def _body(written: int, config: ExportConfig, promise: str, notes: tuple[str, ...]) -> str:
    warnings = "".join(f"\n**Careful:** {note}.\n" for note in notes)
    return f"""# Silver traces for LLaMA-Factory

{written:,} rows. In this folder:

```sh
pip install llamafactory==0.9.5
python check.py
llamafactory-cli train sft.yaml
```

`sft.yaml` is full fine-tuning with the paper's settings. `check.py` compares the tokens of every row as LLaMA-Factory makes
them with what the model's own chat template gives, and says what is trained: a `template` that isn't the model's, one that cuts
or rewrites what stands in `<think>`, or a loss that begins elsewhere than with the answer, is found there and not after the
training. Without the key `template`, LLaMA-Factory takes the chat template of the model's tokenizer apart. It cuts rows over
`cutoff_len` without a word: such a row loses its answer and its end token. {promise}
{warnings}
{trains(config, "`model_name_or_path` in `sft.yaml`")} Each training begins anew and writes over the model of an
earlier one in `model`, whose checkpoints of other steps stay: left to itself, LLaMA-Factory would go on from those,
even of other rows.

- On a CPU add `use_cpu: true` to `sft.yaml` (the package's torchaudio must be one for CPUs).
- Over several GPUs with DeepSpeed: `pip install deepspeed` and add `deepspeed: deepspeed.json` (ZeRO stage 3).

LLaMA-Factory has no way to leave wrong attempts out of the loss: for that use the targets `axolotl` or `tokens`, or
`skillfactory sft --mask wrong`.

Checked with LLaMA-Factory 0.9.5, transformers 5.6.0, trl 0.24.0 and torch 2.13.0: its command trained a small model on a CPU,
and its labels are those of `skillfactory sft`, but that it trains the line break after the end token too where the chat
template has one. `deepspeed.json` was not run: it needs GPUs.
"""
