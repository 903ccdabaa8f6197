"""What a model learns from: silver traces, the right attempts of a run, and texts to keep it from forgetting."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skillfactory.encoding import Example, examples, open_traces
from skillfactory.errors import ConfigError, InputError
from skillfactory.masks import Mask
from skillfactory.records import Check, Stop
from skillfactory.seeds import rng


@dataclass(slots=True)
class Found:
    """The examples of an input, and what it holds besides, by reason."""

    examples: list[Example]
    left: Counter[str] = field(default_factory=Counter)


def read(path: Path, mask: Mask, per_question: int, seed: int) -> Found:
    """The examples of an input: all traces of a build, or up to `per_question` right attempts a question of a run."""
    if (path / "run.json").is_file():
        return _right_attempts(path, per_question, seed)
    if not path.is_dir():
        raise InputError(f"{path}: expected the folder that `skillfactory build` or `skillfactory curate` wrote")
    files = open_traces(path, mask)
    return Found([example for part in files.parts for found in examples(files, part, mask) for example in found])


def _right_attempts(run: Path, per_question: int, seed: int) -> Found:
    """The right, ended, distinct attempts of a run, as answers to the bare question; which ones is drawn by seed."""
    prompts = {row["id"]: row["prompt"] for row in _table(run / "questions", ["id", "prompt"]).to_pylist()}
    table = _table(run / "attempts", ["id", "question_id", "text", "check", "stop"])
    right = table.filter(pc.and_(pc.equal(table["check"], Check.RIGHT.value), pc.equal(table["stop"], Stop.END.value)))
    by_question: dict[str, dict[str, Example]] = {}
    for row in right.to_pylist():
        example = Example(row["id"], prompts[row["question_id"]], row["text"])
        by_question.setdefault(row["question_id"], {}).setdefault(row["text"], example)
    found = Found([])
    for question_id, distinct in by_question.items():
        drawn = rng(seed, "right attempts", question_id).sample(list(distinct.values()), min(per_question, len(distinct)))
        found.examples += drawn
        found.left["not_drawn"] += len(distinct) - len(drawn)
    found.left["repeated"] = right.num_rows - sum(map(len, by_question.values()))
    found.left = +found.left
    if not found.examples:
        raise InputError(f"{run}: the run holds no right attempt that has ended")
    return found


def _table(folder: Path, columns: list[str]) -> pa.Table:
    if not any(folder.glob("*.parquet")):
        raise InputError(f"{folder}: no Parquet file here; is the run of `skillfactory curate` finished?")
    return pq.read_table(folder, columns=columns)


@dataclass(frozen=True, slots=True)
class Replay:
    """A file of raw texts, and how many of them go with each other row."""

    path: Path
    share: float

    @classmethod
    def read(cls, text: str) -> "Replay":
        """From FILE@SHARE."""
        name, _, share = text.rpartition("@")
        try:
            found = cls(Path(name), float(share))
        except ValueError:
            found = cls(Path(), 0.0)
        if not name or not 0 < found.share < float("inf"):
            raise ConfigError(f"replay: expected FILE@SHARE with a share above 0, such as texts.parquet@0.5, came '{text}'")
        return found

    def draw(self, rows: int, rounds: int, seed: int) -> list[list[Example]]:
        """For each round (epoch) the texts that go with `rows` other rows; none comes twice before all have come."""
        table = self._texts()
        order = list(range(table.num_rows))
        rng(seed, "replay", self.path.name).shuffle(order)
        size = round(self.share * rows)
        places = [order[i % len(order)] for i in range(size * rounds)]
        used = sorted(set(places))
        texts = dict(zip(used, table.take(used).to_pylist(), strict=True))
        examples = [self._example(place, texts[place]) for place in places]
        return [examples[i * size : (i + 1) * size] for i in range(rounds)]

    def _example(self, place: int, text: Mapping[str, Any]) -> Example:
        if not isinstance(text["prompt"], str) or not isinstance(text["completion"], str):
            raise InputError(f"{self.path}: row {place + 1}: expected texts under prompt and completion")
        return Example(f"{self.path}/{place}", text["prompt"], text["completion"], raw=True)

    def _texts(self) -> pa.Table:
        """The columns `prompt` and `completion`."""
        columns = ["prompt", "completion"]
        try:
            table = pq.read_table(self.path) if self.path.suffix == ".parquet" else pa.Table.from_pylist(self._lines())
        except pa.ArrowInvalid as error:
            raise InputError(f"{self.path}: can't be read: {error}") from error
        missing = [name for name in columns if name not in table.column_names]
        if missing or not table.num_rows:
            raise InputError(f"{self.path}: expected rows with prompt and completion, raw texts; {missing or 'rows'} missing")
        return table.select(columns)

    def _lines(self) -> list[Any]:
        rows = []
        for number, line in enumerate(self.path.read_text("utf-8").splitlines(), 1):
            try:
                row = json.loads(line)
            except ValueError as error:
                raise InputError(f"{self.path}: line {number} is no JSON: {error}") from error
            if not isinstance(row, dict):
                raise InputError(f"{self.path}: line {number}: expected an object with prompt and completion")
            rows.append({name: row.get(name) for name in ("prompt", "completion")})
        return rows
