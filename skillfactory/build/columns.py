"""Columns of raw data, whatever their Arrow types: one text or flag a row from scalars, lists, dictionaries and views."""

from typing import Any

import numpy as np
import pyarrow as pa

from skillfactory.errors import InputError

_Numbers = np.ndarray[Any, np.dtype[np.int64]]


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_null(kind))


def _is_list(kind: pa.DataType) -> bool:
    return bool(pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind))


def _plain(column: pa.Array, where: str) -> pa.Array:
    """The column as strings or as lists of strings; InputError if it holds something else."""
    kind = column.type
    if _is_text(kind) or (_is_list(kind) and _is_text(kind.value_type)):
        return column
    inner = getattr(kind, "value_type", kind)  # of a list, a view of lists or a dictionary
    inner = getattr(inner, "value_type", inner)
    target = pa.string() if pa.types.is_dictionary(kind) or kind == inner else pa.list_(pa.string())
    try:
        if _is_text(inner) or inner == pa.string_view():
            return column.cast(target)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):
        pass
    raise InputError(f"{where}: expected strings or lists of strings, not {kind}")


def labels(column: pa.Array, where: str) -> pa.Array:
    """A string a row: scalars of any kind as text, lists of one as that one, null for other lists."""
    kind = column.type
    if pa.types.is_string(kind):
        return column
    try:
        if not pa.types.is_nested(kind):
            return column.cast(pa.string())
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid) as error:
        raise InputError(f"{where}: expected one text a row, not {kind}") from error
    texts = Strings(column, where)
    one = np.array(texts.lengths) == 1
    places = pa.array(np.where(one, texts.starts, 0), mask=~one)
    return texts.values.take(places).cast(pa.string())


def decoded(value: Any) -> str | None:
    """The text of an Arrow string, None for a null; bytes that are no UTF-8 become replacement characters."""
    try:
        text: str | None = value.as_py()
    except UnicodeDecodeError:
        return bytes(value.as_buffer()).decode("utf-8", "replace")
    return text


def every(column: pa.Array) -> list[str | None]:
    """The text of each row of a column of strings."""
    try:
        texts: list[str | None] = column.to_pylist()
    except UnicodeDecodeError:
        texts = [decoded(value) for value in column]
    return texts


class Strings:
    """A column of strings, or of lists of strings, of one batch: the texts of a row on demand."""

    def __init__(self, column: pa.Array, where: str) -> None:
        column = _plain(column, where)
        self.lengths: list[int]  # how many texts each row holds, -1 for a null
        if _is_list(column.type):
            self.values = column.values
            self.lengths = _numbers(column.value_lengths(), -1).tolist()
            self.starts = _starts(column).tolist()
        else:
            self.values = column
            self.lengths = np.where(column.is_null(), -1, 1).tolist()
            self.starts = list(range(len(column)))

    def count(self, row: int) -> int:
        """How many texts the row holds, -1 for a null."""
        return self.lengths[row]

    def text(self, row: int, k: int = 0) -> str | None:
        """Text number `k` of the row."""
        return decoded(self.values[self.starts[row] + k])

    def blank(self) -> list[int]:
        """The rows whose one text is null or empty."""
        sizes = _numbers(pa.compute.binary_length(self.values), 0) if len(self.values) else np.zeros(1, np.int64)
        if sizes.all():
            return []
        return [
            row for row, (n, start) in enumerate(zip(self.lengths, self.starts, strict=True)) if n == 1 and not sizes[start]
        ]


def _starts(column: pa.Array) -> _Numbers:
    if pa.types.is_fixed_size_list(column.type):
        return np.asarray((np.arange(len(column)) + column.offset) * column.type.list_size)
    starts: _Numbers = column.offsets.to_numpy()[:-1]
    return starts


def _numbers(array: pa.Array, null: int) -> _Numbers:
    filled = array.fill_null(null) if array.null_count else array
    numbers: _Numbers = filled.to_numpy(zero_copy_only=False)
    return numbers


def flags(column: pa.Array, where: str) -> list[bool | None]:
    """One flag a row from booleans or lists of one boolean; None where there is none."""
    if pa.types.is_boolean(column.type):
        found: list[bool | None] = column.to_pylist()
        return found
    inner = getattr(column.type, "value_type", None)
    if not _is_list(column.type) or not (pa.types.is_boolean(inner) or pa.types.is_null(inner)):
        raise InputError(f"{where}: expected booleans or lists of one boolean, not {column.type}")
    values = column.values.to_pylist()
    pairs = zip(_starts(column).tolist(), _numbers(column.value_lengths(), 0).tolist(), strict=True)
    return [values[start] if length == 1 else None for start, length in pairs]
