"""Texts of the base model's training for `skillfactory sft --replay`, so that fine-tuning on traces forgets less.

They are far records and copies for the most part. Single attempts at Countdown stand only where a style was asked for: a plain
question with a plain attempt would teach not to think. At the other tasks they stand for plain questions: without them,
traces of Countdown alone leave the model half thinking about words (acronym fell from 70 % to 23 %, docs/LOG.md).
"""

import json
from dataclasses import dataclass
from pathlib import Path

from skillfactory.errors import ConfigError
from skillfactory.mini.texts import Text, Writer
from skillfactory.mini.tokens import END
from skillfactory.rundir import write_text
from skillfactory.seeds import rng

FAR, COPY, OTHER = 0.45, 0.1, 0.15  # shares; the rest are attempts in a style, reviews, junk and arithmetic
ROOM = 600  # tokens of a text at most


@dataclass(frozen=True, slots=True)
class Row:
    """A raw text in two parts; the second is what bears the loss, and no end token is in it."""

    prompt: str
    completion: str


def row_of(text: Text) -> Row:
    """A text cut where its main part begins."""
    first = next(i for i, piece in enumerate(text.pieces) if piece.weight == 1.0)
    before, after = (("".join(piece.text for piece in part)) for part in (text.pieces[:first], text.pieces[first:]))
    return Row(before, after.removesuffix(f"{END}\n"))


def replay(output: Path, rows: int, seed: int) -> int:
    """Writes `rows` texts as JSON lines with `prompt` and `completion`; gives their number back."""
    if output.suffix != ".jsonl":
        raise ConfigError(f"{output}: replay texts are JSON lines; give a name that ends in .jsonl")
    writer = Writer(ROOM)
    lines = []
    for i in range(rows):
        random = rng(seed, "replay", i)
        kind = random.random()
        if kind < FAR:
            text = writer.far(random)
        elif kind < FAR + COPY:
            text = writer.copy(random)
        elif kind < FAR + COPY + OTHER:
            text = writer.styled(random, plain=1.0, other=1.0)
        else:
            text = random.choice((writer.styled, writer.styled, writer.review, writer.review, writer.junk, writer.arithmetic))(
                random
            )
        made = row_of(text)
        lines.append(json.dumps({"prompt": made.prompt, "completion": made.completion}))
    output.parent.mkdir(parents=True, exist_ok=True)
    write_text(output, "\n".join(lines) + "\n")
    return rows
