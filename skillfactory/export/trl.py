"""A data set and a training script for TRL, with the paper's settings (method section 3)."""

import json
from pathlib import Path

from skillfactory.export.card import trains
from skillfactory.export.parts import Shape, card, check_lengths, dropped, length_note, write_parts
from skillfactory.export.target import ExportConfig, Written, model_from
from skillfactory.progress import Progress
from skillfactory.tracefiles import TraceFiles

SCRIPT = Path(__file__).with_name("trl_sft.py")
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message.role + '\\n' }}"
    "{% if message.role == 'assistant' %}{% generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message.content + '<|im_end|>' }}{% endif %}{{ '\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
"""A template for models that have none, or one that TRL can't mark: the loss is on what stands between the markers."""


def export(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/`, `sft.py`, `chatml.jinja` and a README; refuses traces that TRL would cut."""
    limit = config.context
    lengths = check_lengths(source, limit, config.drop_long, "TRL", config.model)
    written = write_parts(source, folder / "data", Shape("messages", limit=limit), progress)
    (folder / "sft.py").write_text(SCRIPT.read_text("utf-8"), "utf-8")
    (folder / "chatml.jinja").write_text(CHATML, "utf-8")
    (folder / "export.json").write_text(json.dumps({"model": model_from(config), "max_length": limit}), "utf-8")
    body = (
        f"# Silver traces for TRL\n\n{written:,} rows of `messages`. In this folder:\n\n"
        "```sh\npip install 'trl>=1.16' datasets\npython sft.py --output model\n```\n\n"
        "`sft.py` is full fine-tuning with the paper's settings and the loss on the assistant's tokens alone. It counts the "
        f"tokens of every row, leaves out rows over {limit:,} (TRL would cut them), and stops if the chat template loses a "
        "part of a trace or if a row would train on all of its tokens or on none. `python sft.py --help` shows its options. "
        "For a model without a template: `--chat-template chatml.jinja --eos-token '<|im_end|>'`, if it has the tokens "
        "`<|im_start|>` and `<|im_end|>`.\n\n"
        f"{trains(config, '`--model NAME`')}\n\n"
        "Checked with trl 1.16.0, transformers 5.23.0 and datasets 5.2.0.\n"
    )
    (folder / "README.md").write_text(card(body), "utf-8")
    return Written(written, dropped(source, written), length_note(lengths, limit))
