"""Laws of runs on a Ray cluster, on a real one of several nodes: the bytes of one process, whatever dies on the way."""

import asyncio
import json
import os
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import psutil
import pytest
from nodes import two_nodes
from notebook import Mortal, Noting, asked, dead, die, kept, notes, stumble
from ray.cluster_utils import Cluster
from test_kill_resume import command, environment, finish
from test_run import contents, rows
from test_run import options as curating

from skillfactory.blocks import Portion
from skillfactory.cluster import reach
from skillfactory.cluster.runs import DEATHS, gpus_of, hands
from skillfactory.cluster.surroundings import Surroundings, packed
from skillfactory.cluster.worker import Worker
from skillfactory.curate import CurateConfig, Decoding, Generation, Prompting
from skillfactory.curation import Summary, curate
from skillfactory.errors import ConfigError, EngineError, SkillFactoryError
from skillfactory.evaluate import Answering, EvaluateConfig
from skillfactory.evaluation import evaluate
from skillfactory.machines import Machines
from skillfactory.progress import Silent
from skillfactory.run import Job, carry_out
from skillfactory.rundir import Stage

TWO = Machines("ray", actors=2)
ROOM = 32 + 8  # requests that an engine of `Noting` has in hand at most: twice its capacity, and those of one question more


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with two_nodes() as made:
        yield made


@pytest.fixture
def notepad(tmp_path: Path) -> Path:
    folder = tmp_path / "notes"
    folder.mkdir()
    return folder


def whole(config: CurateConfig) -> dict[str, bytes]:
    """What one process leaves."""
    alone = replace(config, output=config.output.with_name("whole"), machines=Machines())
    (alone.output.with_name("whole-notes")).mkdir()
    curate(alone, engine=partial(Noting, alone.output.with_name("whole-notes")))
    return contents(alone.output)


def once(notepad: Path, in_flight: int = 0) -> None:
    """Nothing that was kept was asked for again, and no more was asked twice than was in flight at a loss."""
    assert len(kept(notepad)) == len(set(kept(notepad)))
    twice = [key for key, times in Counter(asked(notepad)).items() if times > 1]
    assert len(twice) <= in_flight
    for key in twice:  # at most one of those who asked came to keep it
        assert kept(notepad).count(key) <= 1


@pytest.mark.parametrize("mode", ["eager", "lazy"])
def test_a_curation_has_the_bytes_of_one_process(cluster: Cluster, tmp_path: Path, notepad: Path, mode: str) -> None:
    config = curating(tmp_path / "spread", questions=300, mode=mode, machines=TWO)
    summary = curate(config, engine=partial(Noting, notepad))
    assert contents(config.output) == whole(config)
    assert len(notes(notepad)) == 2, "both workers had some of it"
    once(notepad)
    assert len(asked(notepad)) == summary.new_texts == len(rows(config.output, "completions"))
    assert not summary.notes


def test_an_evaluation_has_the_bytes_of_one_process(cluster: Cluster, tmp_path: Path, notepad: Path) -> None:
    task = ("multiplication", "countdown")
    config = EvaluateConfig(
        "scripted", tmp_path / "spread", task=task, questions=100, samples=2, generation=Answering("scripted")
    )
    summary = evaluate(replace(config, machines=TWO), engine=partial(Noting, notepad))
    alone = evaluate(replace(config, output=tmp_path / "alone"), engine=partial(Noting, notepad))
    assert contents(tmp_path / "spread") == contents(tmp_path / "alone")
    assert summary.numbers == alone.numbers
    assert summary.new_texts == 400


def test_a_transformers_model_gives_the_texts_of_one_process(cluster: Cluster, tmp_path: Path) -> None:
    generation = Generation("transformers", "mini", {"threads": 1, "batch_size": 16, "device": "cpu"})
    config = CurateConfig(tmp_path / "alone", "countdown", level="3", questions=70, samples=1, reflections=1)
    prompts = Prompting(("original",), variants_file=Path("brief"))
    config = replace(config, decoding=Decoding(max_tokens=12), generation=generation, prompts=prompts)
    curate(config)
    curate(replace(config, output=tmp_path / "spread", machines=TWO))
    assert contents(tmp_path / "spread") == contents(tmp_path / "alone")


def test_one_process_goes_on_where_a_cluster_stopped_and_a_cluster_where_one_process_did(
    cluster: Cluster, tmp_path: Path, notepad: Path
) -> None:
    config = curating(tmp_path / "run", questions=300)
    expected = whole(config)
    mortal = partial(Mortal, notepad)
    for machines, life in ((TWO, 700), (Machines(), 900), (TWO, 500)):
        with pytest.raises(RuntimeError):
            curate(replace(config, machines=machines), engine=partial(mortal, life))
    assert list(config.output.glob("ledger-*.jsonl"))
    summary = curate(config, engine=partial(Noting, notepad))
    assert contents(config.output) == expected
    assert 0 < summary.new_texts < len(rows(config.output, "completions"))
    once(notepad, in_flight=5 * ROOM)


def underway(
    config: CurateConfig, notepad: Path, losses: list[Callable[[], None]], delay: float = 0.05
) -> tuple[Summary, dict[str, bytes]]:
    """The run's summary and files, where a loss befell it each time so many texts more were kept; and those of one process."""
    expected = whole(config)
    total = len(kept(config.output.with_name("whole-notes")))
    with ThreadPoolExecutor(1) as pool:
        done: Future[Summary] = pool.submit(curate, config, engine=partial(Noting, notepad, delay=delay))
        for n, lose in enumerate(losses, 1):
            wait_for(lambda n=n: len(kept(notepad)) > n * total / (len(losses) + 2) or done.done())  # type: ignore[misc]
            assert not done.done(), "it was over before the loss"
            lose()
        return done.result(60), expected


def wait_for(holds: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_workers_that_are_killed_cost_what_they_had_in_flight(cluster: Cluster, tmp_path: Path, notepad: Path) -> None:
    def kill() -> None:
        alive = [process for process in notes(notepad) if Path(f"/proc/{process}").exists()]
        os.kill(max(alive, key=lambda process: (notepad / str(process)).stat().st_mtime_ns), signal.SIGKILL)  # who is at work

    config = curating(tmp_path / "run", questions=200, machines=TWO)
    summary, expected = underway(config, notepad, [kill, kill])
    assert contents(config.output) == expected
    once(notepad, in_flight=2 * ROOM)
    assert len(notes(notepad)) >= 3, "a worker took the place of one killed"
    assert summary.notes == ("2 workers were lost on the way; others went on with what they had in hand",)


def test_a_question_that_kills_its_workers_ends_the_run_with_an_error_that_names_its_block(
    cluster: Cluster, tmp_path: Path, notepad: Path
) -> None:
    config = curating(tmp_path / "run", questions=64, machines=replace(TWO, actors=1))
    with pytest.raises(SkillFactoryError, match=rf"{DEATHS} workers died over the questions 0-63 .*The same command goes on"):
        curate(config, engine=partial(Noting, notepad, die))
    assert len(notes(notepad)) == DEATHS


def test_errors_of_workers_stop_the_run_as_in_one_process(cluster: Cluster, tmp_path: Path, notepad: Path) -> None:
    config = curating(tmp_path / "run", machines=replace(TWO, actors=1))
    with pytest.raises(EngineError, match=r"^the engine gave no text, but \d+ failures, \d+ times: HTTP 404"):
        curate(config, engine=partial(Noting, notepad, dead))
    with pytest.raises(KeyError, match="a bug of the engine") as bug:
        curate(config, engine=partial(Noting, notepad, stumble))
    assert "in stumble" in str(bug.value), "the worker's traceback is told"
    with pytest.raises(ConfigError, match="unknown engine 'tset'"):
        curate(replace(config, generation=Generation("tset", "m")))
    assert not json.loads((config.output / "run.json").read_text("utf-8"))["finished"]


def nothing() -> Noting:
    """An engine that isn't one: what ends a loop, where no loop is."""
    raise StopIteration("a bug of the engine's maker")


def leave() -> Noting:
    raise SystemExit(3)


@pytest.mark.parametrize("engine", [nothing, leave])
def test_a_worker_answers_all_that_it_owes_whatever_its_engine_raises(tmp_path: Path, engine: Callable[[], Noting]) -> None:
    stage = Stage[Any]("curate", "m", {}, {}, {}, rows=lambda result: {}, counts=lambda result: {}, title="")
    job: Job[Any, Any] = Job(stage, (), lambda item: iter(()), engine)  # type: ignore[arg-type,return-value]
    (tmp_path / "run.json").touch()

    async def asked() -> None:
        worker: Worker[Any, Any] = Worker(Surroundings.here(), tmp_path, False, packed(job))
        for answer in (worker.begin(), worker.work(Portion(0, ()))):
            with pytest.raises(RuntimeError, match=r"raised (StopIteration|SystemExit): (a bug|3)"):
                await asyncio.wait_for(answer, 10)

    asyncio.run(asked())


def test_nodes_that_go_cost_what_they_had_in_flight(cluster: Cluster, tmp_path: Path, notepad: Path) -> None:
    def remove() -> None:
        cluster.remove_node(next(iter(cluster.worker_nodes)), allow_graceful=False)

    def remove_and_add() -> None:
        remove()
        cluster.add_node(num_cpus=1)

    config = curating(tmp_path / "run", questions=200, machines=TWO)
    summary, expected = underway(config, notepad, [remove, remove_and_add])
    assert contents(config.output) == expected
    once(notepad, in_flight=2 * ROOM)
    assert summary.notes == ("2 workers were lost on the way; others went on with what they had in hand",)


def test_a_cluster_without_room_is_an_error_after_some_patience(cluster: Cluster, tmp_path: Path) -> None:
    stage = Stage[Any]("curate", "m", {}, {}, {}, rows=lambda result: {}, counts=lambda result: {}, title="")
    job = Job(stage, range(3), lambda item: iter(()), lambda: Noting(tmp_path))  # type: ignore[arg-type,return-value]
    machines = Machines("ray", actor_gpus=2)
    with pytest.raises(SkillFactoryError, match="had room for a worker of 1 cores and 2 GPUs for 1 s"):
        carry_out(tmp_path / "run", job, Silent(), hands=hands(machines, Generation(), patience=1.0))


def test_a_worker_takes_the_gpus_that_its_engine_works_on() -> None:
    assert gpus_of(Generation("vllm", "m", {"tensor_parallel_size": "4"}), 0) == 4
    assert gpus_of(Generation("vllm", "m"), 0) == 1
    assert gpus_of(Generation("transformers", "m"), 8) == 1
    assert gpus_of(Generation("transformers", "m"), 0) == 0
    assert gpus_of(Generation("transformers", "m", {"device": "cpu"}), 8) == 0
    assert gpus_of(Generation("openai", "m"), 8) == 0


def test_ctrl_c_leaves_no_process_and_a_run_that_one_process_ends(tmp_path: Path) -> None:
    engine = ["--engine", "scripted", "--engine-option", "answer=solver:answer", "--engine-option", "delay=0.2"]
    grid = ["--questions", "100", "--samples", "1", "--reflections", "1", *engine]
    spread = command(tmp_path / "run", [*grid, "--on", "ray", "--actors", "1"])
    process = subprocess.Popen(spread, env=environment(), stderr=subprocess.PIPE, text=True)
    wait_for(lambda: any(path.stat().st_size for path in (tmp_path / "run").glob("ledger-*.jsonl")))
    others = psutil.Process(process.pid).children(recursive=True)
    assert any("ray::" in " ".join(other.cmdline()) for other in others)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate(timeout=60)
    assert process.returncode == 130, said
    wait_for(lambda: not psutil.wait_procs(others, timeout=0)[1], 30)
    finish(tmp_path / "run", grid)
    finish(tmp_path / "whole", grid)
    assert contents(tmp_path / "run") == contents(tmp_path / "whole")


def test_an_address_where_no_cluster_is_is_an_error_at_once(tmp_path: Path) -> None:
    spread = command(tmp_path / "run", ["--questions", "1", "--engine", "scripted", "--on", "ray:127.0.0.1:9"])
    ended = subprocess.run(
        [*spread, "--engine-option", "answer=solver:answer"], env=environment(), capture_output=True, text=True, check=False
    )
    assert ended.returncode == 2
    assert "no Ray cluster answers at '127.0.0.1:9': " in ended.stderr


def test_a_port_where_something_else_listens_is_an_error_soon_that_says_which_is_meant(cluster: Cluster) -> None:
    reach(cluster.address)
    with HTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        try:
            started = time.monotonic()
            with pytest.raises(OSError, match=r"doesn't answer as a cluster's head does, for 3 s; .*port 6379 .*8265 is "):
                reach(f"127.0.0.1:{server.server_port}", patience=3)
            assert time.monotonic() - started < 10
        finally:
            server.shutdown()


def test_a_worker_looks_for_the_variables_of_proxies_in_all_their_spellings(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = {"https_proxy": "a", "HTTPS_PROXY": "b", "all_proxy": "c", "ALL_PROXY": "d", "no_proxy": "e", "OWN_KEY": "f"}
    for name, value in {**wanted, "SOME_PROXY": "g"}.items():
        monkeypatch.setenv(name, value)
    carried = Surroundings.here(["OWN_KEY"]).variables
    assert {name: carried.get(name) for name in wanted} == wanted
    assert "SOME_PROXY" not in carried
