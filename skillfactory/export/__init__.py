"""Silver traces in the form that a trainer reads: one target a file, memory that doesn't grow with the traces.

A target is a function `(source, folder, config, progress) -> Written` that writes into an empty folder. To add one, write that
function and a line in TARGETS; one of your own is named `module:function`.
"""

import importlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

from skillfactory.config import settings
from skillfactory.errors import ConfigError, InputError, searched, unknown
from skillfactory.export.folder import ACCOUNT, claimed
from skillfactory.export.target import ExportConfig, Summary, Written
from skillfactory.funnel import Funnel
from skillfactory.progress import Progress, Silent
from skillfactory.tracefiles import TraceFiles

__all__ = ["COLUMNS", "TARGETS", "ExportConfig", "Summary", "Target", "Written", "export", "resolve"]

TARGETS: dict[str, str] = {
    "chat": "skillfactory.export.chat:export",
    "llamafactory": "skillfactory.export.llamafactory:export",
    "trl": "skillfactory.export.trl:export",
}

COLUMNS = ("trace_id", "conversations", "tokens")  # that a target may count on

USED_BY = {"model": ("llamafactory", "trl"), "template": ("llamafactory",), "format": ("chat",), "provenance": ("chat",)}

Target = Callable[[TraceFiles, Path, ExportConfig, Progress], Written]


def export(config: ExportConfig, progress: Progress | None = None) -> Summary:
    """Writes the traces for a target into `config.folder`, all of it or nothing.

    Errors: InputError for a directory without traces, an output that holds something else, and traces over the length limit;
    ConfigError for an unknown target.
    """
    progress = progress or Silent()
    target = resolve(config.to)
    source = TraceFiles.open(config.directory, COLUMNS)
    account: dict[str, Any] = {"target": config.to, "source": str(config.directory)}
    with claimed(config.folder, config.force, account) as folder:
        try:
            written = target(source, folder, config, progress)
        finally:
            progress.end()
        if not written.kept:
            raise InputError(f"no trace is left to export: {_lost(written)}")
        funnel = Funnel("export", "traces", source.rows, written.kept, written.dropped)
        account["funnels"] = [funnel.to_dict()]  # `claimed` writes the account when the folder is complete
        files = tuple(sorted({ACCOUNT, *(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())}))
    return Summary(config.to, config.folder, funnel, files, (*written.notes, *_unused(config)))


def _unused(config: ExportConfig) -> Iterator[str]:
    """Notes on options that are set and mean nothing to the target."""
    for setting in settings(ExportConfig):
        users = USED_BY.get(setting.name, ())
        if users and config.to in TARGETS and config.to not in users and getattr(config, setting.name) != setting.default:
            yield f"{setting.name} has no effect on the target {config.to}; it is an option of {' and '.join(users)}"


def _lost(written: Written) -> str:
    """What became of the traces of an export."""
    return ", ".join(f"{reason} {count:,}" for reason, count in written.dropped.items()) or "the target wrote none"


def resolve(name: str) -> Target:
    """The target `name`: one of TARGETS, or "module:function"."""
    if ":" not in name and name not in TARGETS:
        raise unknown("export target", name, TARGETS)
    path, _, attribute = TARGETS.get(name, name).partition(":")
    try:
        return cast(Target, getattr(importlib.import_module(path), attribute))
    except (ImportError, ValueError) as error:  # ValueError: no name before the colon
        raise ConfigError(f"the export target '{name}' can't be imported: {error}; {searched()}") from error
    except AttributeError as error:
        raise ConfigError(f"the export target '{name}' can't be imported: {error}") from error
