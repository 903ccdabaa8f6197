"""Traces as token ids and labels, by the encoder of `skillfactory sft`: the loss is where the mask says, for any trainer."""

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa

from skillfactory.encoding import Encoder, Example, Refused, Row, examples, open_traces, tokenizer_of
from skillfactory.errors import InputError
from skillfactory.export.card import code
from skillfactory.export.parts import Parquet, card
from skillfactory.export.target import ExportConfig, Written, model_from
from skillfactory.progress import Progress
from skillfactory.records import Drop
from skillfactory.tracefiles import TraceFiles
from skillfactory.traces import DropWriter

SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),
        ("input_ids", pa.list_(pa.int32())),
        ("labels", pa.list_(pa.int32())),
        ("attention_mask", pa.list_(pa.int8())),
        ("length", pa.int32()),
    ]
)
"""One row a trace; `labels` are -100 where there is no loss, `attention_mask` is all ones (there is no padding)."""


@dataclass(slots=True)
class _Account:
    """What has become of the traces so far."""

    kept: int = 0
    tokens: int = 0
    trained: int = 0
    refused: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """The share of the tokens that bear loss."""
        return self.trained / self.tokens if self.tokens else 0.0


def export(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/` and a README; refuses traces over the length limit, and leaves out, counted, what can't be learnt."""
    source = open_traces(source.directory, config.mask)
    encoder = Encoder(tokenizer_of(config.model, config.chat_template), config.context)
    account = _Account()
    drops = DropWriter(folder / "drops" / "part-00000.parquet")
    (folder / "data").mkdir()
    progress.begin("export", "traces", source.rows)
    for number, part in enumerate(source.parts):
        path = folder / "data" / f"train-{number:05d}-of-{len(source.parts):05d}.parquet"
        with Parquet(path, SCHEMA) as file:
            for found in examples(source, part, config.mask):
                file.write(_table(_kept(found, encoder, config, account, drops)))
                progress.advance(len(found), ", ".join(f"{reason} {count:,}" for reason, count in account.refused.items()))
    drops.close()
    if (long := account.refused[Refused.TOO_LONG.value]) and not config.drop_long:
        raise InputError(
            f"{long:,} of {source.rows:,} traces are longer than {encoder.limit:,} tokens of {config.model}; build with "
            f"--max-tokens {encoder.limit} --tokenizer {config.model}, raise --max-length, or leave them out with --drop-long"
        )
    if account.kept and not 0 < account.share < 1:
        raise InputError(f"{account.share:.0%} of the tokens would bear loss, expected a part of them: look at the traces")
    said = {"model": model_from(config), "mask": config.mask, "max_length": config.context}
    told = said | {"tokens": account.tokens, "trained_share": round(account.share, 4)}
    (folder / "export.json").write_text(json.dumps(told), "utf-8")
    (folder / "README.md").write_text(card(_body(account, config)), "utf-8")
    note = f"{account.share:.1%} of {account.tokens:,} tokens bear loss (mask: {config.mask})"
    return Written(account.kept, dict(account.refused), (note,))


def _kept(
    found: list[Example], encoder: Encoder, config: ExportConfig, account: _Account, drops: DropWriter
) -> Iterator[tuple[str, Row]]:
    """The rows of the examples that have one, each with its id; of the others the account is kept."""
    for example, row in zip(found, encoder.rows(found), strict=True):
        if isinstance(row, Row):
            account.kept += 1
            account.tokens += len(row.ids)
            account.trained += row.trained
            yield example.id, row
            continue
        account.refused[row.value] += 1
        drops.add(Drop("export", example.id, row.value, f"mask {config.mask}"))


def _table(rows: Iterator[tuple[str, Row]]) -> pa.Table:
    """The rows as columns of SCHEMA."""
    pairs = list(rows)
    columns = [
        [name for name, _ in pairs],
        [row.ids for _, row in pairs],
        [row.labels for _, row in pairs],
        [np.ones(len(row.ids), np.int8) for _, row in pairs],
        [len(row.ids) for _, row in pairs],
    ]
    return pa.Table.from_arrays(
        [pa.array(column, kind.type) for column, kind in zip(columns, SCHEMA, strict=True)], schema=SCHEMA
    )


def _body(account: _Account, config: ExportConfig) -> str:
    return f"""# Silver traces as tokens

{account.kept:,} rows of `input_ids`, `labels`, `attention_mask` (all ones), `length` and `trace_id`. The tokens are those of
{code(model_from(config))} with its chat template: train no other model on them. `labels` are -100 where there is no loss;
{account.share:.1%} of {account.tokens:,} tokens bear it (mask: {config.mask}). No row is longer than {config.context:,} tokens.

```python
from datasets import load_dataset

rows = load_dataset("PATH_OF_THIS_FOLDER", split="train")
```

TRL takes the labels as they are, but cuts rows at its `max_length` unless that is none (in this folder; on a CPU add
`bf16=False`):

```python
SFTTrainer(model={model_from(config)!r}, args=SFTConfig(max_length=None), train_dataset=rows)
```

The Trainer of transformers takes them with a collator that pads labels:

```python
Trainer(model=model, args=arguments, train_dataset=rows, data_collator=DataCollatorForSeq2Seq(tokenizer))
```

axolotl knows tokenised rows by their columns: `path:` is this folder and `type:` stays empty; `sequence_len` must be at
least the longest row.

LLaMA-Factory reads what `datasets` saves to disk, and wants a name under `dataset` too, which it then passes over:

```python
DatasetDict({{"train": rows.select_columns(["input_ids", "labels", "attention_mask"])}}).save_to_disk("tokenized")
```

```yaml
tokenized_path: tokenized
dataset: tokens
```

Checked with trl 1.16.0 and transformers 5.23.0 (two steps), LLaMA-Factory 0.9.5 (two steps) and axolotl 0.19.0 (`axolotl
preprocess`, whose labels were the same).
"""
