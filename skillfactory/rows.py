"""Rows of JSONL and Parquet files: read in batches, and written again with more columns, in memory that doesn't grow.

A line that can't be read is no row: its reason stands in its place, so that whoever reads can count it and go on.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.errors import InputError
from skillfactory.places import drafted, opened, parquet

BATCH = 1024  # rows
MAX_FIELDS = 200  # of a nested column in Parquet; a mapping with a key per row would make one column for each

_TEXT = "text, or JSON of what is none"  # how such a column is marked

Row = Mapping[str, Any]


class Batch(NamedTuple):
    """Some rows of a file, in order."""

    rows: list[Row | str]  # the columns asked for (JSONL: all there are), or why a line is no row
    table: pa.RecordBatch | None  # all columns, if the file is Parquet


Write = Callable[[Batch, Sequence[Row]], None]


def check_suffix(path: Path, what: str) -> None:
    """InputError unless the name ends in .jsonl or .parquet."""
    if path.suffix not in (".jsonl", ".parquet"):
        raise InputError(f"the {what} must end in .jsonl or .parquet, not '{path.suffix}': {path}")


def count_rows(path: Path) -> int:
    """How many rows a file has, blank lines of JSONL included. InputError if it isn't there or isn't Parquet."""
    check_suffix(path, "input")
    try:
        if path.suffix == ".parquet":
            with parquet(path) as table:
                return int(table.metadata.num_rows)
        with opened(path) as file:
            return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(1 << 20), b""))
    except (OSError, pa.ArrowInvalid) as error:
        raise InputError(f"can't read {path}: {error}") from error


def read_batches(path: Path, columns: Sequence[str]) -> Iterator[Batch]:
    """The rows in batches; from Parquet only `columns` (those it has) become Python values."""
    if path.suffix == ".jsonl":
        with opened(path) as file:
            lines = (line for line in file if line.strip())
            while chunk := list(islice(lines, BATCH)):
                yield Batch([parsed(line) for line in chunk], None)
        return
    with parquet(path) as source:
        for table in source.iter_batches(BATCH):
            present = [name for name in columns if name in table.schema.names]
            yield Batch(rows_of(table.select(present)), table)


def rows_of(table: pa.RecordBatch) -> list[Row | str]:
    """The rows of a table of Parquet, or why one is none: its text isn't UTF-8, which Parquet files don't check."""
    try:
        return list(table.to_pylist())
    except UnicodeDecodeError as error:
        if table.num_rows == 1:
            return [f"not UTF-8 ({error})"]
    return [row for i in range(table.num_rows) for row in rows_of(table.slice(i, 1))]


def columns_of(batch: Batch) -> list[str]:
    """The names of a batch's columns, in the order in which they turn up."""
    if batch.table is not None:
        return list(batch.table.schema.names)
    return list(dict.fromkeys(name for row in batch.rows if not isinstance(row, str) for name in row))


@contextmanager
def appending(source: Path, output: Path, added: Sequence[str], texts: Sequence[str] = ()) -> Iterator[Write]:
    """A function that writes a batch of `source` to `output`, its rows widened by the text columns `added`.

    Columns of these names that the rows have already are replaced. From JSONL to Parquet, texts in the columns `texts` stay as
    they are beside values that become JSON text. The file appears whole when the block ends, or not at all.
    """
    check_suffix(output, "output")
    with drafted(output) as draft:
        if output.suffix == ".jsonl":
            with draft.open("wb") if isinstance(draft, Path) else nullcontext(draft) as file:
                yield lambda batch, more: file.writelines(_lines(batch, more))
        else:
            schema = _schema(source, added, texts)
            with pq.ParquetWriter(draft, schema, compression="zstd") as writer:
                yield lambda batch, more: writer.write_batch(_record_batch(batch, more, schema, added))


def parsed(line: bytes) -> Row | str:
    """The row that a line of JSONL holds, or why it holds none; see `parsed_json`."""
    try:
        row = parsed_json(line)
    except (ValueError, RecursionError) as error:
        return f"not JSON ({error})"
    return row if isinstance(row, dict) else f"not a JSON object but {type(row).__name__}"


def parsed_json(text: str | bytes) -> Any:
    """The value that JSON text holds; ValueError or RecursionError. A lone surrogate, which no file can hold, becomes "?"."""
    value, lower = json.loads(text), text.lower()
    if (b"\\ud" in lower) if isinstance(lower, bytes) else ("\\ud" in lower):
        value = json.loads(json.dumps(value, ensure_ascii=False).encode("utf-8", "replace"))
    return value


def _lines(batch: Batch, more: Sequence[Row]) -> Iterator[bytes]:
    rows = batch.rows if batch.table is None else rows_of(batch.table)
    for row, extra in zip(rows, more, strict=True):
        whole = {**({} if isinstance(row, str) else row), **extra}
        yield json.dumps(whole, ensure_ascii=False, default=str).encode() + b"\n"  # default: dates and decimals of Parquet


def _schema(source: Path, added: Sequence[str], texts: Sequence[str]) -> pa.Schema:
    """The columns of the output. Metadata is left out: that of pandas and `datasets` describes the old columns only."""
    if source.suffix == ".parquet":
        with parquet(source) as table:
            schema = table.schema_arrow.remove_metadata()
    else:
        schema = _inferred(source, texts)
    kept = [field for field in schema if field.name not in added]
    return pa.schema([*kept, *(pa.field(name, pa.string()) for name in added)])


def _inferred(source: Path, texts: Sequence[str]) -> pa.Schema:
    """The columns of a JSONL file: one pass over it. Where values share no type, the column is JSON text, and marked so.

    Those of `texts` are also where values are nested, as a struct would give each row the keys of all.
    """
    types: dict[str, pa.DataType | None] = {}
    for batch in read_batches(source, ()):
        rows = [row for row in batch.rows if not isinstance(row, str)]
        for name in columns_of(batch):
            types[name] = _common(types.get(name, pa.null()), [row.get(name) for row in rows])
    return pa.schema([_field(name, kind, name in texts) for name, kind in types.items()])


def _field(name: str, kind: pa.DataType | None, is_text: bool) -> pa.Field:
    if kind is None or not _storable(kind) or (is_text and pa.types.is_nested(kind)):
        return pa.field(name, pa.string(), metadata={"holds": _TEXT if is_text else "JSON"})
    return pa.field(name, kind)


def _common(known: pa.DataType | None, values: list[Any]) -> pa.DataType | None:
    """The type of `values` and of the values before, or None if they share none."""
    if known is None:
        return None
    try:
        schemas = [pa.schema([("column", kind)]) for kind in (known, pa.array(values).type)]
        return pa.unify_schemas(schemas, promote_options="permissive").field("column").type
    except (pa.ArrowException, OverflowError):
        return None


def _storable(kind: pa.DataType) -> bool:
    """Whether Parquet holds the type well: no mapping without keys, and not hundreds of fields."""
    fields, todo = 0, [kind]
    while todo:
        kind = todo.pop()
        if pa.types.is_struct(kind):
            fields += kind.num_fields
            todo.extend(field.type for field in kind)
            if kind.num_fields == 0 or fields > MAX_FIELDS:
                return False
        elif pa.types.is_list(kind):
            todo.append(kind.value_type)
    return True


def _record_batch(batch: Batch, more: Sequence[Row], schema: pa.Schema, added: Sequence[str]) -> pa.RecordBatch:
    columns = [
        pa.array([row[field.name] for row in more], field.type) if field.name in added else _column(batch, field)
        for field in schema
    ]
    return pa.RecordBatch.from_arrays(columns, schema=schema)


def _column(batch: Batch, field: pa.Field) -> pa.Array:
    if batch.table is not None:
        return batch.table.column(field.name)
    values = [None if isinstance(row, str) else row.get(field.name) for row in batch.rows]
    if field.metadata:
        kept: type | tuple[()] = str if field.metadata[b"holds"] == _TEXT.encode() else ()
        values = [v if v is None or isinstance(v, kept) else json.dumps(v, ensure_ascii=False) for v in values]
    try:
        return pa.array(values, field.type)
    except pa.ArrowInvalid as error:
        raise InputError(
            f"the column '{field.name}' doesn't fit into Parquet ({error}); give the output a .jsonl name"
        ) from error
