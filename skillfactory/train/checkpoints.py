"""The folder of a training: who works on it, where it was stopped, and what it was made from.

    training.json   settings, the names of the files that we write and, at the end, the totals: `finished` says which
    metrics.jsonl   one line per logged step
    tracking/       what trackers write
    checkpoints/    work in progress, at most one complete checkpoint; gone at the end

A checkpoint counts when its `complete.json` is there, which is written last, so that one which a kill tore is passed over.
What is to stay is written under checkpoints/ too and moved when its names stand in training.json, so that starting anew
removes what we wrote and nothing of the user's.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from skillfactory import __version__
from skillfactory.errors import ConfigError, InputError
from skillfactory.rundir import locked, write_text

ACCOUNT, METRICS, COMPLETE, ROLLOUTS = "training.json", "metrics.jsonl", "complete.json", "rollouts.jsonl"
FREE = {  # settings that may change between a stop and going on: they change no result, or its rounding alone
    *(f"rollouts.{name}" for name in ("vllm_url", "vllm_memory")),
    *(f"running.{name}" for name in ("device", "gradient_checkpointing", "tokens_per_pass", "save_steps", "log_steps")),
    *(f"running.{name}" for name in ("keep_every", "sample_every", "samples", "report_to")),
}
_LOCK = {".lock", ".holder"}
_OURS = (ACCOUNT, METRICS)  # written in the folder from the start
_FOLDERS = ("checkpoints", "tracking")  # in which all is ours


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
    _files: set[str] = field(default_factory=lambda: set(_OURS))
    _said: dict[str, Any] = field(default_factory=dict)

    @property
    def checkpoints(self) -> Path:
        """Where the trainer writes its checkpoints."""
        return self.folder / "checkpoints"

    @property
    def tracking(self) -> Path:
        """Where trackers write."""
        return self.folder / "tracking"

    @property
    def staged(self) -> Path:
        """Where files that are to stay are written first, by the names that they will have in the folder."""
        return self.checkpoints / "staged"

    def own(self, name: str) -> None:
        """Puts down a file as ours before it is written in the folder."""
        self._files.add(name)
        self.note()

    def settle(self) -> None:
        """Moves what is staged into the folder, once training.json names it."""
        names = sorted(str(path.relative_to(self.staged)) for path in self.staged.rglob("*") if path.is_file())
        self._files |= set(names)
        self.note()
        for name in names:
            place = self.folder / name
            place.parent.mkdir(parents=True, exist_ok=True)
            (self.staged / name).replace(place)
        shutil.rmtree(self.staged, ignore_errors=True)

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
        """Moves what is staged, the model, into the folder and closes training.json with `values`; gives its content back."""
        self._said |= values
        self.settle()
        account = self._write(finished=True)
        shutil.rmtree(self.checkpoints, ignore_errors=True)
        return account

    def _write(self, finished: bool) -> dict[str, Any]:
        head = {"command": self.command, "version": __version__, "settings": self.settings, "finished": finished}
        account: dict[str, Any] = {**head, **self._said, "files": sorted(self._files)}
        write_text(self.folder / ACCOUNT, json.dumps(account, indent=2, ensure_ascii=False) + "\n")
        return account


@contextmanager
def claimed(folder: Path, command: str, settings: Mapping[str, Any], overwrite: bool) -> Iterator[Work]:
    """Holds a training folder, new, stopped or finished, for this process.

    `settings` are JSON-safe: all that the trained model depends on, and those that are FREE to change. With `overwrite` a
    training that is finished, or that has other settings, is removed; a stopped one of the same settings goes on even so.
    Errors: ConfigError if the folder holds a training with other settings; InputError if it holds something else, or an
    account or checkpoint that is damaged; RunLockedError if another process is at it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with locked(folder):
        settings = json.loads(json.dumps(settings))
        state = _state(folder)
        changed = [] if state is None else _changed(state, command, settings)
        if changed and not overwrite:
            raise ConfigError(
                f"{folder}: holds a training with other settings ({', '.join(changed)}); "
                "choose another --output, or add --overwrite to start anew"
            )
        if state is not None and overwrite and (changed or state["finished"]):
            _clear(folder, state)
            state = None
        if state is not None and state["finished"]:
            shutil.rmtree(folder / "checkpoints", ignore_errors=True)  # there if the process was killed while it removed them
            yield Work(folder, command, settings, finished=state, resume=None)
            return
        shutil.rmtree(folder / "checkpoints" / "staged", ignore_errors=True)  # torn
        resume = _latest(folder / "checkpoints")
        if state is not None and resume is None:  # nothing to go on from: what it has kept so far goes too
            _clear(folder, state)
            state = None
        if resume is not None:
            cut(folder / METRICS, resume.step)
        work = Work(folder, command, settings, finished=None, resume=resume)
        work._files |= set((state or {}).get("files", ()))
        work.note()
        yield work


def _state(folder: Path) -> dict[str, Any] | None:
    """The content of training.json, None for a new folder."""
    path = folder / ACCOUNT
    if path.exists():
        state = _read(
            path, {"command": str, "settings": dict, "finished": bool}, f"remove {folder}, or choose another --output"
        )
        if not isinstance(state.get("files", []), list):
            raise InputError(f"{path}: damaged (files is no list); remove {folder}, or choose another --output")
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
        if name in FREE:
            continue
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
    for name in _FOLDERS:
        shutil.rmtree(folder / name, ignore_errors=True)
    for name in (*state.get("files", ()), METRICS):
        path = folder / str(name)
        if name != ACCOUNT and path.resolve().is_relative_to(folder.resolve()):
            path.unlink(missing_ok=True)
            for parent in path.relative_to(folder).parents:  # folders of ours, if nothing else is in them
                if parent.name and (folder / parent).is_dir() and not any((folder / parent).iterdir()):
                    (folder / parent).rmdir()
    (folder / ACCOUNT).unlink()


def _latest(folder: Path) -> Checkpoint | None:
    """The last complete checkpoint; torn ones are removed."""
    found = []
    for path in folder.glob("checkpoint-*"):
        if (path / COMPLETE).exists():
            said = _read(path / COMPLETE, {"step": int, "totals": dict}, f"remove {path}: the training then starts anew")
            found.append(Checkpoint(path, said["step"], said["totals"]))
        else:
            shutil.rmtree(path)
    return max(found, key=lambda checkpoint: checkpoint.step, default=None)


def _read(path: Path, expected: Mapping[str, type], remedy: str) -> dict[str, Any]:
    """The JSON object of a file with fields of the `expected` types; InputError, with the remedy, if there is another."""
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: damaged ({error}); {remedy}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: damaged (expected an object); {remedy}")
    wrong = next((name for name, kind in expected.items() if not isinstance(found.get(name), kind)), None)
    if wrong:
        raise InputError(f"{path}: damaged ({wrong} is missing or of another type); {remedy}")
    return found


def cut(path: Path, step: int) -> None:
    """Drops the lines of a JSONL file past `step`, which will be written again, and one that a kill tore."""
    if path.exists():
        lines = path.read_text("utf-8").split("\n")[:-1]
        write_text(path, "".join(f"{line}\n" for n, line in enumerate(lines, 1) if _step(path, n, line) <= step))


def _step(path: Path, number: int, line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path}, line {number}: damaged, it names no step; remove the line, or {path.name}") from error
