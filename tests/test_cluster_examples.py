"""Laws of the examples for clusters: the SLURM script begins and ends a cluster; the KubeRay job is what its command takes."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import pytest
import yaml

import skillfactory
from skillfactory.cli import parser
from skillfactory.commands import COMMANDS
from skillfactory.config import given

EXAMPLES = Path(skillfactory.__file__).parent.parent / "examples" / "cluster"
SRUN = """#!/bin/bash
# A job step's tasks, all on this machine; when it is ended, it ends them.
trap 'kill $(jobs -p)' TERM
for ((n = 0; n < SLURM_NNODES; n++)); do SLURM_PROCID=$n "$@" & done
wait
wait
"""
SCONTROL = """#!/bin/bash
echo "$*" >> scontrol.log
"""
ANSWERS = """
import time
def right(request):
    time.sleep(DELAY)
    factors = request.messages[-1][1].split("What is ")[-1].split("?")[0].split(" * ")
    return f"I see. <answer>{int(factors[0]) * int(factors[1])}</answer>"
"""
CURATE = (
    "curate --task multiplication --questions 130 --samples 1 --reflections 0 --engine scripted"
    " --engine-option answer=answers:right --output run --quiet"
)


def begin(folder: Path, job: int) -> subprocess.Popen[str]:
    """The script, as SLURM would run it on the first of two nodes with a core each; both are this machine."""
    tools = folder / "bin"
    tools.mkdir(exist_ok=True)
    for name, text in {"srun": SRUN, "scontrol": SCONTROL}.items():
        (tools / name).write_text(text, "utf-8")
        (tools / name).chmod(0o755)
    (folder / "answers.py").write_text(ANSWERS.replace("DELAY", "0.2"), "utf-8")
    environment = {
        **os.environ,
        "PATH": f"{tools}:{Path(sys.executable).parent}:{os.environ['PATH']}",
        "SLURM_JOB_ID": str(job),
        "SLURM_NNODES": "2",
        "SLURM_CPUS_ON_NODE": "1",
        "HEAD_ADDRESS": "127.0.0.1",
        "OMP_NUM_THREADS": "1",
    }
    command = ["bash", str(EXAMPLES / "slurm.sh"), *shlex.split(CURATE), "--actors", "2"]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


def of_job(job: int) -> list[psutil.Process]:
    """The processes of a job's cluster that still run."""
    mark = f"/ray-{job}"
    return [process for process in psutil.process_iter(["cmdline"]) if mark in " ".join(process.info["cmdline"] or [])]


@pytest.fixture
def job() -> Iterator[int]:
    """The number of a job; what is left of it at the end is killed."""
    yield os.getpid()
    for process in of_job(os.getpid()):
        process.kill()
    shutil.rmtree(f"/tmp/ray-{os.getpid()}", ignore_errors=True)  # the logs of its nodes


def test_a_slurm_job_out_of_time_is_queued_again_goes_on_and_leaves_no_process_behind(job: int, tmp_path: Path) -> None:
    script = begin(tmp_path, job)
    deadline = time.monotonic() + 90
    while not any(path.stat().st_size for path in tmp_path.glob("run/ledger*")) and time.monotonic() < deadline:
        time.sleep(0.2)
    script.send_signal(signal.SIGUSR1)  # as --signal=B:USR1 has SLURM do before the time is over
    said, _ = script.communicate(timeout=120)
    assert (tmp_path / "scontrol.log").read_text("utf-8") == f"requeue {job}\n", said
    assert script.returncode == 128 + signal.SIGUSR1
    assert not of_job(job)
    assert not json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))["finished"]
    (tmp_path / "answers.py").write_text(ANSWERS.replace("DELAY", "0"), "utf-8")
    command = [sys.executable, "-m", "skillfactory", *shlex.split(CURATE)]
    subprocess.run(command, cwd=tmp_path, check=True, stdout=subprocess.DEVNULL, timeout=60)
    attempts = [row for part in sorted((tmp_path / "run" / "attempts").iterdir()) for row in pq.read_table(part).to_pylist()]
    assert len({attempt["id"] for attempt in attempts}) == len(attempts) == 4 * 130
    assert {attempt["check"] for attempt in attempts} == {"right"}


def test_the_command_of_a_slurm_job_is_one_that_the_command_line_takes() -> None:
    text = (EXAMPLES / "slurm.sh").read_text("utf-8")
    line = next(line for line in text.splitlines() if "sbatch " in line)
    assert not left_over(line.partition("slurm.sh ")[2] + " --on ray:10.0.0.1:20000")


def left_over(line: str) -> list[str]:
    """The arguments of a command that the command line doesn't take; ConfigError for values that it refuses."""
    name, *arguments = shlex.split(line)
    config_type = COMMANDS[name].config()
    space, rest = parser(name, COMMANDS[name], config_type).parse_known_args(arguments)
    given(space, config_type)
    return rest


def test_the_kuberay_job_runs_a_command_that_the_command_line_takes_on_the_ray_that_is_tested() -> None:
    job: dict[str, Any] = yaml.safe_load((EXAMPLES / "kuberay.yaml").read_text("utf-8"))
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    spec = job["spec"]
    program, _, line = spec["entrypoint"].partition(" ")
    assert program == "skillfactory"
    assert not left_over(line)
    cluster = spec["rayClusterSpec"]
    pins = (EXAMPLES.parent.parent / "constraints.txt").read_text("utf-8").splitlines()
    assert f"ray=={cluster['rayVersion']}" in pins
    groups = [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]
    pods = [group["template"]["spec"] for group in groups]
    (container,), *rest = [pod["containers"] for pod in pods]
    assert all(other[0]["image"] == container["image"] and pod["volumes"] for other, pod in zip(rest, pods[1:], strict=True))
    shared = container["volumeMounts"][0]["mountPath"]
    assert given_option(line, "--output").startswith(f"{shared}/")
    assert not spec["rayClusterSpec"]["headGroupSpec"]["rayStartParams"]["num-cpus"].strip("0")


def given_option(line: str, flag: str) -> str:
    """The value of an option of a command."""
    words = shlex.split(line)
    return words[words.index(flag) + 1]


@pytest.mark.parametrize("script", sorted(EXAMPLES.glob("*.sh")), ids=lambda path: path.name)
def test_a_script_is_sound_to_the_shell(script: Path) -> None:
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
