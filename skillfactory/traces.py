"""The table of silver traces: its schema, and rows to columns."""

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.places import drafted
from skillfactory.records import Drop, Segment, Trace

_SEGMENT = [
    ("kind", pa.string()),
    ("start", pa.int32()),
    ("end", pa.int32()),
    ("attempt_id", pa.string()),
    ("right", pa.bool_()),
]
SCHEMA = pa.schema(
    [
        ("trace_id", pa.string()),
        ("question_id", pa.string()),
        ("layout", pa.string()),
        ("seed", pa.int64()),
        ("answer", pa.string()),
        ("gold", pa.string()),
        ("attempt_ids", pa.list_(pa.string())),
        ("tokens", pa.int32()),
        ("conversations", pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))),
        ("sft_template_type_idx", pa.string()),
        ("segments", pa.list_(pa.struct(_SEGMENT))),
    ]
)
"""One row a trace. `conversations` and `sft_template_type_idx` are the columns of the released SFT data; `segments` are spans
of code points in the assistant turn; `tokens` counts the whole chat, null if no tokenizer was given."""

WITH_SKILLS = SCHEMA.set(
    SCHEMA.get_field_index("segments"),
    pa.field("segments", pa.list_(pa.struct([*_SEGMENT, ("skill", pa.string())]))),
)
"""The same for builds with layouts that show skills: a segment says which skill's block it is."""

DROPS = pa.schema([("stage", pa.string()), ("subject_id", pa.string()), ("reason", pa.string()), ("detail", pa.string())])


@dataclass(slots=True)
class Row:
    """A finished trace with its text."""

    trace: Trace
    gold: str | None
    text: str
    segments: list[Segment]
    tokens: int | None


_REPEATED = [
    "question_id",
    "layout",
    "gold",
    "conversations.list.element.role",
    "sft_template_type_idx",
    "segments.list.element.kind",
]


def open_writer(path: Path | BinaryIO, schema: pa.Schema) -> pq.ParquetWriter:
    """A Parquet writer for traces, of `SCHEMA` or `WITH_SKILLS`, or for drops."""
    repeated = True if schema is DROPS else _REPEATED
    return pq.ParquetWriter(path, schema, compression="zstd", use_dictionary=repeated)


class _Table:
    """A Parquet file that is begun with its first rows, and appears whole when it is closed."""

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._path, self._schema = path, schema
        self._open = ExitStack()
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        if self._writer is None:
            draft = self._open.enter_context(drafted(self._path))
            self._writer = self._open.enter_context(open_writer(draft, self._schema))
        self._writer.write_table(table)

    def close(self) -> bool:
        """Puts the file in its place and says whether there is one."""
        self._open.close()
        return self._writer is not None


class TraceWriter:
    """Writes rows to a Parquet file, which appears whole at the end, and only if there is a row."""

    def __init__(self, path: Path, schema: pa.Schema = SCHEMA) -> None:
        self._schema = schema
        self._rows: list[Row] = []
        self._file = _Table(path, schema)
        self.size = 0  # characters held

    def add(self, row: Row) -> None:
        """Holds a row until the next flush."""
        self._rows.append(row)
        self.size += len(row.text)

    def flush(self, random: Random) -> None:
        """Writes the rows held as one row group, shuffled, so that a question's traces don't stand together."""
        if self._rows:
            random.shuffle(self._rows)
            self._file.write(trace_table(self._rows, self._schema))
        self._rows, self.size = [], 0

    def close(self) -> bool:
        """Puts the file in its place and says whether there is one."""
        return self._file.close()


class DropWriter:
    """Writes drops to a Parquet file, which appears whole at the end, and only if there is a drop."""

    def __init__(self, path: Path) -> None:
        self._drops: list[Drop] = []
        self._file = _Table(path, DROPS)

    def add(self, drop: Drop) -> None:
        """Writes a drop, sooner or later."""
        self._drops.append(drop)
        if len(self._drops) == _DROPS_HELD:
            self._flush()

    def close(self) -> bool:
        """Puts the file in its place and says whether there is one."""
        if self._drops:
            self._flush()
        return self._file.close()

    def _flush(self) -> None:
        columns = [pa.array([getattr(drop, name) for drop in self._drops], pa.string()) for name in DROPS.names]
        self._file.write(pa.table(columns, schema=DROPS))
        self._drops = []


_DROPS_HELD = 10_000


def trace_table(rows: Sequence[Row], schema: pa.Schema = SCHEMA) -> pa.Table:
    """The rows as columns of `SCHEMA`, or of `WITH_SKILLS`."""
    traces = [row.trace for row in rows]
    layouts = [trace.layout for trace in traces]
    columns: list[Any] = [
        [trace.id for trace in traces],
        [trace.question_id for trace in traces],
        layouts,
        [trace.seed for trace in traces],
        [trace.answer for trace in traces],
        [row.gold for row in rows],
        [[step.attempt.id for step in trace.steps] for trace in traces],
        [row.tokens for row in rows],
        _conversations(rows),
        layouts,
        _segments(rows, schema),
    ]
    arrays = [
        column if isinstance(column, pa.Array) else pa.array(column, kind.type)
        for column, kind in zip(columns, schema, strict=True)
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _conversations(rows: Sequence[Row]) -> pa.Array:
    """A user and an assistant turn a row; built flat, as nested Python values are slow to convert."""
    contents = _strings([text for row in rows for text in (row.trace.prompt, row.text)])
    turns = pa.StructArray.from_arrays(
        [pa.array(["user", "assistant"] * len(rows), pa.string()), contents], ["role", "content"]
    )
    return pa.ListArray.from_arrays(pa.array(range(0, 2 * len(rows) + 1, 2), pa.int32()), turns)


def _strings(texts: Sequence[str]) -> pa.Array:
    """The texts as an Arrow array; put together by hand, which takes a third of the time of `pa.array` for long ones."""
    encoded = [text.encode() for text in texts]
    ends = np.zeros(len(encoded) + 1, np.int32)
    np.cumsum([len(each) for each in encoded], out=ends[1:])
    return pa.StringArray.from_buffers(len(encoded), pa.py_buffer(ends), pa.py_buffer(b"".join(encoded)))


def _segments(rows: Sequence[Row], schema: pa.Schema) -> pa.Array:
    kind = schema.field("segments").type
    width = len(kind.value_type)
    flat = list(zip(*(segment for row in rows for segment in row.segments), strict=True))[:width] or [()] * width
    parts = pa.StructArray.from_arrays(
        [pa.array(column, field.type) for column, field in zip(flat, kind.value_type, strict=True)],
        fields=list(kind.value_type),
    )
    ends = [0]
    for row in rows:
        ends.append(ends[-1] + len(row.segments))
    return pa.ListArray.from_arrays(pa.array(ends, pa.int32()), parts)
