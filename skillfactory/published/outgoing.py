"""An evaluation → Parquet in the published schema: a row for every question, with all of its responses."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.config import dump
from skillfactory.errors import InputError
from skillfactory.evaluation import stored_groups
from skillfactory.places import replacing
from skillfactory.progress import Progress
from skillfactory.prompts import Variant
from skillfactory.published import (
    COLUMNS,
    CORRECT,
    EXTRACTED,
    INNER_CORRECT,
    INNER_EXTRACTED,
    METADATA,
    OTHERS,
    OURS,
    RESPONSES,
)
from skillfactory.records import Check, Question
from skillfactory.skills.shown import MAX_ATTEMPTS
from skillfactory.suites import Group
from skillfactory.tasks import resolve
from skillfactory.tasks.base import Task
from skillfactory.tasks.judging import Judging

TURN = pa.struct({"content": pa.string(), "role": pa.string()})
KINDS: Mapping[str, pa.DataType] = {
    "prompt": pa.list_(TURN),
    RESPONSES: pa.list_(pa.string()),
    CORRECT: pa.list_(pa.bool_()),
    EXTRACTED: pa.list_(pa.string()),
    INNER_CORRECT: pa.list_(pa.list_(pa.bool_())),
    INNER_EXTRACTED: pa.list_(pa.list_(pa.string())),
}
SAMPLE = ("sample", "check", "reason", "stop", "tokens", "prompt_tokens", "requests")  # what the schema has no column for
Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Exported:
    """What was written."""

    output: Path
    questions: int
    responses: int

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        return {"output": str(self.output), "questions": self.questions, "responses": self.responses}

    def __str__(self) -> str:
        return f"{self.output}: {self.questions:,} questions with {self.responses:,} responses in the published schema"


def export(run: Path, output: Path, progress: Progress) -> Exported:
    """Writes the evaluation in `run` to one Parquet file, block by block; questions without a response are left out."""
    groups = stored_groups(run)
    state = json.loads((run / "run.json").read_text("utf-8"))
    if not state["finished"]:
        raise InputError(f"{run}: the evaluation isn't finished; `skillfactory evaluate` with its options goes on with it")
    variant = Variant(**state["settings"]["variant"]) if state["settings"].get("variant") else None
    about = {name: state["settings"].get(name) for name in ("decoding", "retry", "seed")}
    about |= {"model": state["model"], "groups": [dump(group) for group in groups]}
    schema = pa.schema([(name, KINDS.get(name, pa.string())) for name in COLUMNS], {OURS: json.dumps(about)})
    tasks = _Tasks(groups, variant)
    questions = responses = 0
    progress.begin("published", "questions", state["flows"])
    output.parent.mkdir(parents=True, exist_ok=True)
    with replacing(output) as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for rows in _blocks(run, tasks):
            if rows:
                writer.write_table(pa.Table.from_pylist(rows, schema))
            questions += len(rows)
            responses += sum(len(row[RESPONSES]) for row in rows)
            progress.advance(len(rows))
    return Exported(output, questions, responses)


class _Tasks:
    """The tasks of the groups, each resolved once, where it is needed, and how they were asked."""

    def __init__(self, groups: Sequence[Group], variant: Variant | None) -> None:
        self._groups, self._variant = {group.name: group for group in groups}, variant
        self._made: dict[str, Task] = {}

    def of(self, group: str) -> Task:
        """The task of a group."""
        if group not in self._made:
            self._made[group] = resolve(self._groups[group].task, self._groups[group].option)
        return self._made[group]

    def prompt(self, group: str, question: Question) -> list[dict[str, str]]:
        """The turns that asked a question."""
        if self._variant is None:
            return [{"role": "user", "content": question.prompt}]
        messages = self._variant.messages(question, self.of(group).answer_format)
        return [{"role": role, "content": text} for role, text in messages]


def _blocks(run: Path, tasks: _Tasks) -> Iterator[list[Row]]:
    """The published rows of each block of a run; a part of the responses holds the questions of the part of the same name."""
    for part in sorted((run / "questions").glob("*.parquet")):
        asked = {(row["group"], row["id"]): row for row in pq.read_table(part).to_pylist()}
        said = pq.read_table(run / "responses" / part.name).to_pylist()
        yield [
            _row(asked[place], list(responses), tasks)
            for place, responses in groupby(said, key=itemgetter("group", "question_id"))
        ]


def _row(asked: Mapping[str, Any], said: Sequence[Mapping[str, Any]], tasks: _Tasks) -> Row:
    group, facts = asked["group"], json.loads(asked["facts"])
    row: Row = {
        "question": asked["prompt"],
        "answer": asked["answer"],
        RESPONSES: [response["text"] for response in said],
        CORRECT: [response["check"] == Check.RIGHT for response in said],
        EXTRACTED: [response["answer"] for response in said],
    }
    if "published" in facts:  # it was imported: what else its row said was kept as it stood
        return {**row, **facts["published"]}
    question = Question(**{name: asked[name] for name in ("id", "task", "level", "prompt", "answer")}, facts=facts)
    answers = [list(_answers(response["text"])) for response in said]
    grades = _grades(tasks.of(group), question, answers)
    others = {"id": question.id, "task": question.task, "level": question.level, "facts": facts}
    return row | {
        "task": group,
        "prompt": tasks.prompt(group, question),
        INNER_EXTRACTED: answers,
        INNER_CORRECT: [[grades.get(answer) is Check.RIGHT for answer in each] for each in answers],
        OTHERS: _json(others),
        METADATA: _json({OURS: {"samples": [_sample(response) for response in said]}}),
    }


def _sample(response: Mapping[str, Any]) -> dict[str, Any]:
    """What the schema has no column for; tags that aren't the model's are those of a retry outside of it."""
    return {name: response[name] for name in SAMPLE} | ({"retried": True} if response["uses_tags"] is None else {})


def _grades(task: Task, question: Question, answers: Sequence[Sequence[str]]) -> dict[str, Check]:
    """What the verifier finds of each different answer; of a response with very many, the first ones."""
    judge = Judging(partial(task.check, question))
    return {answer: judge.attempt(answer).check for each in answers for answer in [*dict.fromkeys(each)][:MAX_ATTEMPTS]}


def _answers(text: str) -> Iterator[str]:
    """Every answer of a response in order, the final one among them; time is linear in its length."""
    opening, closing = "<answer>", "</answer>"
    begin = text.find(opening)
    while begin >= 0:
        end = text.find(closing, begin)
        if end < 0:
            return
        yield text[text.rfind(opening, begin, end) + len(opening) : end].strip()
        begin = text.find(opening, end)


def _json(values: Any) -> str:
    return json.dumps(values, ensure_ascii=False, sort_keys=True)
