"""What a run directory says of itself: its stage, its lock, run.json and README.md."""

import json
import os
import platform
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Generic, TypeVar

import pyarrow as pa
from filelock import FileLock, Timeout

from skillfactory import __version__
from skillfactory.errors import ConfigError, InputError, RunLockedError
from skillfactory.holding import held
from skillfactory.ledger import COMPLETIONS
from skillfactory.pieces import Pieces
from skillfactory.places import address, files, is_remote, make_folder, names, parquet, replacing
from skillfactory.seeds import digest

T = TypeVar("T")
Rows = Mapping[str, Sequence[Mapping[str, Any]]]  # by table


@dataclass(frozen=True)
class Stage(Generic[T]):
    """What a stage tells the run directory about itself. `T` is what its flows return."""

    command: str
    model: str  # a run directory holds the texts of one model
    settings: Mapping[str, Any]  # JSON-safe; all that the results depend on
    notes: Mapping[str, Any]  # JSON-safe; what is worth a record and changes no result, such as the engine's options
    schemas: Mapping[str, pa.Schema]  # the result tables
    rows: Callable[[T], Rows]  # the rows that one flow adds to each table
    counts: Callable[[T], Mapping[str, int]]  # what one flow adds to the run's account
    title: str
    packages: tuple[str, ...] = ()  # whose versions are recorded
    regraded: int = 0  # how often its stored texts were graded again on demand

    @property
    def stamp(self) -> str:
        """What a finished block must carry to be current: a hash of all that its results depend on."""
        parts = [self.command, self.model, self.settings, __version__, *([self.regraded] if self.regraded else [])]
        return digest(json.dumps(parts, sort_keys=True))


@contextmanager
def locked(directory: Path) -> Iterator[Callable[[], None]]:
    """Holds a run directory, made if need be, for this process; the system frees the lock of a killed one.

    What it gives is to be called now and then: RunLockedError if the directory was lost to another process, which can happen
    elsewhere (`holding`).
    """
    if is_remote(directory):
        with held(directory) as check:
            yield check
        return
    make_folder(directory)
    lock, holder = FileLock(directory / ".lock"), directory / ".holder"
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        who = holder.read_text("utf-8") if holder.exists() else "unknown"
        raise RunLockedError(
            f"{directory}: another process is at work on this run directory ({who}); wait for it, end it, or choose another one"
        ) from error
    try:
        holder.write_text(f"process {os.getpid()} on {socket.gethostname()}", "utf-8")
        yield _nothing_lost
    finally:
        holder.unlink(missing_ok=True)
        lock.release()


def _nothing_lost() -> None:
    """The lock of the operating system is kept until the end."""


_FIRST = (".lock", ".holder*", "README.md", ".*.tmp")  # what a run writes before its run.json


def read_state(directory: Path, stage: Stage[Any]) -> dict[str, Any] | None:
    """The content of run.json, None for a new directory; an error if the directory isn't this stage's and model's.

    One that holds no text yet is new: its engine never started, perhaps because the model's name was mistyped.
    """
    path = directory / "run.json"
    if not path.exists():
        foreign = [name for name in names(directory) if not any(fnmatchcase(name, known) for known in _FIRST)]
        if foreign:
            raise InputError(
                f"{address(directory)}: not a run directory (it has no run.json) and not empty (it holds {foreign[0]})"
            )
        return None
    state: dict[str, Any] = json.loads(path.read_text("utf-8"))
    if (state["command"], state["model"]) == (stage.command, stage.model):
        return state
    if not files(directory, "ledger-*.jsonl") and not names(directory / "completions"):
        return None
    if state["command"] != stage.command:
        raise ConfigError(
            f"{address(directory)}: holds a run of '{state['command']}', not of '{stage.command}'; choose another directory"
        )
    raise ConfigError(
        f"{address(directory)}: holds texts of the model '{state['model']}', not of '{stage.model}'; "
        "a run directory is of one model: choose another directory"
    )


def history_of(state: dict[str, Any] | None, stage: Stage[Any]) -> list[Any]:
    """The settings of the past, oldest first, without the current ones."""
    if state is None:
        return []
    past = {name: state[name] for name in ("settings", "notes", "versions")}
    history: list[Any] = state["history"]
    return history if past == _present(stage) else [*history, past]


def changes(state: dict[str, Any] | None, stage: Stage[Any]) -> list[str]:
    """What is different from the settings that the directory was last worked on with, in words; [] for a new directory."""
    return [] if state is None else list(_different("", state["settings"], _present(stage)["settings"]))


def _different(name: str, old: Any, new: Any) -> Iterator[str]:
    if isinstance(old, dict) and isinstance(new, dict):
        for key in sorted({*old, *new}):
            yield from _different(key, old.get(key), new.get(key))
    elif old != new:
        brief = all(len(str(value)) <= 40 for value in (old, new))
        yield f"{name}: {json.dumps(old)} → {json.dumps(new)}" if brief else name


def _present(stage: Stage[Any]) -> dict[str, Any]:
    versions = {"skillfactory": __version__, "python": platform.python_version()}
    versions |= {name: _version(name) for name in ("pyarrow", *stage.packages)}
    present = {"settings": stage.settings, "notes": stage.notes, "versions": versions}
    plain: dict[str, Any] = json.loads(json.dumps(present))
    return plain


def write_state(
    directory: Path, stage: Stage[Any], history: list[Any], ended: Mapping[str, Any] | None = None, regrading: bool = False
) -> None:
    """Writes run.json, with the account of a run that has `ended`.

    It holds no times, so that an undisturbed and a resumed run end with the same bytes.
    """
    state: dict[str, Any] = {"command": stage.command, "model": stage.model, **_present(stage), "stamp": stage.stamp}
    state |= {"regraded": stage.regraded} if stage.regraded else {}
    state |= {"regrading": True} if regrading else {}
    state |= {"finished": ended is not None, "history": history, **(ended or {})}
    write_text(directory / "run.json", json.dumps(state, indent=2, ensure_ascii=False) + "\n")


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def readme(stage: Stage[Any], finished: Path | None = None) -> str:
    """The directory's card: its front matter tells `datasets` where the tables are.

    That of a `finished` directory names those with rows alone, because `datasets` takes an empty one for a mistake.
    """
    tables = (*stage.schemas, "completions")
    filled = [name for name in tables if finished is None or _has_rows(finished / name)]
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in filled)
    front = f"---\nconfigs:\n{configs}---\n\n" if filled else ""
    columns = "".join(
        f"| `{name}` | {', '.join(f'`{c}`' for c in (stage.schemas.get(name) or COMPLETIONS).names)} |\n" for name in tables
    )
    return (
        f"{front}# {stage.title}\n\n"
        "Written by `skillfactory " + stage.command + "`; `run.json` holds its settings and its account.\n\n"
        f"| table | columns |\n|---|---|\n{columns}\n"
        'Read one with `datasets.load_dataset(DIRECTORY, "NAME")` or `pandas.read_parquet(DIRECTORY + "/NAME")`.\n'
    )


def _has_rows(table: Path) -> bool:
    for part in files(table, "*.parquet"):
        with parquet(part) as file:
            if file.metadata.num_rows:
                return True
    return False


class Log:
    """What tells of time: log.jsonl, or elsewhere files log-BEGIN-….jsonl, each with the lines of half a minute."""

    def __init__(self, directory: Path) -> None:
        self._path = directory / "log.jsonl"
        begun = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        self._pieces = Pieces(directory / f"log-{begun}.jsonl", every=30.0) if is_remote(directory) else None

    def add(self, values: Mapping[str, Any]) -> None:
        """Adds a line of JSON, which begins with the time."""
        line = json.dumps({"time": datetime.now(UTC).isoformat(timespec="seconds"), **values}).encode() + b"\n"
        if self._pieces:
            self._pieces.add(line)
        else:
            with self._path.open("ab") as file:
                file.write(line)

    def close(self) -> None:
        """Writes what is held back."""
        if self._pieces:
            self._pieces.close()


def write_text(path: Path, text: str) -> None:
    """Writes a file at once or not at all, on the disk when this returns."""
    with replacing(path) as file:
        file.write(text.encode())
