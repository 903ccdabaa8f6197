"""Plain chat rows, {"messages": [{"role", "content"}, …]}, which most trainers read."""

from pathlib import Path

from skillfactory.export.parts import Shape, card, check_lengths, dropped, length_note, write_parts
from skillfactory.export.target import ExportConfig, Written
from skillfactory.progress import Progress
from skillfactory.tracefiles import TraceFiles

PROVENANCE = (
    "trace_id",
    "question_id",
    "layout",
    "seed",
    "answer",
    "gold",
    "attempt_ids",
    "tokens",
    "sft_template_type_idx",
    "segments",
)


def export(source: TraceFiles, folder: Path, config: ExportConfig, progress: Progress) -> Written:
    """Writes `data/train-*` in Parquet or JSONL, with the columns of provenance if wanted, and a card."""
    lengths = check_lengths(source, config.max_length, config.drop_long, "a trainer")
    extra = PROVENANCE if config.provenance else ()
    written = write_parts(source, folder / "data", Shape("messages", extra, config.format, config.max_length), progress)
    rest = f"; beside them {', '.join(f'`{name}`' for name in extra)}" if extra else ""
    body = (
        f"# Silver traces as chat messages\n\n{written:,} rows. `messages` holds a user and an assistant turn{rest}.\n\n"
        "```python\nfrom datasets import load_dataset\n\n"
        'rows = load_dataset("PATH_OF_THIS_FOLDER", split="train")\n```\n\n'
        "Read back with datasets 5.2.0 and pandas 3.1.1. The user turn is context: train on the assistant turn alone.\n"
    )
    (folder / "README.md").write_text(card(body, f"data/train-*.{config.format}"), "utf-8")
    return Written(written, dropped(source, written), length_note(lengths, config.max_length))
