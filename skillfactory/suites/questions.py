"""The held-out questions of a group: different ones, of one part of the eval split.

The hash of a question's canonical text says whether it is a development or a test question, so no seed, level or number of
questions can bring one into the other part.
"""

from collections import deque
from collections.abc import Iterator

from skillfactory.errors import InputError
from skillfactory.records import Drop, Question
from skillfactory.seeds import derive
from skillfactory.suites import Group, Part
from skillfactory.tasks.base import Task

DEV = 25  # percent of the eval split
_SHARES = {"dev": DEV / 100, "test": 1 - DEV / 100, "all": 1.0}
_DRAWS = 10**9  # no end is meant: a world that is too small shows earlier
_PATIENCE = 25  # draws for each question known; the last of n equally likely ones stays hidden so long once in e**25 times


def part_of(canonical: str) -> Part:
    """The part, dev or test, that an eval question belongs to by its canonical text, whatever the seed."""
    return "dev" if derive(0, "part", canonical) % 100 < DEV else "test"


def held_out(group: Group, task: Task, seed: int) -> Iterator[Question | Drop]:
    """The group's questions, no two the same, with the unusable rows on the way as drops.

    The first ones stay the same when more are asked for. InputError, which says how many there are, when
    they are too few; a group that may be exhausted ends then.
    """
    seen: set[int] = set()
    idle = 0  # draws since the last new question
    level = group.level or task.levels[0]
    for item in task.questions(_DRAWS if group.questions else None, level, seed, "eval"):
        canonical = None if isinstance(item, Drop) else task.canonical(item)
        key = derive(0, canonical) if canonical is not None else 0
        if canonical is not None and key not in seen and group.part in ("all", part_of(canonical)):
            seen.add(key)
            idle = 0
            yield item
            if len(seen) == group.questions:
                return
            continue
        idle += 1
        if group.questions and idle > 1000 + _PATIENCE / _SHARES[group.part] * len(seen):
            break
        if canonical is None:
            yield item
    if group.questions and not (group.exhaust and seen):
        raise InputError(
            f"group {group.name}: {group.task} (level {level}, {group.part} part of eval) has {len(seen):,} different "
            f"questions, not the {group.questions:,} that are wanted; ask for fewer (--questions) or for another part or level"
        )


def check_supply(group: Group, task: Task, seed: int) -> None:
    """Draws the group's questions once, so that what is wrong with them shows before a model is loaded."""
    deque(held_out(group, task, seed), maxlen=0)
