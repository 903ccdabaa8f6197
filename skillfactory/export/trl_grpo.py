"""Questions and a script for reinforcement with TRL's GRPOTrainer, with the paper's settings (method section 3)."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory import __version__
from skillfactory.export.card import code
from skillfactory.export.questions import Asks
from skillfactory.export.target import ExportConfig, Written, model_from
from skillfactory.progress import Progress
from skillfactory.reward import truth
from skillfactory.supply import Asked

SCRIPT = Path(__file__).with_name("trl_grpo_script.py")
_TURN = pa.struct([("role", pa.string()), ("content", pa.string())])
SCHEMA = pa.schema([("prompt", pa.list_(_TURN)), ("truth", pa.string()), ("question_id", pa.string()), ("task", pa.string())])
"""What GRPOTrainer reads: it hands the columns beside `prompt` to the reward, which needs `truth`."""
_ROWS = 1024  # in a row group


def export(asks: Asks, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/` with the splits train and validation, `grpo.py` and a README."""
    asked = asks.training.asked
    (folder / "data").mkdir()
    progress.begin("export", "questions", len(asked) + len(asks.validation))
    splits = {"train": asked, "validation": asks.validation}
    for split, some in splits.items():
        if some:
            _write(folder / "data" / f"{split}-00000-of-00001.parquet", some, progress)
    (folder / "grpo.py").write_text(SCRIPT.read_text("utf-8"), "utf-8")
    said = {"model": model_from(config), "max_length": config.context, "seed": config.wanted.seed}
    (folder / "export.json").write_text(json.dumps(said), "utf-8")
    (folder / "README.md").write_text(_readme(asks, config), "utf-8")
    missed = len(asks.validation) < config.wanted.validation
    notes = [f"{len(asks.validation):,} held-out questions were found, not {config.wanted.validation:,}"] if missed else []
    return Written(len(asked), notes=tuple(notes))


def _write(path: Path, asked: Sequence[Asked], progress: Progress) -> None:
    with pq.ParquetWriter(path, SCHEMA, compression="zstd") as file:
        for start in range(0, len(asked), _ROWS):
            rows = [
                {
                    "prompt": [{"role": "user", "content": one.question.prompt}],
                    "truth": truth(one),
                    "question_id": one.question.id,
                    "task": one.source.label,
                }
                for one in asked[start : start + _ROWS]
            ]
            file.write_table(pa.Table.from_pylist(rows, schema=SCHEMA))
            progress.advance(len(rows))


def _readme(asks: Asks, config: ExportConfig) -> str:
    names = ("train", "validation") if asks.validation else ("train",)
    files = "".join(f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in names)
    return f"""\
---
configs:
- config_name: default
  data_files:
{files}---

# Questions for reinforcement with TRL

{len(asks.training.asked):,} questions to train on and {len(asks.validation):,} held-out ones. In this folder:

```sh
pip install 'trl>=1.16' datasets
pip install CLONE       # a clone of skillfactory {__version__}: the reward is its check of the final answer
python grpo.py --model ../model-after-sft --output model
```

`grpo.py` trains with GRPO and the paper's settings: 256 questions a batch with 16 responses each, steps of 32 questions,
learning rate 1e-6, no KL term, 150 batches, responses of up to {config.context:,} tokens. The reward is 1 for a response whose
final answer the task's own check finds right, else 0. `--model` is the model that was fine-tuned on the traces; without it,
{code(model_from(config))}. `python grpo.py --help` shows the options.

- `--per-device` is how many responses go through the model together: what the GPU's memory holds. On several GPUs:
  `accelerate launch grpo.py …`. `--use-vllm` generates with vLLM on the same GPUs (`pip install 'trl[vllm]'`).
- For a model without a chat template: `--chat-template FILE --eos-token '<|im_end|>'`, as with the target `trl`.
- On a CPU, and for a first try: `--prompts 4 --mini-batch 2 --samples 4 --per-device 4 --max-response 64 --max-steps 2`.

Checked with trl 1.16.0, transformers 5.23.0 and datasets 5.2.0 on a CPU; not with vLLM, and not on GPUs.
"""
