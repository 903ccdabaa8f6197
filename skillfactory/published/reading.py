"""Published evaluation data, read row by row and checked: what can't be used is an error with its file, row and column."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from skillfactory.errors import InputError
from skillfactory.published import (
    COLUMNS,
    CORRECT,
    EXTRACTED,
    INNER_CORRECT,
    INNER_EXTRACTED,
    METADATA,
    OTHERS,
    OURS,
    RESPONSES,
)
from skillfactory.rows import rows_of

NEEDED = ("question", "answer", "task", RESPONSES, CORRECT)
CUT = f"{RESPONSES}__finish_reason_length_flags"  # some files of the same project say which responses the limit cut
BATCH = 64  # rows; the largest published ones hold 34 responses of 16 kB each


@dataclass(frozen=True, slots=True)
class Said:
    """One response as published."""

    text: str
    right: bool
    answer: str | None  # None: none was found
    inner: tuple[tuple[str, bool], ...]  # every answer in the text and whether it is right, where the file tells
    cut: bool | None  # whether the token limit cut it, where the file tells


@dataclass(frozen=True, slots=True)
class Entry:
    """A question as published, with its responses."""

    where: str  # the file and the row, from 1
    question: str
    answer: str
    task: str
    said: tuple[Said, ...]
    others: Mapping[str, Any]  # all_other_columns, where it is a JSON object
    metadata: Mapping[str, Any]  # the same
    rest: Mapping[str, Any]  # the values of the columns that stand in no field of ours, as they are


def files(source: Path) -> list[Path]:
    """The Parquet files at a path, in the order of their names; InputError if there are none or one can't be read."""
    found = sorted(source.rglob("*.parquet")) if source.is_dir() else [source]
    if not found:
        raise InputError(f"{source}: holds no Parquet file; expected published evaluation data")
    for path in found:
        try:
            names = pq.read_schema(path).names
        except (OSError, pa.ArrowInvalid) as error:
            raise InputError(f"{path}: can't be read as Parquet: {error}") from error
        lacking = next((name for name in NEEDED if name not in names), None)
        if lacking is not None:
            raise InputError(f"{path}: no column '{lacking}'; the file has: {', '.join(names)}")
    return found


def told(path: Path) -> Mapping[str, Any]:
    """What our export says of a whole file; nothing for others."""
    about = (pq.read_schema(path).metadata or {}).get(OURS.encode())
    return _object(about.decode()) if about else {}


def entries(path: Path) -> Iterator[Entry]:
    """The rows of a file in order."""
    with pq.ParquetFile(path) as file:
        wanted = [name for name in (*COLUMNS, CUT) if name in file.schema_arrow.names]
        number = 0
        for batch in file.iter_batches(BATCH, columns=wanted):
            for row in rows_of(batch):
                number += 1
                if isinstance(row, str):
                    raise InputError(f"{path}, row {number}: {row}")
                yield _entry(f"{path}, row {number}", row)


def _entry(where: str, row: Mapping[str, Any]) -> Entry:
    for name in ("question", "task"):
        if not isinstance(row[name], str) or not row[name]:
            raise _wrong(where, name, "text", row[name])
    if isinstance(row["answer"], (list, dict)):
        raise _wrong(where, "answer", "text", row["answer"])
    texts = _list(where, RESPONSES, row[RESPONSES], str, None)
    rights = _list(where, CORRECT, row[CORRECT], bool, len(texts))
    answers = (
        _list(where, EXTRACTED, row[EXTRACTED], (str, type(None)), len(texts))
        if row.get(EXTRACTED) is not None
        else [None] * len(texts)
    )
    cuts = _list(where, CUT, row[CUT], (bool, type(None)), len(texts)) if row.get(CUT) is not None else [None] * len(texts)
    inner = _inner(where, row, len(texts))
    said = tuple(
        Said(text, right, answer or None, each, cut)
        for text, right, answer, each, cut in zip(texts, rights, answers, inner, cuts, strict=True)
    )
    others, metadata = (_object(row.get(name)) for name in (OTHERS, METADATA))
    kept = ("task", "prompt", INNER_CORRECT, INNER_EXTRACTED, OTHERS, METADATA)
    gold = "" if row["answer"] is None else str(row["answer"])
    rest = {name: row[name] for name in kept if name in row}
    return Entry(where, row["question"], gold, row["task"], said, others, metadata, rest)


def _inner(where: str, row: Mapping[str, Any], n: int) -> Sequence[tuple[tuple[str, bool], ...]]:
    """The answers in each response with their correctness; nothing for those of which the file tells none."""
    if not row.get(INNER_EXTRACTED) or not row.get(INNER_CORRECT):
        return [()] * n
    texts = _list(where, INNER_EXTRACTED, row[INNER_EXTRACTED], (list, type(None)), n)
    flags = _list(where, INNER_CORRECT, row[INNER_CORRECT], (list, type(None)), n)
    found = []
    for answers, rights in zip(texts, flags, strict=True):
        checked = _list(where, INNER_EXTRACTED, answers or [], (str, type(None)), None)
        matching = _list(where, INNER_CORRECT, rights or [], bool, len(checked))
        found.append(tuple((answer, right) for answer, right in zip(checked, matching, strict=True) if answer is not None))
    return found


def _list(where: str, name: str, value: Any, kind: type | tuple[type, ...], n: int | None) -> list[Any]:
    """`value` if it is a list of such things, `n` of them if that is given."""
    if not isinstance(value, list):
        raise _wrong(where, name, "a list", value)
    for place, item in enumerate(value, 1):
        if not isinstance(item, kind):
            kinds = kind if isinstance(kind, tuple) else (kind,)
            raise _wrong(where, name, f"{_WORDS[kinds[0]]} at place {place}", item)
    if n is not None and len(value) != n:
        raise InputError(f"{where}, column '{name}': expected {n} values, one for each response or answer, came {len(value)}")
    return value


_WORDS = {str: "text", bool: "true or false", list: "a list"}


def _wrong(where: str, name: str, expected: str, value: Any) -> InputError:
    came = "nothing" if value in (None, "") else f"{type(value).__name__} {str(value)[:40]!r}"
    return InputError(f"{where}, column '{name}': expected {expected}, came {came}")


def _object(value: Any) -> Mapping[str, Any]:
    """A JSON object, or what a struct column holds; an empty one for anything else, which the schema leaves open."""
    if isinstance(value, str) and value.startswith("{"):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError):
            return {}
    return value if isinstance(value, Mapping) else {}
