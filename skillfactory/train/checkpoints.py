"""The folder of a training: who works on it, where it was stopped, and what it was made from.

    training.json   settings and, at the end, the totals: `finished` says which
    metrics.jsonl   one line per logged step
    checkpoints/    work in progress, at most one complete checkpoint; gone at the end

A checkpoint counts when its `complete.json` is there, which is written last, so that one which a kill tore is passed over.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import Any

from skillfactory import __version__
from skillfactory.errors import ConfigError, InputError
from skillfactory.rundir import locked, write_text

ACCOUNT, METRICS, COMPLETE = "training.json", "metrics.jsonl", "complete.json"
_LOCK = {".lock", ".holder"}
_WHOLE = 64 * 2**20  # bytes; larger files of weights are known by their size


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A complete checkpoint, and what had been counted until then."""

    folder: Path
    step: int
    totals: Mapping[str, float]


@dataclass(slots=True)
class Work:
    """A training folder that this process holds."""

    folder: Path
    command: str
    settings: Mapping[str, Any]
    finished: Mapping[str, Any] | None  # the account of a finished training: there is nothing to do
    resume: Checkpoint | None  # where to go on; None: from the start
    _said: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        """Where the trainer writes its checkpoints."""
        return self.folder / "checkpoints"

    def note(self, **values: Any) -> None:
        """Adds JSON-safe values to training.json, such as the account of the rows, while the training goes on."""
        self._said |= values
        self._write(finished=False)

    def log(self, line: Mapping[str, Any]) -> None:
        """Adds a line to metrics.jsonl."""
        with (self.folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")

    def complete(self, step: int, totals: Mapping[str, float], updates: int = 1) -> None:
        """Declares the checkpoint of `step` complete, with what has been counted so far, and removes the earlier ones.

        The trainer counts `updates` for a step.
        """
        folder = self.checkpoints / f"checkpoint-{step * updates}"
        write_text(folder / COMPLETE, json.dumps({"step": step, "totals": dict(totals)}))
        for other in self.checkpoints.glob("checkpoint-*"):
            if other != folder:
                shutil.rmtree(other)

    def finish(self, **values: Any) -> dict[str, Any]:
        """Closes training.json with `values`, once the model is in the folder; gives its content back."""
        self._said |= values
        kept = (path for path in self.folder.rglob("*") if path.is_file() and self.checkpoints not in path.parents)
        self._said["files"] = sorted(str(path.relative_to(self.folder)) for path in kept if path.name not in _LOCK)
        account = self._write(finished=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return account

    def _write(self, finished: bool) -> dict[str, Any]:
        head = {"command": self.command, "version": __version__, "settings": self.settings, "finished": finished}
        account: dict[str, Any] = {**head, **self._said}
        write_text(self.folder / ACCOUNT, json.dumps(account, indent=2, ensure_ascii=False) + "\n")
        return account


@contextmanager
def claimed(folder: Path, command: str, settings: Mapping[str, Any], overwrite: bool) -> Iterator[Work]:
    """Holds a training folder, new, stopped or finished, for this process.

    `settings` are JSON-safe: all that the trained model depends on. Errors: ConfigError if the folder holds a training with
    other settings, unless `overwrite`, which starts anew; InputError if it holds something else; RunLockedError if another
    process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        settings = json.loads(json.dumps(settings))
        state = _state(folder)
        changed = [] if state is None else _changed(state, command, settings)
        if state is not None and changed:
            if not overwrite:
                raise ConfigError(
                    f"{folder}: holds a training with other settings ({', '.join(changed)}); "
                    "choose another --output, or add --overwrite to start anew"
                )
            _clear(folder, state)
            state = None
        if state is not None and state["finished"]:
            yield Work(folder, command, settings, finished=state, resume=None)
            return
        resume = _latest(folder / "checkpoints")
        _cut(folder / METRICS, resume.step if resume else 0)
        work = Work(folder, command, settings, finished=None, resume=resume)
        work.note()
        yield work


def fingerprint(path: Path, pattern: str = "*") -> str:
    """A hash of what a file, or the files of a folder that fit `pattern`, hold; very large weights by their size.

    An account of a training is passed over: it tells how long it took.
    """
    sum_ = blake2b(digest_size=8)
    files = [path] if path.is_file() else sorted(file for file in path.glob(pattern) if file.is_file() and file.name != ACCOUNT)
    for file in files:
        sum_.update(f"{file.name}\x1f{file.stat().st_size}\x1f".encode())
        if file.suffix != ".safetensors" or file.stat().st_size <= _WHOLE:
            with file.open("rb") as opened:
                while block := opened.read(2**20):
                    sum_.update(block)
    return sum_.hexdigest()


def _state(folder: Path) -> dict[str, Any] | None:
    """The content of training.json, None for a new folder."""
    path = folder / ACCOUNT
    if path.exists():
        state: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return state
    foreign = sorted({entry.name for entry in folder.iterdir()} - _LOCK)
    if foreign:
        raise InputError(
            f"{folder}: not empty (it holds {foreign[0]}), and no {ACCOUNT} says that a training wrote it; "
            "choose another --output"
        )
    return None


def _changed(state: Mapping[str, Any], command: str, settings: Mapping[str, Any]) -> list[str]:
    """What differs, as `name: old → new`, or the name alone where that would be long."""
    old, new = (_flat({"command": name, **said}) for name, said in ((state["command"], state["settings"]), (command, settings)))
    words = []
    for name in sorted({*old, *new}):
        was, now = json.dumps(old.get(name)), json.dumps(new.get(name))
        if was != now:
            words.append(f"{name}: {was} → {now}" if len(was) + len(now) <= 80 else name)
    return words


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return flat


def _clear(folder: Path, state: Mapping[str, Any]) -> None:
    """Removes what an earlier training wrote, and nothing else; the account last, so that a kill leaves it claimable."""
    shutil.rmtree(folder / "checkpoints", ignore_errors=True)
    for name in (*state.get("files", ()), METRICS, ACCOUNT):
        path = folder / name
        if name != ACCOUNT and path.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)
    (folder / ACCOUNT).unlink()


def _latest(folder: Path) -> Checkpoint | None:
    """The last complete checkpoint; torn ones are removed."""
    found = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).exists():
            said = json.loads((path / COMPLETE).read_text("utf-8"))
            found.append(Checkpoint(path, said["step"], said["totals"]))
        else:
            shutil.rmtree(path)
    return max(found, key=lambda checkpoint: checkpoint.step, default=None)


def _cut(path: Path, step: int) -> None:
    """Drops the lines past `step`, which will be written again, and one that a kill tore."""
    if path.exists():
        lines = path.read_text("utf-8").splitlines(keepends=True)
        write_text(path, "".join(line for line in lines if line.endswith("\n") and json.loads(line)["step"] <= step))
