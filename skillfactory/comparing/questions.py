"""Which questions make a difference: those won and lost by the most, and all of them as a table."""

import heapq
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.comparing.pairs import CLOSE, Questions, Results
from skillfactory.gathering.questions import MEASURES
from skillfactory.gathering.scores import Asked, Row
from skillfactory.places import replacing
from skillfactory.seeds import derive

_AT_ONCE = 1024
_NUMBERS = {f"{measure}{whose}": pa.float64() for measure in MEASURES for whose in ("", "_baseline")}
SCHEMA = pa.schema(
    {
        **dict.fromkeys(("arm", "baseline", "group", "level", "question_id", "prompt", "answer"), pa.string()),
        "difference": pa.float64(),
        **_NUMBERS,
    }
)
Versus = Sequence[tuple[Results, Results, tuple[int, ...]]]  # an arm, its baseline, the seeds that belong together


@dataclass(frozen=True, slots=True)
class Question:
    """A question on which an arm and its baseline differ."""

    arm: str
    baseline: str
    group: str
    id: str
    prompt: str
    right: float  # mean over responses and seeds, of the arm
    right_baseline: float

    @property
    def difference(self) -> float:
        """The arm's minus the baseline's."""
        return self.right - self.right_baseline


def extremes(versus: Versus, asked: Questions, rows: Sequence[Row], most: int) -> list[Question]:
    """For each pair, `most` questions that the arm won by the most, and `most` that it lost by the most, in this order."""
    picked: list[tuple[str, str, Asked, str, float, float]] = []
    for one, other, seeds in versus:
        for sign in (1, -1):
            met = (each for each in _met(one, other, seeds, asked) if sign * (each[2] - each[3]) > CLOSE)
            picked += ((one.arm, other.arm, *each) for each in heapq.nsmallest(most, met, key=lambda each: _rank(*each)))
    wanted = {(group, question) for _, _, group, question, _, _ in picked}
    texts = {place: row["prompt"] for place, row in _texts(rows, asked) if place in wanted}
    return [
        Question(arm, baseline, group.name, question, texts.get((group, question)) or "", right, base)
        for arm, baseline, group, question, right, base in picked
    ]


def write(path: Path, versus: Versus, asked: Questions, rows: Sequence[Row]) -> int:
    """Writes a row for each pair and question, questions in the order of the runs, and gives their number."""
    numbers = [(one.arm, other.arm, _columns(one, other, seeds, asked)) for one, other, seeds in versus]
    places = {group: {question: place for place, question in enumerate(ids)} for group, ids in asked.ids.items()}
    made = (
        {"arm": arm, "baseline": baseline, "group": group.name, "question_id": question, **_told(about), **told}
        for (group, question), about in _texts(rows, asked)
        for arm, baseline, tables in numbers
        if group in tables
        for told in (_row(tables[group], places[group][question]),)
    )
    count = 0
    with replacing(path) as file, pq.ParquetWriter(file, SCHEMA, compression="zstd") as writer:
        while batch := list(islice(made, _AT_ONCE)):
            writer.write_table(pa.Table.from_pylist(batch, SCHEMA))
            count += len(batch)
    return count


def _met(one: Results, other: Results, seeds: tuple[int, ...], asked: Questions) -> Iterator[tuple[Asked, str, float, float]]:
    """The questions that both arms met, with the mean of each."""
    for group, table in _columns(one, other, seeds, asked).items():
        for question, right, base in zip(asked.ids[group], table["right"], table["right_baseline"], strict=True):
            yield group, question, float(right), float(base)


def _rank(group: Asked, question: str, right: float, base: float) -> tuple[float, int]:
    """The larger the difference the earlier; among equal ones by chance, so that no group has all places."""
    return -round(abs(right - base), 9), derive(0, "compare", group.name, question)


def _columns(one: Results, other: Results, seeds: tuple[int, ...], asked: Questions) -> dict[Asked, dict[str, Any]]:
    """For each group of both, the means over seeds by question, of each measure and arm."""
    found: dict[Asked, dict[str, Any]] = {}
    for group in asked.ids:
        table = {}
        for measure in MEASURES:
            for whose, arm in (("", one), ("_baseline", other)):
                means = arm.of([group], measure, seeds or None)
                table[measure + whose] = None if means is None else means[0].mean(0)
        if table["right"] is not None and table["right_baseline"] is not None:
            found[group] = table
    return found


def _row(table: Mapping[str, Any], place: int) -> dict[str, float | None]:
    numbers = {name: None if means is None else float(means[place]) for name, means in table.items()}
    return {"difference": table["right"][place] - table["right_baseline"][place], **numbers}


def _told(about: Mapping[str, Any]) -> dict[str, Any]:
    return {name: about[name] for name in ("level", "prompt", "answer")}


def _texts(rows: Sequence[Row], asked: Questions) -> Iterator[tuple[tuple[Asked, str], Mapping[str, Any]]]:
    """Each question that is compared, once, with its row of the first run that was asked its group."""
    left = {group: set(ids) for group, ids in asked.ids.items()}
    for run in {judged.output: judged for row in rows for judged in row.seeds.values()}.values():
        groups = {group.name: group for group in run.asked if left.get(group)}
        for row in _questions(run.output) if groups else ():
            group = groups.get(row["group"])
            if group is not None and row["id"] in left[group]:
                left[group].remove(row["id"])
                yield (group, row["id"]), row


def _questions(run: Path) -> Iterator[Mapping[str, Any]]:
    for part in sorted((run / "questions").glob("*.parquet")):
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(_AT_ONCE, columns=["group", "id", "level", "prompt", "answer"]):
                yield from batch.to_pylist()
