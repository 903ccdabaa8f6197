"""The promise of the run directory, with real processes and real kills: nothing lost, nothing repeated, the same bytes."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from random import Random

import pyarrow.parquet as pq
import pytest
from test_run import contents
from tiny_model import save_tiny_model

from skillfactory.curate import CurateConfig, Decoding, Generation
from skillfactory.curation import curate

HERE = Path(__file__).parent
KILLS = 5


def command(output: Path, options: Sequence[str]) -> list[str]:
    """A curation as a user starts it."""
    common = ["--task", "multiplication", "--output", str(output), "--quiet"]
    return [sys.executable, "-m", "skillfactory", "curate", *common, *options]


def environment(asked: Path | None = None) -> Mapping[str, str]:
    changes = {"PYTHONPATH": str(HERE), "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "ASKED": str(asked)}
    return {**os.environ, **changes}


def finish(output: Path, options: Sequence[str], asked: Path | None = None) -> str:
    done = subprocess.run(command(output, options), env=environment(asked), check=True, capture_output=True, text=True)
    return done.stdout


def finished_keys(output: Path) -> set[tuple[str, int]]:
    """The requests whose completions are on disk."""
    keys = set()
    for ledger in output.glob("ledger-*.jsonl"):
        for line in ledger.read_bytes().splitlines(keepends=True):
            if line.endswith(b"\n"):
                row = json.loads(line)[1]
                keys.add((row["key"], row["limit"]))
    for part in (output / "completions").glob("*.parquet"):
        keys |= {(row["key"], row["limit"]) for row in pq.read_table(part, columns=["key", "limit"]).to_pylist()}
    return keys


def whole_lines(path: Path) -> list[str]:
    """The lines of a file; not the last one if a kill has cut it off."""
    lines = path.read_text("utf-8").splitlines(keepends=True) if path.exists() else []
    return [line for line in lines if line.endswith("\n")]


def on_disk(output: Path) -> int:
    """About how many completions are on disk, cheaply."""
    lines = 0
    for ledger in output.glob("ledger-*.jsonl"):
        with suppress(FileNotFoundError):  # its block has just been finished
            lines += ledger.read_bytes().count(b"\n")
    for part in (output / "completions").glob("*.parquet"):
        lines += pq.read_metadata(part).num_rows
    return lines


def kill_midway(output: Path, options: Sequence[str], more: int, asked: Path | None = None) -> bool:
    """Starts the run and kills it with SIGKILL once `more` completions have come to disk; whether it was killed in time."""
    goal = on_disk(output) + more
    process = subprocess.Popen(command(output, options), env=environment(asked), stdout=subprocess.DEVNULL)
    while process.poll() is None:
        if on_disk(output) >= goal:
            process.send_signal(signal.SIGKILL)
            return process.wait() == -signal.SIGKILL
        time.sleep(0.005)
    return False


@pytest.mark.parametrize("mode", ["eager", "lazy"])
def test_a_run_killed_at_random_moments_ends_in_the_bytes_of_an_undisturbed_one(tmp_path: Path, mode: str) -> None:
    grid = ["--questions", "130", "--mode", mode, "--samples", "2" if mode == "eager" else "4", "--reflections", "2"]
    engine = ["--engine", "scripted", "--engine-option", "delay=0.002", "--engine-option", "concurrency=12"]
    options = [*grid, *engine, "--engine-option", "answer=solver:noted"]
    finish(tmp_path / "whole", options, tmp_path / "asked-whole")
    whole = (tmp_path / "asked-whole").read_text("utf-8").splitlines()
    assert len(set(whole)) == len(whole)

    random, killed, rounds = Random(7), 0, []
    for round in range(KILLS):
        asked = tmp_path / f"asked-{round}"
        before = finished_keys(tmp_path / "killed")
        killed += kill_midway(tmp_path / "killed", options, random.randrange(len(whole) // (KILLS + 2)), asked)
        rounds.append((before, asked))
    asked = tmp_path / f"asked-{KILLS}"
    rounds.append((finished_keys(tmp_path / "killed"), asked))
    finish(tmp_path / "killed", options, asked)

    assert killed == KILLS
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
    everything = set()
    for before, asked in rounds:
        lines = [tuple(json.loads(line)) for line in whole_lines(asked)]
        assert not before & set(lines), "a completion that was on disk was asked for again"
        everything |= set(lines)
    assert everything == {tuple(json.loads(line)) for line in whole}
    assert "there is nothing to do" in finish(tmp_path / "killed", options)


def test_a_second_process_is_refused_while_the_first_is_at_work(tmp_path: Path) -> None:
    engine = ["--engine", "scripted", "--engine-option", "delay=0.5", "--engine-option", "answer=solver:answer"]
    options = ["--questions", "1000", *engine]
    first = subprocess.Popen(command(tmp_path / "run", options), env=environment(), stdout=subprocess.DEVNULL)
    try:
        while not (tmp_path / "run" / "log.jsonl").exists():
            assert first.poll() is None
            time.sleep(0.02)
        second = subprocess.run(
            command(tmp_path / "run", options), env=environment(), capture_output=True, text=True, check=False
        )
        assert second.returncode == 2
        assert f"another process is at work on this run directory (process {first.pid} on " in second.stderr
    finally:
        first.kill()
        first.wait()
    few = ["--questions", "1", "--samples", "1", "--reflections", "1", *engine]
    assert "1 questions = " in finish(tmp_path / "run", few)


def test_the_transformers_engine_ends_in_the_same_bytes_after_a_kill(tmp_path: Path) -> None:
    options = {"threads": 1, "batch_size": 16}
    model = save_tiny_model(tmp_path / "model", context=2048)
    grid = ["--questions", "3", "--samples", "4", "--reflections", "1", "--max-tokens", "12"]
    engine = [part for name, value in options.items() for part in ("--engine-option", f"{name}={value}")]
    arguments = [*grid, "--engine", "transformers", "--model", str(model), *engine]
    assert kill_midway(tmp_path / "killed", arguments, 1)
    generation = Generation("transformers", str(model), options)
    config = CurateConfig(tmp_path / "killed", "multiplication", questions=3, samples=4, reflections=1, generation=generation)
    config = replace(config, decoding=Decoding(max_tokens=12))
    resumed = curate(config)
    whole = curate(replace(config, output=tmp_path / "whole"))
    assert 0 < resumed.new_texts < whole.new_texts
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")
