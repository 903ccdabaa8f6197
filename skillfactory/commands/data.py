"""The commands from questions to silver traces: tasks, grade, curate, build, audit, export."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import MISSING, asdict, dataclass, field
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from skillfactory.commands.base import Command, Result
from skillfactory.config import settings
from skillfactory.errors import ConfigError
from skillfactory.funnel import Funnel
from skillfactory.machines import Workers
from skillfactory.progress import Progress
from skillfactory.values import describe, shown


@dataclass(frozen=True, slots=True)
class TasksConfig:
    """Options of `skillfactory tasks`."""

    task: str = field(
        default="",
        metadata={"positional": True, "metavar": "NAME", "help": "a task, or module:object", "shown": "list them all"},
    )
    level: str = field(default="", metadata={"help": "level of the questions", "shown": "the task's first"})
    n: int = field(default=3, metadata={"help": "how many questions to show"})
    seed: int = field(default=0, metadata={"help": "seed of generated questions"})
    split: str = field(default="sft", metadata={"help": "sft, rl or eval; they share no question"})
    option: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "an option of the task"})

    def __post_init__(self) -> None:
        if self.n < 0:
            raise ConfigError(f"n: expected 0 or more questions, came {self.n}")


def _tasks(config: TasksConfig, progress: Progress) -> Iterator[Mapping[str, Any]]:
    """The tasks with their levels and options, or questions of one and the rows that are none."""
    from skillfactory.tasks import TASKS, resolve

    if config.task:
        task = resolve(config.task, config.option)
        yield from map(asdict, task.questions(config.n, config.level or task.levels[0], config.seed, config.split))
        return
    for name, place in TASKS.items():
        kind = resolve_name(place)
        defaults = {each.name: None if each.default is MISSING else each.default for each in settings(kind)}
        forms = {each.name: describe(each.kind) for each in settings(kind)}
        needed = [each.name for each in settings(kind) if each.default is MISSING]
        levels = () if needed else resolve(name).levels
        about = {"task": name, "levels": levels, "about": kind.__doc__ or ""}
        yield about | {"options": defaults, "forms": forms, "needs": needed}


def _show_tasks(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        if "levels" in row:
            yield f"{row['task']}: {row['about'].splitlines()[0]}"
            yield f"    levels: {', '.join(row['levels']) or 'as its options say'}"
            for name, default in row["options"].items():
                ending = "required" if name in row["needs"] else f"default: {shown(default)}"
                yield f"    option {name}: {row['forms'][name]} ({ending})"
        elif "prompt" in row:
            yield f"{row['id']}\n{row['prompt']}\nanswer: {row['answer']}\n"
        else:
            yield f"{row['subject_id']} can't be used: {row['reason']} {row['detail']}\n"


@dataclass(frozen=True, slots=True)
class GradeConfig:
    """Options of `skillfactory grade`."""

    file: Path = field(
        metadata={"positional": True, "metavar": "FILE", "help": "rows to grade, JSONL or Parquet", "remote": True}
    )
    task: str = field(metadata={"help": "the task whose verifier grades, or module:object", "metavar": "NAME"})
    output: Path = field(metadata={"help": "the rows with their grades, JSONL or Parquet", "metavar": "FILE", "remote": True})
    option: Mapping[str, Any] = field(default_factory=dict, metadata={"help": "an option of the task"})
    machines: Workers = field(default_factory=Workers)


def _grade(config: GradeConfig, progress: Progress) -> Result:
    from skillfactory.grade import grade_file
    from skillfactory.tasks import resolve

    task = resolve(config.task, config.option)
    if config.machines.on is None:
        return Graded(config.output, grade_file(config.file, task, config.output, progress))
    from skillfactory.cluster.crew import hired

    with hired(config.machines) as crew:
        return Graded(config.output, grade_file(config.file, task, config.output, progress, crew.map))


@dataclass(frozen=True, slots=True)
class Graded:
    """A file with its grades."""

    output: Path
    found: Any  # grade.Summary

    def to_dict(self) -> dict[str, Any]:
        """The summary as JSON-safe values."""
        bad = self.found.reasons.get("bad_row", 0)
        funnel = Funnel("grade", "rows", self.found.rows, self.found.rows - bad, {"bad_row": bad} if bad else {})
        return {"funnels": [funnel.to_dict()], "output": str(self.output), **asdict(self.found)}


def _show_grade(graded: Any) -> Iterator[str]:
    found = graded.found
    yield from (str(Funnel(**funnel)) for funnel in graded.to_dict()["funnels"])
    yield "checks: " + ", ".join(f"{name} {count:,}" for name, count in found.checks.items())
    yield "reasons: " + ", ".join(f"{name} {count:,}" for name, count in found.reasons.items())
    yield from found.bad_rows
    yield f"{graded.output}: every row with extracted, check and reason"


def _build_config() -> type[Any]:
    from skillfactory.build import BuildConfig

    return BuildConfig


def _build(config: Any, progress: Progress) -> Result:
    from skillfactory.build import build

    if config.machines.on is None:
        return build(config, progress)
    from skillfactory.cluster.crew import hired

    with hired(config.machines) as crew:
        return build(config, progress, crew)


def _show_build(summary: Any) -> Iterator[str]:
    yield from map(str, summary.funnels)
    parts = []
    for name in sorted({*summary.traces, *summary.dropped}):
        kept, lost = summary.traces.get(name, 0), summary.dropped.get(name, 0)
        parts.append(f"{name} {kept:,} of {kept + lost:,}" if lost else f"{name} {kept:,}")
    yield f"{summary.output}: traces from {summary.questions:,} questions ({', '.join(parts) or 'none'})"
    yield from (f"note: {note}" for note in summary.notes)


def _curate_config() -> type[Any]:
    from skillfactory.curate import CurateConfig

    return CurateConfig


def _engine_options() -> Mapping[str, type[Any]]:
    from skillfactory.engines import ENGINES, engine_class

    return {f"--engine-option of {name}": engine_class(name).Options for name in ENGINES}


def _curate(config: Any, progress: Progress) -> Result:
    from skillfactory.curation import curate

    return curate(config, progress)


def _show_curate(summary: Any) -> Iterator[str]:
    yield from str(summary).splitlines()


def _audit_config() -> type[Any]:
    from skillfactory.audit import AuditConfig

    return AuditConfig


def _audit(config: Any, progress: Progress) -> Result:
    from skillfactory.audit import audit

    return audit(config, progress)


def _show_audit(audit: Any) -> Iterable[str]:
    from skillfactory.audit.table import table

    return table(audit)


def _export_config() -> type[Any]:
    from skillfactory.export import ExportConfig

    return ExportConfig


def _export(config: Any, progress: Progress) -> Result:
    from skillfactory.export import export

    return export(config, progress)


def _show_export(summary: Any) -> Iterator[str]:
    yield str(summary.funnel)
    yield f"{summary.output}: {', '.join(summary.files)}"
    yield from summary.notes


DATA = {
    "tasks": Command(
        summary="list tasks, or show questions of one",
        description="Lists the tasks with their levels and options. With a task's name, shows questions of it with a right "
        "answer; as JSON lines (--json) they hold the facts too, which `grade` reads.",
        example="skillfactory tasks\nskillfactory tasks countdown --level 4 --n 2 --split eval --json",
        resume="",
        config=lambda: TasksConfig,
        run=_tasks,
        show=_show_tasks,
    ),
    "grade": Command(
        summary="verify answers in bulk",
        description="Grades every row of a file. A row holds `facts` (as `skillfactory tasks NAME --json` shows them; for "
        'countdown {"numbers": [..], "target": n}) or a gold `answer`, and `response` (a whole text, of which the final answer '
        "counts) or `candidate` (a bare answer). Out come all its columns and `extracted`, `check` (right, wrong, missing, "
        "undecided) and `reason`. A row that can't be graded is undecided, and the run goes on.",
        example="skillfactory grade answers.jsonl --task countdown --output graded.jsonl",
        resume="Nothing was written; the same command starts again.",
        config=lambda: GradeConfig,
        run=_grade,
        show=_show_grade,
    ),
    "curate": Command(
        summary="let a model solve, verify and reflect",
        description="Asks a model for attempts at questions, with several prompts; verifies them; asks it to reflect on each; "
        "keeps all of it in a run directory, with the reason for whatever can't be used. Eager mode asks for the whole grid "
        "(every variant, sample and reflection), lazy mode only for what the layouts need. A stopped or killed run goes on "
        "with the same command and asks nothing twice.",
        example="skillfactory curate --task countdown --level 3 --questions 1000 --engine transformers --model MODEL \\\n"
        "    --output run --mode lazy --layout '*C_full'\n"
        "skillfactory curate --task gsm8k --questions 500 --engine openai --model NAME \\\n"
        "    --engine-option base_url=http://localhost:8000/v1 --output run",
        resume="The same command goes on; no finished text is lost.",
        config=_curate_config,
        run=_curate,
        show=_show_curate,
        pairs=_engine_options,
    ),
    "build": Command(
        summary="arrange attempts and reflections into silver traces",
        description="Builds silver traces from run directories of `curate` or from raw data in the released schemas. Writes "
        "Parquet that `datasets` and pandas read as it is, with every trace's provenance, and every drop with its reason.",
        example="skillfactory build raw/ --output traces --layout '*C_full' --max-attempts 5\n"
        "skillfactory build run/ --output traces --layout paper --max-tokens 4096 --tokenizer MODEL\n"
        "skillfactory build run/ --output traces --layout '*C@2' --layout 'twice = I C C -> confirm@1'",
        resume="The traces are not complete; the same command starts again.",
        config=_build_config,
        run=_build,
        show=_show_build,
    ),
    "audit": Command(
        summary="what traces hold, and what errors",
        description="Reads traces and reports what they hold: attempts and their correctness, lengths, phrases, prompt "
        "variants; and what errors: reflections whose verdict is right but whose arithmetic is wrong, right answers reached "
        "through wrong steps, broken structure, duplicates, and questions that are among the evaluation's. Writes audit.json "
        "beside them.",
        example="skillfactory audit traces\nskillfactory audit traces --against eval.jsonl --questions run",
        resume="Nothing was written; the same command starts again.",
        config=_audit_config,
        run=_audit,
        show=_show_audit,
    ),
    "export": Command(
        summary="write traces as a trainer wants them",
        description="Writes traces in a trainer's own format, with a configuration to start from where the trainer takes one.",
        example="skillfactory export traces --to trl --output sft",
        resume="Nothing was written; the same command starts again.",
        config=_export_config,
        run=_export,
        show=_show_export,
    ),
}
