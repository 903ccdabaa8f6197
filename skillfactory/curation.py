"""Curation on disk: a configuration and a run directory in, a summary out."""

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow as pa

from skillfactory.cluster.runs import hands
from skillfactory.curate import CurateConfig, account, begun, items
from skillfactory.deck import Curated, Curation
from skillfactory.flow import Engine
from skillfactory.funnel import Funnel
from skillfactory.progress import Progress, Silent
from skillfactory.records import Attempt, Drop, Question, Reflection
from skillfactory.run import Job, carry_out
from skillfactory.rundir import Rows, Stage
from skillfactory.serving import model_name, opener, read_options, shown_options

_TEXT, _NUMBER = pa.string(), pa.int64()
SCHEMAS: Mapping[str, pa.Schema] = {
    "questions": pa.schema(
        {"id": _TEXT, "task": _TEXT, "level": _TEXT, "prompt": _TEXT, "answer": _TEXT, "facts": _TEXT}  # facts: JSON
    ),
    "attempts": pa.schema(
        {
            "id": _TEXT,
            "question_id": _TEXT,
            "variant": _TEXT,
            "sample": _NUMBER,
            "text": _TEXT,
            "answer": _TEXT,
            "check": _TEXT,
            "reason": _TEXT,
            "stop": _TEXT,
            "key": _TEXT,
        }
    ),
    "reflections": pa.schema(
        {"id": _TEXT, "attempt_id": _TEXT, "sample": _NUMBER, "text": _TEXT, "verdict": _TEXT, "stop": _TEXT, "key": _TEXT}
    ),
    "drops": pa.schema({"stage": _TEXT, "subject_id": _TEXT, "reason": _TEXT, "detail": _TEXT}),
}


@dataclass(frozen=True, slots=True)
class Summary:
    """What a run has come to. Tokens and texts are those that its results rest on; `new_*` and seconds are this process's."""

    output: Path
    funnels: tuple[Funnel, ...]  # questions, attempts, reflections
    tokens: int
    prompt_tokens: int
    new_texts: int
    new_tokens: int
    seconds: float
    nothing_to_do: bool  # the run was finished before
    engine_errors: Mapping[str, int] = field(default_factory=dict)  # reason → failed requests, commonest first
    notes: tuple[str, ...] = ()  # changed settings, damaged files

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        values = asdict(self) | {"output": str(self.output), "funnels": [funnel.to_dict() for funnel in self.funnels]}
        return values | {"seconds": round(self.seconds, 3)}

    def __str__(self) -> str:
        """A few lines for people."""
        lines = [str(funnel) for funnel in self.funnels]
        if self.nothing_to_do:
            lines.append(f"{self.output} was finished before: there is nothing to do")
        else:
            rate = f", {self.new_tokens / self.seconds:,.0f} tokens/s" if self.seconds else ""
            lines.append(
                f"{self.output}: {self.new_texts:,} new texts of {self.new_tokens:,} tokens in {self.seconds:,.1f} s{rate}"
            )
        lines += self.notes
        if self.engine_errors:
            (reason, times), failures = next(iter(self.engine_errors.items())), sum(self.engine_errors.values())
            lines.append(
                f"the engine gave up on {failures:,} requests, {times:,} of them because: {reason or 'no reason given'} "
                "(each one's reason is in the table drops); the same command asks for them again"
            )
        return "\n".join(lines)


def curate(config: CurateConfig, progress: Progress | None = None, engine: Callable[[], Engine] | None = None) -> Summary:
    """Curates the questions of a task in a run directory: begins it, goes on with it, or says that it is finished.

    `engine` makes the engine, which the configuration names otherwise; it is called only if there is something to do.
    """
    started = time.monotonic()
    how = config.curation()
    questions = items(config, how)
    bar = progress or Silent()
    bar.begin("curate", "questions", config.questions)
    try:
        job = Job(_stage(config, how), questions, partial(begun, how), engine or opener(config.generation))
        outcome = carry_out(config.output, job, bar, hands=hands(config.machines, config.generation))
    finally:
        bar.end()
    counts, tally = outcome.counts, outcome.tally
    return Summary(
        config.output,
        tuple(_funnel(unit, counts) for unit in ("questions", "attempts", "reflections")),
        counts.get("tokens", 0),
        counts.get("prompt_tokens", 0),
        tally.texts,
        tally.tokens,
        time.monotonic() - started,
        outcome.nothing_to_do,
        dict(tally.errors.most_common()),
        tuple(outcome.notes),
    )


def _stage(config: CurateConfig, how: Curation) -> Stage[Curated]:
    generation = config.generation
    options = read_options(generation)
    return Stage(
        command="curate",
        model=model_name(generation, options),
        settings=config.settings(how),
        notes={"engine": generation.engine, "engine_option": shown_options(options)},
        schemas=SCHEMAS,
        rows=_rows,
        counts=account,
        title=f"Attempts and reflections: {config.task} {config.level}".rstrip(),
        packages=("torch", "transformers", "vllm"),
    )


def _rows(curated: Curated) -> Rows:
    """The rows of one question; enumerations as their values, facts as JSON."""
    keys = curated.keys
    question = curated.question
    return {
        "questions": [_plain(question) | {"facts": _json(question.facts)}] if question else [],
        "attempts": [_plain(attempt) | {"key": keys[attempt.id]} for attempt in curated.attempts],
        "reflections": [_plain(reflection) | {"key": keys[reflection.id]} for reflection in curated.reflections],
        "drops": [_plain(drop) for drop in curated.drops],
    }


def _plain(record: Question | Attempt | Reflection | Drop) -> dict[str, Any]:
    """A record's fields by name; dataclasses.asdict copies deeply and takes ten times as long."""
    return {name: getattr(record, name) for name in record.__slots__}


def _json(facts: Mapping[str, Any]) -> str:
    return json.dumps(facts, ensure_ascii=False, sort_keys=True)


def _funnel(unit: str, counts: Mapping[str, int]) -> Funnel:
    start = f"{unit}/dropped/"
    dropped = {name.removeprefix(start): count for name, count in counts.items() if name.startswith(start)}
    return Funnel("curate", unit, counts.get(f"{unit}/requested", 0), counts.get(f"{unit}/kept", 0), dropped)
