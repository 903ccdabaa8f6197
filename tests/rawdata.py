"""Raw data in the released schemas for tests, small and made of real arithmetic."""

from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

PREFIX = "model_responses__mutated_prompts"
REFLECTIONS = f"{PREFIX}_reflection"
VARIANTS = ("original", "plan_and_execute", "alternatively", "rephrase")


def raw_rows(questions: int, samples: int = 8, seed: int = 0, right_rate: float = 0.5) -> list[dict[str, Any]]:
    """Rows of the first published schema, a question's together: `samples` per variant, three reflections each."""
    rows = []
    for q in range(questions):
        random = Random(f"{seed}-{q}")
        a, b = random.randint(2, 99), random.randint(2, 99)
        for variant in VARIANTS:
            for k in range(samples):
                right = random.random() < right_rate
                value = a + b if right else a + b + random.randint(1, 9)
                reflections = []
                for _ in range(3):
                    says = right if random.random() < 0.75 else not right
                    word = "Correct" if says else "Incorrect"
                    reflections.append(f"I add again: {a} + {b} = {a + b}.\n<verdict>{word}</verdict>")
                rows.append(
                    {
                        "question": f"What is {a} + {b}? (question {q})",
                        "answer": str(a + b),
                        "prompt_variant": variant,
                        PREFIX: [f"Try {k} of {variant}: {a} + {b} = {value}.\n<answer>{value}</answer>"],
                        f"{PREFIX}__eval_is_correct": [right],
                        f"{PREFIX}__eval_extracted_answers": [str(value)],
                        REFLECTIONS: reflections,
                    }
                )
    return rows


def write(rows: Sequence[dict[str, Any]], path: Path, row_group_size: int = 50) -> Path:
    """Writes rows to a Parquet file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist(list(rows)), path, row_group_size=row_group_size)
    return path
