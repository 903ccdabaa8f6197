"""Stages that go on from nothing after a kill: what stands at the end has the bytes of an undisturbed run."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from rawdata import raw_rows, write
from test_run import contents

KILLS = 4


def command(options: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "skillfactory", *options, "--quiet"]


def finish(options: Sequence[str]) -> None:
    subprocess.run(command(options), check=True, capture_output=True, env=os.environ | {"OMP_NUM_THREADS": "1"})


def killed_once(options: Sequence[str], begun: Callable[[], bool], after: float) -> bool:
    """Whether the stage was killed with SIGKILL `after` so many seconds of work, before it came to its end."""
    process = subprocess.Popen(command(options), stdout=subprocess.DEVNULL, start_new_session=True)
    while process.poll() is None and not begun():
        time.sleep(0.005)
    time.sleep(after)
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)  # its workers too
    return process.wait() == -signal.SIGKILL


@pytest.fixture(scope="module")
def raw(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("raw")
    for part in range(4):
        write(raw_rows(250, samples=4, seed=part), folder / f"part-{part}.parquet", row_group_size=500)
    return folder


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_killed_build_ends_in_the_bytes_of_an_undisturbed_one(raw: Path, tmp_path: Path, workers: str) -> None:
    common = ["build", str(raw), "--layout", "*C_full", "--layout", "paper", "--repeats", "2"]
    finish([*common, "--output", str(tmp_path / "whole")])
    output = tmp_path / "killed"
    options = [*common, "--output", str(output), "--workers", workers]
    killed = 0
    for kill in range(KILLS):
        before = {path: path.stat().st_mtime_ns for path in output.rglob("*")} if output.exists() else {}

        def begun(before: dict[Path, int] = before) -> bool:
            return any(path.stat().st_mtime_ns > before.get(path, 0) for path in output.glob("build.json"))

        killed += killed_once(options, begun, 0.05 * kill)
    assert killed, "every build was over before it could be killed"
    finish(options)
    assert contents(output) == contents(tmp_path / "whole")


def test_replay_texts_appear_whole_or_not_at_all(tmp_path: Path) -> None:
    def options(name: str) -> list[str]:
        return ["mini", "replay", "--n", "3000", "--output", str(tmp_path / name)]

    finish(options("whole.jsonl"))
    assert killed_once(options("killed.jsonl"), lambda: True, 1.0)
    assert not (tmp_path / "killed.jsonl").exists()
    finish(options("killed.jsonl"))
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
