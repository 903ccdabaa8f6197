"""Plans: which attempts of a question's pool make its traces, as the layouts ask.

Planning is pure: the same pool, layouts and seed give the same plans. Every draw is uniform among the unused attempts that
fit: it takes the first that fits in a seeded order, of which there are two, one for places that ask for a correct or an
incorrect attempt and one for places that take any (the leftovers of a search for correct ones are mostly incorrect). What is
drawn depends on no attempt further down the order. One that isn't known yet is taken on trust and reported as open: lazy
curation asks for the open ones and plans again, and ends with what a build from the whole pool draws.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from functools import lru_cache
from itertools import groupby, pairwise
from random import Random
from typing import Protocol

from skillfactory.errors import ConfigError
from skillfactory.markup import attempt_body, block_body
from skillfactory.patterns import Ending, Layout, Want, parse_layout
from skillfactory.records import Block, Drop
from skillfactory.seeds import draw_orders, rng
from skillfactory.skills.base import Skill, divide, resolved


class Fit(Enum):
    """Whether an attempt can take a place."""

    YES = 1
    NO = 2
    OPEN = 3  # not known yet; the planner takes it on trust


class Pool(Protocol):
    """A question's attempts by number, known or not, in any order."""

    @property
    def question_id(self) -> str:
        """The question's id, which seeds its draws."""

    @property
    def variants(self) -> Sequence[str]:
        """The prompt variant of every attempt."""

    @property
    def samples(self) -> Sequence[int]:
        """The number of every attempt within its variant."""

    def fits(self, i: int, want: Want, reflected: bool) -> Fit:
        """Whether attempt `i` is of the wanted correctness, holds an answer and, if `reflected`, has a valid reflection."""

    def text(self, i: int) -> str | None:
        """The text of attempt `i`, None if it isn't known yet; what looks the same in a trace is the same attempt."""


@dataclass(frozen=True, slots=True)
class Draw:
    """What to draw from every pool."""

    layouts: tuple[Layout, ...]
    weights: tuple[float, ...] = ()  # if given, each repeat draws one layout; if not, it builds them all
    max_attempts: int = 5  # L_max of the paper's Algorithm 1
    repeats: int = 1
    unique_variants: bool = False  # within a trace

    def skills(self) -> tuple[Skill, ...]:
        """The skills that the layouts show; ConfigError for one that can't be had."""
        return resolved(name for layout in self.layouts for name in layout.skills)

    @classmethod
    def read(cls, texts: Sequence[str], max_attempts: int = 5, repeats: int = 1, unique_variants: bool = False) -> "Draw":
        """The draw of layouts given as text, each `LAYOUT` or `LAYOUT@WEIGHT`; all or none have weights."""
        layouts, weights = [], []
        for text in texts:
            body, at, weight = text.rpartition("@")
            layouts.append(parse_layout(body if at else text))
            if at:
                weights.append(_weight(weight, text))
        if weights and len(weights) != len(layouts):
            raise ConfigError("either every layout has a weight (LAYOUT@WEIGHT) or none has")
        if not layouts:
            raise ConfigError("expected at least one layout")
        names = [layout.name for layout in layouts]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ConfigError(
                f"layout '{twice[0]}' is given twice; give its second form a name (NAME = PATTERN) or use repeats"
            )
        if max_attempts < 1 or repeats < 1:
            raise ConfigError(f"max_attempts and repeats must be at least 1, not {max_attempts} and {repeats}")
        for layout in layouts:
            least = layout.least(max_attempts)
            if layout.high.value(max_attempts) < least and any(item.star for item in layout.items):
                raise ConfigError(f"layout '{layout.name}' needs at least {least} attempts, and max_attempts is {max_attempts}")
        return cls(tuple(layouts), tuple(weights), max_attempts, repeats, unique_variants)


def _weight(text: str, whole: str) -> float:
    try:
        weight = float(text)
    except ValueError:
        weight = -1.0
    if not 0 < weight < float("inf"):
        raise ConfigError(f"layout '{whole}': expected a weight above 0 after '@', not '{text}'")
    return weight


@dataclass(frozen=True, slots=True)
class Plan:
    """The attempts of one trace, as numbers in the pool."""

    trace_id: str
    layout: Layout
    picks: tuple[int, ...]
    wants: tuple[Want, ...]  # what each pick's place asked for
    back: int | None = None  # the earlier correct attempt that a backtracking ending repeats


@dataclass(slots=True)
class Planned:
    """A question's plans, in order, with the drops of those that the pool could not fill."""

    plans: list[Plan] = field(default_factory=list)
    drops: list[Drop] = field(default_factory=list)
    open: dict[int, bool] = field(default_factory=dict)  # attempt taken on trust → whether a reflection is wanted of it


def plan(pool: Pool, draw: Draw, seed: int) -> Planned:
    """All plans for a question; each attempted trace ends as one plan or one drop, except the last of an `until=empty`."""
    planned = Planned()
    hand = Hand(pool, planned.open, seed)
    for repeat in range(draw.repeats):
        layouts: Sequence[Layout] = draw.layouts
        if draw.weights:
            layouts = rng(seed, pool.question_id, "layout", repeat).choices(layouts, draw.weights)
        for layout in layouts:
            name = f"{pool.question_id}/{layout.name}/{repeat}"
            _plan_layout(name, layout, draw, Hand(pool, planned.open, seed) if layout.reuse else hand, seed, planned)
    return planned


def _plan_layout(name: str, layout: Layout, draw: Draw, hand: "Hand", seed: int, planned: Planned) -> None:
    """Adds the plans of one layout, one repeat."""
    random = rng(seed, name)
    for number, total in enumerate(_totals(layout, draw.max_attempts, random, len(hand.variants))):
        trace_id = f"{name}/{number}"
        result = _Place(hand, layout, draw, random).plan(trace_id, total)
        if isinstance(result, Plan):
            planned.plans.append(result)
        elif not (layout.until_empty and number):
            planned.drops.append(result)
        if layout.until_empty and isinstance(result, Drop):
            return


def _totals(layout: Layout, maximum: int, random: Random, size: int) -> Iterator[int | None]:
    """The numbers of attempts of the traces to plan; None where the pattern itself says."""
    stars = any(item.star for item in layout.items)
    low = layout.least(maximum)
    high = max(low, layout.high.value(maximum))
    if layout.each:
        yield from range(low, high + 1)
        return
    for _ in range(size + 1 if layout.until_empty else 1):
        yield random.randint(low, high) if stars else None


@lru_cache(maxsize=4096)  # a question's attempts are looked at again and again
def divided(text: str, variant: str, skills: tuple[str, ...]) -> tuple[tuple[Block, ...], str]:
    """The blocks of an attempt that are shown with it, and what is left of its text."""
    return divide(text, variant, resolved(skills))


def lacking(layout: Layout, variant: str, text: str | None) -> Skill | None:
    """The first skill that a layout needs and an attempt has no block of; an unknown text has what its variant elicits."""
    needed = resolved(layout.need)
    foreign = next((skill for skill in needed if not skill.of(variant)), None)
    if foreign is not None or text is None:
        return foreign
    shown = {block.skill for block in divided(text, variant, layout.skills)[0]}
    return next((skill for skill in needed if skill.name not in shown), None)


def _looks(layout: Layout, variant: str, text: str) -> tuple[str, ...]:
    """How an attempt looks: by itself, and in a trace of the layout."""
    if not layout.skills:
        return (attempt_body(text),)
    blocks, rest = divided(text, variant, layout.skills)
    parts = [f"<{block.skill}>{block_body(block)}" for block in blocks]
    return (attempt_body(text), "".join([*parts, "<sample>", attempt_body(rest)]))


class Hand:
    """Draws attempts of a pool, each attempt and each text once."""

    def __init__(self, pool: Pool, opened: dict[int, bool], seed: int) -> None:
        self.pool, self.variants = pool, pool.variants
        self.opened = opened
        self.used: set[int] = set()
        self.texts: set[str] = set()
        self.short: str | None = None  # the skill for want of which the latest draw that failed passed over attempts
        of_a_kind, of_any = draw_orders(seed, pool.question_id, self.variants, pool.samples)
        self.orders = {Want.RIGHT: of_a_kind, Want.WRONG: of_a_kind, Want.ANY: of_any}

    def take(self, want: Want, layout: Layout, barred: set[str] | None) -> int | None:
        """The first attempt that fits and isn't used, its variant not `barred`; None if there is none."""
        pool = self.pool
        short: str | None = None
        for i in self.orders[want]:
            if i in self.used or (barred and self.variants[i] in barred):
                continue
            if layout.need and (lack := lacking(layout, self.variants[i], pool.text(i))):
                short = short or self._missed(i, want, lack)
                continue
            fit = pool.fits(i, want, layout.reflected)
            if fit is Fit.NO:
                continue
            text = pool.text(i)
            if text is not None:
                looks = _looks(layout, self.variants[i], text)
                if not self.texts.isdisjoint(looks):
                    continue
                self.texts.update(looks)
            if fit is Fit.OPEN:
                self.opened[i] = self.opened.get(i, False) or layout.reflected
            self.used.add(i)
            return i
        self.short = short or (self._absent(layout) if layout.need and self.variants else None)
        return None

    def _missed(self, i: int, want: Want, skill: Skill) -> str | None:
        """The skill's name if attempt `i` fits but for its block; None of other variants, which lazy curation may not know."""
        if self.pool.text(i) is None or not skill.of(self.variants[i]):
            return None
        return skill.name if self.pool.fits(i, want, False) is Fit.YES else None

    def _absent(self, layout: Layout) -> str | None:
        """The first skill that a layout needs and no variant of the pool elicits."""
        variants = set(self.variants)
        return next((skill.name for skill in resolved(layout.need) if not any(map(skill.of, variants))), None)

    def put_back(self, picks: Sequence[int], layout: Layout) -> None:
        """Frees attempts that a failed trace had taken."""
        self.used.difference_update(picks)
        known = ((i, text) for i in picks if (text := self.pool.text(i)) is not None)
        self.texts.difference_update(look for i, text in known for look in _looks(layout, self.variants[i], text))


class _Place:
    """One trace being planned: the picks of every item of its pattern."""

    def __init__(self, hand: Hand, layout: Layout, draw: Draw, random: Random) -> None:
        self.hand, self.layout, self.draw, self.random = hand, layout, draw, random
        self.picks: list[list[int]] = [[] for _ in layout.items]
        self.variants: set[str] = set()

    def plan(self, trace_id: str, total: int | None) -> Plan | Drop:
        """Fills the places that ask for most first: single ones before runs, correct or incorrect before any."""
        layout, most = self.layout, self.draw.max_attempts
        stars: list[int] = []
        for k in layout.order:
            item = layout.items[k]
            if item.star:
                stars.append(k)
                continue
            right = self._right_before(k) if "C" in (item.low.base, item.high.base) else 0
            low, high = item.low.value(most, right), item.high.value(most, right)
            self._fill(k, low if item.single else self.random.randint(low, max(low, high)))
            if len(self.picks[k]) < low:
                return self._fail(trace_id, item.want)
        if stars and total is not None:
            rest = max(0, total - sum(map(len, self.picks)))
            for k, count in zip(stars, self._split(rest, len(stars)), strict=True):
                self._fill(k, count)
            if sum(map(len, self.picks)) < (total if layout.each else layout.low.value(most)):
                return self._fail(trace_id, layout.items[stars[0]].want)
        return self._finish(trace_id)

    def _fill(self, k: int, count: int) -> None:
        """Draws up to `count` attempts for item `k`."""
        item, picks, unique = self.layout.items[k], self.picks[k], self.draw.unique_variants
        while len(picks) < count:
            i = self.hand.take(item.want, self.layout, self.variants if unique else None)
            if i is None:
                return
            picks.append(i)
            if unique:
                self.variants.add(self.hand.variants[i])

    def _right_before(self, k: int) -> int:
        """How many attempts the C items before item `k` hold."""
        return sum(len(self.picks[j]) for j in range(k) if self.layout.items[j].want is Want.RIGHT)

    def _split(self, rest: int, parts: int) -> list[int]:
        """`rest` as a sum of `parts` numbers, uniformly among all such sums."""
        bars = sorted(self.random.sample(range(rest + parts - 1), parts - 1)) if parts > 1 else []
        edges = [-1, *bars, rest + parts - 1]
        return [right - left - 1 for left, right in pairwise(edges)]

    def _fail(self, trace_id: str, want: Want) -> Drop:
        """Frees what was taken and says what was short."""
        self.hand.put_back([i for picks in self.picks for i in picks], self.layout)
        what = {Want.RIGHT: "too_few_right", Want.WRONG: "too_few_wrong", Want.ANY: "too_few_attempts"}[want]
        if self.hand.short:
            what = f"too_few_{self.hand.short}"
        if self.draw.unique_variants and self.variants.issuperset(self.hand.variants):
            what = "too_few_variants"
        return Drop("layout", trace_id, what)

    def _finish(self, trace_id: str) -> Plan:
        """Puts the picks in order, shuffled groups shuffled."""
        items = self.layout.items
        ordered: list[tuple[int, Want]] = []
        for group, run in groupby(range(len(items)), key=lambda k: items[k].group or -k - 1):
            places = [(i, items[k].want) for k in run for i in self.picks[k]]
            if group > 0:
                self.random.shuffle(places)
            ordered += places
        back = None
        if self.layout.ending is Ending.BACKTRACK:
            anchor = max(j for j, item in enumerate(items[:-1]) if item.want is Want.RIGHT and item.single)
            back = self.picks[anchor][-1]
        return Plan(trace_id, self.layout, tuple(i for i, _ in ordered), tuple(want for _, want in ordered), back)
