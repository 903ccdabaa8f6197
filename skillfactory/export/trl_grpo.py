"""Questions and a script for reinforcement with TRL's GRPOTrainer, with the paper's settings (method section 3)."""

import json
from pathlib import Path
from typing import Any

import pyarrow as pa

from skillfactory import __version__
from skillfactory.export.card import code
from skillfactory.export.questions import Asks
from skillfactory.export.reinforcement import (
    TURNS,
    front,
    notes,
    turns,
    write_questions,
)
from skillfactory.export.target import ExportConfig, Written, model_from
from skillfactory.progress import Progress
from skillfactory.reward import truth
from skillfactory.supply import Asked

SCRIPT = Path(__file__).with_name("trl_grpo_script.py")
SCHEMA = pa.schema([("prompt", TURNS), ("truth", pa.string()), ("question_id", pa.string()), ("task", pa.string())])
"""What GRPOTrainer reads: it hands the columns beside `prompt` to the reward, which needs `truth`."""


def export(asks: Asks, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/` with the splits train and validation, `grpo.py` and a README."""
    write_questions(asks, folder, SCHEMA, _row, progress)
    (folder / "grpo.py").write_text(SCRIPT.read_text("utf-8"), "utf-8")
    said = {"model": model_from(config), "max_length": config.context, "seed": config.wanted.seed}
    (folder / "export.json").write_text(json.dumps(said), "utf-8")
    (folder / "README.md").write_text(_readme(asks, config), "utf-8")
    return Written(len(asks.training.asked), notes=tuple(notes(asks, config)))


def _row(asked: Asked, number: int, split: str) -> dict[str, Any]:
    return {"prompt": turns(asked), "truth": truth(asked), "question_id": asked.question.id, "task": asked.source.label}


def _readme(asks: Asks, config: ExportConfig) -> str:
    return f"""{front(asks)}
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
