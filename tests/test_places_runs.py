"""The promise of run directories elsewhere: killed and gone on with, the bytes of an undisturbed run on plain paths."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from fsspec import register_implementation  # type: ignore[import-untyped]
from fsspec.implementations.memory import MemoryFileSystem  # type: ignore[import-untyped]
from fsspec.utils import infer_storage_options  # type: ignore[import-untyped]
from rawdata import raw_rows

from skillfactory.audit import AuditConfig, audit
from skillfactory.build import BuildConfig, build
from skillfactory.cli import main
from skillfactory.curate import CurateConfig, Generation
from skillfactory.curation import curate
from skillfactory.evaluate import Answering, EvaluateConfig
from skillfactory.evaluation import evaluate
from skillfactory.export import export
from skillfactory.export.target import ExportConfig
from skillfactory.places import address, files, is_remote, make_folder, names, opened, parquet, place, replacing

HERE = Path(__file__).parent
ENGINE = ["--engine", "scripted", "--engine-option", "answer=solver:noted"]
SLOW = [*ENGINE, "--engine-option", "delay=0.04", "--engine-option", "concurrency=10"]  # a block takes six seconds
CURATE = ["curate", "--task", "multiplication", "--questions", "70", "--samples", "2", "--reflections", "2", *SLOW]
EVALUATE = ["evaluate", "some/model", "--task", "multiplication@100", *SLOW]
BUILD = ["--layout", "*C_full", "--max-attempts", "3"]
_numbers = count()


def contents(directory: Path) -> dict[str, bytes]:
    """Every file of a run or a build but its logs and locks."""
    found: dict[str, bytes] = {}
    for name in names(directory):
        path = directory / name
        if name.startswith((".", "log")):
            continue
        if path.is_dir():
            found |= {f"{name}/{inner}": content for inner, content in contents(path).items()}
        else:
            with opened(path) as file:
                found[name] = file.read()
    return found


def same(here: Path, elsewhere: Path, *roots: str) -> None:
    """Fails unless both hold the same bytes; the folders `roots` may be named in their accounts."""
    one, other = contents(here), contents(elsewhere)
    for found in (one, other):
        for name in ("build.json", "audit.json", "export.json"):
            for root in (*roots, f"{here.parent}/") if name in found else ():
                found[name] = found[name].replace(root.encode(), b"")
    assert one == other


def command(arguments: Sequence[str], output: str) -> list[str]:
    return [sys.executable, "-m", "skillfactory", *arguments, "--output", output, "--quiet"]


def environment(asked: Path) -> Mapping[str, str]:
    return {**os.environ, "PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "ASKED": str(asked)}


def run(arguments: Sequence[str], output: str, asked: Path) -> str:
    done = subprocess.run(command(arguments, output), env=environment(asked), check=True, capture_output=True, text=True)
    return done.stdout


def kill(arguments: Sequence[str], output: str, asked: Path, when: Callable[[], bool]) -> None:
    """Starts a command and kills it with SIGKILL as soon as `when` says so, which must be before its end."""
    process = subprocess.Popen(command(arguments, output), env=environment(asked), stdout=subprocess.DEVNULL)
    while not when():
        assert process.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL


def kept(directory: Path) -> set[tuple[str, int]]:
    """The requests whose completions are on disk."""
    found = set()
    for piece in directory.glob("ledger-*"):
        for line in piece.read_bytes().splitlines():
            row = json.loads(line)[1]
            found.add((row["key"], row["limit"]))
    for part in (directory / "completions").glob("part-*.parquet"):
        found |= {(row["key"], row["limit"]) for row in pq.read_table(part, columns=["key", "limit"]).to_pylist()}
    return found


def asked_of(path: Path) -> set[tuple[str, int]]:
    """The requests that came to the engine; not one whose line a kill has cut off."""
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
    return {tuple(json.loads(line)) for line in lines if line.endswith("\n")}


@dataclass(frozen=True)
class Begun:
    """A run on plain paths, and the same one elsewhere, killed once a file held some of its completions."""

    whole: Path
    killed: Path
    asked: set[tuple[str, int]]  # of the first
    kept: set[tuple[str, int]]  # by the second


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> Begun:
    """A whole run and a killed one."""
    root = tmp_path_factory.mktemp("begun")
    killed = root / "killed"
    run(CURATE, str(root / "run"), root / "asked")
    kill(CURATE, f"file://{killed}", root / "first", lambda: bool(list(killed.glob("ledger-*.jsonl"))))
    assert names(killed)[0] == ".holder-000001"
    return Begun(root / "run", killed, asked_of(root / "asked"), kept(killed))


def test_the_whole_way_elsewhere_killed_in_the_middle_gives_the_bytes_of_plain_paths(tmp_path: Path, begun: Begun) -> None:
    here, there, url = tmp_path / "here", tmp_path / "there", f"file://{tmp_path}/there"
    shutil.copytree(begun.whole, here / "run")
    shutil.copytree(begun.killed, there / "run")
    run(CURATE, f"{url}/run", tmp_path / "second")
    again = asked_of(tmp_path / "second")
    assert not begun.kept & again, "a completion that was in a file was asked for again"
    assert begun.kept | again == begun.asked
    assert len(begun.kept) > len(begun.asked) / 3
    same(here / "run", place(f"{url}/run"))
    assert "there is nothing to do" in run(CURATE, f"{url}/run", tmp_path / "third")
    assert not [name for name in names(there / "run") if name.startswith((".", "ledger"))]

    for root in (str(here), url):
        assert main(["build", f"{root}/run", *BUILD, "--output", f"{root}/traces"]) == 0
        assert main(["audit", f"{root}/traces"]) == 0
        assert main(["export", f"{root}/traces", "--to", "trl", "--output", str(tmp_path / f"{Path(root).name}-export")]) == 0
    same(here / "traces", place(f"{url}/traces"), f"{url}/")
    same(tmp_path / "here-export", tmp_path / "there-export", f"{url}/", f"{here}/")


def test_a_run_killed_elsewhere_and_brought_here_goes_on(tmp_path: Path, begun: Begun) -> None:
    shutil.copytree(begun.killed, tmp_path / "run")
    run(CURATE, str(tmp_path / "run"), tmp_path / "asked")
    assert not begun.kept & asked_of(tmp_path / "asked")
    same(begun.whole, tmp_path / "run")


def test_an_evaluation_elsewhere_killed_in_the_middle_gives_the_bytes_of_plain_paths(tmp_path: Path) -> None:
    run(EVALUATE, str(tmp_path / "here"), tmp_path / "whole")
    there, url = tmp_path / "there", f"file://{tmp_path}/there"
    kill(EVALUATE, url, tmp_path / "first", lambda: bool(list(there.glob("completions/part-*.parquet"))))
    before = kept(there)
    run(EVALUATE, url, tmp_path / "second")
    assert not before & asked_of(tmp_path / "second")
    same(tmp_path / "here", place(url))
    log = [json.loads(line) for path in there.glob("log-*.jsonl") for line in path.read_text("utf-8").splitlines()]
    assert [line["block"] for line in log if line["event"] == "block"] == [1], "a finished block was opened again"


def test_a_second_process_is_refused_while_the_first_is_at_work_elsewhere(tmp_path: Path) -> None:
    url, holder = f"file://{tmp_path}/run", tmp_path / "run" / ".holder-000001"
    first = subprocess.Popen(command(CURATE, url), env=environment(tmp_path / "asked"), stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "run" / "run.json").exists():
            assert first.poll() is None
            time.sleep(0.02)
        assert holder.exists()
        second = subprocess.run(
            command(CURATE, url), env=environment(tmp_path / "asked"), capture_output=True, text=True, check=False
        )
        assert second.returncode == 2
        assert f"another process is at work on this run directory (process {first.pid} on " in second.stderr
    finally:
        first.kill()
        first.wait()


def test_the_whole_way_in_one_process_on_a_store_without_folders(tmp_path: Path) -> None:
    base = place(f"memory://runs-{next(_numbers)}")
    option = {"answer": "solver:answer"}
    generation = Generation("scripted", engine_option=option)
    for root in (tmp_path, base):
        config = CurateConfig(root / "run", "multiplication", questions=70, samples=2, reflections=2, generation=generation)
        assert not curate(config).nothing_to_do
        assert curate(config).nothing_to_do
        build(BuildConfig((str(root / "run"),), root / "traces", layout=("*C_full",), max_attempts=3))
        assert audit(AuditConfig(root / "traces")).faults.broken.count == 0
        export(ExportConfig(root / "traces", "trl", tmp_path / f"export-{is_remote(root)}"))
        asks = EvaluateConfig(
            "some/model", root / "eval", task=("multiplication@70",), generation=Answering("scripted", option)
        )
        assert len(evaluate(asks).numbers["groups"]) == 1
    assert is_remote(base)
    assert len(files(base / "run" / "completions", "part-*.parquet")) == 2
    same(tmp_path / "run", base / "run")
    same(tmp_path / "eval", base / "eval")
    same(tmp_path / "traces", base / "traces", f"{base}/")
    same(tmp_path / "export-False", tmp_path / "export-True", f"{base}/")


def test_a_changed_setting_elsewhere_serves_what_is_stored_and_keeps_what_no_longer_serves(tmp_path: Path) -> None:
    base = place(f"memory://runs-{next(_numbers)}")
    generation = Generation("scripted", engine_option={"answer": "solver:answer"})
    for root in (tmp_path, base):
        config = CurateConfig(root / "run", "multiplication", questions=70, samples=2, reflections=2, generation=generation)
        first = curate(config)
        more = curate(replace(config, samples=3, reflections=1, questions=60))
        assert 0 < more.new_texts < first.new_texts
        assert curate(config).new_texts == 0, "what went out of use was kept"
    same(tmp_path / "run", base / "run")


class Hosted(MemoryFileSystem):  # type: ignore[misc]
    """A store in memory that belongs to a host, as those of HDFS and FTP do: without its name nothing is found."""

    protocol = "hosted"
    store: ClassVar[dict[str, Any]] = {}
    pseudo_dirs: ClassVar[list[str]] = [""]

    def __init__(self, host: str, port: int, **options: Any) -> None:
        super().__init__(**options)
        assert (host, port) == ("far", 8020)

    @classmethod
    def _strip_protocol(cls, path: str) -> str:
        found: str = infer_storage_options(path)["path"]
        return f"/{found.strip('/')}"

    @staticmethod
    def _get_kwargs_from_urls(path: str) -> dict[str, Any]:
        found = infer_storage_options(path)
        return {name: found[name] for name in ("host", "port") if name in found}


@pytest.mark.filterwarnings("ignore:UPath 'hosted' filesystem")
@pytest.mark.parametrize("order", ["together", "scattered"])
def test_a_url_keeps_its_host_on_the_way_through_a_build(tmp_path: Path, order: str) -> None:
    register_implementation("hosted", Hosted, clobber=True)
    url = f"hosted://far:8020/{order}"
    rows = raw_rows(30, samples=4)
    rows += [{**rows[0], "question": ""}] if order == "together" else rows[:3]  # a row is dropped, or must be regrouped
    for folder in (place(url), tmp_path):
        make_folder(folder / "raw")
        with replacing(folder / "raw" / "rows.parquet") as file:
            pq.write_table(pa.Table.from_pylist(rows), file)
        build(BuildConfig((address(folder / "raw"),), folder / "traces", layout=("*C_full",), max_attempts=3))
    there = place(url) / "traces"
    assert contents(tmp_path / "traces").keys() == contents(there).keys()
    assert (there / "traces" / "part-00000.parquet").read_bytes() == (
        tmp_path / "traces/traces/part-00000.parquet"
    ).read_bytes()
    dropped = [row["subject_id"] for row in read_drops(there) if row["stage"] == "rows"]
    assert dropped == ([f"{url}/raw/rows.parquet:{len(rows) - 1}"] if order == "together" else [])
    assert json.loads((there / "build.json").read_text("utf-8"))["settings"]["inputs"] == [f"{url}/raw"]


def read_drops(traces: Path) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = []
    for part in files(traces / "drops", "*.parquet"):
        with parquet(part) as table:
            found += table.read().to_pylist()
    return found


@pytest.mark.parametrize(
    "url", ["ftp://alice:pw@h/x", "s3://key:pw/pw@bucket/x", "s3://key:pw@bucket/x", "sftp://a:p@w@h:22/x"]
)
def test_a_url_with_a_password_is_refused_and_not_told(tmp_path: Path, url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["build", url, *BUILD, "--output", str(tmp_path / "traces")]) == 2
    said = capsys.readouterr().err
    assert "a URL with a password or a key would stand in messages and files" in said
    assert "pw" not in said
    assert not (tmp_path / "traces").exists()


@pytest.mark.parametrize(
    "url",
    [
        "ftp://alice@far:2121/x", "sftp://bob@far/x", "hdfs://nn:8020/x", "smb://far/share/x", "s3://bucket/x", "file:///tmp/x",
        "abfs://c@acc.dfs.core.windows.net/x", "gs://bucket/a:b@c", "hdfs://nn:8020/a@b",
        "s3://arn:aws:s3:us-west-2:1:accesspoint/a@b",
    ],
)  # fmt: skip
def test_the_address_of_a_place_leads_back_to_it(url: str) -> None:
    inside = place(url) / "run"
    assert place(address(inside)) == inside
    assert address(inside) == f"{url}/run"
