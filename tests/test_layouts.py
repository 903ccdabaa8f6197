"""Layouts: what each pattern promises, what the planner may not do, and what it does when the pool is short."""

from collections import Counter
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from skillfactory.errors import ConfigError
from skillfactory.layouts import Draw, Fit, Plan, plan
from skillfactory.patterns import NAMED, Ending, Want, parse_layout
from skillfactory.skills.base import Skill


class Cards:
    """A pool from a string: C and I are attempts with a valid reflection, c and i without one, X holds no answer."""

    def __init__(self, cards: str, name: str = "q", texts: list[str] | None = None, variants: str = "") -> None:
        self.cards, self.question_id = cards, name
        self.variants, self.samples = variants or "v" * len(cards), range(len(cards))
        self.texts = texts or [str(i) for i in range(len(cards))]

    def fits(self, i: int, want: Want, reflected: bool) -> Fit:
        card = self.cards[i]
        if card == "?":
            return Fit.OPEN
        fine = card != "X" and not (reflected and card.islower()) and (want is Want.ANY or want.value == card.upper())
        return Fit.YES if fine else Fit.NO

    def text(self, i: int) -> str | None:
        return None if self.cards[i] == "?" else self.texts[i]


def drawn(cards: str, layout: str, seed: int = 0, **options: int) -> list[str]:
    """The traces of a layout as strings of cards."""
    pool = Cards(cards)
    plans = plan(pool, Draw.read([layout], **options), seed).plans  # type: ignore[arg-type]
    return ["".join(pool.cards[i] for i in found.picks) for found in plans]


RICH = "CIICICIICIIICICCIIICIICCICIIICIC" * 2


def test_each_named_layout_is_one_line_and_keeps_its_promise() -> None:
    for seed in range(50):
        assert drawn(RICH, "0C", seed) == ["C"]
        (some,) = drawn(RICH, "*C", seed)
        assert 2 <= len(some) <= 5
        assert some[-1] == "C"
        assert [len(trace) for trace in drawn(RICH, "*C_full", seed)] == [1, 2, 3, 4, 5]
        assert all(trace[-1] == "C" for trace in drawn(RICH, "*C_full", seed))
        assert all(trace[-2:] == "CC" for trace in drawn(RICH, "*CC", seed))
        (back,) = drawn(RICH, "*C*IC", seed)
        assert back[-1] == "I"
        assert "C" in back[:-1]
        (free,) = drawn(RICH, "random", seed)
        assert 1 <= len(free) <= 5
        assert len(drawn(RICH.lower().upper(), "no_reflection", seed)) == 5


def test_the_released_formats_differ_where_their_names_do() -> None:
    ends = Counter(drawn(RICH, "random", seed)[0][-1] for seed in range(300))
    assert 0 < ends["C"] < 300  # correctness is ignored
    lengths = Counter(len(drawn(RICH, "*C", seed)[0]) for seed in range(400))
    assert set(lengths) == {2, 3, 4, 5}
    assert all(60 < count < 140 for count in lengths.values())  # uniform: 100 each, five standard deviations wide


def algorithm_1(rights: int, wrongs: int, most: int, random: Random) -> list[tuple[int, int]]:
    """The paper's Algorithm 1, its counts alone: (n+, n-) of each trace."""
    traces = []
    while rights:
        good = min(random.randint(1, most), rights)
        bad = min(random.randint(0, good - 1), wrongs)
        rights, wrongs = rights - good, wrongs - bad
        traces.append((good, bad))
    return traces


@pytest.mark.parametrize(("rights", "wrongs"), [(13, 40), (3, 1), (6, 0), (20, 3)])
def test_the_paper_layout_is_algorithm_1(rights: int, wrongs: int) -> None:
    ours: Counter[tuple[int, int]] = Counter()
    theirs: Counter[tuple[int, int]] = Counter()
    for seed in range(1500):
        cards = "C" * rights + "I" * wrongs
        traces = drawn("".join(Random(seed).sample(cards, len(cards))), "paper", seed)
        assert all(trace[-1] == "C" and trace.count("I") < trace.count("C") <= 5 for trace in traces)
        assert sum(trace.count("C") for trace in traces) == rights  # until Y+ is empty
        ours.update((trace.count("C"), trace.count("I")) for trace in traces)
        theirs.update(algorithm_1(rights, wrongs, 5, Random(-seed - 1)))
    for shape in {*ours, *theirs}:
        spread = 5 * (ours[shape] + theirs[shape]) ** 0.5 + 5
        assert abs(ours[shape] - theirs[shape]) < spread, shape


def test_the_place_of_the_wrong_ones_is_shuffled() -> None:
    firsts = Counter(trace[0] for seed in range(400) for trace in drawn("C" * 10 + "I" * 30, "paper", seed) if "I" in trace)
    assert firsts["C"] > 50
    assert firsts["I"] > 50


def by_hand(cards: str, random: Random) -> list[str]:
    """`*C_full` by its definition: a right one, then any, each uniform among the unused."""
    unused, traces = list(range(len(cards))), []
    for length in range(1, 6):
        last = random.choice([i for i in unused if cards[i] == "C"])
        unused.remove(last)
        others = random.sample(unused, length - 1)
        unused = [i for i in unused if i not in others]
        traces.append("".join(cards[i] for i in [*others, last]))
    return traces


def test_every_draw_is_uniform_among_the_unused() -> None:
    cards = "C" * 14 + "I" * 26
    ours: Counter[str] = Counter()
    theirs: Counter[str] = Counter()
    for seed in range(1500):
        ours.update(drawn(cards, "*C_full", seed))
        theirs.update(by_hand(cards, Random(seed)))
    assert ours.total() == theirs.total()
    for pattern in {*ours, *theirs}:
        assert abs(ours[pattern] - theirs[pattern]) < 5 * (ours[pattern] + theirs[pattern]) ** 0.5 + 5, pattern


cards = st.text("CIciX", max_size=24)


@settings(max_examples=300, deadline=None)
@given(cards, st.sampled_from([*NAMED, "mine = I* C -> answer; n=1..6"]), st.integers(0, 99), st.integers(2, 7))
def test_no_attempt_is_used_twice_and_places_get_what_they_want(text: str, layout: str, seed: int, most: int) -> None:
    pool, draw = Cards(text), Draw.read([layout], most)
    planned = plan(pool, draw, seed)
    picks = [i for found in planned.plans for i in found.picks]
    assert len(picks) == len(set(picks))
    for found in planned.plans:
        reflected = found.layout.reflected
        assert all(pool.fits(i, want, reflected) is Fit.YES for i, want in zip(found.picks, found.wants, strict=True))
        assert found.back is None or (found.back in found.picks[:-1] and text[found.back].upper() == "C")
    assert {drop.reason for drop in planned.drops} <= {"too_few_right", "too_few_wrong", "too_few_attempts"}
    assert planned == plan(pool, draw, seed)
    assert planned.plans or planned.drops


@settings(max_examples=200, deadline=None)
@given(cards, st.sampled_from(sorted(NAMED)), st.integers(0, 99))
def test_what_is_drawn_depends_on_nothing_further_down(text: str, layout: str, seed: int) -> None:
    """The law that lazy curation rests on: unknown attempts that no plan touches could be anything."""
    draw = Draw.read([layout])
    whole = plan(Cards(text), draw, seed)
    known = ["?"] * len(text)
    for _ in range(len(text) + 1):
        planned = plan(Cards("".join(known)), draw, seed)
        if not planned.open:
            break
        for i in planned.open:
            known[i] = text[i]
    assert planned.plans == whole.plans
    assert planned.drops == whole.drops


PLANNED = "Plan: {0}. Execute: {0}.\n<answer>{0}</answer>"
PLANLESS = "I try {0}.\n<answer>{0}</answer>"
VARIANTS = {"p": "plan_and_execute", "o": "original"}


class Planners(Cards):
    """A pool whose attempts have a plan or none: `plans` has a P for each that has one, `who` its variant, p or o."""

    def __init__(self, cards: str, plans: str, who: str, known: str | None = None) -> None:
        texts = [(PLANNED if plan == "P" else PLANLESS).format(i) for i, plan in enumerate(plans)]
        super().__init__(known or cards, texts=texts)
        self.variants = [VARIANTS[one] for one in who]  # type: ignore[assignment]

    def reveal(self, cards: str, i: int) -> None:
        """Lets attempt `i` be known."""
        self.cards = f"{self.cards[:i]}{cards[i]}{self.cards[i + 1 :]}"


planners = st.integers(0, 14).flatmap(
    lambda n: st.tuples(
        st.text("CIciX", min_size=n, max_size=n), st.text("P-", min_size=n, max_size=n), st.text("ppo", min_size=n, max_size=n)
    )
)
TRYING = Skill("trying", ("original",), lambda text: None, lambda text: 0)  # no attempt can have its block and a plan
NEEDING = [
    f"paper; need=subgoals+{__name__}:TRYING",
    "paper; need=subgoals",
    "*C_full; need=subgoals",
    "*C*IC; need=subgoals; show=subgoals",
    "*C; show=subgoals",
]


@settings(max_examples=300, deadline=None)
@given(planners, st.sampled_from(NEEDING), st.integers(0, 99))
def test_what_needs_a_skill_is_drawn_the_same_from_a_pool_that_becomes_known(
    made: tuple[str, str, str], layout: str, seed: int
) -> None:
    cards, plans, who = made
    draw = Draw.read([layout], 4)
    pool = Planners(cards, plans, who)
    whole = plan(pool, draw, seed)
    lazy = Planners(cards, plans, who, "?" * len(cards))
    while (planned := plan(lazy, draw, seed)).open:
        for i in planned.open:
            lazy.reveal(cards, i)
            assert "need" not in layout or who[i] == "p", "an attempt was asked for that can't have the block"
    assert planned.plans == whole.plans
    assert planned.drops == whole.drops
    for i in {i for found in whole.plans for i in found.picks} if "need" in layout else ():
        assert (plans[i], who[i]) == ("P", "p")


def reasons(cards: str, plans: str, who: str, layout: str) -> list[str]:
    return [drop.reason for drop in plan(Planners(cards, plans, who), Draw.read([layout]), 0).drops]


def test_a_trace_that_fails_for_want_of_a_skill_says_so() -> None:
    assert reasons("CC", "PP", "pp", "0C; need=subgoals") == []
    assert reasons("CC", "--", "pp", "0C; need=subgoals") == ["too_few_subgoals"]
    assert reasons("CC", "--", "pp", "0C; show=subgoals") == []
    assert reasons("CC", "PP", "oo", "0C; need=subgoals") == ["too_few_subgoals"]  # of a variant that doesn't elicit it
    assert reasons("IC", "P-", "po", "0C; need=subgoals") == ["too_few_right"]  # no right attempt could have had it
    assert reasons("I", "-", "p", "0C; need=subgoals") == ["too_few_right"]  # a wrong one lacks more than the block
    assert reasons("ICC", "PP-", "pop", "*C*IC; need=subgoals") == ["too_few_subgoals"]
    assert reasons("", "", "", "0C; need=subgoals") == ["too_few_right"]


def test_attempts_that_look_the_same_once_their_plan_is_set_apart_are_the_same() -> None:
    pool = Planners("CC", "PP", "pp")
    pool.texts = ["Plan: add. Execute: 7.\n<answer>7</answer>", "Plan: add.\nExecute: 7.\n<answer>7</answer>"]
    assert len(plan(pool, Draw.read(["C C -> confirm; need=subgoals"]), 0).plans) == 0
    assert len(plan(pool, Draw.read(["C C -> confirm"]), 0).plans) == 1  # they differ where nothing is set apart


def test_options_follow_a_named_layout_as_they_follow_a_pattern() -> None:
    short, long = parse_layout("paper; need=subgoals"), parse_layout(f"{NAMED['paper']}; need = subgoals")
    assert (short.items, short.ending, short.until_empty, short.skills) == (long.items, long.ending, True, ("subgoals",))
    assert short.name == "paper; need=subgoals"
    assert parse_layout("mine = paper; show=subgoals + mine:OTHER").show == ("subgoals", "mine:OTHER")
    assert parse_layout("paper").skills == ()


def test_equal_attempts_count_once() -> None:
    pool = Cards("CCCC", texts=["a", "a", "b", "a"])
    plans = plan(pool, Draw.read(["C{1..9} C -> answer; until=empty"], 9), 0).plans
    picks = [i for found in plans for i in found.picks]
    assert sorted(pool.texts[i] for i in picks) == ["a", "b"]


def test_a_failed_trace_gives_its_attempts_back() -> None:
    draw = Draw.read(["pair = C C C -> confirm", "0C"])
    planned = plan(Cards("CIC"), draw, 0)
    assert [found.picks for found in planned.plans] in ([(0,)], [(2,)])
    assert [drop.reason for drop in planned.drops] == ["too_few_right"]


def test_variants_can_be_unique_within_a_trace() -> None:
    pool = Cards("C" * 20, variants="aabbccdd" + "abcd" * 3)
    planned = plan(pool, Draw.read(["*C_full"], unique_variants=True), 0)
    for found in planned.plans:
        variants = [pool.variants[i] for i in found.picks]
        assert len(variants) == len(set(variants))
    assert planned.drops[-1].reason == "too_few_variants"  # five attempts, four variants: counted, and the others are there
    assert [len(found.picks) for found in planned.plans] == [1, 2, 3, 4]


def test_only_reuse_lets_layouts_share_attempts() -> None:
    assert len(plan(Cards("C"), Draw.read(["0C", "mine = C -> answer"]), 0).plans) == 1
    assert len(plan(Cards("C"), Draw.read(["0C", "mine = C -> answer; reuse"]), 0).plans) == 2


def test_weights_draw_one_layout_per_repeat() -> None:
    draw = Draw.read(["0C@3", "*CC@1"], repeats=2)
    counts = Counter(found.layout.name for n in range(400) for found in plan(Cards(RICH, f"q{n}"), draw, 0).plans)
    assert counts.total() == 800
    assert 520 < counts["0C"] < 680  # 600 expected, standard deviation 12


def test_repeats_and_more_layouts_leave_the_earlier_traces_as_they_are() -> None:
    def picks(draw: Draw) -> list[Plan]:
        return plan(Cards(RICH), draw, 3).plans

    first = picks(Draw.read(["*C_full"]))
    assert picks(Draw.read(["*C_full"], repeats=2))[:5] == first
    assert picks(Draw.read(["*C_full", "*CC"]))[:5] == first


def test_a_short_pool_cuts_a_drawn_total_and_drops_a_fixed_one() -> None:
    assert {len(trace) for seed in range(40) for trace in drawn("IC", "*C", seed)} == {2}
    assert drawn("IC", "five = A* C -> answer; n=5..5") == []
    planned = plan(Cards("IC"), Draw.read(["*C_full"]), 0)
    assert len(planned.plans) + len(planned.drops) == 5


def test_a_question_without_right_attempts_is_a_drop() -> None:
    for layout in ("paper", "*C", "0C", "*CC"):
        planned = plan(Cards("IIII"), Draw.read([layout]), 0)
        assert planned.plans == []
        assert [drop.reason for drop in planned.drops] == ["too_few_right"]
    assert [drop.reason for drop in plan(Cards("CCC"), Draw.read(["*C*IC"]), 0).drops] == ["too_few_wrong"]
    assert [drop.reason for drop in plan(Cards(""), Draw.read(["random"]), 0).drops] == ["too_few_attempts"]


def test_no_reflection_takes_attempts_that_none_was_valid_for() -> None:
    assert drawn("cc", "0C") == []
    assert [len(trace) for trace in drawn("cic", "no_reflection")] == [1, 2]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("*D", "unknown layout '*D'; did you mean '*C'?"),
        ("C I -> answer", "the ending 'answer' needs a single correct attempt C at the end"),
        ("A* C -> confirm", "needs two correct attempts"),
        ("A* I -> backtrack", "needs a single correct attempt C before the last"),
        ("A* C -> backtrack", "needs a single incorrect attempt I at the end"),
        ("A* -> foo", "expected an ending after '->' (answer, confirm, backtrack, last), not 'foo'"),
        ("A* C -> answer; k=3", "'k=3' (known: each n=LOW..HIGH"),
        ("shuffle(C I -> answer", "shuffle( is not closed"),
        ("shuffle(C shuffle(I)) C -> answer", "expected C, I, A"),
        ("C{a} C -> answer", "expected a number, max, max-1 or C"),
        ("C{1..2..3} C -> answer", "expected one number or low..high"),
        ("C -> answer; n=2..3", "needs a place that stretches"),
        ("B C -> answer", "(...) at 'B C'"),
        (" -> answer", "it holds no attempt"),
        ("C{-1} C -> answer", "expected a number of attempts, not -1"),
        ("I{3..1} C -> answer", "'3..1' is empty"),
        ("A* C -> answer; n=5..2", "'5..2' is empty"),
        ("A* C -> answer; n=0", "a trace has at least one attempt"),
        ("C -> answer; n=1..max", "needs a place that stretches"),
        ("C* I{0..C} C -> answer", "a bound C can't count a C* before it"),
        ("= C -> answer", "expected a name"),
        ("a|b = C -> answer", "expected a name without line breaks and '|'"),
        ("0C; need=subgoal", "unknown skill in layout 'C -> answer; need=subgoal': 'subgoal'; did you mean 'subgoals'?"),
        ("0C; show=", "unknown skill in layout"),
        ("*D; need=subgoals", "unknown layout '*D; need=subgoals'"),
    ],
)
def test_a_bad_pattern_says_what_and_where(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_layout(text)
    assert message in str(caught.value)


def test_a_layout_that_needs_more_than_the_most_is_refused() -> None:
    assert drawn(RICH, "0C", max_attempts=1) == ["C"]
    for layout in ("*C", "*CC", "*C*IC"):
        with pytest.raises(ConfigError, match="needs at least 2 attempts, and max_attempts is 1"):
            Draw.read([layout], max_attempts=1)


def test_what_looks_the_same_in_a_trace_is_the_same_attempt() -> None:
    pool = Cards("CC", texts=["a <think><answer>1</answer>", "a <sample><answer>1</answer>"])
    assert [len(found.picks) for found in plan(pool, Draw.read(["no_reflection"]), 0).plans] == [1]


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        ([], "at least one layout"),
        (["0C", "0C"], "given twice"),
        (["0C@1", "*C"], "either every layout has a weight"),
        (["0C@no"], "expected a weight above 0"),
        (["0C@-1"], "expected a weight above 0"),
    ],
)
def test_a_bad_mixture_says_why(texts: list[str], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Draw.read(texts)


def test_a_name_can_be_given_to_a_pattern() -> None:
    layout = parse_layout("stop when verified = I* C -> answer; n=1..max")
    assert layout.name == "stop when verified"
    assert layout.ending is Ending.ANSWER
    assert parse_layout("mine = paper").items == parse_layout("paper").items
    assert drawn("IIIIIC", "stop when verified = I* C -> answer; n=4..4") == ["IIIC"]
