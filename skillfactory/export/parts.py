"""The part files of an export: streamed from the traces, over-long ones refused or left out, never cut."""

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from skillfactory.embedded import located
from skillfactory.errors import InputError
from skillfactory.progress import Progress
from skillfactory.records import Drop
from skillfactory.tracefiles import TraceFiles
from skillfactory.traces import DropWriter

OVER = "over_max_length"  # why a trace is left out


@dataclass(frozen=True, slots=True)
class Lengths:
    """How the traces stand to a length limit."""

    over: int = 0
    unknown: int = 0  # traces without a token count
    counted: bool = True  # with the tokenizer of the model that is to be trained
    model: str = ""


def check_lengths(source: TraceFiles, limit: int | None, drop: bool, trainer: str, model: str = "") -> Lengths:
    """How many traces are over `limit`; InputError if there are and `drop` is off, since `trainer` would cut them."""
    over = unknown = longest = 0
    for part in source.parts:
        for batch in source.batches(part, ["tokens"], size=100_000) if limit is not None else ():
            tokens = batch.column(0)
            unknown += tokens.null_count
            counts = tokens.drop_null().to_numpy()
            over += int(np.count_nonzero(counts > limit))
            longest = max(longest, int(counts.max(initial=0)))
    if over and not drop:
        raise InputError(
            f"{over:,} of {source.rows:,} traces are longer than {limit:,} tokens (the longest has {longest:,}), and {trainer} "
            f"would cut them; build with --max-tokens {limit}, raise --max-length, or leave them out with --drop-long"
        )
    return Lengths(over, unknown, not model or _same(str(source.settings().get("tokenizer") or model), model), model)


def _same(tokenizer: str, model: str) -> bool:
    """Whether a tokenizer is the model's: of the same name, or with the same file."""
    files = [Path(located(name), "tokenizer.json") for name in (tokenizer, model)]
    return tokenizer == model or (all(file.is_file() for file in files) and files[0].read_bytes() == files[1].read_bytes())


def length_note(lengths: Lengths, limit: int | None) -> tuple[str, ...]:
    """A warning about traces whose length isn't known."""
    if limit is None:
        return ()
    if not lengths.counted:
        return (
            f"the tokens were counted with another tokenizer than that of {lengths.model}, so whether the traces fit into "
            f"{limit:,} tokens is not checked; build again with --tokenizer {lengths.model}",
        )
    if not lengths.unknown:
        return ()
    return (
        f"{lengths.unknown:,} traces have no token count, so whether they fit into {limit:,} tokens is not checked; "
        "build with --tokenizer to count",
    )


def length_promise(lengths: Lengths, limit: int) -> str:
    """What a README says of rows that a trainer would cut."""
    if not lengths.counted:
        return "Whether a row is that long is not known."
    return f"No row that was counted is longer than {limit:,} tokens."


@dataclass(frozen=True, slots=True)
class Recast:
    """How turns are written where a trainer wants more of them than `conversations` holds."""

    type: pa.DataType
    reads: tuple[str, ...]  # the columns of the traces that `make` needs beside the turns
    make: Callable[[pa.RecordBatch], pa.Array]


@dataclass(frozen=True, slots=True)
class Shape:
    """What the files of an export look like."""

    messages: str  # the name of the column of turns
    extra: tuple[str, ...] = ()  # other columns of the traces to keep
    format: str = "parquet"
    limit: int | None = None  # traces with more tokens are left out
    recast: Recast | None = None  # else the turns are written as they are


def write_parts(source: TraceFiles, folder: Path, shape: Shape, progress: Progress) -> int:
    """Writes a file for each part of the traces into `folder`, row group by row group; gives back how many traces it wrote.

    Traces that are left out stand in `drops/` beside `folder`.
    """
    folder.mkdir(parents=True)
    drops = DropWriter(folder.parent / "drops" / "part-00000.parquet")
    progress.begin("export", "traces", source.rows)
    written = 0
    for number, part in enumerate(source.parts):
        path = folder / f"train-{number:05d}-of-{len(source.parts):05d}.{shape.format}"
        reads = shape.recast.reads if shape.recast else ()
        columns = list(dict.fromkeys(["trace_id", "tokens", "conversations", *reads, *shape.extra]))
        schema = source.schema(part)
        missing = [name for name in columns if name not in schema.names]
        if missing:
            raise InputError(f"{part}: the columns {', '.join(missing)} are missing; found: {', '.join(schema.names)}")
        turns = pa.field(shape.messages, shape.recast.type if shape.recast else schema.field("conversations").type)
        fields = [turns, *(schema.field(name) for name in shape.extra)]
        with Parquet(path, pa.schema(fields)) if shape.format == "parquet" else _JsonLines(path) as file:
            for batch in source.batches(part, columns, size=1024):
                kept = _fitting(batch, shape.limit, drops)
                said = shape.recast.make(kept) if shape.recast else kept.column("conversations")
                rest = [kept.column(name) for name in shape.extra]
                file.write(pa.table([said, *rest], names=[shape.messages, *shape.extra]))
                written += kept.num_rows
                progress.advance(batch.num_rows)
    drops.close()
    return written


def _fitting(batch: pa.RecordBatch, limit: int | None, drops: DropWriter) -> pa.RecordBatch:
    """The rows of at most `limit` tokens and those of unknown length; the others become drops."""
    if limit is None:
        return batch
    fits = pc.fill_null(pc.less_equal(batch.column("tokens"), limit), True)
    if pc.all(fits).as_py():
        return batch  # to filter is to copy every text
    long = batch.filter(pc.invert(fits))
    for name, tokens in zip(long.column("trace_id").to_pylist(), long.column("tokens").to_pylist(), strict=True):
        drops.add(Drop("export", name, OVER, f"{tokens} tokens"))
    return batch.filter(fits)


class Parquet:
    """A Parquet file under way; rows are gathered into groups of a few thousand."""

    _GROUP = 4 << 20  # bytes held before a group is written

    def __init__(self, path: Path, schema: pa.Schema) -> None:
        self._writer = pq.ParquetWriter(path, schema.remove_metadata(), compression="zstd")
        self._schema = schema.remove_metadata()
        self._held: list[pa.Table] = []

    def __enter__(self) -> "Parquet":
        return self

    def write(self, table: pa.Table) -> None:
        """Takes rows."""
        self._held.append(table.cast(self._schema))
        if sum(held.nbytes for held in self._held) > self._GROUP:
            self._flush()

    def _flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.concat_tables(self._held))
        self._held = []

    def __exit__(self, *_: object) -> None:
        self._flush()
        self._writer.close()


_ENCODER = json.JSONEncoder(ensure_ascii=False)  # json.dumps would make one for every row


class _JsonLines:
    """A JSONL file under way."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("w", encoding="utf-8")

    def __enter__(self) -> "_JsonLines":
        return self

    def write(self, table: pa.Table) -> None:
        """Takes rows."""
        self._file.writelines(f"{_ENCODER.encode(row)}\n" for row in table.to_pylist())

    def __exit__(self, *_: object) -> None:
        self._file.close()


def card(body: str, pattern: str = "data/train-*.parquet") -> str:
    """A README whose front matter tells `datasets` which files are the rows."""
    return f"---\nconfigs:\n- config_name: default\n  data_files:\n  - split: train\n    path: {pattern}\n---\n\n{body}"


def digest(folder: Path, *settings: str) -> str:
    """A name for the rows of a folder and how they are trained: trainers would take what they keep of others for these."""
    found = hashlib.sha256("\0".join(settings).encode())
    for path in sorted(folder.iterdir()):
        with path.open("rb") as file:
            found.update(hashlib.file_digest(file, "sha256").digest())
    return found.hexdigest()[:12]


def dropped(source: TraceFiles, written: int) -> dict[str, int]:
    """The account of what was left out."""
    return {OVER: source.rows - written} if written < source.rows else {}
