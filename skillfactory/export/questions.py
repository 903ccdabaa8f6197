"""The questions that a reinforcement in another trainer asks: of the split rl, and held-out ones of the development part."""

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from skillfactory.embedded import EMBEDDED
from skillfactory.errors import ConfigError, InputError
from skillfactory.export.target import PAPER_MODEL, ExportConfig
from skillfactory.places import place
from skillfactory.suites.questions import part_of
from skillfactory.supply import Asked, Pool, Source, gather, shares, sources

_LOOKED_AT = 8  # questions of the eval split for each one wanted of its development part, which is a quarter of it


@dataclass(frozen=True, slots=True)
class Asks:
    """What a reinforcement asks."""

    training: Pool
    validation: tuple[Asked, ...]


def gathered(config: ExportConfig) -> Asks:
    """The questions that the options name, or those of the tasks that `config.directory` was made from.

    InputError if a task has none; ConfigError for a bad task, or if nothing says which.
    """
    wanted = config.wanted
    entries, options = (wanted.task, wanted.option) if wanted.task else origin(config.directory)
    found = sources(entries, options)
    training = gather(found, wanted.questions, wanted.seed, "rl", "export")
    parts = zip(found, shares([source.weight for source in found], wanted.validation), strict=True)
    held = (one for source, count in parts if count for one in _held_out(source, count, wanted.seed))
    return Asks(training, tuple(held))


def _held_out(source: Source, wanted: int, seed: int) -> Iterator[Asked]:
    """Up to `wanted` questions of the development part, on which models may be compared while they train."""
    looked_at = gather([source], wanted * _LOOKED_AT, seed, "eval", "export").asked
    dev = (one for one in looked_at if part_of(source.task.canonical(one.question)) == "dev")
    return islice(dev, wanted)


def origin(directory: Path) -> tuple[tuple[str, ...], dict[str, Any]]:
    """The tasks, as `--task` takes them, and their options, that a run, or the traces of runs, were made from."""
    entries: dict[str, None] = {}
    options: dict[str, Any] = {}
    for run in _runs(directory):
        settings = json.loads((run / "run.json").read_text("utf-8"))["settings"]
        task, level = settings["task"], settings["level"]
        entries[f"{task}:{level}" if level else task] = None
        options |= {f"{task}.{name}": value for name, value in settings["option"].items()}
    if not entries:
        raise ConfigError(f"{directory} doesn't say which task it was made from; name it: --task countdown:3")
    return tuple(entries), options


def model_of(directory: Path) -> tuple[str, tuple[str, ...]]:
    """The model that wrote the attempts of a run or of traces, as a trainer can load it; else the paper's, with a note."""
    try:
        found = sorted({str(json.loads((run / "run.json").read_text("utf-8"))["model"]) for run in _runs(directory)})
    except (InputError, OSError, ValueError, KeyError, TypeError):
        found = []
    if len(found) == 1 and (name := _loadable(found[0])):
        return name, ()
    told = f"{directory} is of {' and '.join(found)}, not one model that can be loaded" if found else "no run says which model"
    return PAPER_MODEL, (f"{told}: the files name the paper's, {PAPER_MODEL}; --model NAME names another",)


def _loadable(told: str) -> str:
    """The model in what a run calls its own ("name (dtype=…)"): a folder, an embedded one or a Hub id; "" if it is none."""
    name, _, options = told.partition(" (")
    known = (
        name in EMBEDDED or Path(name, "config.json").is_file() or re.fullmatch(r"[\w-][\w.-]*/[\w-][\w.-]*", name, re.ASCII)
    )
    return name if known and not options.startswith("files ") and "revision=" not in options else ""


def _runs(directory: Path) -> list[Path]:
    """The run directories at the root of a folder."""
    if (directory / "run.json").is_file():
        return [directory]
    try:
        inputs = json.loads((directory / "build.json").read_text("utf-8"))["settings"]["inputs"]
    except OSError as error:
        raise InputError(f"{directory}: expected a run of `skillfactory curate` or traces of `skillfactory build`") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{directory / 'build.json'}: not what `skillfactory build` wrote: {error}") from error
    return [folder for folder in map(place, inputs) if (folder / "run.json").is_file()]
