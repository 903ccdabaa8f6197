"""What a trainer reads, made of silver traces or of questions: one target a file, memory that doesn't grow with the traces.

A target is a function `(source, folder, config, progress) -> Written` that writes into an empty folder. To add one, write that
function and a line in TARGETS of target.py, or in OF_QUESTIONS if it gets the questions of a reinforcement (`Asks`) in place of
traces. One of your own is named `module:function`, and gets traces.
"""

import importlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, cast

from skillfactory.config import options
from skillfactory.errors import ConfigError, InputError, searched, unknown
from skillfactory.export.folder import ACCOUNT, claimed, trained_here
from skillfactory.export.questions import Asks, gathered, model_of
from skillfactory.export.target import OF_QUESTIONS, TARGETS, ExportConfig, Summary, Written
from skillfactory.funnel import Funnel
from skillfactory.progress import Progress, Silent
from skillfactory.tracefiles import TraceFiles

__all__ = [
    "COLUMNS",
    "OF_QUESTIONS",
    "TARGETS",
    "Asks",
    "ExportConfig",
    "OfQuestions",
    "Summary",
    "Target",
    "Written",
    "export",
    "resolve",
]

SENT = {"hub": "skillfactory.export.hub:sender"}  # gets the options before any work; what it gives back uploads the folder

COLUMNS = ("trace_id", "conversations", "tokens")  # that a target may count on

USED_BY = {
    "model": (
        "axolotl",
        "llamafactory",
        "open-instruct",
        "open-instruct-rl",
        "openrlhf",
        "openrlhf-rl",
        "tokens",
        "trl",
        "trl-grpo",
        "verl",
        "verl-sft",
    ),
    "template": ("llamafactory",),
    "chat_template": ("axolotl", "tokens"),
    "mask": ("axolotl", "tokens", "verl-sft"),
    "format": ("chat",),
    "provenance": ("chat",),
    "upload": ("hub",),
    "wanted": tuple(OF_QUESTIONS),
    "drop_long": tuple(TARGETS),
}

_UNTRAINED = tuple(name for name in TARGETS if name not in USED_BY["model"])  # targets that name no model

Target = Callable[[TraceFiles, Path, ExportConfig, Progress], Written]
OfQuestions = Callable[[Asks, Path, ExportConfig, Progress], Written]
Send = Callable[[], tuple[str, ...]]


def export(config: ExportConfig, progress: Progress | None = None) -> Summary:
    """Writes the traces or the questions for a target into `config.folder`, all of it or nothing.

    Errors: InputError for a directory without traces, an output that holds something else, traces over the length limit, and
    tasks without a question; ConfigError for an unknown target, and for a mask that the target can't express.
    """
    notes = (*_unused(config), *trained_here(config.folder))
    _check_mask(config)
    if not config.model and config.to not in _UNTRAINED:
        model, note = model_of(config.directory)
        config, notes = replace(config, model=model), (*note, *notes)
    progress = progress or Silent()
    send = cast(Send, _imported(SENT[config.to])(config)) if config.to in SENT else None
    write = _of_questions(config, progress) if config.to in OF_QUESTIONS else _of_traces(config, progress)
    account: dict[str, Any] = {"target": config.to, "source": str(config.directory)}
    with claimed(config.folder, config.force, account) as folder:
        try:
            written, funnel = write(folder)
        finally:
            progress.end()
        if not written.kept:
            raise InputError(f"no {funnel.unit.removesuffix('s')} is left to export: {_lost(written)}")
        account["funnels"] = [funnel.to_dict()]  # `claimed` writes the account when the folder is complete
        files = tuple(sorted({ACCOUNT, *(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())}))
    notes = (*written.notes, *notes)
    return Summary(config.to, config.folder, funnel, files, (*notes, *send()) if send else notes)


Write = Callable[[Path], tuple[Written, Funnel]]


def _of_traces(config: ExportConfig, progress: Progress) -> Write:
    """What writes the traces into a folder, with their account."""
    target = resolve(config.to)
    source = TraceFiles.open(config.directory, COLUMNS)

    def write(folder: Path) -> tuple[Written, Funnel]:
        written = target(source, folder, config, progress)
        return written, Funnel("export", "traces", source.rows, written.kept, written.dropped)

    return write


def _of_questions(config: ExportConfig, progress: Progress) -> Write:
    """What writes the questions of a reinforcement into a folder, with the account of those to train on."""
    target = cast(OfQuestions, _imported(OF_QUESTIONS[config.to]))
    asks = gathered(config)

    def write(folder: Path) -> tuple[Written, Funnel]:
        written = target(asks, folder, config, progress)
        passed = asks.training.funnel
        lost = Counter(passed.dropped) + Counter(written.dropped)
        funnel = Funnel("export", "questions", passed.requested, written.kept, lost)
        return replace(written, notes=(*asks.training.notes, *written.notes)), funnel

    return write


def _check_mask(config: ExportConfig) -> None:
    """ConfigError if a mask is wanted of a target of ours that has no way to leave parts of a turn out of the loss."""
    if config.mask != "none" and config.to not in USED_BY["mask"] and (config.to in TARGETS or config.to in OF_QUESTIONS):
        raise ConfigError(
            f"mask: the target {config.to} can't leave attempts out of the loss; "
            f"{', '.join(f'--to {name}' for name in USED_BY['mask'])} can with --mask {config.mask}, and so can "
            f"`skillfactory sft --mask {config.mask}`"
        )


def _unused(config: ExportConfig) -> Iterator[str]:
    """Notes on options that are set and mean nothing to the target."""
    known = config.to in TARGETS or config.to in OF_QUESTIONS
    for option in options(ExportConfig) if known else ():
        users = USED_BY.get(option.key[0], ())
        value = reduce(getattr, option.key, config)
        if users and config.to not in users and value != option.setting.default:
            yield f"{option.name} has no effect on the target {config.to}; it is an option of {' and '.join(users)}"


def _lost(written: Written) -> str:
    """What became of the rows of an export."""
    return ", ".join(f"{reason} {count:,}" for reason, count in written.dropped.items()) or "the target wrote none"


def resolve(name: str) -> Target:
    """The target `name` of traces: one of TARGETS, or "module:function"."""
    if ":" not in name and name not in TARGETS:
        raise unknown("export target", name, [*TARGETS, *OF_QUESTIONS])
    return cast(Target, _imported(TARGETS.get(name, name)))


def _imported(name: str) -> Callable[..., object]:
    """What "module:function" names."""
    path, _, attribute = name.partition(":")
    try:
        found = getattr(importlib.import_module(path), attribute)
    except (ImportError, ValueError) as error:  # ValueError: no name before the colon
        raise ConfigError(f"the export target '{name}' can't be imported: {error}; {searched()}") from error
    except AttributeError as error:
        raise ConfigError(f"the export target '{name}' can't be imported: {error}") from error
    return cast(Callable[..., object], found)
