"""What every export for reinforcement has: the paper's batch, the files of questions, the head of their card, and notes."""

from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.export.questions import Asks
from skillfactory.export.target import ExportConfig
from skillfactory.progress import Progress
from skillfactory.supply import Asked

PROMPTS, MINI_BATCH, SAMPLES, STEPS, PROMPT_TOKENS = 256, 32, 16, 150, 512  # the paper's (method section 3)
TRAIN, VALIDATION = "data/train-00000-of-00001.parquet", "data/validation-00000-of-00001.parquet"
TURNS = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
Row = Callable[[Asked, int, str], dict[str, Any]]  # of a question, its number and its split
_ROWS = 1024  # in a row group


def write_questions(asks: Asks, folder: Path, schema: pa.Schema, row: Row, progress: Progress) -> None:
    """Writes the questions to TRAIN, and the held-out ones, where there are any, to VALIDATION."""
    (folder / "data").mkdir()
    progress.begin("export", "questions", len(asks.training.asked) + len(asks.validation))
    for name, split, asked in ((TRAIN, "rl", asks.training.asked), (VALIDATION, "validation", asks.validation)):
        if not asked:
            continue
        rows = (row(one, number, split) for number, one in enumerate(asked))
        with pq.ParquetWriter(folder / name, schema, compression="zstd") as file:
            while group := list(islice(rows, _ROWS)):
                file.write_table(pa.Table.from_pylist(group, schema=schema))
                progress.advance(len(group))


def turns(asked: Asked) -> list[dict[str, str]]:
    """The chat that puts a question: its prompt alone, as in the traces."""
    return [{"role": "user", "content": asked.question.prompt}]


def batch(questions: int) -> int:
    """Questions a step: the paper's, or, where there are fewer, the largest power of two that they fill."""
    return PROMPTS if questions >= PROMPTS else 1 << questions.bit_length() - 1


def notes(asks: Asks, config: ExportConfig) -> Iterator[str]:
    """What the user should know: fewer held-out questions than asked for."""
    if len(asks.validation) < config.wanted.validation:
        yield f"{len(asks.validation):,} held-out questions were found, not {config.wanted.validation:,}"


def batch_notes(asks: Asks) -> Iterator[str]:
    """What the user should know where a step takes `batch` questions: fewer than the paper's."""
    if (prompts := batch(len(asks.training.asked))) < PROMPTS:
        yield f"a step takes {prompts} questions, not the paper's {PROMPTS}: there are no more"


def front(asks: Asks) -> str:
    """The head of a card, which tells `datasets` where the splits are."""
    splits = ("train", "validation") if asks.validation else ("train",)
    files = "".join(f"  - split: {name}\n    path: data/{name}-*.parquet\n" for name in splits)
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n{files}---\n"
