"""What generated tasks share: splits that never overlap, items drawn by name, and facts read with care.

A question's *canonical* text (order and wording left out) is hashed, and the hash decides the one split that it can ever
be drawn for. So no seed, level, option or number of items can bring a question of one split into another.
"""

from collections.abc import Iterator, Mapping
from random import Random
from typing import Any, Protocol

from skillfactory.errors import InputError, unknown
from skillfactory.records import Question
from skillfactory.seeds import derive, digest, rng

SHARES = {"sft": 40, "rl": 40, "eval": 20}  # percent of all canonical questions
SPLITS = tuple(SHARES)
MAX_DRAWS = 10_000  # per item; a draw that can be used comes up every few tries unless the task's options leave hardly any

Facts = Mapping[str, Any]


def split_of(canonical: str) -> str:
    """The split that a canonical question belongs to, whatever the seed."""
    bucket = derive(0, "split", canonical) % 100
    for split, share in SHARES.items():
        if bucket < share:
            return split
        bucket -= share
    raise AssertionError("the shares add up to 100")


class Drawable(Protocol):
    """What a generated task gives so that its items can be drawn. Every option has a default."""

    @property
    def name(self) -> str:
        """The task's name."""

    @property
    def levels(self) -> tuple[str, ...]:
        """Its levels."""

    def draw(self, level: str, random: Random) -> tuple[Facts, str] | None:
        """The facts of a random question of `level` and its gold answer, or None if this draw came to nothing."""

    def key(self, facts: Facts) -> str:
        """The canonical text of the question that `facts` describe."""

    def prompt(self, facts: Facts) -> str:
        """What the user turn says."""


def draw_questions(task: Drawable, n: int | None, level: str, seed: int, split: str) -> Iterator[Question]:
    """The first `n` items of a generated task, each a function of (seed, level, split, its index) and the task's options.

    InputError if `n` is None or negative; ConfigError for an unknown level or split. All are raised at the call.
    """
    if n is None or n < 0:
        raise InputError(f"{task.name} is generated without end: say how many questions you want (n >= 0), not {n}")
    if level not in task.levels:
        raise unknown(f"level of {task.name}", level, task.levels)
    if split not in SPLITS:
        raise unknown("split", split, SPLITS)
    return (_item(task, level, seed, split, index) for index in range(n))


def _item(task: Drawable, level: str, seed: int, split: str, index: int) -> Question:
    """Item `index`: draws until one is a question of `split`."""
    random = rng(seed, task.name, level, split, index)
    for _ in range(MAX_DRAWS):
        drawn = task.draw(level, random)
        if drawn is not None and split_of(task.key(drawn[0])) == split:
            facts, answer = drawn
            options = "" if task == type(task)() else f"-{digest(repr(task))[:6]}"
            ident = f"{task.name}-{level}-{split}-{seed}-{index}{options}"
            return Question(ident, task.name, level, task.prompt(facts), answer, facts)
    raise InputError(
        f"no {split} question of {task.name} (level {level}) came up in {MAX_DRAWS:,} draws: "
        f"the options of {task!r} leave too few questions; widen its ranges"
    )


def given_question(task: Drawable, facts: Facts, level: str) -> Question:
    """The question that checked `facts` describe; its gold answer isn't known and stays ""."""
    return Question(f"{task.name}-{digest(repr(facts))}", task.name, level, task.prompt(facts), "", facts)


def need(task: str, facts: Facts, name: str) -> Any:
    """The fact `name`, or an InputError that names the facts there are."""
    if name not in facts:
        found = ", ".join(sorted(map(str, facts))) or "none"
        raise InputError(f"{task}: the fact '{name}' is missing (found: {found})")
    return facts[name]


def is_brief(task: str, facts: Facts) -> bool:
    """Whether `facts` describe a question in few words, as the levels `mini` have them."""
    brief = facts.get("brief", False)
    if type(brief) is not bool:
        raise InputError(f"{task}: 'brief' must be true or false, not {shown(brief)}")
    return brief


def whole_number(task: str, name: str, value: object, low: int, high: int) -> int:
    """`value` if it is a whole number from `low` to `high`, or an InputError that names the fact."""
    if type(value) is not int:  # True is an int too, and means something else
        raise InputError(f"{task}: '{name}' must be a whole number, not {shown(value)}")
    if not low <= value <= high:
        raise InputError(f"{task}: '{name}' must be from {low:,} to {high:,}, not {shown(value)}")
    return value


def listed(task: str, name: str, value: object, low: int, high: int) -> list[Any]:
    """`value` as a list of `low` to `high` things, or an InputError that names the fact."""
    if not isinstance(value, list | tuple):
        raise InputError(f"{task}: '{name}' must be a list, not {shown(value)}")
    if not low <= len(value) <= high:
        raise InputError(f"{task}: '{name}' must hold {low} to {high} entries, not {len(value)}")
    return list(value)


def shown(value: object) -> str:
    """`value` for a message: its type and its beginning."""
    if isinstance(value, int) and abs(value) >= 10**40:
        return "an int of more than 40 digits"  # printing a huge one takes time that grows with its square
    text = repr(value[:40] if isinstance(value, str) else value)
    return f"the {type(value).__name__} {text[:60]}"
