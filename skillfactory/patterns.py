"""The pattern language of layouts: which attempts make a trace, in which order, with which ending.

A layout is one line, e.g. `shuffle(C{0..max-1} I{0..C}) C -> answer; until=empty`; `docs/layouts.md` is its one-page manual.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum, StrEnum
from typing import Any

from skillfactory.errors import ConfigError, unknown
from skillfactory.skillset import SKILLS


class Want(Enum):
    """What a place in a pattern asks for."""

    RIGHT = "C"
    WRONG = "I"
    ANY = "A"


class Ending(StrEnum):
    """How a trace ends."""

    ANSWER = "answer"  # a closing phrase, the last attempt's answer
    CONFIRM = "confirm"  # a phrase that says it was confirmed more than once, the last attempt's answer
    BACKTRACK = "backtrack"  # back to the earlier correct attempt, repeated, then its answer
    LAST = "last"  # as ANSWER, but the last attempt may be wrong


@dataclass(frozen=True, slots=True)
class Bound:
    """A number in a pattern: `plus`, or `plus` more than the maximum or than the correct attempts drawn so far."""

    base: str  # "", "max" or "C"
    plus: int

    def value(self, maximum: int, correct: int = 0) -> int:
        if self.base == "":
            return self.plus
        return self.plus + (maximum if self.base == "max" else correct)


@dataclass(frozen=True, slots=True)
class Item:
    """A place, or a run of places, in a pattern."""

    want: Want
    low: Bound
    high: Bound
    star: bool = False  # takes what the total leaves
    group: int = 0  # items of one shuffled group share a number above 0
    single: bool = field(init=False)  # a fixed number of places

    def __post_init__(self) -> None:
        object.__setattr__(self, "single", not self.star and self.low == self.high and self.low.base == "")


@dataclass(frozen=True, slots=True)
class Layout:
    """A parsed pattern."""

    name: str
    items: tuple[Item, ...]
    ending: Ending
    low: Bound = Bound("", 1)  # of the total, where a star stretches
    high: Bound = Bound("max", 0)
    each: bool = False  # a trace for every total from low to high, instead of one drawn
    until_empty: bool = False
    reflected: bool = True
    reuse: bool = False  # may use attempts that other traces of the question use
    need: tuple[str, ...] = ()  # skills of which every attempt of a trace must show a block, as SKILLS or module:object
    show: tuple[str, ...] = ()  # skills whose blocks are shown of the attempts that have one
    order: tuple[int, ...] = field(init=False)  # of the items as they are filled: those first that ask for most

    @property
    def skills(self) -> tuple[str, ...]:
        """The skills whose blocks its traces show, in their order."""
        return tuple(dict.fromkeys((*self.need, *self.show)))

    def least(self, maximum: int) -> int:
        """The fewest attempts that a trace of it can have, where a star stretches."""
        return max(1, sum(item.low.value(maximum) for item in self.items if item.single), self.low.value(maximum))

    def __post_init__(self) -> None:
        items = self.items
        rank = [(item.star, not item.single, item.want is Want.ANY) for item in items]
        object.__setattr__(self, "order", tuple(sorted(range(len(items)), key=lambda k: rank[k])))


NAMED = {
    "0C": "C -> answer",
    "*C": "A* C -> answer; n=2..max",
    "*C_full": "A* C -> answer; each n=1..max",
    "*CC": "A* C C -> confirm; n=2..max",
    "*C*IC": "A* C A* I -> backtrack; n=2..max",
    "random": "A* -> last; n=1..max",
    "no_reflection": "A* C -> answer; each n=1..max; reflections=off",
    "paper": "shuffle(C{0..max-1} I{0..C}) C -> answer; until=empty",
}
"""The released formats and the paper's Algorithm 1 (method section 2)."""

_ITEM = re.compile(r"\s*(?:([CIA])(\*|\{([^{}]*)\})?|(shuffle\()|(\)))")
_BOUND = re.compile(r"(max|C)?\s*([+-]?\s*\d{1,4})?")


def parse_layout(text: str) -> Layout:
    """The layout that a name, a pattern, or `name = pattern` stands for; ConfigError says what can't be read, and where.

    Options may follow a name of NAMED as they follow a pattern.
    """
    name, _, pattern = text.partition("=")
    if "->" in name or ";" in name or not pattern.strip():
        name, pattern = text, text
    known, mark, more = pattern.partition(";")
    body = f"{NAMED.get(known.strip(), known.strip())}{mark}{more}".strip()
    if "->" not in body:
        raise unknown("layout", body, NAMED)
    if not name.strip() or "|" in name or not name.strip().isprintable():
        raise ConfigError(f"layout '{body}': expected a name without line breaks and '|' before '=', not {name.strip()!r}")
    head, *options = body.split(";")
    shape, _, ending = head.partition("->")
    if ending.strip() not in list(Ending):
        raise ConfigError(f"layout '{body}': expected an ending after '->' ({', '.join(Ending)}), not '{ending.strip()}'")
    read: dict[str, Any] = {}
    for option in options:
        read |= _option(option.strip(), body)
    layout = Layout(name.strip(), tuple(_items(shape, body)), Ending(ending.strip()), **read)
    _validate(layout, body, "low" in read)
    return layout


_OPTIONS = {
    "until=empty": {"until_empty": True},
    "reflections=off": {"reflected": False},
    "reuse": {"reuse": True},
}


def _option(option: str, body: str) -> dict[str, Any]:
    """The fields of a layout that an option sets."""
    found = re.fullmatch(r"(each\s+)?n\s*=(.*)", option)
    if found:
        low, high = _range(found[2], body)
        if "C" in (low.base, high.base):
            raise ConfigError(f"layout '{body}': the total n can't depend on C")
        if (high.base, high.plus) == ("", 0):
            raise ConfigError(f"layout '{body}': a trace has at least one attempt, and n is {found[2].strip()}")
        return {"low": low, "high": high, "each": bool(found[1])}
    shown = re.fullmatch(r"(need|show)\s*=(.*)", option)
    if shown:
        return {shown[1]: tuple(_skills(shown[2], body))}
    if option not in _OPTIONS:
        others = ("n=LOW..HIGH", "each n=LOW..HIGH", "need=SKILL", "show=SKILL")
        raise unknown(f"option in layout '{body}':", option, [*_OPTIONS, *others])
    return _OPTIONS[option]


def _skills(text: str, body: str) -> Iterator[str]:
    """The skills of `subgoals+module:object`; whether a module:object is there shows when it is used."""
    for name in map(str.strip, text.split("+")):
        if ":" not in name and name not in SKILLS:
            raise unknown(f"skill in layout '{body}':", name, [*SKILLS, "module:object"])
        yield name


def _items(shape: str, body: str) -> Iterator[Item]:
    at, group, groups = 0, 0, 0
    while shape[at:].strip():
        found = _ITEM.match(shape, at)
        if not found or (found[4] and group) or (found[5] and not group):
            where = shape[at:].strip()[:20]
            raise ConfigError(
                f"layout '{body}': expected C, I, A (with *, {{n}} or {{low..high}}) or shuffle(...) at '{where}'"
            )
        at = found.end()
        if found[4]:
            groups += 1
            group = groups
        elif found[5]:
            group = 0
        elif found[2] == "*":
            yield Item(Want(found[1]), Bound("", 0), Bound("max", 0), True, group)
        elif found[3] is None:
            yield Item(Want(found[1]), Bound("", 1), Bound("", 1), False, group)
        else:
            low, high = _range(found[3], body)
            yield Item(Want(found[1]), low, high, False, group)
    if group:
        raise ConfigError(f"layout '{body}': shuffle( is not closed")


def _range(text: str, body: str) -> tuple[Bound, Bound]:
    """The bounds of `3`, `0..max-1`, `1..C`, …"""
    bounds = []
    for part in text.split(".."):
        found = _BOUND.fullmatch(part.strip())
        if not found or not found[0]:
            raise ConfigError(
                f"layout '{body}': expected a number, max, max-1 or C (correct ones so far), not '{part.strip()}'"
            )
        bounds.append(Bound(found[1] or "", int((found[2] or "0").replace(" ", ""))))
        if not found[1] and bounds[-1].plus < 0:
            raise ConfigError(f"layout '{body}': expected a number of attempts, not {bounds[-1].plus}")
    if len(bounds) > 2:
        raise ConfigError(f"layout '{body}': expected one number or low..high, not '{text}'")
    if bounds[0].base == bounds[-1].base and bounds[0].plus > bounds[-1].plus:
        raise ConfigError(f"layout '{body}': '{text}' is empty: its first number is above its second")
    return bounds[0], bounds[-1]


def _validate(layout: Layout, body: str, sized: bool) -> None:
    """Refuses patterns that promise what they can't hold."""
    items = layout.items
    stars = any(item.star for item in items)

    def refuse(why: str) -> None:
        raise ConfigError(f"layout '{body}': {why}")

    if not items:
        refuse("it holds no attempt")
    if sized and not stars:
        refuse("n= needs a place that stretches, such as A*")
    for k, item in enumerate(items):
        counted = "C" in (item.low.base, item.high.base)
        if counted and any(before.star and before.want is Want.RIGHT for before in items[:k]):
            refuse("a bound C can't count a C* before it, as stars are filled last")
    last = items[-1]
    ends = layout.ending
    if ends in (Ending.ANSWER, Ending.CONFIRM) and (last.want is not Want.RIGHT or not last.single or last.group):
        refuse(f"the ending '{ends}' needs a single correct attempt C at the end")
    if ends is Ending.CONFIRM and (
        len(items) < 2 or items[-2].want is not Want.RIGHT or not items[-2].single or items[-2].group
    ):
        refuse("the ending 'confirm' needs two correct attempts C C at the end")
    if ends is Ending.BACKTRACK:
        if last.want is not Want.WRONG or not last.single or last.group:
            refuse("the ending 'backtrack' needs a single incorrect attempt I at the end")
        if not any(item.want is Want.RIGHT and item.single for item in items[:-1]):
            refuse("the ending 'backtrack' needs a single correct attempt C before the last, to go back to")
