"""The responses of evaluations in one pass: how many belong to each notable class, a few of each, and all lengths.

Memory holds the picks and a number for each length, whatever the number of responses. Texts are not read here.
"""

import heapq
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from skillfactory.records import Check, Stop
from skillfactory.report import Lengths
from skillfactory.seeds import derive

EACH = 10  # picks of a class
_BINS = 4  # of lengths to a doubling
Row = Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Sort:
    """A class of responses that is worth a look: the columns that tell, and how."""

    title: str
    about: str
    columns: tuple[str, ...]
    holds: Callable[[Row], bool]


def _wrong(row: Row) -> bool:
    return bool(row["check"] == Check.WRONG)


def _right(row: Row) -> bool:
    return bool(row["check"] == Check.RIGHT)


# In the order in which readers want them. A class whose columns a run lacks is left out for it.
SORTS = (
    Sort(
        "Right after a retry",
        "The first answer is wrong, the final one right.",
        ("check", "first_right", "attempts"),
        lambda row: _right(row) and not row["first_right"] and row["attempts"] > 1,
    ),
    Sort(
        "Right, then wrong",
        "An answer within the response is right, the final one is not.",
        ("check", "any_right"),
        lambda row: bool(row["any_right"]) and not _right(row),
    ),
    Sort(
        "Stopped at a false Correct",
        "A reflection calls a wrong answer correct, no attempt follows, and the final answer is wrong.",
        ("check", "stopped", "false_correct"),
        lambda row: _wrong(row) and bool(row["stopped"]) and row["false_correct"] > 0,
    ),
    Sort(
        "A right answer called incorrect",
        "A reflection rejects a right answer.",
        ("false_incorrect",),
        lambda row: row["false_incorrect"] > 0,
    ),
    Sort("Cut off", "The token limit ended the response.", ("stop",), lambda row: bool(row["stop"] == Stop.LENGTH)),
    Sort("Loops", "A stretch stands again and again, with nothing between.", ("looped",), lambda row: (row["looped"] or 0) > 0),
    Sort(
        "The same answer again",
        "An attempt gives an earlier one's answer.",
        ("repeats",),
        lambda row: (row["repeats"] or 0) > 0,
    ),
    Sort(
        "Malformed",
        "The response uses the tags, ended by itself, and breaks the format.",
        ("stop", "uses_tags", "well_formed"),
        lambda row: bool(row["uses_tags"]) and row["well_formed"] is False and row["stop"] == Stop.END,
    ),
    Sort(
        "No final answer",
        "The response ended by itself without an answer.",
        ("check", "stop"),
        lambda row: bool(row["check"] == Check.MISSING and row["stop"] == Stop.END),
    ),
    Sort("Undecided", "The verifier could not tell.", ("check",), lambda row: bool(row["check"] == Check.UNDECIDED)),
    Sort(
        "Right at the first try",
        "The first answer is right, and so is the final one.",
        ("check", "first_right"),
        lambda row: _right(row) and bool(row["first_right"]),
    ),
    Sort(
        "Wrong throughout",
        "The final answer is wrong, and so is every answer before it.",
        ("check", "any_right"),
        lambda row: _wrong(row) and not row["any_right"],
    ),
)
_ALWAYS = ("id", "check", "tokens")


@dataclass(order=True, frozen=True, slots=True)
class Pick:
    """A response that was picked: those of the lowest rank are, and the rank hangs on its id and seed alone."""

    rank: int
    run: int  # place of its run among those of the arm
    part: Path  # the file that holds it
    row: int  # its place there


@dataclass(slots=True)
class Picked:
    """What was found in the responses of some runs."""

    total: int = 0
    found: dict[str, int] = field(default_factory=dict)  # title of a class → responses
    picks: dict[str, list[Pick]] = field(default_factory=dict)  # in the order in which they are to be shown
    bins: dict[bool, dict[int, int]] = field(default_factory=lambda: {True: {}, False: {}})  # right → bin → responses

    def lengths(self, arm: str) -> Lengths:
        """The lengths of all responses."""
        most = max((bin_ for bins in self.bins.values() for bin_ in bins), default=0)
        edges = tuple(0.0 if bin_ == 0 else 2 ** (bin_ / _BINS) for bin_ in range(most + 2))
        right, wrong = (tuple(self.bins[side].get(bin_, 0) for bin_ in range(most + 1)) for side in (True, False))
        return Lengths(arm, edges, right, wrong)


def picked(folders: Mapping[int, Path], each: int = EACH) -> Picked:
    """The classes and lengths of the responses of one arm's evaluations; `folders`: place among its runs → folder."""
    found = Picked()
    heaps: dict[str, list[tuple[int, Pick]]] = {}
    for run, folder in folders.items():
        for part in sorted((folder / "responses").glob("*.parquet")):
            names = set(pq.read_schema(part).names)
            sorts = [sort for sort in SORTS if names.issuperset(sort.columns)]
            columns = sorted({*_ALWAYS, *(name for sort in sorts for name in sort.columns)} & names)
            for place, row in enumerate(rows_of(part, columns)):
                _take(found, heaps, sorts, row, Pick(derive(run, "pick", row["id"]), run, part, place), each)
    found.picks = {title: sorted(pick for _, pick in heap) for title, heap in heaps.items()}
    return found


def rows_of(part: Path, columns: Sequence[str]) -> Iterator[Row]:
    """The rows of a file, some columns of them."""
    with pq.ParquetFile(part) as file:
        for batch in file.iter_batches(1024, columns=list(columns)):
            yield from batch.to_pylist()


def _take(found: Picked, heaps: dict[str, list[tuple[int, Pick]]], sorts: list[Sort], row: Row, pick: Pick, each: int) -> None:
    """Counts a response in its classes, and keeps it where its rank is among the lowest."""
    found.total += 1
    if row.get("tokens") is not None:
        bins = found.bins[_right(row)]
        bin_ = int(_BINS * log2(row["tokens"])) if row["tokens"] > 0 else 0
        bins[bin_] = bins.get(bin_, 0) + 1
    for sort in sorts:
        if not sort.holds(row):
            continue
        found.found[sort.title] = found.found.get(sort.title, 0) + 1
        heap = heaps.setdefault(sort.title, [])
        if len(heap) < each:
            heapq.heappush(heap, (-pick.rank, pick))
        elif -heap[0][0] > pick.rank:
            heapq.heapreplace(heap, (-pick.rank, pick))
