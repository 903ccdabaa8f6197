"""Small directories of traces, written with the product's own renderer and schema."""

import json
from collections.abc import Sequence
from pathlib import Path

import pyarrow.parquet as pq

from skillfactory.markup import render
from skillfactory.records import Attempt, Check, Reflection, Step, Stop, Trace, Verdict
from skillfactory.traces import Row, trace_table


def attempt(name: str, text: str, right: bool, question: str = "q1") -> Attempt:
    """An attempt that answers 5 + 2; `name` is its variant and sample, e.g. "original/0"."""
    variant, _, sample = name.partition("/")
    body = f"{text}\n<answer>5 + 2</answer>"
    check = Check.RIGHT if right else Check.WRONG
    return Attempt(f"{question}/{name}", question, variant, int(sample), body, "5 + 2", check, "", Stop.END)


def reflection(of: Attempt, text: str, says: str | None = None) -> Reflection:
    """A reflection with a right verdict, unless `says` is another."""
    said = says or ("Correct" if of.check is Check.RIGHT else "Incorrect")
    found = Verdict.CORRECT if said == "Correct" else Verdict.INCORRECT
    return Reflection(f"{of.id}/r0", of.id, 0, f"{text}\n<verdict>{said}</verdict>", found, Stop.END)


def row(
    name: str,
    steps: Sequence[tuple[Attempt, str | None]],
    layout: str = "*C_full",
    prompt: str = "Make 7 from 5, 2.",
    tokens: int | None = None,
    says: str | None = None,
) -> Row:
    """A row for a trace of attempts, each with the text of its reflection; its question is the first attempt's."""
    made = [
        Step(tried, None if text is None else reflection(tried, text, says), "Once more." if i + 1 < len(steps) else "")
        for i, (tried, text) in enumerate(steps)
    ]
    question = steps[0][0].question_id
    trace = Trace(name, question, prompt, layout, tuple(made), "So here it is.", "5 + 2", 1)
    text, segments = render(trace)
    return Row(trace, "5 + 2", text, segments, tokens)


def write(directory: Path, rows: Sequence[Row], parts: int = 1, layouts: Sequence[str] = ("*C_full",)) -> Path:
    """`directory`, which then holds the rows in so many part files, and a build's account."""
    (directory / "traces").mkdir(parents=True)
    for part in range(parts):
        mine = [row for i, row in enumerate(rows) if i * parts // len(rows) == part]
        pq.write_table(trace_table(mine), directory / "traces" / f"part-{part:05d}.parquet")
    (directory / "build.json").write_text(json.dumps({"command": "build", "settings": {"layout": list(layouts)}}), "utf-8")
    return directory


def simple(count: int, tokens: Sequence[int | None] = (100,)) -> list[Row]:
    """Sound traces of two attempts, each of a question of its own."""
    rows = []
    for i in range(count):
        wrong, right = (attempt(f"{v}/{i}", f"Try {i}.", r, f"q{i}") for v, r in (("original", False), ("rephrase", True)))
        steps = [(wrong, "That is 5 - 2 = 3."), (right, "That is 5 + 2 = 7.")]
        rows.append(row(f"q{i}/*C_full/0/0", steps, prompt=f"Make {i + 7} from 5, 2.", tokens=tokens[i % len(tokens)]))
    return rows
