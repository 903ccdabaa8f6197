"""Picked responses with their texts, their questions, and each of their attempts graded; traces to be read, by layout."""

import heapq
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from skillfactory.errors import SkillFactoryError
from skillfactory.evaluation import stored_groups
from skillfactory.gathering.picks import EACH, SORTS, Pick, Picked, rows_of
from skillfactory.markup import final_answer, parse
from skillfactory.records import Check, Kind, Question, Stop
from skillfactory.report import Example, Selection
from skillfactory.seeds import derive
from skillfactory.tasks import resolve
from skillfactory.tasks.base import Task

_GRADED = 64  # attempts of a response
_BATCH = 64  # rows that are in memory at a time, with their texts
_TEXTS = ("id", "question_id", "group", "text", "check", "stop", "tokens", "blocks")
_ASKED = ("group", "id", "task", "level", "prompt", "answer", "facts")
_TRACES = ("trace_id", "layout", "gold", "tokens", "answer", "conversations", "segments")
Row = dict[str, Any]


def selections(found: Picked, whose: str, runs: Mapping[int, tuple[Path, int | None]]) -> Iterator[Selection]:
    """The classes of an arm's responses that have any, with their picks; `runs`: place → folder and seed."""
    picks = {pick: None for several in found.picks.values() for pick in several}
    examples: dict[Pick, Example] = {}
    for run, (folder, seed) in runs.items():
        grader = _Grader(folder)
        for part in dict.fromkeys(pick.part for pick in picks if pick.run == run):
            wanted = {pick.row: pick for pick in picks if (pick.run, pick.part) == (run, part)}
            rows = dict(_rows_at(part, _TEXTS, set(wanted)))
            asked = _questions(folder, part.name, {(row["group"], row["question_id"]) for row in rows.values()})
            for place, row in rows.items():
                question = asked.get((row["group"], row["question_id"]))
                examples[wanted[place]] = _example(row, question, grader, seed)
    for sort in SORTS:
        if found.found.get(sort.title):
            shown = tuple(examples[pick] for pick in found.picks[sort.title])
            yield Selection(whose, sort.title, found.found[sort.title], found.total, shown, sort.about)


def _rows_at(part: Path, columns: Sequence[str], places: set[int]) -> Iterator[tuple[int, Row]]:
    """The rows of a file at some places."""
    start = 0
    with pq.ParquetFile(part) as file:
        held = [name for name in columns if name in file.schema_arrow.names]
        for batch in file.iter_batches(_BATCH, columns=held):
            for place in range(start, start + batch.num_rows):
                if place in places:
                    yield place, batch.slice(place - start, 1).to_pylist()[0]
            start += batch.num_rows


def _questions(folder: Path, part: str, wanted: set[tuple[str, str]]) -> dict[tuple[str, str], Question]:
    """The questions of a part by group and id: they stand in the file of the same name."""
    path = folder / "questions" / part
    rows = pq.read_table(path, columns=list(_ASKED)).to_pylist() if path.is_file() else []
    return {(row["group"], row["id"]): _question(row) for row in rows if (row["group"], row["id"]) in wanted}


def _question(row: Mapping[str, Any]) -> Question:
    fields = {name: row[name] for name in ("id", "task", "level", "prompt", "answer")}
    return Question(**fields, facts=json.loads(row["facts"] or "{}"))


@dataclass(slots=True)
class _Grader:
    """The verifiers of an evaluation's groups; none where the task can't be had here, so that nothing counts as checked."""

    folder: Path
    tasks: dict[str, Task | None] = field(default_factory=dict)

    def check(self, group: str, question: Question, answer: str) -> bool | None:
        """Whether an answer is right; None where nobody can tell."""
        if group not in self.tasks:
            self.tasks[group] = self._task(group)
        task = self.tasks[group]
        return None if task is None else _known(task.check(question, answer).check)

    def _task(self, group: str) -> Task | None:
        try:
            about = next((each for each in stored_groups(self.folder) if each.name == group), None)
            return None if about is None else resolve(about.task, about.option)
        except SkillFactoryError:
            return None


def _example(row: Row, question: Question | None, grader: _Grader, seed: int | None) -> Example:
    skills = tuple(name for name, _ in row.get("blocks") or ())  # all that were looked for, found or not
    answers = list(_answers(row["text"], skills))
    graded: dict[str, bool | None] = {}
    if question is not None:
        there = (answer for answer in dict.fromkeys(answers) if answer is not None)
        graded = {answer: grader.check(row["group"], question, answer) for answer in there}
    return Example(
        question=question.prompt if question else "",
        gold=question.answer if question else "",
        response=row["text"],
        right=_known(Check(row["check"])),
        attempts=tuple(None if answer is None else graded.get(answer) for answer in answers),
        group=row["group"],
        seed=seed,
        tokens=row.get("tokens"),
        cut=row["stop"] == Stop.LENGTH,
        name=row["id"],
        skills=skills,
    )


def _answers(text: str, skills: tuple[str, ...]) -> Iterator[str | None]:
    """The answer of each attempt block, None where it has none, as in one that was cut off."""
    blocks = [part for part in parse(text, skills).parts if part.kind is Kind.ATTEMPT]
    for part in blocks[:_GRADED]:
        yield final_answer(text[part.start : part.end])[0]


def _known(check: Check) -> bool | None:
    return None if check is Check.UNDECIDED else check is Check.RIGHT


def traces(folders: Sequence[Path], whose: str, each: int = EACH) -> Iterator[Selection]:
    """The layouts of some folders of traces, with a few traces of each, picked by their ids."""
    counts: dict[str, int] = {}
    heaps: dict[str, list[tuple[int, Path, int]]] = {}
    for run, folder in enumerate(folders):
        for part in sorted((folder / "traces").glob("*.parquet")):
            for place, row in enumerate(rows_of(part, ("trace_id", "layout"))):
                counts[row["layout"]] = counts.get(row["layout"], 0) + 1
                heap = heaps.setdefault(row["layout"], [])
                keep: Callable[..., object] = heapq.heappush if len(heap) < each else heapq.heappushpop
                keep(heap, (-derive(run, "pick", row["trace_id"]), part, place))
    for layout, number in counts.items():
        wanted = sorted(heaps[layout], reverse=True)
        rows = {
            (part, place): row
            for part in dict.fromkeys(part for _, part, _ in wanted)
            for place, row in _rows_at(part, _TRACES, {place for _, own, place in wanted if own == part})
        }
        examples = tuple(_trace(rows[part, place]) for _, part, place in wanted)
        yield Selection(whose, layout, number, sum(counts.values()), examples, "Traces of this layout.")


def _trace(row: Row) -> Example:
    turns = {turn["role"]: turn["content"] for turn in row["conversations"]}
    attempts = [segment["right"] for segment in row["segments"] if segment["kind"] == Kind.ATTEMPT]
    return Example(
        question=turns.get("user", ""),
        gold=row["gold"] or "",
        response=turns.get("assistant", ""),
        right=None,
        attempts=tuple(attempts),
        group=row["layout"],
        tokens=row["tokens"],
        name=row["trace_id"],
        skills=tuple(dict.fromkeys(segment["skill"] for segment in row["segments"] if segment.get("skill"))),
    )
