"""The commands by name: what each says of itself, its options, and the stage that it calls.

Stages are imported when their command is used, so that the overview costs nothing.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from skillfactory.errors import ConfigError
from skillfactory.funnel import Funnel
from skillfactory.progress import Progress

Result = Mapping[str, Any] | Iterator[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand. `run` gives back what `--json` prints: one mapping, or an iterator of them; `show` gives readable lines."""

    summary: str
    description: str
    example: str
    resume: str  # what to know after Ctrl-C
    config: Callable[[], type[Any]]
    run: Callable[[Any, Progress], Result]
    show: Callable[[Any], Iterable[str]]


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
    """The tasks with their levels, or questions of one and the rows that are none."""
    from skillfactory.tasks import TASKS, resolve

    if config.task:
        task = resolve(config.task, config.option)
        yield from map(asdict, task.questions(config.n, config.level or task.levels[0], config.seed, config.split))
        return
    for name in TASKS:
        task = resolve(name)
        yield {"task": name, "levels": list(task.levels), "answer": task.answer_format}


def _show_tasks(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for row in rows:
        if "levels" in row:
            yield f"{row['task']:<18} levels {', '.join(row['levels']):<20} answer: {row['answer']}"
        elif "prompt" in row:
            yield f"{row['id']}\n{row['prompt']}\nanswer: {row['answer']}\n"
        else:
            yield f"{row['subject_id']} can't be used: {row['reason']} {row['detail']}\n"


def _build(config: Any, progress: Progress) -> Result:
    from skillfactory.build import build

    return build(config, progress).to_dict()


def _build_config() -> type[Any]:
    from skillfactory.build import BuildConfig

    return BuildConfig


def show(result: Mapping[str, Any], indent: str = "") -> Iterator[str]:
    """A summary as lines: its accounts first, then its other values."""
    for funnel in result.get("funnels", ()):
        yield str(Funnel(**funnel))
    for key, value in result.items():
        name = key.replace("_", " ")
        if key == "funnels":
            continue
        if isinstance(value, Mapping):
            yield f"{indent}{name}:"
            yield from show(value, indent + "  ")
        elif isinstance(value, list):
            yield f"{indent}{name}: {', '.join(map(_number, value))}"
        else:
            yield f"{indent}{name}: {_number(value)}"


def _number(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.4g}" if abs(value) < 1000 else f"{value:,.0f}"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)


COMMANDS = {
    "tasks": Command(
        summary="list tasks, or show questions of one",
        description="Lists the tasks with their levels. With a task's name, shows questions of it with a right answer; as JSON "
        "lines (--json) they hold the facts too, which `grade` reads.",
        example="skillfactory tasks\nskillfactory tasks countdown --level 4 --n 2 --split eval --json",
        resume="",
        config=lambda: TasksConfig,
        run=_tasks,
        show=_show_tasks,
    ),
    "build": Command(
        summary="arrange attempts and reflections into silver traces",
        description="Builds silver traces from run directories of `curate` or from raw data in the released schemas. Writes "
        "Parquet that `datasets` and pandas read as it is, with every trace's provenance, and every drop with its reason.",
        example="skillfactory build raw/ --output traces --layout '*C_full' --max-attempts 5\n"
        "skillfactory build run/ --output traces --layout paper --max-tokens 4096 --tokenizer MODEL",
        resume="Nothing was kept; the same command starts again.",
        config=_build_config,
        run=_build,
        show=show,
    ),
}
