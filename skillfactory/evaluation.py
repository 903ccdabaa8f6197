"""Evaluation on disk: a configuration and a run directory in; responses, evaluation.json and a summary out."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from operator import itemgetter
from pathlib import Path
from typing import Any

import pyarrow as pa

from skillfactory.cluster.runs import hands
from skillfactory.config import from_options
from skillfactory.curate import Generation
from skillfactory.errors import InputError
from skillfactory.evaluate import EvaluateConfig, begun, items
from skillfactory.examination import Evaluated, Response, account
from skillfactory.flow import Engine
from skillfactory.funnel import Funnel
from skillfactory.measure import COLUMNS, Row, measured, table
from skillfactory.places import files, parquet
from skillfactory.progress import Progress, Silent
from skillfactory.records import Check
from skillfactory.run import Job, carry_out
from skillfactory.rundir import Rows, Stage, write_text
from skillfactory.serving import answering, known_as, opener, read_options, shown_options
from skillfactory.suites import Group

NUMBERS = "evaluation.json"
_TEXT, _NUMBER, _FLAG, _SHARE = pa.string(), pa.int64(), pa.bool_(), pa.float64()
SCHEMAS: Mapping[str, pa.Schema] = {
    "questions": pa.schema(
        {"group": _TEXT, "id": _TEXT, "task": _TEXT, "level": _TEXT, "prompt": _TEXT, "answer": _TEXT, "facts": _TEXT}
    ),
    "responses": pa.schema(
        {
            "id": _TEXT,
            "question_id": _TEXT,
            "group": _TEXT,
            "sample": _NUMBER,
            "text": _TEXT,
            "answer": _TEXT,
            "check": _TEXT,
            "reason": _TEXT,
            "stop": _TEXT,
            "tokens": _NUMBER,
            "prompt_tokens": _NUMBER,
            "requests": _NUMBER,
            "keys": pa.list_(_TEXT),
            "attempts": _NUMBER,
            "repeats": _NUMBER,
            "first_right": _FLAG,
            "any_right": _FLAG,
            "after_right": _SHARE,
            "reflections": _NUMBER,
            "true_correct": _NUMBER,
            "false_correct": _NUMBER,
            "true_incorrect": _NUMBER,
            "false_incorrect": _NUMBER,
            "no_verdict": _NUMBER,
            "stopped": _FLAG,
            "uses_tags": _FLAG,
            "well_formed": _FLAG,
            "course": _TEXT,
            "looped": _SHARE,
            "blocks": pa.map_(_TEXT, _NUMBER),
            "untagged": pa.map_(_TEXT, _NUMBER),
        }
    ),
    "drops": pa.schema({"stage": _TEXT, "subject_id": _TEXT, "reason": _TEXT, "detail": _TEXT}),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """What an evaluation has come to: `numbers` is the content of evaluation.json."""

    output: Path
    numbers: Mapping[str, Any]
    funnels: tuple[Funnel, ...]  # questions, responses
    tokens: int
    prompt_tokens: int
    new_texts: int
    new_tokens: int
    seconds: float
    nothing_to_do: bool  # the run was finished before
    engine_errors: Mapping[str, int] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        values = asdict(self) | {"output": str(self.output), "funnels": [funnel.to_dict() for funnel in self.funnels]}
        return values | {"seconds": round(self.seconds, 3)}

    def __str__(self) -> str:
        """The table and the account, for people."""
        lines = [*table(self.numbers), *map(str, self.funnels)]
        if self.nothing_to_do:
            lines.append(f"{self.output} was finished before: there is nothing to do")
        elif not self.new_texts:
            lines.append(f"{self.output}: no new texts, {self.seconds:,.1f} s")
        else:
            made = f"{self.new_texts:,} new texts of {self.new_tokens:,} tokens in {self.seconds:,.1f} s"
            lines.append(f"{self.output}: {made}, {self.new_tokens / self.seconds:,.0f} tokens/s")
        lines += self.notes
        if self.engine_errors:
            reason, times = next(iter(self.engine_errors.items()))
            lines.append(
                f"the engine gave up on {sum(self.engine_errors.values()):,} requests, {times:,} of them because: "
                f"{reason or 'no reason given'}; they count in no number, and the same command asks for them again"
            )
        return "\n".join(lines)


def evaluate(config: EvaluateConfig, progress: Progress | None = None, engine: Callable[[], Engine] | None = None) -> Summary:
    """Evaluates a model in a run directory: begins it, goes on with it, or says that it is finished.

    `engine` makes the engine, which the configuration names otherwise; it is called only if there is something to do.
    """
    started = time.monotonic()
    groups = config.chosen()
    generation = answering(config.generation, config.model)
    stage = _stage(config, groups, generation)
    hows = [config.examination(group) for group in groups]
    job = Job(stage, items(config, groups, hows), partial(begun, hows), engine or opener(generation))
    sizes = [group.questions for group in groups]
    bar = progress or Silent()
    bar.begin("evaluate", "questions", None if None in sizes else sum(size or 0 for size in sizes))
    try:
        outcome = carry_out(config.output, job, bar, config.regrade, hands(config.machines, generation))
    finally:
        bar.end()
    counts, tally = outcome.counts, outcome.tally
    failed = {name.removeprefix("failed/"): count for name, count in counts.items() if name.startswith("failed/")}
    about = {"model": config.model, "suite": config.asks, "retry": config.retry, "seed": config.seed}
    spent = {"tokens": counts.get("tokens", 0), "prompt_tokens": counts.get("prompt_tokens", 0)}
    numbers = {**about, "stamp": outcome.stamp, **spent, **measured(groups, read_responses(config.output, COLUMNS), failed)}
    write_text(config.output / NUMBERS, json.dumps(numbers, indent=2, ensure_ascii=False) + "\n")
    return Summary(
        config.output,
        numbers,
        tuple(_funnel(unit, counts) for unit in ("questions", "responses")),
        **spent,
        new_texts=tally.texts,
        new_tokens=tally.tokens,
        seconds=time.monotonic() - started,
        nothing_to_do=outcome.nothing_to_do,
        engine_errors=dict(tally.errors.most_common()),
        notes=tuple(outcome.notes),
    )


def read_responses(run: Path, columns: tuple[str, ...]) -> Iterator[Row]:
    """The stored responses of an evaluation in order, some columns of them; those to one question come together."""
    parts = files(run / "responses", "*.parquet")
    if not parts:
        raise InputError(f"{run}: holds no responses; `skillfactory evaluate MODEL --output {run}` makes them")
    for part in parts:
        with parquet(part) as file:
            for batch in file.iter_batches(1024, columns=list(columns)):
                yield from batch.to_pylist()


def stored_groups(run: Path) -> tuple[Group, ...]:
    """The groups that a stored evaluation asked, with their tasks and options, in order."""
    try:
        groups = json.loads((run / "run.json").read_text("utf-8"))["settings"]["groups"]
        rows = sorted(groups.values(), key=itemgetter("place"))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{run}: no run directory of `skillfactory evaluate` (its run.json names no groups)") from error
    given = [{name: value for name, value in row.items() if name != "place"} for row in rows]
    return tuple(from_options(Group, row, f"{run}/run.json: group") for row in given)


def question_shares(run: Path) -> dict[str, dict[str, float]]:
    """The share of right responses to each question, by group and by the question's id, in the order of the questions.

    Evaluations of one suite, seed and part hold the same questions, whatever the model: this is what is compared in pairs.
    """
    found: dict[str, dict[str, list[bool]]] = {}
    for row in read_responses(run, ("group", "question_id", "check")):
        found.setdefault(row["group"], {}).setdefault(row["question_id"], []).append(row["check"] == Check.RIGHT)
    return {
        group: {question: sum(rights) / len(rights) for question, rights in questions.items()}
        for group, questions in found.items()
    }


def _stage(config: EvaluateConfig, groups: tuple[Group, ...], generation: Generation) -> Stage[Evaluated]:
    options = read_options(generation)
    model = known_as(generation, config.model)
    return Stage(
        command="evaluate",
        model=_stored_model(config.output, model) if config.regrade else model,
        settings=config.settings(groups),
        notes={"engine": generation.engine, "engine_option": shown_options(options)},
        schemas=SCHEMAS,
        rows=rows_of,
        counts=account,
        title=f"Evaluation of {config.model}: {', '.join(group.name for group in groups)}",
        packages=("torch", "transformers", "vllm"),
    )


def _stored_model(run: Path, model: str) -> str:
    """The model whose texts a run holds: it may be gone, or trained anew, when its texts are graded again."""
    path = run / "run.json"
    return str(json.loads(path.read_text("utf-8"))["model"]) if path.exists() else model


def rows_of(evaluated: Evaluated) -> Rows:
    """The rows of one question; enumerations as their values, facts as JSON."""
    question = evaluated.question
    asked = []
    if question is not None:
        facts = json.dumps(question.facts, ensure_ascii=False, sort_keys=True)
        asked = [{**_fields(question), "group": evaluated.group, "facts": facts}]
    drops = [_fields(drop) for drop in evaluated.drops]
    return {"questions": asked, "responses": [_row(response) for response in evaluated.responses], "drops": drops}


def _row(response: Response) -> dict[str, Any]:
    values = _fields(response)
    return values | _fields(values.pop("skills"))


def _fields(record: Any) -> dict[str, Any]:
    """A record's fields by name."""
    return {name: getattr(record, name) for name in record.__slots__}


def _funnel(unit: str, counts: Mapping[str, int]) -> Funnel:
    start = f"{unit}/dropped/"
    dropped = {name.removeprefix(start): count for name, count in counts.items() if name.startswith(start)}
    return Funnel("evaluate", unit, counts.get(f"{unit}/requested", 0), counts.get(f"{unit}/kept", 0), dropped)
