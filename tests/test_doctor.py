"""The doctor tells what is there, on machines with GPUs, with other versions, offline; and the table of versions holds."""

import json
import os
import re
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest
from silver import simple, write

from skillfactory.export import OF_QUESTIONS, TARGETS, ExportConfig, export
from skillfactory.export.target import Wanted
from skillfactory.export.versions import CHECKED, HANDOFFS, numbers, within

ROOT = Path(__file__).resolve().parent.parent
BESIDE_VERL = {"transformers": "5.9.0", "ray": "2.60.0", "tensordict": "0.10.0", "flash-attn": "2.8.3"}
GPU = "#!/bin/sh\necho 'NVIDIA H200, 143771, 143000'\necho 'NVIDIA H200, 143771, 9000'\n"


def doctor(folder: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """What the command says in JSON; programs and packages in `folder` come first."""
    (folder / "bin").mkdir(exist_ok=True)
    clean = {name: text for name, text in os.environ.items() if not re.search("OFFLINE|CUDA|OMP_NUM|OPEN_INSTRUCT", name)}
    path = {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(folder)}
    command = [sys.executable, "-m", "skillfactory", "doctor", *arguments, "--json"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=clean | path | environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def program(folder: Path, name: str, text: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(text)
    (folder / "bin" / name).chmod(0o755)


def package(folder: Path, name: str, number: str) -> None:
    """What pip leaves of an installed package."""
    left = folder / f"{name.replace('-', '_')}-{number}.dist-info"
    left.mkdir()
    (left / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: {number}\n")


def said(found: dict[str, Any], text: str) -> str:
    """The remedy of the one problem that holds a text; "" if there is none."""
    fitting = [problem["remedy"] for problem in found["problems"] if text in problem["what"]]
    assert len(fitting) < 2
    return fitting[0] if fitting else ""


def states(found: dict[str, Any]) -> dict[str, str]:
    """Target → how it stands."""
    return {target: each["state"] for each in found["handoffs"] for target in each["targets"]}


def test_it_tells_what_is_installed_and_what_there_is_of_hardware(tmp_path: Path) -> None:
    found = doctor(tmp_path, str(tmp_path / "not" / "there"))
    assert found["packages"]["torch"] == version("torch")
    assert found["packages"]["verl"] is None
    assert (found["gpus"], found["torch_on_gpu"]) == ([], None)
    assert found["cores"] == len(os.sched_getaffinity(0))
    assert 0 < found["memory_gib"] < 10_000
    assert found["disk_free_gib"] > 0
    assert said(found, "no GPU was found")
    assert states(found)["verl"] == states(found)["open-instruct"] == "missing"
    assert states(found)["trl"] == ("checked" if version("trl") == CHECKED["trl"] else "other")


def test_gpus_with_a_torch_for_cpus_and_without_vllm_are_told_with_remedies(tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", GPU)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text("raise RuntimeError('the doctor must not import torch')")
    (tmp_path / "torch" / "version.py").write_text("__version__ = '2.13.0+cpu'\ncuda: Optional[str] = None\n")
    found = doctor(tmp_path)
    assert [(gpu["name"], gpu["memory_gib"], gpu["free_gib"]) for gpu in found["gpus"]] == [
        ("NVIDIA H200", 140.4, 139.6),
        ("NVIDIA H200", 140.4, 8.8),
    ]
    assert "build of torch for CUDA" in said(found, "is built for CPUs: all would run on the CPU")
    assert "'.[vllm]'" in said(found, "no vLLM")
    assert not said(found, "no GPU was found")


@pytest.mark.parametrize(("usable", "text"), [("True", ""), ("False", "can't use the GPU: the driver is probably too old")])
def test_torch_is_asked_whether_it_can_use_the_gpu(usable: str, text: str, tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", GPU)
    (tmp_path / "torch").mkdir()
    (tmp_path / "torch" / "__init__.py").write_text(f"class cuda:\n    is_available = staticmethod(lambda: {usable})\n")
    (tmp_path / "torch" / "version.py").write_text("cuda: Optional[str] = '12.8'\n")
    found = doctor(tmp_path)
    assert found["torch_on_gpu"] is (usable == "True")
    assert bool(said(found, "can't use the GPU")) is bool(text)
    hidden = doctor(tmp_path, CUDA_VISIBLE_DEVICES="")
    assert "unset CUDA_VISIBLE_DEVICES" in said(hidden, "CUDA_VISIBLE_DEVICES hides every GPU")


def test_a_driver_that_fails_or_hangs_is_no_gpu(tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", "#!/bin/sh\necho 'NVIDIA-SMI has failed, 1, 2'\nexit 9\n")
    assert doctor(tmp_path)["gpus"] == []


def test_trainers_beside_versions_that_they_do_not_take_are_told(tmp_path: Path) -> None:
    package(tmp_path, "verl", "0.9.1")
    package(tmp_path, "transformers", "5.11.0")
    found = doctor(tmp_path)
    wanted = "verl and verl-sft: transformers 5.11.0 is installed, and verl 0.9.1 needs transformers<5.11"
    assert said(found, wanted) == "in an environment of its own (python3 -m venv ENV): pip install 'verl[vllm,fsdp]==0.9.1'"
    assert states(found)["verl"] == states(found)["verl-sft"] == "unfit"


@pytest.mark.parametrize(("number", "state"), [("0.9.1", "checked"), ("0.10.0", "other")])
def test_a_version_is_checked_or_it_is_not(number: str, state: str, tmp_path: Path) -> None:
    program(tmp_path, "nvidia-smi", GPU)
    package(tmp_path, "verl", number)
    for name, other in (BESIDE_VERL | {"sglang": "0.5.12"}).items():
        package(tmp_path, name, other)
    found = doctor(tmp_path)
    assert states(found)["verl"] == states(found)["verl-sft"] == state
    assert not said(found, "verl and verl-sft")


def test_a_trainer_without_what_its_training_needs_does_not_fit(tmp_path: Path) -> None:
    package(tmp_path, "verl", "0.9.1")
    for name, other in BESIDE_VERL.items():
        package(tmp_path, name, other)
    alone = doctor(tmp_path)
    lacks = {target: each["lacks"] for each in alone["handoffs"] for target in each["targets"]}
    assert (lacks["verl"], lacks["verl-sft"]) == (["vllm or sglang", "a GPU"], ["a GPU"])
    assert states(alone)["verl"] == states(alone)["verl-sft"] == "incomplete"
    program(tmp_path, "nvidia-smi", GPU)
    found = doctor(tmp_path)
    assert (states(found)["verl"], states(found)["verl-sft"]) == ("incomplete", "checked")
    assert "pip install 'verl[vllm,fsdp]==0.9.1'" in said(found, "verl: vllm or sglang isn't installed")
    assert not said(found, "verl-sft")


def test_a_clone_of_open_instruct_is_known_by_its_commit(tmp_path: Path) -> None:
    clone = tmp_path / "clone"
    (clone / "open_instruct").mkdir(parents=True)
    assert states(doctor(tmp_path, OPEN_INSTRUCT=str(clone)))["open-instruct"] == "missing"
    (clone / "open_instruct" / "finetune.py").touch()
    program(tmp_path, "git", f'#!/bin/sh\n[ "$2" = "{clone}" ] && echo e6c3044\n')
    found = doctor(tmp_path, OPEN_INSTRUCT=str(clone))
    assert states(found)["open-instruct"] == "incomplete"
    assert "deepspeed" in next(each["lacks"] for each in found["handoffs"] if "open-instruct-rl" in each["targets"])
    program(tmp_path, "nvidia-smi", GPU)
    for name in ("ray", "deepspeed", "ai2-olmo-core"):
        package(tmp_path, name, "1.0")
    assert states(doctor(tmp_path, OPEN_INSTRUCT=str(clone)))["open-instruct"] == "checked"
    program(tmp_path, "git", "#!/bin/sh\necho abcdef0\n")
    assert states(doctor(tmp_path, OPEN_INSTRUCT=str(clone)))["open-instruct"] == "other"


def test_the_reward_needs_a_skillfactory_that_workers_find_without_pythonpath(tmp_path: Path) -> None:
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--system-site-packages", str(tmp_path / "own")], check=True)
    libraries = next((tmp_path / "own" / "lib").glob("python*/site-packages"))
    package(libraries, "trl", CHECKED["trl"])
    code = "from skillfactory.doctor import importable; print(importable())"
    path = os.pathsep.join([str(ROOT), *(entry for entry in sys.path if entry)])
    for expected in ("False", "True"):
        python = [str(tmp_path / "own" / "bin" / "python"), "-c", code]
        done = subprocess.run(python, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, check=True)
        assert done.stdout.strip() == expected
        (libraries / "clone.pth").write_text(f"{ROOT}\n")


def test_offline_and_threads_are_told(tmp_path: Path) -> None:
    found = doctor(tmp_path, HF_HUB_OFFLINE="1", OMP_NUM_THREADS="4096")
    assert "unset it" in said(found, "HF_HUB_OFFLINE is set")
    assert "export OMP_NUM_THREADS=" in said(found, "OMP_NUM_THREADS is 4096")
    found = doctor(tmp_path, HF_HUB_OFFLINE="0", OMP_NUM_THREADS="1")
    assert not said(found, "HF_HUB_OFFLINE")
    assert not said(found, "OMP_NUM_THREADS")


def test_the_lines_for_a_terminal_hold_every_problem_with_its_remedy(tmp_path: Path) -> None:
    found = doctor(tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "skillfactory", "doctor"], capture_output=True, text=True, timeout=60, check=True
    )
    assert f"torch {version('torch')}" in done.stdout
    for problem in found["problems"]:
        if "OMP" not in problem["what"]:
            assert f"  - {problem['what']}\n    {problem['remedy']}\n" in done.stdout
    assert re.search(
        r"^  verl, verl-sft .*not here: pip install 'verl\[vllm,fsdp]==0.9.1'.*; trains on a GPU$", done.stdout, re.M
    )
    assert f"PYTHONPATH={ROOT} PYTHON_OF_THE_TRAINER -m skillfactory doctor\n" in done.stdout


def test_nothing_heavy_is_loaded() -> None:
    code = "import sys; from skillfactory.doctor import examine; str(examine())\n"
    code += "print(*{'torch', 'transformers', 'ray', 'datasets', 'vllm', 'trl'} & {*sys.modules})"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "\n"


@pytest.mark.parametrize(
    ("number", "least", "below", "expected"),
    [
        ("5.11.0", "", "5.11", False),
        ("5.10.9", "", "5.11", True),
        ("5.9", "5.10", "", False),
        ("5.10", "5.10", "", True),
        ("2.13.0+cpu", "2.4", "3", True),
        ("5.11rc1", "", "5.11", False),
        ("10.0", "9", "", True),
    ],
)
def test_versions_are_compared_as_numbers(number: str, least: str, below: str, expected: bool) -> None:
    assert within(number, least, below) is expected


def test_the_table_of_versions_names_targets_that_there_are_and_what_integrations_install() -> None:
    targets = [target for handoff in HANDOFFS for target in handoff.targets]
    assert len(targets) == len({*targets})
    assert {*targets} == {*TARGETS, *OF_QUESTIONS}
    for handoff in HANDOFFS:
        assert {*handoff.needs} <= {"", *handoff.targets}
        if handoff.package == "open-instruct":  # a clone, not a package
            continue
        folder = ROOT / "integrations" / handoff.package
        texts = [folder / name for name in ("requirements.txt", "after.sh") if (folder / name).exists()]
        pins = re.findall(rf"(?<![\w-]){handoff.package}==([\w.]+)", "\n".join(text.read_text("utf-8") for text in texts))
        assert not texts or pins == [handoff.checked], handoff.package
        beside = dict(re.findall(r"^([\w-]+)==([\w.]+)", "\n".join(text.read_text("utf-8") for text in texts), re.MULTILINE))
        for other, limits in handoff.beside.items():
            assert other not in beside or within(beside[other], *limits), f"{handoff.package}: {other}"


@pytest.mark.parametrize("target", [target for handoff in HANDOFFS for target in handoff.targets if handoff.trains])
def test_the_readme_of_an_export_names_the_version_that_it_was_checked_with(target: str, tmp_path: Path) -> None:
    traces = write(tmp_path / "traces", simple(4))
    wanted = Wanted(("countdown:mini",), questions=20, validation=4)
    export(ExportConfig(traces, target, tmp_path / "out", model="mini", max_length=4096, wanted=wanted))
    checked = next(handoff.checked for handoff in HANDOFFS if target in handoff.targets)
    assert checked in (tmp_path / "out" / "README.md").read_text("utf-8")
    assert numbers(checked) or target.startswith("open-instruct")
