"""The rows of a training with the order in which they come, and the account of what was left out."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from skillfactory.encoding import Encoder, Example, Row
from skillfactory.errors import InputError
from skillfactory.funnel import Funnel
from skillfactory.progress import Progress
from skillfactory.seeds import rng
from skillfactory.train.examples import Replay, read
from skillfactory.train.order import order

if TYPE_CHECKING:
    from skillfactory.train.sft import SftConfig

_AT_ONCE = 256  # examples tokenised together


@dataclass(frozen=True, slots=True)
class Material:
    """Rows to learn from, their order, and their account."""

    rows: Sequence[Row]
    order: Sequence[int]  # places in `rows`, of all epochs
    funnel: Funnel

    @property
    def share(self) -> float:
        """The share of the rows' tokens that bear loss."""
        return sum(row.trained for row in self.rows) / sum(len(row.ids) for row in self.rows)


def gather(config: "SftConfig", encoder: Encoder, progress: Progress) -> Material:
    """The rows of all inputs and of the replay that goes with them.

    InputError if none is left of the inputs, or if all or no tokens would be trained on.
    """
    left: Counter[str] = Counter()
    examples: list[Example] = []
    for path in config.inputs:
        found = read(path, config.mask, config.per_question, config.seed)
        examples += found.examples
        left += found.left
    rounds = math.ceil(config.optimisation.epochs)
    drawn = [Replay.read(text).draw(len(examples), rounds, config.seed) for text in config.replay]
    texts = list({text.id: text for each in drawn for part in each for text in part}.values())
    every = [*examples, *texts]
    progress.begin("tokenise", "rows", len(every))
    rows, places = _encoded(every, encoder, left, progress)
    progress.end()
    funnel = Funnel("sft", "rows", len(rows) + left.total(), len(rows), left)
    own = [place for place in places[: len(examples)] if place is not None]
    if not own:
        raise InputError(f"no row is left to learn from: {funnel}; the context is {encoder.limit:,} tokens")
    at = dict(zip((text.id for text in texts), places[len(examples) :], strict=True))
    replayed = [[at[text.id] for each in drawn for text in each[n]] for n in range(rounds)]
    epochs = [own + [place for place in part if place is not None] for part in replayed]
    epochs[-1] = _part(epochs[-1], config.optimisation.epochs - (rounds - 1), config.seed)
    material = Material(
        rows, order([len(row.ids) for row in rows], epochs, config.optimisation.batch_size, config.seed), funnel
    )
    if not 0 < material.share < 1:
        raise InputError(f"{material.share:.0%} of the tokens would be trained on, expected a part of them: look at the inputs")
    return material


def _encoded(
    examples: Sequence[Example], encoder: Encoder, left: Counter[str], progress: Progress
) -> tuple[list[Row], list[int | None]]:
    """The rows, and the place of each example's among them, None if it has none; `left` is told why."""
    rows: list[Row] = []
    places: list[int | None] = []
    for start in range(0, len(examples), _AT_ONCE):
        part = examples[start : start + _AT_ONCE]
        for row in encoder.rows(part):
            places.append(len(rows) if isinstance(row, Row) else None)
            if isinstance(row, Row):
                rows.append(row)
            else:
                left[row.value] += 1
        progress.advance(len(part), ", ".join(f"{reason} {count:,}" for reason, count in left.items()))
    return rows, places


def _part(rows: list[int], share: float, seed: int) -> list[int]:
    """A random `share` of the rows."""
    return rows if share >= 1 else rng(seed, "part of an epoch").sample(rows, max(1, round(share * len(rows))))
