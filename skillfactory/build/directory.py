"""A directory of traces: who may write into it, what it says of itself, and a random subset of it."""

import json
import shutil
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from filelock import FileLock, Timeout

from skillfactory import __version__
from skillfactory.errors import InputError, RunLockedError
from skillfactory.records import Drop
from skillfactory.seeds import derive
from skillfactory.traces import DROPS, SCHEMA, DropWriter, open_writer

_LOCK = ".lock"
_TABLES = {"traces": SCHEMA, "drops": DROPS}


@contextmanager
def claim(directory: Path, settings: Mapping[str, Any], overwrite: bool) -> Iterator[None]:
    """Holds `directory` for a build with `settings`, emptied of an earlier one; InputError if something else stands there."""
    _check(directory, settings, overwrite)
    directory.mkdir(parents=True, exist_ok=True)
    lock = FileLock(directory / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunLockedError(f"{directory}: another build is writing here; wait for it or choose another --output") from error
    try:
        _check(directory, settings, overwrite)
        describe(directory, settings, None)
        clear(directory)
        yield
    finally:
        lock.release()


def _check(directory: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    path = directory / "build.json"
    if path.is_file():
        state = json.loads(path.read_text("utf-8"))
        before = state["settings"]
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        if changed and state["finished"] and not overwrite:
            raise InputError(
                f"{directory}: holds a build with other settings ({', '.join(changed)}); "
                "choose another --output or add --overwrite"
            )
    elif directory.exists() and any(entry.name != _LOCK for entry in directory.iterdir()):
        raise InputError(f"{directory}: not empty, and no build.json says that a build wrote it; choose another --output")


def clear(directory: Path) -> None:
    """Removes the tables of an earlier build."""
    for name in _TABLES:
        shutil.rmtree(directory / name, ignore_errors=True)


def describe(directory: Path, settings: Mapping[str, Any], summary: Mapping[str, Any] | None) -> None:
    """Writes build.json, and at the end of a build the card. They hold no times, so equal builds have equal bytes."""
    state = {"command": "build", "version": __version__, "settings": settings, "finished": summary is not None}
    _write(
        directory / "build.json", json.dumps(state | (dict(summary) if summary else {}), indent=2, ensure_ascii=False) + "\n"
    )
    if summary is not None:
        _write(directory / "README.md", _card(directory, settings, summary))


def _write(path: Path, text: str) -> None:
    draft = path.with_suffix(".tmp")
    draft.write_text(text, "utf-8")
    draft.replace(path)


def _card(directory: Path, settings: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    present = [name for name in _TABLES if any((directory / name).glob("*.parquet"))]
    configs = "".join(f"- config_name: {name}\n  data_files: {name}/*.parquet\n" for name in present)
    head = f"---\nconfigs:\n{configs}---\n\n" if present else ""
    counts = "".join(f"| `{layout}` | {count:,} |\n" for layout, count in summary["traces"].items())
    accounts = "".join(
        f"- {f['requested']:,} {f['unit']} = {f['kept']:,} kept + {f['requested'] - f['kept']:,} dropped"
        + (f" ({', '.join(f'{reason} {count:,}' for reason, count in f['dropped'].items())})" if f["dropped"] else "")
        + "\n"
        for f in summary["funnels"]
    )
    columns = "".join(f"| `{name}` | {', '.join(f'`{c}`' for c in _TABLES[name].names)} |\n" for name in present)
    return (
        f"{head}# Silver traces\n\nWritten by `skillfactory build`, version {__version__}, seed {settings['seed']}; "
        f"`build.json` holds all settings.\n\n{accounts}\n| layout | traces |\n|---|---|\n{counts}\n"
        f'Read it with `datasets.load_dataset(DIRECTORY, "traces")` or `pandas.read_parquet(DIRECTORY + "/traces")`.\n\n'
        f"| table | columns |\n|---|---|\n{columns}"
    )


def keep_some(directory: Path, limit: int, seed: int) -> Counter[str]:
    """Keeps `limit` traces, drawn at random by their ids, and gives back how many of each layout went."""
    parts = sorted((directory / "traces").glob("*.parquet"))
    ranks = [_ranks(part, seed) for part in parts]
    every = np.concatenate(ranks) if ranks else np.array([], np.uint64)
    if len(every) <= limit:
        return Counter()
    last = np.partition(every, limit - 1)[limit - 1]
    lost: Counter[str] = Counter()
    for number, (part, rank) in enumerate(zip(parts, ranks, strict=True)):
        gone = _filter(part, rank <= last)
        lost.update(layout for _, layout in gone)
        drops = DropWriter(directory / "drops" / f"limit-{number:05d}.parquet")
        for trace_id, _ in gone:
            drops.add(Drop("limit", trace_id, "over_limit"))
        drops.close()
    return lost


def _ranks(part: Path, seed: int) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    ids = pq.read_table(part, columns=["trace_id"]).column(0).to_pylist()
    return np.array([derive(seed, "limit", trace_id) for trace_id in ids], np.uint64)


def _filter(part: Path, kept: "np.ndarray[Any, np.dtype[np.bool_]]") -> list[tuple[str, str]]:
    """Rewrites a part without the traces that aren't kept; gives back their ids and layouts."""
    gone: list[tuple[str, str]] = []
    if not kept.any():
        table = pq.read_table(part, columns=["trace_id", "layout"])
        part.unlink()
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    draft, start = part.with_suffix(".tmp"), 0
    with pq.ParquetFile(part) as file, open_writer(draft, file.schema_arrow) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            mask = pa.array(kept[start : start + len(table)])
            start += len(table)
            out = table.filter(pa.compute.invert(mask)).select(["trace_id", "layout"])
            gone += zip(*(column.to_pylist() for column in out.columns), strict=True)
            writer.write_table(table.filter(mask))
    draft.replace(part)
    return gone
