"""Raw data in any order, or as JSON lines, → scratch Parquet files in which the rows of a question stand together.

Two passes over the disk, in constant memory: rows go to partitions by a hash of their question, then each partition is sorted.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.build.columns import decoded
from skillfactory.build.released import FLAW, WHERE, Batch, Columns, RawReader, Wanted, question_id
from skillfactory.errors import InputError
from skillfactory.places import address, drafted, is_remote, make_folder

PARTITION_BYTES = 32 << 20
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
        "question": decoded(batch.question[row]),
        "answer": decoded(batch.answer[row]),
        "variant": batch.variant[row],
        "response": [batch.response.text(row, k) for k in range(max(0, batch.response.count(row)))],
        "correct": None if right is None else [right],
        "reflection": [reflections.text(row, k) for k in range(max(0, reflections.count(row)))] if reflections else [],
        WHERE: batch.origin(row),
        FLAW: batch.flaws.get(row),
    }


_HEAD = 1000  # lines whose keys tell the columns


def json_rows(paths: Sequence[Path], wanted: Wanted) -> Iterator[dict[str, Any]]:
    """The rows of JSON-lines files, uniform; a line that isn't an object of the right types has its flaw noted."""
    for path in paths:
        rows = _objects(path)
        head = list(islice(rows, _HEAD))
        names = list(dict.fromkeys(name for _, row in head for name in row or ()))
        columns = Columns.find(names, wanted, address(path))
        for where, row in chain(head, rows):
            yield {WHERE: where, FLAW: "bad_json"} if row is None else _typed(row, columns) | {WHERE: where}


def _objects(path: Path) -> Iterator[tuple[str, dict[str, Any] | None]]:
    """Where each line stands, and its object, None if it is none."""
    where = address(path)
    with path.open(encoding="utf-8", errors="replace") as lines:
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError):
                row = None
            yield f"{where}:{number}", row if isinstance(row, dict) else None


def _typed(row: Mapping[str, Any], columns: Columns) -> dict[str, Any]:
    """The values of a JSON row by role, scalars as lists of one; a flaw if a type is not what it should be."""

    def listed(name: str, kind: type) -> list[Any] | None:
        value = row.get(name)
        values = value if isinstance(value, list) else [] if value is None else [value]
        return [_whole(v) for v in values] if all(v is None or isinstance(v, kind) for v in values) else None

    question, answer = row.get(columns.question), row.get(columns.answer)
    responses, flags = listed(columns.response, str), listed(columns.correct, bool)
    reflections = listed(columns.reflection, str)
    variant = row.get(columns.variant) if columns.variant else "unknown"
    fine = isinstance(question, str) and isinstance(variant, str | None) and None not in (responses, flags, reflections)
    return {
        "question": _whole(question) if isinstance(question, str) else None,
        "answer": _whole(answer) if isinstance(answer, str | None) else json.dumps(answer),
        "variant": variant if fine else None,
        "response": responses or [],
        "correct": flags or [],
        "reflection": reflections or [],
        FLAW: None if fine else "bad_type" if question is not None else None,
    }


def _whole(value: Any) -> Any:
    """`value`, a text without halves of surrogate pairs, which no table can hold."""
    return value.encode("utf-8", "replace").decode() if isinstance(value, str) else value


def regroup(rows: Iterable[dict[str, Any]], size: int, scratch: Path) -> list[Path]:
    """The paths of scratch Parquet files that hold `rows` (about `size` bytes of them), each question's together.

    If `scratch` is elsewhere, the partitions stay on this machine, in its folder for temporary files, until they are sorted.
    """
    count = max(1, -(-size // PARTITION_BYTES))
    if count > 4096:
        raise InputError(f"{size >> 30} GiB of rows in no order are too much to regroup; sort them by question first")
    make_folder(scratch)
    if not is_remote(scratch):
        return [_sorted(path, scratch) for path in _partitions(rows, count, scratch)]
    with TemporaryDirectory(prefix="skillfactory-") as local:
        return [_sorted(path, scratch) for path in _partitions(rows, count, Path(local))]


def _partitions(rows: Iterable[dict[str, Any]], count: int, folder: Path) -> list[Path]:
    """The rows in so many files, each question's in one of them."""
    paths = [folder / f"rows-{k:04d}.arrow" for k in range(count)]
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
    return paths


def _spill(held: list[list[dict[str, Any]]], writers: Sequence[Any]) -> None:
    for rows, writer in zip(held, writers, strict=True):
        if rows:
            writer.write_table(pa.Table.from_pylist(rows, schema=_SCRATCH))
            rows.clear()


def _sorted(path: Path, folder: Path) -> Path:
    """A Parquet file in `folder` with the rows of a partition, questions in order of their first row."""
    with pa.ipc.open_file(path) as reader:
        table = reader.read_all()
    first: dict[tuple[str | None, str | None], int] = {}
    keys = list(zip(table.column("question").to_pylist(), table.column("answer").to_pylist(), strict=True))
    order = table.column("_order").to_pylist()
    for key, place in zip(keys, order, strict=True):
        first.setdefault(key, place)
    indices = sorted(range(len(keys)), key=lambda k: (first[keys[k]], order[k]))
    out = folder / f"{path.stem}.parquet"
    with drafted(out) as draft, pq.ParquetWriter(draft, _SCRATCH, compression="zstd") as writer:
        for start in range(0, len(indices), _ROWS):
            writer.write_table(table.take(pa.array(indices[start : start + _ROWS], pa.int64())))
    path.unlink()
    return out
