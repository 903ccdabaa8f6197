"""A directory of built traces, read as a stream."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow as pa

from skillfactory.errors import InputError
from skillfactory.places import files, parquet


@dataclass(frozen=True, slots=True)
class TraceFiles:
    """The part files of a build, in order, and how many traces they hold."""

    directory: Path
    parts: tuple[Path, ...]
    rows: int

    @classmethod
    def open(cls, directory: Path, columns: Sequence[str]) -> "TraceFiles":
        """The traces in `directory`; InputError if they are none or not all, or lack one of `columns`."""
        parts = tuple(files(directory / "traces", "*.parquet"))
        account = _account(directory)
        if account.get("finished") is False:
            raise InputError(f"{directory}: the build was stopped before its end; run the same build again")
        if not parts:
            reason = "no traces here; expected traces/*.parquet, as `skillfactory build --output` writes them"
            if (directory / "run.json").is_file():
                reason = (
                    f"a run of `skillfactory curate`, and no traces; make them: skillfactory build {directory} --output TRACES"
                )
            raise InputError(f"{directory}: {_no_trace(directory) if account else reason}")
        rows = 0
        for part in parts:
            try:
                with parquet(part) as file:
                    found, rows = file.schema_arrow.names, rows + file.metadata.num_rows
            except pa.ArrowInvalid as error:
                raise InputError(f"{part}: can't be read as Parquet: {error}") from error
            missing = [name for name in columns if name not in found]
            if missing:
                raise InputError(f"{part}: the columns {', '.join(missing)} are missing; found: {', '.join(found)}")
        if not rows:
            raise InputError(f"{directory}: {_no_trace(directory)}")
        return cls(directory, parts, rows)

    def batches(self, part: Path, columns: Sequence[str] | None = None, size: int = 256) -> Iterator[pa.RecordBatch]:
        """The rows of a part in batches of at most `size`; one row group is in memory at a time."""
        with parquet(part) as file:
            for group in range(file.num_row_groups):
                yield from file.iter_batches(size, [group], columns)

    def schema(self, part: Path) -> pa.Schema:
        """The columns of a part."""
        with parquet(part) as file:
            return file.schema_arrow

    def settings(self) -> dict[str, Any]:
        """The settings of the build, {} if it left no account."""
        settings = _account(self.directory).get("settings", {})
        return settings if isinstance(settings, dict) else {}


def _account(directory: Path) -> dict[str, Any]:
    """What the build says of itself in build.json, {} if it left no account."""
    path = directory / "build.json"
    if not path.exists():
        return {}
    try:
        account = json.loads(path.read_text("utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not a JSON file: {error}") from error
    return account if isinstance(account, dict) else {}


def _no_trace(directory: Path) -> str:
    return f"the build made no trace: see {directory / 'drops'}"
