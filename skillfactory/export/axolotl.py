"""A data set and a full fine-tuning recipe for axolotl, with the paper's settings; masked attempts are parts of their own.

With a mask, a turn's content is a list of parts `{type, text, train}`: axolotl joins the texts and gives loss to the tokens of
the parts with `train: true`. A user's part says nothing of training: with a flag, the user's end token would be trained.
"""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa
import yaml

from skillfactory.errors import ConfigError
from skillfactory.export.card import trains
from skillfactory.export.parts import Recast, Shape, card, check_lengths, digest, dropped, length_note, write_parts
from skillfactory.export.target import ExportConfig, Written, model_from
from skillfactory.masks import Mask, parts, silent
from skillfactory.progress import Progress
from skillfactory.tracefiles import TraceFiles

PART = pa.struct([("type", pa.string()), ("text", pa.string()), ("train", pa.bool_())])
TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.list_(PART))]))
TEMPLATE = "chat_template.jinja"


def export(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/`, `sft.yaml` and a README; refuses traces over the length that axolotl is told."""
    limit = config.context
    lengths = check_lengths(source, limit, config.drop_long, "axolotl", config.model)
    recast = None if config.mask == "none" else _recast(config.mask)
    written = write_parts(source, folder / "data", Shape("messages", limit=limit, recast=recast), progress)
    if config.chat_template is not None:
        (folder / TEMPLATE).write_text(_template(config.chat_template), "utf-8")
    options = recipe(model_from(config), limit, config.chat_template is not None, f"prepared-{digest(folder / 'data')}")
    (folder / "sft.yaml").write_text(yaml.safe_dump(options, sort_keys=False), "utf-8")
    (folder / "export.json").write_text(json.dumps({"mask": config.mask, "max_length": limit}), "utf-8")
    notes = length_note(lengths, limit)
    (folder / "README.md").write_text(card(_body(written, config, notes)), "utf-8")
    return Written(written, dropped(source, written), notes)


def recipe(model: str, limit: int, own_template: bool, prepared: str) -> dict[str, Any]:
    """The training options; the rates, the schedule and the epochs are the paper's."""
    theirs = {"chat_template": "tokenizer_default"}
    template = {"chat_template": "jinja", "chat_template_jinja": TEMPLATE} if own_template else theirs
    return {
        "base_model": model,
        "datasets": [
            {
                "path": "data",
                "split": "train",
                "type": "chat_template",
                **template,
                "field_messages": "messages",
                "roles_to_train": ["assistant"],
                "train_on_eos": "turn",
            }
        ],
        "dataset_prepared_path": prepared,  # axolotl's own name for it doesn't change with the rows
        "val_set_size": 0.0,
        "sequence_len": limit,
        "excess_length_strategy": "raise",
        "sample_packing": False,
        "output_dir": "model",
        "micro_batch_size": 1,
        "gradient_accumulation_steps": 1,
        "num_epochs": 2,
        "optimizer": "adamw_torch",
        "learning_rate": 1.0e-6,
        "lr_scheduler": "cosine",
        "warmup_ratio": 0.05,
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "weight_decay": 1.0e-4,
        "bf16": True,
        "gradient_checkpointing": True,
        "logging_steps": 10,
        "save_strategy": "epoch",
        "save_only_model": True,
        "seed": 0,
    }


def _recast(mask: Mask) -> Recast:
    """Turns with parts, from the traces' segments."""

    def made(batch: pa.RecordBatch) -> pa.Array:
        rows = zip(batch.column("conversations").to_pylist(), batch.column("segments").to_pylist(), strict=True)
        return pa.array([_turns(turns, segments, mask) for turns, segments in rows], TURNS)

    return Recast(TURNS, ("segments",), made)


def _turns(turns: list[dict[str, str]], segments: list[dict[str, Any]], mask: Mask) -> list[dict[str, Any]]:
    """A chat as axolotl reads it, the assistant's turn cut where the loss begins and ends."""
    made: list[dict[str, Any]] = []
    for turn in turns:
        text = turn["content"]
        pieces = parts(text, silent(segments, mask)) if turn["role"] == "assistant" else [(text, None)]
        content = [{"type": "text", "text": piece, "train": trained} for piece, trained in pieces]
        made.append({"role": turn["role"], "content": content})
    return made


def _template(path: Path) -> str:
    try:
        return path.read_text("utf-8")
    except OSError as error:
        raise ConfigError(
            f"chat_template: {path} can't be read ({error.strerror}); give the path of a Jinja template"
        ) from error


_MASKS = {
    "none": "The loss is on the assistant's whole turn.",
    "wrong": "Attempts that the verifier found wrong are parts with `train: false`: they bear no loss.",
    "all-but-last": "All attempts but the last of a trace are parts with `train: false`: they bear no loss.",
}


def _body(written: int, config: ExportConfig, notes: tuple[str, ...]) -> str:
    warnings = "".join(f"\n**Careful:** {note}.\n" for note in notes)
    return f"""# Silver traces for axolotl

{written:,} rows of `messages`. {_MASKS[config.mask]} In this folder:

```sh
pip install axolotl==0.19.0
axolotl train sft.yaml
```

`sft.yaml` is full fine-tuning with the paper's settings and the chat template of the model's tokenizer. A row over
{config.context:,} tokens stops it (`excess_length_strategy: raise`): axolotl would leave such rows out, or cut them.
{warnings}
{trains(config, "`base_model` in `sft.yaml`")}

- The token that ends a turn is trained if it is the tokenizer's end-of-text token. Where it is another one (as in some base
  models), say so: `eot_tokens: ['<|im_end|>']`. If axolotl warns that the "turn terminator won't be trained", this is missing.
- On a CPU set `bf16: false`.
- axolotl keeps the tokenised rows in the folder that `dataset_prepared_path` names, and doesn't notice that rows have changed.
  The name in `sft.yaml` belongs to these rows; after a change by hand, remove the folder.
- At the border of a part that isn't trained axolotl is less strict than `skillfactory sft` and the target `tokens`: a token
  with two or more characters of trained text bears loss, and so do the tokens of an emoji (or another character of several
  tokens) with which such a part begins.

Checked with axolotl 0.19.0, transformers 5.16.1 and torch 2.13.0: but for such borders its labels are those of
`skillfactory sft`, and its command trained a small model on a CPU.
"""
