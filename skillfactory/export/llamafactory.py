"""A data set and a full fine-tuning recipe for LLaMA-Factory, with the paper's settings (method section 3)."""

import json
from pathlib import Path
from typing import Any

import yaml

from skillfactory.export.parts import Shape, card, check_lengths, dropped, length_note, write_parts
from skillfactory.export.target import ExportConfig, Written, model_from
from skillfactory.progress import Progress
from skillfactory.tracefiles import TraceFiles

NAME = "skillfactory"
DATASET: dict[str, Any] = {
    "file_name": "data",
    "formatting": "sharegpt",
    "columns": {"messages": "conversations"},
    "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
}


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
    """Writes `data/`, `dataset_info.json`, `sft.yaml` and a README; refuses traces that LLaMA-Factory would cut."""
    limit = config.context
    lengths = check_lengths(source, limit, config.drop_long, "LLaMA-Factory")
    written = write_parts(source, folder / "data", Shape("conversations", limit=limit), progress)
    (folder / "dataset_info.json").write_text(json.dumps({NAME: DATASET}, indent=2) + "\n", "utf-8")
    options = yaml.safe_dump(recipe(model_from(config), config.template, limit), sort_keys=False)
    (folder / "sft.yaml").write_text(options, "utf-8")
    notes = length_note(lengths, limit)
    (folder / "README.md").write_text(card(_body(written, limit, notes)), "utf-8")
    return Written(written, dropped(source, written), notes)


def _body(written: int, limit: int, notes: tuple[str, ...]) -> str:
    warnings = "".join(f"\n**Careful:** {note}.\n" for note in notes)
    return (
        f"# Silver traces for LLaMA-Factory\n\n{written:,} rows. In this folder:\n\n"
        "```sh\nllamafactory-cli train sft.yaml\n```\n\n"
        "`sft.yaml` is full fine-tuning with the paper's settings. Its `template` must be the model's; the template of "
        "a reasoning model may rewrite what stands in `<think>`. LLaMA-Factory cuts rows over `cutoff_len` without a word: "
        f"such a row loses its answer and its end token. No row that was counted is longer than {limit:,} tokens.\n{warnings}\n"
        "The keys were compared with the source of LLaMA-Factory 0.9.5 (transformers 4.55 to 5.6); no training run with it "
        "stands behind this file. On a CPU add `use_cpu: true`; where `model` isn't empty, `overwrite_output_dir: true`.\n"
    )
