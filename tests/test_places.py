"""Laws of places: the same on this machine and elsewhere; what grows there; who holds a directory there."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import count
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from skillfactory.cli import main
from skillfactory.config import dump, from_options
from skillfactory.curate import CurateConfig
from skillfactory.errors import ConfigError, InputError, RunLockedError
from skillfactory.flow import Completion, Request, Sampling
from skillfactory.holding import held
from skillfactory.ledger import Ledger
from skillfactory.pieces import Pieces
from skillfactory.places import (
    below,
    files,
    footer,
    is_remote,
    make_folder,
    move,
    names,
    opened,
    parquet,
    place,
    put,
    put_new,
    reaching,
    read,
    remove,
    remove_folder,
    replacing,
)
from skillfactory.records import Stop
from skillfactory.values import coerce

_numbers = count()


@pytest.fixture(params=["plain", "file", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder that isn't there yet, on each kind of file system; its name would mean something in a pattern."""
    if request.param == "memory":
        return place(f"memory://tests-{next(_numbers)}/run[1]*")
    return place(f"file://{tmp_path}/run[1]*") if request.param == "file" else tmp_path / "run[1]*"


@pytest.fixture(params=["file", "memory"])
def elsewhere(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A folder on a file system behind a URL."""
    return place(f"file://{tmp_path}/run" if request.param == "file" else f"memory://tests-{next(_numbers)}/run")


def test_a_file_appears_whole_or_not_at_all_and_leaves_nothing_else(folder: Path) -> None:
    make_folder(folder)
    with replacing(folder / "a.txt") as file:
        file.write(b"first")
        assert "a.txt" not in names(folder)
    with replacing(folder / "a.txt") as file:
        file.write(b"second")
        assert (folder / "a.txt").read_text("utf-8") == "first"
    with pytest.raises(KeyError), replacing(folder / "a.txt") as file:  # noqa: PT012
        file.write(b"third")
        raise KeyError
    with opened(folder / "a.txt") as file:
        file.seek(3)
        assert file.read() == b"ond"
    assert names(folder) == ["a.txt"]


def test_two_who_write_the_same_file_at_once_do_not_disturb_each_other(folder: Path) -> None:
    make_folder(folder)
    with replacing(folder / "part.parquet") as one:
        one.write(b"one")
        with replacing(folder / "part.parquet") as other:
            other.write(b"the other")
        with opened(folder / "part.parquet") as file:
            assert file.read() == b"the other"
    with opened(folder / "part.parquet") as file:
        assert file.read() == b"one"
    assert names(folder) == ["part.parquet"]


def test_a_file_moves_over_another_and_folders_go(folder: Path) -> None:
    for name, text in {"one/a": b"new", "two/b": b"old", "two/c": b"other"}.items():
        make_folder((folder / name).parent)
        with replacing(folder / name) as file:
            file.write(text)
    move(folder / "one" / "a", folder / "two" / "b")
    move(folder / "two" / "c", folder / "three" / "c")
    assert [names(folder / name) for name in ("one", "two", "three")] == [[], ["b"], ["c"]]
    with opened(folder / "two" / "b") as file:
        assert file.read() == b"new"
    with pytest.raises(FileNotFoundError):
        move(folder / "two" / "c", folder / "two" / "b")
    for name in ("one", "two", "two", "three"):
        remove_folder(folder / name)
    assert [names(folder / name) for name in ("two", "three")] == [[], []]


def test_listing_is_sorted_parts_by_their_number_and_a_missing_folder_is_empty(folder: Path) -> None:
    assert names(folder) == []
    assert files(folder, "*") == []
    make_folder(folder / "table")
    for name in ("part-2.parquet", "part-10.parquet", "part-1.txt"):
        with replacing(folder / "table" / name) as file:
            file.write(b"x")
    assert names(folder) == ["table"]
    assert files(folder / "table", "part-*.parquet") == [folder / "table" / f"part-{n}.parquet" for n in ("2", "10")]
    for _ in range(2):
        remove(folder / "table" / "part-2.parquet")
    assert names(folder / "table") == ["part-1.txt", "part-10.parquet"]
    assert below(folder) == [folder / "table" / name for name in names(folder / "table")]
    assert below(folder / "none") == []


def test_parquet_is_read_and_its_footer_alone(folder: Path) -> None:
    make_folder(folder)
    table = pa.table({"n": list(range(100_000))}).replace_schema_metadata({"stamp": "here"})
    with replacing(folder / "t.parquet") as file, pq.ParquetWriter(file, table.schema) as writer:
        writer.write_table(table)
    with parquet(folder / "t.parquet") as found:
        assert found.read().equals(table)
    about = footer(folder / "t.parquet")
    assert about is not None
    assert about[b"stamp"] == b"here"
    assert footer(folder / "none.parquet") is None


def test_a_small_file_is_made_once(elsewhere: Path) -> None:
    assert read(elsewhere / "x") is None
    make_folder(elsewhere)
    assert put_new(elsewhere / "x", b"1")
    assert not put_new(elsewhere / "x", b"2")
    assert read(elsewhere / "x") == b"1"
    put(elsewhere / "x", b"3")
    assert read(elsewhere / "x") == b"3"
    assert names(elsewhere) == ["x"]


def test_only_options_that_say_so_take_urls(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^--rules: expected a path on this machine, came the URL 's3://bucket/rules'$"):
        coerce("s3://bucket/rules", Path | None, "--rules")
    with pytest.raises(ConfigError, match=r"^--to: expected a path on this machine"):
        coerce("a,file:///b", tuple[Path, ...], "--to")
    values = {"output": f"file://{tmp_path}/run", "task": "multiplication"}
    config = from_options(CurateConfig, values, "option")
    assert is_remote(config.output)
    assert dump(config)["output"] == values["output"]
    assert json.loads(json.dumps(dump(config)))["output"] == values["output"]


@pytest.mark.parametrize("command", ["view", "report", "compare"])
def test_what_reads_runs_on_this_machine_alone_says_that_one_elsewhere_must_be_copied(
    tmp_path: Path, command: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for named in (f"file://{tmp_path}", f"arm=file://{tmp_path}"):
        assert main([command, named]) == 2
        said = capsys.readouterr().err
        assert f"{named}: expected a folder on this machine, came a URL; copy the run here and name the copy" in said


def test_a_recipe_is_on_this_machine(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["curate", "--recipe", "s3://bucket/recipe.yaml"]) == 2
    assert "--recipe: expected a path on this machine, came the URL 's3://bucket/recipe.yaml'" in capsys.readouterr().err


def test_a_url_that_cannot_be_used_says_why_and_a_missing_package_how_to_get_it(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^nowhere://x: not a URL that can be used: "):
        place("nowhere://x")
    (tmp_path / "file").write_text("", "utf-8")
    with (
        pytest.raises(InputError, match=r"can't be read or written .*NotADirectory"),
        reaching(place(f"file://{tmp_path}/file/x")),
    ):
        put(place(f"file://{tmp_path}/file/x/y"), b"")
    blocked = "import sys; sys.modules['s3fs'] = None\nfrom skillfactory.places import *\nnames(place('s3://bucket/run'))"
    done = subprocess.run([sys.executable, "-c", blocked], capture_output=True, text=True, check=False)
    assert "ConfigError: s3://bucket/run: the package for s3:// is missing: " in done.stderr
    code = (
        "import sys; sys.modules['upath'] = None\nfrom skillfactory.cli import main\n"
        "sys.exit(main(['curate', '--task', 'multiplication', '--output', 's3://bucket/run']))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "install it with: pip install '.[cloud]'" in done.stderr


def lines_of(folder: Path) -> list[bytes]:
    return b"".join(read(path) or b"" for path in files(folder, "log-*.jsonl")).splitlines()


def test_lines_come_together_in_few_files_and_none_waits_for_the_next(elsewhere: Path) -> None:
    make_folder(elsewhere)
    pieces = Pieces(elsewhere / "log-1.jsonl", every=0.2)
    for n in range(1000):
        pieces.add(b"%d\n" % n)
    assert len(lines_of(elsewhere)) < 1000
    end = time.monotonic() + 10
    while len(lines_of(elsewhere)) < 1000:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert len(files(elsewhere, "*")) <= 2
    pieces.add(b"1000\n")
    pieces.close()
    assert lines_of(elsewhere) == [b"%d" % n for n in range(1001)]


def test_what_keeps_lines_from_their_files_is_raised_to_who_gives_them(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", "utf-8")
    pieces = Pieces(place(f"file://{tmp_path}/file/log-1.jsonl"), every=0.01)
    end = time.monotonic() + 10
    with pytest.raises(OSError, match="file"):  # noqa: PT012
        while time.monotonic() < end:
            pieces.add(b"1\n")
            time.sleep(0.01)
    with pytest.raises(OSError, match="file"):
        pieces.close()
    pieces.close(keep=False)


HOLD = """
import sys
from skillfactory.errors import RunLockedError
from skillfactory.flow import Completion, Request, Sampling
from skillfactory.holding import held
from skillfactory.ledger import Ledger
from skillfactory.places import place
try:
    with held(place(sys.argv[1]), beat=0.2, stale=1):
        print("held", flush=True)
        sys.stdin.read()
except RunLockedError as error:
    print(error)
    sys.exit(3)
"""


def hold(where: str) -> "subprocess.Popen[str]":
    """A process that holds a directory until its input is closed, or says why it doesn't."""
    return subprocess.Popen([sys.executable, "-c", HOLD, where], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def said(process: "subprocess.Popen[str]") -> str:
    assert process.stdout is not None
    return process.stdout.readline()


@pytest.fixture
def holder(tmp_path: Path) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds tmp_path/run."""
    process = hold(f"file://{tmp_path}/run")
    try:
        assert said(process) == "held\n"
        yield process
    finally:
        process.kill()
        process.wait()


def test_a_live_process_is_named_and_a_killed_one_is_no_obstacle(tmp_path: Path, holder: "subprocess.Popen[str]") -> None:
    directory = place(f"file://{tmp_path}/run")
    with pytest.raises(RunLockedError, match=rf"\(process {holder.pid} on "), held(directory):
        pass
    holder.send_signal(signal.SIGKILL)
    holder.wait()
    started = time.monotonic()
    with held(directory) as check:
        check()
        assert names(directory) == [".holder-000002"]
        with pytest.raises(RunLockedError, match=rf"\(process {os.getpid()} on "), held(directory):
            pass
    assert time.monotonic() - started < 2, "that it is dead was known at once"
    assert names(directory) == []


def test_a_process_of_another_machine_is_alive_as_long_as_it_gives_signs(elsewhere: Path) -> None:
    sign = {"process": os.getpid(), "host": "far", "machine": "another", "born": "0", "token": "t"}
    make_folder(elsewhere)
    put(elsewhere / ".holder-000007", json.dumps(sign).encode())
    started = time.monotonic()
    with held(elsewhere, beat=0.1, stale=0.8):
        assert time.monotonic() - started > 0.7
        assert names(elsewhere) == [".holder-000008"]


def test_a_process_of_another_machine_that_gives_signs_is_not_disturbed(elsewhere: Path) -> None:
    make_folder(elsewhere)
    path, over = elsewhere / ".holder-000007", threading.Event()

    def live() -> None:
        for beat in count():
            put(path, json.dumps({"process": 99, "host": "far", "machine": "another", "beat": beat}).encode())
            if over.wait(0.05):
                return

    with ThreadPoolExecutor(1) as pool:
        pool.submit(live)
        while read(path) is None:
            time.sleep(0.01)
        try:
            with pytest.raises(RunLockedError, match=r"\(process 99 on far\)"), held(elsewhere, beat=0.1, stale=5):
                pass
        finally:
            over.set()
    assert names(elsewhere) == [".holder-000007"]


@pytest.mark.parametrize("number", [1, 2])
def test_a_process_that_was_taken_for_dead_learns_of_it(elsewhere: Path, number: int) -> None:
    other = json.dumps({"process": 99, "host": "far", "token": "another"}).encode()
    end = time.monotonic() + 20
    with held(elsewhere, beat=0.05) as check:
        check()
        put(elsewhere / f".holder-{number:06d}", other)
        with pytest.raises(RunLockedError, match="another one has taken over"):  # noqa: PT012
            while time.monotonic() < end:
                check()
                time.sleep(0.02)
    assert read(elsewhere / f".holder-{number:06d}") == other, "what the other one has is left alone"


def test_of_many_that_begin_in_the_same_moment_one_holds(tmp_path: Path) -> None:
    many, turns = 8, 10
    begin, end = threading.Barrier(many), threading.Barrier(many)

    def hold_it(directory: Path) -> bool:
        begin.wait(20)
        try:
            with held(directory):
                end.wait(20)
                return True
        except RunLockedError:
            end.wait(20)
            return False

    usual = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)  # so that threads come between each other's steps, as processes do
    try:
        with ThreadPoolExecutor(many) as pool:
            for turn in range(turns):
                directory = place(f"file://{tmp_path}/{turn}")
                make_folder(directory)
                assert sum(each.result() for each in [pool.submit(hold_it, directory) for _ in range(many)]) == 1
    finally:
        sys.setswitchinterval(usual)


def test_a_ledger_elsewhere_is_read_back_and_all_of_its_block_goes(elsewhere: Path) -> None:
    path, part = elsewhere / "ledger-00012.jsonl", elsewhere / "completions" / "part-00012.parquet"
    make_folder(elsewhere)
    request = Request((("user", "?"),), Sampling(), 1)
    completion = Completion(request.key, "text", Stop.END, 1, 1, request.sampling.max_tokens)
    ledger = Ledger(path, part)
    ledger.put(7, completion)
    ledger.close()
    put(elsewhere / "ledger-00012-believed-dead.000001.jsonl", b"no line\n")
    put(elsewhere / "ledger-000123.jsonl", b"of another block\n")
    again = Ledger(path, part)
    assert again.get(7, request) == completion
    assert again.damaged == 1
    again.put(8, completion)
    again.remove()
    assert names(elsewhere) == ["ledger-000123.jsonl"]


def test_a_ledger_that_another_machine_left_is_waited_for(tmp_path: Path) -> None:
    request = Request((("user", "?"),), Sampling(), 1)
    left, part = tmp_path / "ledger-00000-lost.1.jsonl", tmp_path / "completions" / "part-00000.parquet"
    ledger = Ledger(left, part)
    ledger.put(7, Completion(request.key, "text", Stop.END, 1, 1, request.sampling.max_tokens))
    ledger.close()
    left.rename(tmp_path / "hidden")  # as a folder that machines share may hide it, for a while
    with ThreadPoolExecutor(1) as pool:
        begun = pool.submit(Ledger, tmp_path / "ledger-00000-next.2.jsonl", part, [left])
        time.sleep(0.5)
        (tmp_path / "hidden").rename(left)
        assert begun.result(20).get(7, request)
    assert not left.exists()


def test_of_many_that_begin_at_once_one_holds(tmp_path: Path) -> None:
    for stale in (False, True):
        where = tmp_path / f"run-{stale}"
        if stale:
            where.mkdir()
            (where / ".holder-000003").write_text(json.dumps({"machine": "another", "process": 1, "host": "far"}), "utf-8")
        begun = [hold(f"file://{where}") for _ in range(4)]
        heard = [said(process) for process in begun]
        for process in begun:
            process.communicate()
        assert heard.count("held\n") == 1
        assert sorted(process.returncode for process in begun) == [0, 3, 3, 3]
