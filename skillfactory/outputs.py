"""What is at a path: which command wrote a folder, told from the files in it, and the stages of a study's folder."""

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError
from skillfactory.places import is_url


class What(StrEnum):
    """What a folder holds: the command that wrote it."""

    CURATION = "curate"
    TRACES = "build"
    SFT = "sft"
    GRPO = "grpo"
    EVALUATION = "evaluate"
    BUDGET = "budget"
    INTERVENTION = "intervene"
    STUDY = "run"


Use = tuple[str, int | None]  # an arm and its seed

# file: the commands whose account it is
_ACCOUNTS: Mapping[str, tuple[What, ...]] = {
    "run.json": (What.CURATION, What.EVALUATION, What.BUDGET, What.INTERVENTION),
    "build.json": (What.TRACES,),
    "training.json": (What.SFT, What.GRPO),
}
_STUDY, _STAGES, _DONE, _OUT = "study.json", "stages", "done.json", "out"
_EXPECTED = (
    "a folder that `skillfactory curate`, `build`, `sft`, `grpo`, `evaluate`, `budget`, `intervene` or `run` has written"
)


@dataclass(frozen=True, slots=True)
class Output:
    """A folder that a command has written. Two outputs of one reading never share a label.

    A folder of a study may serve several arms, and an arm that trains nothing has one folder for all its seeds.
    """

    what: What
    path: Path
    label: str
    uses: tuple[Use, ...] = ()  # each arm and seed that rests on it; () where nobody named an arm
    model: str = ""  # that was asked, or that the training began with
    study: Path | None = None  # the folder of the study that it is a stage of

    @property
    def arms(self) -> tuple[str, ...]:
        """The arms that rest on it, in order."""
        return tuple(dict.fromkeys(arm for arm, _ in self.uses))

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seeds that it serves, in order."""
        return tuple(dict.fromkeys(seed for _, seed in self.uses if seed is not None))

    @property
    def arm(self) -> str:
        """Its arms in words; "" if there are none."""
        return ", ".join(self.arms)

    @property
    def seed(self) -> int | None:
        """Its seed; None if it has none or serves several."""
        return self.seeds[0] if len(self.seeds) == 1 else None


def outputs(paths: Sequence[str]) -> list[Output]:
    """What is at each PATH or LABEL=PATH, a study as the outputs of its stages; InputError says what was expected there.

    LABEL=PATH,PATH, or the same label again, is several runs of one arm, which its first to last seed are.
    """
    named = [pair for text in paths for pair in _named(text)]
    studies = sum(what_is(path) is What.STUDY for _, path in named)
    runs = Counter(label for label, _ in named if label)
    count: Counter[str] = Counter()
    found: list[Output] = []
    for label, path in named:
        count[label] += 1
        if what_is(path) is What.STUDY:
            found += _headed(_stages(path), label or (path.resolve().name if studies > 1 else ""))
        else:
            several = runs[label] > 1
            uses = ((label, count[label] - 1 if several else None),) if label else ()
            folder = _folder(path)
            what = what_is(folder)
            found.append(Output(what, folder, f"{label}, run {count[label]}" if several else label, uses, _model(what, folder)))
    return _labelled(found)


def what_is(path: Path) -> What:
    """Which command wrote what is at `path`; InputError names the path, what was found and what was expected."""
    if not path.exists():
        raise InputError(f"{path}: there is no such folder; expected {_EXPECTED}")
    if not path.is_dir():
        raise InputError(f"{path}: a file; expected {_EXPECTED}")
    if (path / _STUDY).is_file() or (path / _STAGES).is_dir():
        return What.STUDY
    folder = _folder(path)
    for name, commands in _ACCOUNTS.items():
        if (folder / name).is_file():
            wrote = _read(folder / name).get("command")
            if wrote in commands:
                return What(wrote)
            raise InputError(f"{folder / name}: says that '{wrote}' wrote it; expected {', '.join(commands)}")
    held = sorted(entry.name for entry in folder.iterdir() if not entry.name.startswith("."))
    holds = f"holds {', '.join(held[:3])}{', …' if len(held) > 3 else ''}" if held else "is empty"
    raise InputError(f"{folder}: {holds}, but none of {', '.join((*_ACCOUNTS, _STUDY))}; expected {_EXPECTED}")


def _named(text: str) -> Iterator[tuple[str, Path]]:
    """The label ("" for none) and the path of each run that an argument names."""
    label, equals, rest = text.partition("=")
    if not equals or Path(text).exists():
        label, equals, rest = "", "", text
    for path in [rest] if Path(rest).exists() else rest.split(","):
        if not path.strip() or bool(equals) != bool(label.strip()):
            raise InputError(f"'{text}': expected PATH, LABEL=PATH or LABEL=PATH,PATH")
        if is_url(path.strip()):
            raise InputError(
                f"{text}: expected a folder on this machine, came a URL; copy the run here and name the copy (docs/runs.md)"
            )
        yield label.strip(), Path(path.strip())


def _folder(path: Path) -> Path:
    """The folder that the command wrote, where `path` is that of a study's stage, which holds its account beside it."""
    known = any((path / name).is_file() for name in _ACCOUNTS)
    return path / _OUT if not known and (path / _OUT).is_dir() else path


def _headed(found: Sequence[Output], head: str) -> Iterator[Output]:
    """The outputs of a study under its name, which tells its arms from those of another study; as they are without a name."""
    for each in found:
        uses = tuple((f"{head}: {arm}", seed) for arm, seed in each.uses)
        yield replace(each, label=f"{head}: {each.label}", uses=uses) if head else each


def _stages(study: Path) -> list[Output]:
    """The outputs of a study's finished stages, wherever the study was moved to; before its end, without arms and seeds."""
    account = _read(study / _STUDY) if (study / _STUDY).is_file() else None
    if account is None:
        names = [note.parent.name for note in sorted((study / _STAGES).glob(f"*/{_DONE}"))]
        found = [each for name in names for each in _stage(study, name, name, ())]
    else:
        try:
            found = list(_accounted(study, account))
        except (KeyError, TypeError, AttributeError) as error:
            raise InputError(
                f"{study / _STUDY}: expected the account of a study, with runs, arms and stages ({error!r}); "
                "`skillfactory run` with the study's recipe writes it anew"
            ) from error
    if not found:
        raise InputError(f"{study}: no stage of this study has ended yet; `skillfactory run` with its recipe goes on with it")
    return found


def _accounted(study: Path, account: Mapping[str, Any]) -> Iterator[Output]:
    """The outputs that study.json names. An evaluation belongs to rows of the table, anything else to arms."""
    judged: dict[str, list[Use]] = {}
    for run in account["runs"]:
        judged.setdefault(Path(run["output"]).parent.name, []).append((run["row"], run["seed"]))
    several = len({seed for arm in account["arms"] for seed in arm["seeds"]}) > 1
    for stage in account["stages"]:
        uses = tuple(judged.get(stage["id"], [(arm, stage["seed"]) for arm in stage["arms"]]))
        yield from _stage(study, stage["id"], _title(stage, uses, several), uses)


def _stage(study: Path, name: str, label: str, uses: tuple[Use, ...]) -> Iterator[Output]:
    """The output of a stage; nothing where it gives a file, or was removed."""
    folder = study / _STAGES / name / _OUT
    if folder.is_dir():
        what = what_is(folder)
        yield Output(what, folder, label, uses, _model(what, folder), study)


def _title(stage: Mapping[str, Any], uses: Iterable[Use], several: bool) -> str:
    """What a reader calls a stage: an evaluation is known by its arm, anything else by its own name too."""
    arms = ", ".join(dict.fromkeys(arm for arm, _ in uses))
    seeds = {seed for _, seed in uses} or {stage["seed"]}
    name = arms if stage["command"] == What.EVALUATION and arms else " ".join(filter(None, (stage["stage"], arms)))
    return f"{name}, seed {seeds.pop()}" if several and len(seeds) == 1 else name


def _model(what: What, folder: Path) -> str:
    """The model that a run asked, or that a training began with; "" for what has none."""
    if what is What.EVALUATION and (folder / "evaluation.json").is_file():
        return str(_read(folder / "evaluation.json").get("model", ""))
    if what in (What.SFT, What.GRPO):
        begun = _read(folder / "training.json").get("settings")
        return str(begun.get("model", "")) if isinstance(begun, dict) else ""
    return "" if what is What.TRACES else str(_read(folder / "run.json").get("model", ""))


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{path}: expected a JSON object, came a {type(found).__name__}")
    return found


def _labelled(found: Sequence[Output]) -> list[Output]:
    """The outputs, those without a label called by the end of their paths that tells them apart, and no two alike."""
    tails = {each.path: _tail(each.path) for each in found if not each.label}
    names = dict.fromkeys(tails, "")
    for length in range(1, max(map(len, tails.values()), default=0) + 1):
        shared = Counter(names.values())
        names = {path: name if name and shared[name] == 1 else "/".join(tails[path][-length:]) for path, name in names.items()}
    seen: Counter[str] = Counter()
    told = []
    for each in found:
        label = each.label or names[each.path]
        seen[label] += 1
        told.append(replace(each, label=label if seen[label] == 1 else f"{label} ({seen[label]})"))
    return told


def _tail(path: Path) -> tuple[str, ...]:
    """The parts of a path that may name it: all but the `out` of a study's stage."""
    parts = path.resolve().parts[1:] or (str(path),)
    return parts[:-1] if parts[-3::2] == (_STAGES, _OUT) else parts
