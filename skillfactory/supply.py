"""Distinct questions of several tasks in the shares asked for: what reinforcement asks, here or in another trainer."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from skillfactory.errors import ConfigError, InputError, unknown
from skillfactory.funnel import Funnel
from skillfactory.records import Drop, Question
from skillfactory.suites import options_of
from skillfactory.tasks import TASKS, resolve
from skillfactory.tasks.base import Task

_TRIES = 50  # items looked at per distinct question; a level may hold few


@dataclass(frozen=True, slots=True)
class Source:
    """A task and level with its share of the questions."""

    label: str  # as metrics call it, e.g. "countdown:mini"
    task: Task
    level: str
    weight: float
    name: str  # of the task, as `tasks.resolve` takes it
    option: Mapping[str, Any]  # the task's own


@dataclass(frozen=True, slots=True)
class Asked:
    """A question with its source."""

    question: Question
    source: Source


@dataclass(frozen=True, slots=True)
class Pool:
    """The questions, and what became of those that were looked at."""

    asked: Sequence[Asked]
    funnel: Funnel
    notes: tuple[str, ...]


def sources(entries: Sequence[str], options: Mapping[str, Any]) -> list[Source]:
    """The sources that `TASK[:LEVEL][@WEIGHT]` entries name; TASK is a name or module:object.

    An option is of the one task there is, or `TASK.OPTION`. ConfigError for an unknown task, level or option, a weight that
    is no number above 0, and an entry that stands twice.
    """
    parts = [_parts(entry) for entry in entries]
    names = list(dict.fromkeys(name for name, _, _ in parts))
    found = [_source(name, level, weight, options_of(name, names, options)) for name, level, weight in parts]
    labels = Counter(source.label for source in found)
    twice = next((label for label, count in labels.items() if count > 1), None)
    if twice:
        raise ConfigError(f"task: '{twice}' stands twice; give it once, with @WEIGHT for its share")
    return found


def _parts(entry: str) -> tuple[str, str, float]:
    """Name, level ("" for the task's first) and weight of an entry."""
    bare, at, text = entry.rpartition("@")
    try:
        weight = float(text) if at else 1.0
    except ValueError:
        weight = 0.0
    bare = bare if at else entry
    if not bare or not 0 < weight < float("inf"):
        raise ConfigError(f"task: expected TASK[:LEVEL][@WEIGHT] with a weight above 0, came '{entry}'")
    pieces = bare.split(":")
    size = 1 if pieces[0] in TASKS or len(pieces) == 1 else 2  # module:object has a colon of its own
    return ":".join(pieces[:size]), ":".join(pieces[size:]), weight


def _source(name: str, level: str, weight: float, options: Mapping[str, Any]) -> Source:
    task = resolve(name, options)
    level = level or task.levels[0]
    if level not in task.levels:
        raise unknown(f"level of {name}", level, task.levels)
    return Source(f"{name}:{level}", task, level, weight, name, dict(options))


def gather(found: Sequence[Source], n: int, seed: int, split: str, stage: str = "grpo") -> Pool:
    """`n` distinct questions, shared out by weight, or as many as there are; InputError if a source has none.

    `stage` is the one that the account names.
    """
    counts: Counter[str] = Counter()
    asked: list[Asked] = []
    notes = []
    for source, wanted in zip(found, shares([source.weight for source in found], n), strict=True):
        own = [Asked(question, source) for question in _distinct(source, wanted, seed, split, counts)]
        if not own and wanted:
            raise InputError(f"{source.label}: the split {split} holds no question that can be used")
        if len(own) < wanted:
            notes.append(f"{source.label}: {len(own):,} distinct questions of the split {split} were found, not {wanted:,}")
        asked += own
    return Pool(asked, Funnel(stage, "questions", len(asked) + counts.total(), len(asked), dict(counts)), tuple(notes))


def _distinct(source: Source, wanted: int, seed: int, split: str, counts: Counter[str]) -> Iterator[Question]:
    """Up to `wanted` questions that differ by more than wording and order; counts those passed over."""
    seen: set[str] = set()
    for item in source.task.questions(wanted * _TRIES, source.level, seed, split):
        if len(seen) == wanted:
            return
        if isinstance(item, Drop):
            counts[item.reason] += 1
            continue
        canonical = source.task.canonical(item)
        if canonical in seen:
            counts["repeated"] += 1
            continue
        seen.add(canonical)
        yield item


def shares(weights: Sequence[float], n: int) -> list[int]:
    """`n` in parts proportional to `weights`, the largest remainders rounded up."""
    exact = [n * weight / sum(weights) for weight in weights]
    parts = [int(part) for part in exact]
    for i in sorted(range(len(exact)), key=lambda i: parts[i] - exact[i])[: n - sum(parts)]:
        parts[i] += 1
    return parts
