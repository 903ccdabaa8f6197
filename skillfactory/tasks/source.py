"""Rows of a data set: from the Hub, a folder that `datasets` understands, or plain JSONL, Parquet and CSV files."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skillfactory.errors import InputError, require

Row = Mapping[str, Any]
_FILES = (".jsonl", ".json", ".parquet", ".csv")


@dataclass(frozen=True)
class Source:
    """Where rows come from. A path that exists is local; anything else is an id on the Hub."""

    path: str
    config: str | None = None
    revision: str | None = None

    @property
    def is_file(self) -> bool:
        """Whether it is one local file, which has no splits."""
        return Path(self.path).is_file()

    def rows(self, split: str) -> Iterator[Row]:
        """The rows of a split (of all there is in a single file), one after another; never an empty set.

        InputError, which names what was looked for, if there is no such source, config or split, or it has no rows.
        """
        where = self.path if self.is_file else f"{self.path} ({self.config or 'default'}, {split})"
        empty = True
        try:
            for row in self._open(split):
                empty = False
                yield row
        except (OSError, ValueError, KeyError) as error:  # what datasets and the Hub client raise for what isn't there
            raise InputError(f"can't read {where}: {type(error).__name__}: {error}{self._advice()}") from error
        if empty:
            raise InputError(f"{where} has no rows")

    def _open(self, split: str) -> Iterator[Row]:
        path = Path(self.path)
        if path.is_file():
            return _read(path)
        if path.is_dir():
            plain = [path / f"{split}{suffix}" for suffix in _FILES if (path / f"{split}{suffix}").is_file()]
            if plain:
                return _read(plain[0])
        elif path.suffix in _FILES or path.is_absolute() or self.path.startswith("."):
            raise FileNotFoundError("there is no such file or folder")
        datasets = require("datasets", "data")
        if path.is_dir() and ((path / "dataset_dict.json").is_file() or (path / "state.json").is_file()):
            saved = datasets.load_from_disk(self.path)
            return iter(saved[split] if isinstance(saved, dict) else saved)
        return iter(datasets.load_dataset(self.path, self.config, split=split, revision=self.revision, streaming=True))

    def _advice(self) -> str:
        if Path(self.path).exists():
            return ""
        return (
            ". Check the name; a data set on the Hub needs a network (a gated one `hf auth login` too), a local path does not"
        )


def _read(path: Path) -> Iterator[Row]:
    """The rows of one plain file."""
    from skillfactory.rows import parsed, rows_of

    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        with pq.ParquetFile(path) as file:
            yield from _good(path, "row", (row for batch in file.iter_batches(1024) for row in rows_of(batch)))
    elif path.suffix == ".csv":
        import pyarrow.csv

        yield from pyarrow.csv.read_csv(path, parse_options=pyarrow.csv.ParseOptions(newlines_in_values=True)).to_pylist()
    elif path.suffix in (".jsonl", ".json"):
        with path.open("rb") as lines:
            yield from _good(path, "line", (parsed(line) if line.strip() else None for line in lines))
    else:
        raise ValueError(f"unknown kind of file '{path.suffix}' (known: {', '.join(_FILES)})")


def _good(path: Path, unit: str, rows: Iterable[Row | str | None]) -> Iterator[Row]:
    """The rows, without blank lines; InputError names the line or row that is none."""
    for number, row in enumerate(rows, 1):
        if isinstance(row, str):
            raise InputError(f"{path}, {unit} {number}: {row}; one object per line is expected, in UTF-8")
        if row is not None:
            yield row


def column(row: Row, name: str, where: str) -> Any:
    """The value of a column; InputError names the columns found if it isn't there."""
    if name not in row:
        raise InputError(f"{where}: no column '{name}'; the columns are: {', '.join(map(str, row))}")
    return row[name]
