"""Writes the raw data of this folder: python examples/raw/make_sample.py [FOLDER]

Two Parquet files in the two schemas that the method's raw data comes in, made up from templates: one row is one attempt at a
Countdown question with four reflections on it. The arithmetic is honest but for a slip now and then, and a few rows are
broken on purpose, as rows in the wild are.
"""

import sys
from collections.abc import Iterator
from itertools import permutations, product
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory import seeds
from skillfactory.markup import final_answer
from skillfactory.prompts import load_variants
from skillfactory.records import Check, Question
from skillfactory.tasks.countdown import Countdown

SEED = 1
QUESTIONS = 12  # in each file
SAMPLES = 8  # per question and prompt variant
REFLECTIONS = 4
SLIPS = 0.1  # share of computed values that are stated wrongly
MALFORMED = 0.05  # share of reflections without a readable verdict

STRINGS = pa.list_(pa.string())
DATA_SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("answer", pa.string()),
        ("prompt_variant", pa.string()),
        ("model_responses__mutated_prompts", STRINGS),
        ("model_responses__mutated_prompts__eval_is_correct", pa.list_(pa.bool_())),
        ("model_responses__mutated_prompts__eval_extracted_answers", STRINGS),
        ("model_responses__mutated_prompts_reflection", STRINGS),
    ]
)
README_SCHEMA = pa.schema(
    [
        ("question", pa.string()),
        ("answer", pa.string()),
        ("prompt_type", pa.string()),
        ("model_responses__example_annotation", pa.string()),
        ("model_responses__example_annotation__eval_is_correct", pa.list_(pa.bool_())),
        ("model_responses__mutated_prompts_reflection", STRINGS),
    ]
)

OPENINGS = {
    "original": ("I have {a}, {b} and {c} and want {t}.", "Let me see how {a}, {b} and {c} could give {t}."),
    "plan_and_execute": (
        "Plan: pick two of {a}, {b}, {c}, combine them, bring in the third, and compare with {t}. Now the plan, step by step.",
        "Plan:\n1. Estimate whether {t} needs a product.\n2. Try the likeliest pairs.\n3. Correct with the third number.\nGo.",
    ),
    "alternatively": (
        "A first candidate for {t} comes to mind.",
        "Several expressions over {a}, {b} and {c} are worth a look.",
    ),
    "rephrase": (
        "Rewritten Question: which expression over {a}, {b}, {c}, each used once at most, has the value {t}?",
        "Rewritten Question: get {t} out of {a}, {b} and {c} with plus, minus, times and divide.",
    ),
}
TRIES = (
    "with {e} the bracket is {i}, and all of it comes to {v}.",
    "I could write {e}. Its bracket makes {i}; so it is worth {v}, against the {t} that I need.",
    "{e} = {v}, {far} away from {t}.",
    "take {e}: {p} = {i}, and that leads to {v}.",
)
ENDINGS = ("So my answer is {e}.", "I go with {e}.", "That settles it for me: {e}.")
CHECKS = (
    "I recompute {e}. The bracket gives {i}, and the whole gives {v}.",
    "The final expression is {e}. Worked out, {e} = {v}, with {i} inside the bracket.",
    "To check {e} I start inside the bracket: {p} = {i}. The rest brings it to {v}.",
)
REMARKS = (
    "The numbers {a}, {b} and {c} are all from the list.",
    "No number appears twice.",
    "The target is {t}.",
    "The route taken is a bit long, but only the final expression counts.",
    "It would have been faster to look at the products first.",
)
FINDINGS = {
    True: ("{v} is what was asked for.", "This meets the target."),
    False: ("{t} was wanted, so this fails.", "It misses {t}."),
}


Cells = list[list[Any]]  # rows of values


class Candidate(NamedTuple):
    """An expression over the three numbers, its bracket, the value of that and its own."""

    text: str
    bracket: str
    inner: int
    value: int


def _applied(a: int, op: str, b: int) -> int | None:
    """`a op b` if it is a whole number."""
    if op == "/":
        return a // b if b and a % b == 0 else None
    return {"+": a + b, "-": a - b, "*": a * b}[op]


def candidates(numbers: list[int]) -> list[Candidate]:
    """All `(a op b) op c` and `c op (a op b)` whose values are whole numbers."""
    found = {}
    for (a, b, c), first, second, leads in product(permutations(numbers), "+-*/", "+-*/", (True, False)):
        inner = _applied(a, first, b)
        if inner is None:
            continue
        value = _applied(inner, second, c) if leads else _applied(c, second, inner)
        if value is not None:
            bracket = f"{a} {first} {b}"
            text = f"({bracket}) {second} {c}" if leads else f"{c} {second} ({bracket})"
            found[text] = Candidate(text, bracket, inner, value)
    return list(found.values())


class Writer:
    """Writes attempts at one question and reflections on them."""

    def __init__(self, question: Question, random: Random) -> None:
        self.question, self.random = question, random
        self.numbers, self.target = question.facts["numbers"], question.facts["target"]
        every = candidates(self.numbers)
        self.right = [each for each in every if each.value == self.target]
        self.wrong = sorted(
            (each for each in every if each.value != self.target), key=lambda each: abs(each.value - self.target)
        )

    def attempt(self, variant: str) -> tuple[str, Candidate]:
        """An attempt in the manner of a variant, right about one time in three, and what it ends in."""
        chosen = self.random.choice(self.right if self.random.random() < 0.35 else self.wrong[:40])
        tried = [*self.random.sample(self.wrong[:60], self.random.randint(1, 5)), chosen]
        lines = [self._filled(self.random.choice(OPENINGS[variant]), chosen)]
        for n, each in enumerate(tried):
            line = self._filled(self.random.choice(TRIES), each)
            lines.append(f"Alternatively, {line}" if n and variant == "alternatively" else line[0].upper() + line[1:])
        lines.append(self._filled(self.random.choice(ENDINGS), chosen))
        return "\n".join(lines) + f"\n<answer>{chosen.text}</answer>", chosen

    def reflection(self, judged: Candidate) -> str:
        """A reflection whose verdict is right three times in four, where it has a readable one."""
        holds = (judged.value == self.target) is (self.random.random() < 0.75)
        remarks = self.random.sample(REMARKS, self.random.randint(1, 3))
        texts = [self.random.choice(CHECKS), *remarks, self.random.choice(FINDINGS[holds])]
        text = " ".join(self._filled(each, judged) for each in texts)
        word = "Correct" if holds else "Incorrect"
        if self.random.random() < MALFORMED:
            return text + self.random.choice(("", f"\n<verdict>{word}", "\n<verdict>Partly correct</verdict>"))
        return f"{text}\n<verdict>{word}</verdict>"

    def _filled(self, template: str, shown: Candidate) -> str:
        a, b, c = self.numbers
        inner, value = (
            n + self.random.choice((-1, 1, 10)) * (self.random.random() < SLIPS) for n in (shown.inner, shown.value)
        )
        return template.format(
            a=a, b=b, c=c, t=self.target, e=shown.text, p=shown.bracket, i=inner, v=value, far=abs(value - self.target)
        )


class Row(NamedTuple):
    """One attempt as raw data records it."""

    question: str
    answer: str
    variant: str
    response: str
    right: bool
    extracted: str
    reflections: list[str]


def rows(split: str) -> Iterator[Row]:
    """All rows over questions of one split, the rows of a question together."""
    task = Countdown()
    for question in task.questions(QUESTIONS, "3", SEED, split):
        writer = Writer(question, seeds.rng(SEED, "raw sample", question.id))
        for variant, _ in product(load_variants(), range(SAMPLES)):
            text, chosen = writer.attempt(variant.name)
            extracted = final_answer(text)[0] or ""
            right = task.check(question, extracted).check is Check.RIGHT
            reflections = [writer.reflection(chosen) for _ in range(REFLECTIONS)]
            yield Row(question.prompt, question.answer, variant.name, text, right, extracted, reflections)


def in_the_data_schema() -> pa.Table:
    """Rows as in the published data: lists of one value. Six of them are broken."""
    table: Cells = [
        [r.question, r.answer, r.variant, [r.response], [r.right], [r.extracted], r.reflections] for r in rows("sft")
    ]
    table[3][3] = None  # no response
    table[40][3] = []  # an empty list of responses
    table[77][4] = [None]  # not known whether it is right
    table[101][2] = None  # no variant
    table[133][3] = ["I give up."]  # no answer, and marked as wrong
    table[133][4:6] = [[False], [None]]
    table[170][6] = ["I can't say.", "", None, "<verdict>Maybe</verdict>"]  # no verdict
    return _table(table, DATA_SCHEMA)


def in_the_readme_schema() -> pa.Table:
    """Rows as the published README describes them: plain strings, and `prompt_type`. Three of them are broken."""
    table: Cells = [[r.question, r.answer, r.variant, r.response, [r.right], r.reflections] for r in rows("rl")]
    table[10][3] = None  # no response
    table[55][4] = []  # not known whether it is right
    table[200][5] = []  # no reflections
    return _table(table, README_SCHEMA)


def _table(table: Cells, schema: pa.Schema) -> pa.Table:
    by_name = {name: [row[n] for row in table] for n, name in enumerate(schema.names)}
    return pa.table(by_name, schema=schema)


SAMPLE = {"data-schema.parquet": in_the_data_schema, "readme-schema.parquet": in_the_readme_schema}


def main() -> None:
    """Writes both files into the folder given, or into this one."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).parent
    for name, table in SAMPLE.items():
        pq.write_table(table(), folder / name, compression="zstd", row_group_size=128)


if __name__ == "__main__":
    main()
