"""Raw data in any order, or as JSON lines, → scratch Parquet files in which the rows of a question stand together.

Two passes over the disk, in constant memory: rows go to partitions by a hash of their question, then each partition is sorted.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.build.released import FLAW, WHERE, Batch, Columns, RawReader, question_id
from skillfactory.errors import InputError

PARTITION_BYTES = 64 << 20
_ROWS = 2000  # held at a time

_SCRATCH = pa.schema(
    [
        ("question", pa.string()),
        ("answer", pa.string()),
        ("variant", pa.string()),
        ("response", pa.list_(pa.string())),
        ("correct", pa.list_(pa.bool_())),
        ("reflection", pa.list_(pa.string())),
        (WHERE, pa.string()),
        (FLAW, pa.string()),
        ("_order", pa.int64()),
    ]
)
COLUMNS = {role: role for role in _SCRATCH.names[:6]}
"""The column roles of the scratch files."""


def parquet_rows(reader: RawReader) -> Iterator[dict[str, Any]]:
    """The rows of Parquet files, uniform."""
    for g in range(len(reader.groups)):
        for batch in reader.batches(g):
            for row in range(batch.rows):
                yield _uniform(batch, row)


def _uniform(batch: Batch, row: int) -> dict[str, Any]:
    reflections = batch.reflection
    right = batch.right[row]
    return {
        "question": batch.question[row].as_py(),
        "answer": batch.answer[row].as_py(),
        "variant": batch.variant[row],
        "response": [batch.response.text(row, k) for k in range(max(0, batch.response.count(row)))],
        "correct": None if right is None else [right],
        "reflection": [reflections.text(row, k) for k in range(max(0, reflections.count(row)))] if reflections else [],
        WHERE: batch.origin(row),
        FLAW: batch.flaws.get(row),
    }


def json_rows(paths: Sequence[Path], given: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """The rows of JSON-lines files, uniform; a line that isn't an object of the right types has its flaw noted."""
    for path in paths:
        columns: Columns | None = None
        with path.open(encoding="utf-8", errors="replace") as lines:
            for number, line in enumerate(lines):
                if not line.strip():
                    continue
                where = f"{path}:{number}"
                try:
                    row = json.loads(line)
                except (ValueError, RecursionError):
                    row = None
                if not isinstance(row, dict):
                    yield {WHERE: where, FLAW: "bad_json"}
                    continue
                columns = columns or Columns.find(list(row), given, str(path))
                yield _typed(row, columns) | {WHERE: where}


def _typed(row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """The values of a JSON row by role, scalars as lists of one; a flaw if a type is not what it should be."""

    def listed(name: str, kind: type) -> list[Any] | None:
        value = row.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        return values if all(v is None or isinstance(v, kind) for v in values) else None

    question, answer = row.get(columns.question), row.get(columns.answer)
    responses, flags = listed(columns.response, str), listed(columns.correct, bool)
    reflections = listed(columns.reflection, str)
    variant = row.get(columns.variant) if columns.variant else "unknown"
    fine = isinstance(question, str) and isinstance(variant, str | None) and None not in (responses, flags, reflections)
    return {
        "question": question if isinstance(question, str) else None,
        "answer": answer if isinstance(answer, str | None) else json.dumps(answer),
        "variant": variant if fine else None,
        "response": responses or [],
        "correct": flags or [],
        "reflection": reflections or [],
        FLAW: None if fine else "bad_type" if question is not None else None,
    }


def regroup(rows: Iterable[dict[str, Any]], size: int, scratch: Path) -> list[str]:
    """The paths of scratch Parquet files that hold `rows` (about `size` bytes of them), each question's together."""
    scratch.mkdir(parents=True, exist_ok=True)
    count = max(1, -(-size // PARTITION_BYTES))
    if count > 4096:
        raise InputError(f"{size >> 30} GiB of rows in no order are too much to regroup; sort them by question first")
    paths = [scratch / f"rows-{k:04d}.arrow" for k in range(count)]
    writers = [pa.ipc.new_file(path, _SCRATCH, options=pa.ipc.IpcWriteOptions(compression="zstd")) for path in paths]
    held: list[list[dict[str, Any]]] = [[] for _ in range(count)]
    waiting = 0
    for order, row in enumerate(rows):
        key = question_id((row.get("question"), row.get("answer")))
        held[int(key[1:], 16) % count].append(row | {"_order": order})
        waiting += 1
        if waiting == _ROWS:
            waiting = 0
            _spill(held, writers)
    _spill(held, writers)
    for writer in writers:
        writer.close()
    return [str(_sorted(path)) for path in paths]


def _spill(held: list[list[dict[str, Any]]], writers: Sequence[Any]) -> None:
    for rows, writer in zip(held, writers, strict=True):
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCRATCH))
            rows.clear()


def _sorted(path: Path) -> Path:
    """A Parquet file with the rows of a partition, questions in order of their first row."""
    with pa.ipc.open_file(path) as reader:
        table = reader.read_all()
    first: dict[tuple[str | None, str | None], int] = {}
    keys = list(zip(table.column("question").to_pylist(), table.column("answer").to_pylist(), strict=True))
    order = table.column("_order").to_pylist()
    for key, place in zip(keys, order, strict=True):
        first.setdefault(key, place)
    indices = sorted(range(len(keys)), key=lambda k: (first[keys[k]], order[k]))
    out = path.with_suffix(".parquet")
    pq.write_table(table.take(pa.array(indices, pa.int64())), out, compression="zstd", row_group_size=_ROWS)
    path.unlink()
    return out
