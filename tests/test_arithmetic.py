"""Arithmetic claims: a labelled set, an oracle, and attacks."""

import json
import random
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest

from skillfactory.audit.arithmetic import MAX_DIGITS, MAX_RUN, MAX_TOKENS, Outcome, claims

CASES: list[dict[str, Any]] = json.loads((Path(__file__).parent / "cases" / "arithmetic.json").read_text("utf-8"))


def read(text: str) -> list[list[str]]:
    """What is read in `text`, as the labelled set writes it."""
    return [[text[claim.start : claim.end], str(claim.outcome)] for claim in claims(text)]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["text"][:40])
def test_the_labelled_set_is_read_as_stated(case: dict[str, Any]) -> None:
    assert read(case["text"]) == case.get("read", case["claims"])


def test_a_known_misreading_says_why_and_differs_from_the_truth() -> None:
    for case in CASES:
        assert ("read" in case) == ("why" in case)
        assert case.get("read") != case["claims"]


def test_precision_and_recall_are_those_that_the_manual_states() -> None:
    manual = (Path(__file__).parents[1] / "docs" / "audit.md").read_text("utf-8")
    for label, outcomes in (("any claim", list(Outcome)), ("a false claim", [Outcome.WRONG, Outcome.DISPUTED])):
        true = found = both = 0
        for case in CASES:
            labelled = Counter(span for span, outcome in case["claims"] if outcome in outcomes)
            got = Counter(span for span, outcome in read(case["text"]) if outcome in outcomes)
            true, found, both = true + labelled.total(), found + got.total(), both + (labelled & got).total()
        assert f"| {label} | {true} | {found} | {both / found:.2f} | {both / true:.2f} |" in manual


def test_expressions_agree_with_exact_fractions() -> None:
    random.seed(11)
    seen = Counter[str]()
    for _ in range(3000):
        text, value = _expression(random.Random(random.random()), 3)
        if value is None:
            assert read(f"{text} = 1") in ([], [[f"{text} = 1", "wrong"]])
            continue
        off = random.choice((0, 0, 1, -2))
        shown = value + off
        right = f"{shown}" if shown.denominator == 1 else f"{shown.numerator} / {shown.denominator}"
        for claim in read(f"So {text} = {right}, they say"):
            assert claim == [f"{text} = {right}", "wrong" if off else "right"]
            seen[claim[1]] += 1
    assert min(seen.values()) > 500


def _expression(rng: random.Random, depth: int) -> tuple[str, Fraction | None]:
    """A random expression with blanks, brackets and signs at random, and its value (None if it divides by zero)."""
    if depth == 0 or rng.random() < 0.25:
        number = rng.randint(0, 30)
        return str(number), Fraction(number)
    (a, x), (b, y) = _expression(rng, depth - 1), _expression(rng, depth - 1)
    sign = rng.choice("+-*/")
    text = f"({a}) {sign} ({b})" if rng.random() < 0.5 else f"({a}){rng.choice('+-')}({b})"
    sign = text[len(a) + 2 :].strip()[0]
    if x is None or y is None or (sign == "/" and y == 0):
        return text, None
    return text, {"+": x + y, "-": x - y, "*": x * y, "/": x / y if y else Fraction(0)}[sign]


LINE = MAX_RUN - 100  # characters, so that each line is read
ATTACKS = {
    "digits": "1" * LINE + " = 1",
    "operators": "1" + "+" * LINE + "1 = 2",
    "sum": "1+" * (LINE // 2) + "1 = 2",
    "brackets": "(" * (LINE // 2) + "1" + ")" * (LINE // 2) + " = 1",
    "open brackets and relations": "(1+1=" * (LINE // 5),
    "relations": "1=" * (LINE // 2),
    "chain": "1+1=" * (LINE // 4),
    "thousands": "1" + ",111" * (LINE // 4) + " + 1 = 2",
    "blanks": "1 +" + " " * LINE + "1 = 2",
    "broken lines": ("1\n" + " " * 100) * (LINE // 102) + "= 1 + 1",
    "powers": "1**" * (LINE // 3) + "1 = 1 + 0",
    "claims of long numbers": "9" * 24 + "/" + "7" * 24 + "*1=1",
    "long claims": ("9" * 24 + "/") * 31 + "9=1",
    "denials": ("1+1=3, " + "w " * 10) * (LINE // 27),
    "boxes": "1+1=\\boxed{" * (LINE // 11),
    "words": "1 is equal to " * (LINE // 14),
}


def seconds_per_10_000(text: str) -> float:
    """The processor time that reading takes, for 10,000 characters."""
    start = time.process_time()
    for _ in claims(text):
        pass
    return (time.process_time() - start) * 10_000 / len(text)


@pytest.mark.parametrize("name", ATTACKS)
def test_time_per_character_is_bounded_whatever_the_text(name: str) -> None:
    line = ATTACKS[name]
    assert seconds_per_10_000((line + "\n") * (100_000 // len(line))) < 0.1  # measured: at most 0.03
    assert seconds_per_10_000(line * (500_000 // len(line))) < 0.1


def test_what_is_too_long_is_left_unread() -> None:
    assert read("1" * (MAX_DIGITS + 1) + " + 1 = 2") == []
    assert read("1 + " * (MAX_TOKENS // 2) + "1 = 2") == []
    assert read("1 + 1" + " " * MAX_RUN + "= 2") == []
    assert read("1" * MAX_DIGITS + " + 1 = 2") != []


def test_any_characters_at_all_are_read_without_an_error() -> None:
    random.seed(2)
    alphabet = "0123456789+-*/=()., x\n{}\\$≈≠…×²%!?~&^" + "abc"
    words = [*alphabet, "\\times", "\\boxed{", "\\left(", "is equal to", "**", "...", "1 + 1 = 2", "3,000"]
    for _ in range(3000):
        text = "".join(random.choices(words, k=30))
        for claim in claims(text):
            assert 0 <= claim.start < claim.end <= len(text)
