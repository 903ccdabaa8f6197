"""A directory of traces: who may write into it, what it says of itself, and a random subset of it."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pyarrow as pa
from filelock import FileLock, Timeout

from skillfactory import __version__
from skillfactory.errors import InputError, RunLockedError
from skillfactory.holding import held
from skillfactory.places import drafted, files, is_remote, make_folder, move, names, parquet, put, read, remove, remove_folder
from skillfactory.records import Drop
from skillfactory.seeds import derive
from skillfactory.traces import DROPS, SCHEMA, DropWriter, open_writer

_LOCK = ".lock"
_DRAFTS = ".drafts-"
_HIDDEN = (_LOCK, ".holder-", _DRAFTS)  # what says who is at work here, and what none of them has published
_PATIENCE = 120  # seconds until a file that another machine wrote is in sight here; folders shared by NFS take up to 60
_TABLES = {"traces": SCHEMA, "drops": DROPS}


class Claim:
    """A directory that this build has for itself.

    Who makes its files writes drafts, each under a name of its own, in a folder of this build's own that nobody reads. So a
    worker that was taken for dead, or whose build is over, changes nothing.
    """

    def __init__(self, directory: Path, check: Callable[[], None] = lambda: None) -> None:
        """`check` raises RunLockedError if the directory has become another build's."""
        self.directory, self.check = directory, check
        self.drafts = directory / f"{_DRAFTS}{uuid4().hex}"

    def publish(self, drafts: Mapping[str, str], patience: float = _PATIENCE) -> None:
        """Moves drafts, by their names, to names in the directory; InputError if one doesn't come into sight."""
        deadline = time.monotonic() + patience
        for name, draft in drafts.items():
            while True:
                self.check()
                try:
                    move(self.drafts / draft, self.directory / name)
                    break
                except FileNotFoundError as error:
                    if time.monotonic() > deadline:
                        raise InputError(
                            f"{self.directory}: what a worker wrote for {name} is not in sight here; the output must be a "
                            "folder that all machines share, or a URL"
                        ) from error
                time.sleep(1)

    def clear(self) -> None:
        """Removes the tables that have been published."""
        self.check()
        for name in _TABLES:
            remove_folder(self.directory / name)


@contextmanager
def claimed(directory: Path, settings: Mapping[str, Any], overwrite: bool) -> Iterator[Claim]:
    """Holds `directory` for a build with `settings`, emptied of an earlier one; InputError if something else stands there."""
    _check(directory, settings, overwrite)
    with held(directory, asked=True) if is_remote(directory) else _locked(directory) as check:
        _check(directory, settings, overwrite)
        describe(directory, settings, None)
        claim = Claim(directory, check)
        claim.clear()
        for name in names(directory):
            if name.startswith(_DRAFTS):
                remove_folder(directory / name)
        try:
            yield claim
        finally:
            remove_folder(claim.drafts)


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
    elif [name for name in names(directory) if not name.startswith(_HIDDEN)]:
        raise InputError(f"{directory}: not empty, and no build.json says that a build wrote it; choose another --output")


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


def keep_some(claim: Claim, limit: int, seed: int) -> Counter[str]:
    """Keeps `limit` traces, drawn at random by their ids, and gives back how many of each layout went."""
    parts = files(claim.directory / "traces", "*.parquet")
    ranks = [_ranks(part, seed) for part in parts]
    every = np.concatenate(ranks) if ranks else np.array([], np.uint64)
    if len(every) <= limit:
        return Counter()
    last = np.partition(every, limit - 1)[limit - 1]
    lost: Counter[str] = Counter()
    for number, (part, rank) in enumerate(zip(parts, ranks, strict=True)):
        gone = _filter(claim, part, rank <= last)
        lost.update(layout for _, layout in gone)
        name = f"limit-{number:05d}.parquet"
        drops = DropWriter(claim.drafts / name)
        for trace_id, _ in gone:
            drops.add(Drop("limit", trace_id, "over_limit"))
        if drops.close():
            claim.publish({f"drops/{name}": name})
    return lost


def _ranks(part: Path, seed: int) -> "np.ndarray[Any, np.dtype[np.uint64]]":
    with parquet(part) as file:
        ids = file.read(["trace_id"]).column(0).to_pylist()
    return np.array([derive(seed, "limit", trace_id) for trace_id in ids], np.uint64)


def _filter(claim: Claim, part: Path, kept: "np.ndarray[Any, np.dtype[np.bool_]]") -> list[tuple[str, str]]:
    """Rewrites a part without the traces that aren't kept; gives back their ids and layouts."""
    gone: list[tuple[str, str]] = []
    if not kept.any():
        with parquet(part) as file:
            table = file.read(["trace_id", "layout"])
        claim.check()
        remove(part)
        return list(zip(*(column.to_pylist() for column in table.columns), strict=True))
    start = 0
    with parquet(part) as file, drafted(claim.drafts / part.name) as draft, open_writer(draft, file.schema_arrow) as writer:
        for group in range(file.num_row_groups):
            table = file.read_row_group(group)
            mask = pa.array(kept[start : start + len(table)])
            start += len(table)
            out = table.filter(pa.compute.invert(mask)).select(["trace_id", "layout"])
            gone += zip(*(column.to_pylist() for column in out.columns), strict=True)
            writer.write_table(table.filter(mask))
    claim.publish({f"traces/{part.name}": part.name})
    return gone
