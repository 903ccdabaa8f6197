"""A directory of traces: who may write into it, what it says of itself, and a random subset of it."""

import json
import shutil
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from skillfactory import __version__
from skillfactory.errors import InputError, RunLockedError
from skillfactory.holding import held
from skillfactory.places import drafted, files, is_remote, make_folder, names, parquet, put, read, remove
from skillfactory.records import Drop
from skillfactory.seeds import derive
from skillfactory.traces import DROPS, SCHEMA, DropWriter, open_writer

_LOCK = ".lock"
_LOCKS = (_LOCK, ".holder-")  # what says who is at work here
_PATIENCE = 120  # seconds until a file that another machine wrote is in sight here; folders shared by NFS take up to 60
_TABLES = {"traces": SCHEMA, "drops": DROPS}


@contextmanager
def claim(directory: Path, settings: Mapping[str, Any], overwrite: bool) -> Iterator[Callable[[], None]]:
    """Holds `directory` for a build with `settings`, emptied of an earlier one; InputError if something else stands there.

    What it gives is to be called at the end: RunLockedError if another process has taken over, as can happen elsewhere.
    """
    _check(directory, settings, overwrite)
    with held(directory) if is_remote(directory) else _locked(directory) as check:
        _check(directory, settings, overwrite)
        describe(directory, settings, None)
        clear(directory)
        yield check


@contextmanager
def _locked(directory: Path) -> Iterator[Callable[[], None]]:
    """Holds a directory of this machine; the system frees the lock of a process that was killed."""
    make_folder(directory)
    lock = FileLock(directory / _LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise RunLockedError(f"{directory}: another build is writing here; wait for it or choose another --output") from error
    try:
        yield lambda: None  # it can't be lost
    finally:
        lock.release()


def _check(directory: Path, settings: Mapping[str, Any], overwrite: bool) -> None:
    path = directory / "build.json"
    written = read(path) if is_remote(path) else path.read_bytes() if path.is_file() else None
    if written is not None:
        state = json.loads(written)
        before = state["settings"]
        changed = sorted(key for key in {*before, *settings} if before.get(key) != settings.get(key))
        if changed and state["finished"] and not overwrite:
            raise InputError(
                f"{directory}: holds a build with other settings ({', '.join(changed)}); "
                "choose another --output or add --overwrite"
            )
    elif [name for name in names(directory) if not name.startswith(_LOCKS)]:
        raise InputError(f"{directory}: not empty, and no build.json says that a build wrote it; choose another --output")


def clear(directory: Path) -> None:
    """Removes the tables of an earlier build."""
    for name in _TABLES:
        empty(directory / name)


def empty(folder: Path) -> None:
    """Removes a folder of files."""
    if not is_remote(folder):
        shutil.rmtree(folder, ignore_errors=True)
        return
    for name in names(folder):
        remove(folder / name)


def settle(directory: Path, written: Sequence[str], patience: float = _PATIENCE) -> None:
    """Removes the drafts of workers that were lost; InputError if a file that one has `written` doesn't come into sight."""
    deadline = time.monotonic() + patience
    while missing := {*written} - {f"{table}/{name}" for table in _TABLES for name in names(directory / table)}:
        if time.monotonic() > deadline:
            raise InputError(
                f"{directory}: {len(missing)} files that workers wrote are not in sight here, such as {min(missing)}; "
                "the output must be a folder that all machines share, or a URL"
            )
        time.sleep(1)
    for table in _TABLES:
        for name in names(directory / table):
            if f"{table}/{name}" not in written:
                remove(directory / table / name)


def describe(directory: Path, settings: Mapping[str, Any], summary: Mapping[str, Any] | None) -> None:
    """Writes build.json, and at the end of a build the card. They hold no times, so equal builds have equal bytes."""
    state = {"command": "build", "version": __version__, "settings": settings, "finished": summary is not None}
    _write(
        directory / "build.json", json.dumps(state | (dict(summary) if summary else {}), indent=2, ensure_ascii=False) + "\n"
    )
    if summary is not None:
        _write(directory / "README.md", _card(directory, settings, summary))


def _write(path: Path, text: str) -> None:
    if is_remote(path):
        put(path, text.encode())
        return
    draft = path.with_suffix(".tmp")
    draft.write_text(text, "utf-8")
    draft.replace(path)


def _card(directory: Path, settings: Mapping[str, Any], summary: Mapping[str, Any]) -> str:
    present = [name for name in _TABLES if files(directory / name, "*.parquet")]
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
    parts = files(directory / "traces", "*.parquet")
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
    with parquet(part) as file:
        ids = file.read(["trace_id"]).column(0).to_pylist()
    return np.array([derive(seed, "limit", trace_id) for trace_id in ids], np.uint64)


def _filter(part: Path, kept: "np.ndarray[Any, np.dtype[np.bool_]]") -> list[tuple[str, str]]:
    """Rewrites a part without the traces that aren't kept; gives back their ids and layouts."""
    gone: list[tuple[str, str]] = []
    if not kept.any():
        with parquet(part) as file:
            table = file.read(["trace_id", "layout"])
        remove(part)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    start = 0
    with parquet(part) as file, drafted(part) as draft, open_writer(draft, file.schema_arrow) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            mask = pa.array(kept[start : start + len(table)])
            start += len(table)
            out = table.filter(pa.compute.invert(mask)).select(["trace_id", "layout"])
            gone += zip(*(column.to_pylist() for column in out.columns), strict=True)
            writer.write_table(table.filter(mask))
    return gone
