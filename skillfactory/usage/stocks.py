"""Stored texts of any kind as one stream: responses, attempts, traces, and the rows of files."""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from skillfactory.errors import InputError
from skillfactory.evaluation import read_responses, stored_groups
from skillfactory.markup import final_answer, parse
from skillfactory.measure import COLUMNS, Row
from skillfactory.outputs import Output, What, outputs
from skillfactory.records import Check, Kind, Question
from skillfactory.rows import columns_of, read_batches
from skillfactory.skills import shown
from skillfactory.skills.base import Skill, resolved
from skillfactory.skills.usage import used
from skillfactory.tasks import resolve
from skillfactory.tasks.judging import Judging
from skillfactory.tracefiles import TraceFiles
from skillfactory.usage.options import SkillsConfig, Text

_COLUMNS = ("response", "text")  # of a file, where none is named
_TRACE = ("trace_id", "layout", "answer", "conversations", "segments")


@dataclass(frozen=True, slots=True)
class Stock:
    """Texts of one run or file, which can be read again and again."""

    label: str
    what: str
    texts: Callable[[], Iterator[Text]]


def stocks(config: SkillsConfig) -> list[Stock]:
    """The texts of each RUN; of a study those of its evaluations. InputError names what holds no texts."""
    found: list[Stock] = []
    own = resolved(config.skills)
    for argument in config.runs:
        label, path = _named(argument)
        if path.is_file():
            found.append(_file(label or path.stem, path, config, own))
            continue
        held = outputs([argument])
        whole = [output for output in held if output.study is None or output.what is What.EVALUATION]
        if not whole:
            raise InputError(f"{path}: this study has no finished evaluation yet; name the folder of one of its stages")
        found += [_folder(output, own) for output in whole]
    labels = [stock.label for stock in found]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice is not None:
        raise InputError(f"two runs are called '{twice}'; name them: LABEL=RUN")
    return found


def _named(argument: str) -> tuple[str, Path]:
    """The label of an argument, "" if it has none, and its path."""
    label, equals, path = argument.partition("=")
    return (label, Path(path)) if equals and not Path(argument).exists() else ("", Path(argument))


def _folder(output: Output, own: tuple[Skill, ...]) -> Stock:
    readers = {What.EVALUATION: _responses, What.CURATION: _attempts, What.TRACES: _traces}
    reader = readers.get(output.what)
    if reader is None:
        raise InputError(
            f"{output.path}: a folder of `skillfactory {output.what}`, which holds no texts to look at; "
            "expected one of evaluate, curate, build or run, or a file"
        )
    return Stock(output.label, output.what.value, lambda: reader(output.path, own))


def _responses(run: Path, own: tuple[Skill, ...]) -> Iterator[Text]:
    """The responses of an evaluation. Its own measures are used; those that an older one lacks are made from its texts."""
    judges: Callable[[str, str], Callable[[str], Check]] | None = None
    for row in read_responses(run, ("id", "text", *COLUMNS)):
        if row.get("course") is None or row.get("looped") is None:
            judges = judges or _judges(run)
            seen = shown(row["text"], judges(row["group"], row["question_id"]), own)
            row = {**row, "course": seen.course, "looped": seen.looped}
        if row.get("blocks") is None or any(skill.name not in dict(row["blocks"]) for skill in own):
            parts = parse(row["text"], tuple(skill.name for skill in own)).parts
            row = {**row, **used(row["text"], parts, own)._asdict()}
        yield Text(row["id"], row["group"], row["text"], row)


def _judges(run: Path) -> Callable[[str, str], Callable[[str], Check]]:
    """What gives the verifier's findings for a question of an evaluation, by group and id."""
    tasks = {group.name: resolve(group.task, group.option) for group in stored_groups(run)}
    facts: dict[tuple[str, str], str] = {}
    for part in sorted((run / "questions").glob("*.parquet")):
        for row in pq.read_table(part, columns=["group", "id", "facts"]).to_pylist():
            facts[row["group"], row["id"]] = row["facts"]

    def judge(group: str, id: str) -> Callable[[str], Check]:
        @cache
        def asked() -> Question:
            return tasks[group].question(json.loads(facts[group, id]))

        judging = Judging(lambda answer: tasks[group].check(asked(), answer))
        return lambda answer: judging.attempt(answer).check

    return judge


def _attempts(run: Path, own: tuple[Skill, ...]) -> Iterator[Text]:
    """The attempts of a curation, by the prompt variant that elicited them."""
    for part in sorted((run / "attempts").glob("*.parquet")):
        with pq.ParquetFile(part) as file:
            for batch in file.iter_batches(1024, columns=["id", "variant", "text", "check", "stop"]):
                for row in batch.to_pylist():
                    yield _alone(row["id"], row["variant"], row["text"], row["check"], row["stop"], own)


def _alone(id: str, group: str, text: str, check: str, stop: str, own: tuple[Skill, ...]) -> Text:
    """An attempt that stands alone: its check is that of its one answer."""
    seen = shown(text, lambda _: Check(check), own)
    return Text(id, group, text, {**_columns(seen), "check": check, "stop": stop, "tokens": None})


def _traces(directory: Path, own: tuple[Skill, ...]) -> Iterator[Text]:
    """Silver traces, by layout; what is right in them is known from the attempts that they were made of."""
    files = TraceFiles.open(directory, _TRACE)
    for part in files.parts:
        for batch in files.batches(part, _TRACE):
            for row in batch.to_pylist():
                yield _trace(row, own)


def _trace(row: Mapping[str, Any], own: tuple[Skill, ...]) -> Text:
    text = row["conversations"][-1]["content"]
    known: dict[str, Check] = {}
    for segment in row["segments"]:
        if segment["kind"] == Kind.ATTEMPT and segment["right"] is not None:
            answer = final_answer(text[segment["start"] : segment["end"]])[0]
            if answer is not None:
                known[answer] = Check.RIGHT if segment["right"] else Check.WRONG
    seen = shown(text, lambda answer: known.get(answer, Check.UNDECIDED), own)
    check = known.get(row["answer"].strip(), Check.UNDECIDED)
    columns = {**_columns(seen), "check": check.value, "stop": "end", "tokens": row.get("tokens")}
    return Text(row["trace_id"], row["layout"], text, columns)


def _file(label: str, path: Path, config: SkillsConfig, own: tuple[Skill, ...]) -> Stock:
    """The texts of a file; InputError names the column that is missing."""
    wanted = (config.column,) if config.column else _COLUMNS
    found = next((columns_of(batch) for batch in read_batches(path, (*wanted, config.labels))), [])
    column = next((name for name in wanted if name in found), None)
    for name, there in ((" or ".join(wanted), column), (config.labels, not config.labels or config.labels in found)):
        if not there:
            raise InputError(f"{path} has no column '{name}'; it has: {', '.join(found) or 'none'}")
    return Stock(label, "file", lambda: _lines(path, column or "", config.labels, own))


def _lines(path: Path, column: str, labels: str, own: tuple[Skill, ...]) -> Iterator[Text]:
    number = 0
    for batch in read_batches(path, (column, labels, "id")):
        for row in batch.rows:
            number += 1
            if isinstance(row, str):
                raise InputError(f"{path}, row {number}: {row}")
            text = row.get(column)
            if not isinstance(text, str):
                raise InputError(f"{path}, row {number}: '{column}' must be text, not {type(text).__name__}")
            seen = shown(text, lambda _: Check.UNDECIDED, own)
            unknown = dict.fromkeys(("first_right", "any_right", "after_right", "check", "stop", "tokens"))
            yield Text(
                str(row.get("id", number)), "all", text, {**_columns(seen), **unknown}, _labels(path, number, row, labels)
            )


def _labels(path: Path, number: int, row: Row, column: str) -> frozenset[str] | None:
    if not column:
        return None
    value = row.get(column)
    if not isinstance(value, list) or not all(isinstance(name, str) for name in value):
        raise InputError(f"{path}, row {number}: '{column}' must be a list of skills, not {type(value).__name__}")
    return frozenset(value)


def _columns(seen: Any) -> dict[str, Any]:
    """What a response shows, as the columns of an evaluation."""
    return {name: getattr(seen, name) for name in seen.__slots__}
